"""A pretended torch.cuda whose work is done when it is waited for: memory is garbage until then, and once freed.

Tensors made on `DEVICE` are the device's, and what is computed of them. Each operation on them goes into the current
stream's queue. A queue is run when an event of it is waited for, with what it was told to wait for, and nothing else;
or, with `greedy`, after all others are run as far as they go. Code that is right gives the same both ways.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cpu", 0)


class Stream:
    """A queue of work, and what each piece of it waits for."""

    def __init__(self, device=None):
        self._work: list[tuple[Callable[[], object], list]] = []
        self._done = 0

    def now(self) -> tuple[Stream, int]:
        """All that is in the queue."""
        return self, len(self._work)

    def push(self, work: Callable[[], object], after=()) -> None:
        self._work.append((work, list(after)))

    def wait_stream(self, other: Stream) -> None:
        self.push(lambda: None, [other.now()])

    def run(self, end: int) -> None:
        """Does the first `end` pieces of work."""
        while self._done < end:
            work, after = self._work[self._done]
            for stream, there in after:
                stream.run(there)
            self._done += 1
            with _disable_current_modes():
                work()


class Block:
    """Memory of the device: who holds it, where it was made, and where else it is used."""

    def __init__(self, tensor: torch.Tensor, stream: Stream):
        self.whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        self.stream, self.used, self.holders = stream, [], 0

    def spoil(self) -> None:
        self.whole.fill_(float("nan") if self.whole.is_floating_point() else 77)


class Pretended(TorchDispatchMode):
    """Stands for the module `torch.cuda` while it is entered as a mode."""

    def __init__(self, greedy: bool):
        super().__init__()
        self._greedy, self._current, self._all = greedy, Stream(), []
        self._all.append(self._current)
        self._blocks: dict[int, Block] = {}
        self.waits = 0  # for events, that is, of the host for the device

    def Stream(self, device=None) -> Stream:  # noqa: N802
        self._all.append(Stream())
        return self._all[-1]

    def Event(self) -> Event:  # noqa: N802
        return Event(self)

    def current_stream(self, device=None) -> Stream:
        return self._current

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self._current = self._current, stream
        yield
        self._current = before

    def record_stream(self, tensor: torch.Tensor, stream: Stream) -> None:
        self._blocks[_key(tensor)].used.append(stream)

    def run(self, stream: Stream, end: int) -> None:
        if self._greedy:
            for other in reversed(self._all):  # that which computes last of them
                if other is not stream:
                    other.run(other.now()[1])
        stream.run(end)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        ours = [
            x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and _key(x) in self._blocks
        ]
        if not ours:
            result = operation(*args, **kwargs)
            return self._held(result, fresh=True) if kwargs.get("device") == DEVICE else result
        if operation.is_view:
            return self._held(operation(*args, **kwargs))
        if operation is torch.ops.aten.copy_.default:
            to, source, *non_blocking = args
            if not (non_blocking and non_blocking[0]) and not (
                _key(to) in self._blocks and _key(source) in self._blocks
            ):
                self.run(*self._current.now())
                return operation(*args)
        aliases = tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, (args, kwargs))
        if operation._schema.is_mutable:
            self._current.push(lambda: operation(*aliases[0], **aliases[1]))
            return args[0]
        result = operation(*args, **kwargs)  # of garbage, for its shape
        place = result.detach()
        self._current.push(lambda: place.copy_(operation(*aliases[0], **aliases[1])))
        return self._held(result, fresh=True)

    def _held(self, result, fresh: bool = False):
        for tensor in tree_leaves(result):
            key = _key(tensor)
            if fresh:
                self._blocks[key] = Block(tensor, self._current)
                self._blocks[key].spoil()
            self._blocks[key].holders += 1
            weakref.finalize(tensor, self._drop, key)
        return result

    def _drop(self, key: int) -> None:
        block = self._blocks[key]
        block.holders -= 1
        if not block.holders:
            del self._blocks[key]
            # The next owner writes into it, on the same stream, when those have gone by that were told of.
            block.stream.push(block.spoil, [stream.now() for stream in block.used])


class Event:
    def __init__(self, device: Pretended):
        self._device, self._place = device, None

    def record(self, stream: Stream) -> None:
        self._place = stream.now()

    def synchronize(self) -> None:
        self._device.waits += 1
        self._device.run(*self._place)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def pretended(monkeypatch, module, greedy: bool = False) -> Iterator[Pretended]:
    """`module.cuda` is a pretended one, and pinned memory is plain."""
    device = Pretended(greedy)
    monkeypatch.setattr(module, "cuda", device)
    monkeypatch.setattr(module, "pinned", lambda shape, dtype: torch.empty(tuple(shape), dtype=dtype))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: device.record_stream(x, stream))
    with device:
        yield device
