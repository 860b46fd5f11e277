"""How much memory a computation holds at its peak, counted on the meta device, where nothing is computed."""

from __future__ import annotations

import weakref
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rife.model.model import Model
from rife.networks import variational_flow as variational
from rife.networks.memory_estimate import ENCODED_SINGLY


def run(operation, args, kwargs):
    if operation is torch.ops.aten.grid_sampler_2d.default and args[0].is_meta:
        # Only its shape; PyTorch would take it apart into hundreds of operations to find that out.
        return args[0].new_empty(*args[0].shape[:2], *args[1].shape[1:3])
    return operation(*args, **kwargs)


class Alive(TorchDispatchMode):
    """Bytes of the tensors made under it that are alive: `now`, and at the `peak`. Views count once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = run(operation, args, kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._holders:
            self._holders[key] = 0
            self.now += size
            self.peak = max(self.peak, self.now)
        self._holders[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.now -= size


def one_round_of_the_solver():
    """Lets it be short: its rounds are alike, and one holds as much as ten."""
    levels = tuple((factor, 1) for factor, _ in variational._LEVELS)
    return mock.patch.multiple(variational, _LEVELS=levels, _FIXED_POINT_ITERATIONS=1, _SOR_SWEEPS=1)


def peak(network: nn.Module, height: int, width: int, batch: int = 1, channels: int = 3, **options) -> int:
    """Bytes alive at the peak of `batch` new frames, made as the engine makes them on an accelerator.

    network: on the meta device; options: of `Model.between`.
    """
    model = Model.from_network(network.eval())
    encoding = {name: value for name, value in options.items() if name != "ensemble"}
    with torch.device("meta"), torch.no_grad(), one_round_of_the_solver(), Alive() as alive:
        frames = torch.empty(batch + 1, height, width, channels)
        parts = frames.split(1) if height * width > ENCODED_SINGLY else [frames]
        encoded = [model.encode(part.permute(0, 3, 1, 2), name=None, **encoding) for part in parts]
        encoded = encoded if len(encoded) > 1 else list(encoded[0].split(1))
        del frames, parts
        sources = encoded if batch == 1 else [torch.cat(side) for side in (encoded[:-1], encoded[1:])]
        image = model.between(*sources, (channels, height, width), **options)
        image.permute(0, 2, 3, 1).contiguous()
    return alive.peak
