"""Interpolates a clip as a stream: one frame in, one frame out, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..model.options import InferenceOptions
from ..timeline.plans import LONGEST_DRAWING, Plan, PlanOptions, Step
from .batches import BatchRunner, Interpolator, IsOutOfMemory, TaskList, passthrough_frame
from .in_memory import multiplied

# A new frame (H,W,C), its step, and the source frames by index -> the frame as it is to be.
Retouch = Callable[[Tensor, Step, Callable[[int], Tensor]], Tensor]


class StreamPlan(Protocol):
    """Says what a stream asks of a plan: a `Plan`, or a part of one."""

    options: PlanOptions

    def __len__(self) -> int: ...

    def __getitem__(self, k: int, /) -> Step: ...

    def position(self, k: int) -> int:
        """Returns the source frame that is shown, or was last, at output k's time."""
        ...


class Watcher(Protocol):
    """Says what a stream asks about scenes as its frames go by; `rife.timeline.scenes.SceneFinder` is one."""

    ahead: int  # frames to push past the one that is asked about

    def push(self, frame: Tensor) -> None:
        """Looks at the next frame (H,W,C)."""
        ...

    def finish(self) -> None:
        """Learns that there are no more frames."""
        ...


def interpolate_stream(
    model: Interpolator,
    frames: Iterable[Tensor],
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    plan_for: Callable[[int | None], StreamPlan] | None = None,
    watcher: Watcher | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    precision: str = "auto",
    is_oom: IsOutOfMemory | None = None,
    on_oom: Callable[[], None] | None = None,
    retouch: Retouch | None = None,
    opacity: bool | None = None,
    premultiplied: bool = False,
) -> Iterator[Tensor]:
    """Does what `interpolate` does, one frame (H,W,C) at a time, in constant memory.

    Holds the source frames of one batch, of two on CUDA, which computes one while the caller gets the frames of the one
    before. They may be uint8, a quarter of the memory; new ones are float then. Originals are yielded as they came.
    plan_for: gives the plan of a number of source frames, instead of multiplier and timesteps; it is asked with None
    at first, for an open plan, and with the true number when the source has ended. Its steps must not go backward.
    watcher: is shown every frame before its steps are asked for, so that the plan can hold the cuts that it finds.
    is_oom, on_oom: see `interpolate`. retouch(frame, step, source frame by index): the new frame as it is to be.
    opacity: whether the fourth channel is that of the colours; without it, whether there are four.
    premultiplied: whether colours are multiplied by it, as in EXR.
    """
    if plan_for is None:

        def plan_for(count: int | None) -> Plan:
            return multiplied(count, multiplier, timesteps)

    buffer = _FrameBuffer(frames, watcher)
    steps = buffer.steps(plan_for)
    first = next(steps, None)
    if first is None:
        return
    like = buffer.frame(first.left)
    runner = BatchRunner(
        model.with_precision(precision), like.shape, like.device, batch_size,
        InferenceOptions(scale, TTA, ensemble), is_oom, on_oom,
        opacity=like.shape[-1] == 4 if opacity is None else opacity,
        steady=plan_for(None).options.steady, premultiplied=premultiplied,
    )  # fmt: skip
    pending, in_flight = [first], deque[_InFlight]()
    while pending:
        in_flight.append(_begin(runner, pending, buffer))
        while len(in_flight) > runner.transfer.lag:
            yield from _finished(runner, in_flight.popleft(), buffer, retouch)
        try:
            pending = list(islice(_whole_batch(steps, runner.batch), 4 * runner.batch))
        except Exception:
            # The source broke: what was made before it did is given first.
            for last in in_flight:
                yield from _finished(runner, last, buffer, retouch)
            raise
    for last in in_flight:
        yield from _finished(runner, last, buffer, retouch)


def _whole_batch(steps: Iterator[Step], batch: int) -> Iterator[Step]:
    """Steps up to the one that fills a batch of new frames."""
    new = 0
    while new < batch and (step := next(steps, None)) is not None:
        new += step.kind == "new"
        yield step


class _InFlight(NamedTuple):
    """Steps of a stream, the frames (H,W,C) of the new ones by place, and how many are made when all of them are."""

    steps: list[Step]
    frames: dict[int, Tensor]
    made: int


def _begin(runner: BatchRunner, steps: list[Step], buffer: _FrameBuffer) -> _InFlight:
    """Launches the passes of `steps`, whose source frames `buffer` holds."""
    work = TaskList()
    frames: dict[int, Tensor] = {}
    rows: list[list[list[Tensor]]] = []
    for k, step in enumerate(steps):
        work.add(k, step)
    for targets in work.targets:
        like = buffer.frame(steps[targets[0]].left)
        frame = torch.empty_like(like, dtype=like.dtype if like.is_floating_point() else torch.float32)
        frames.update(dict.fromkeys(targets, frame))
        rows.append([[frame]])
    for _ in runner.run(work.tasks, rows, buffer.frame):
        pass
    return _InFlight(steps, frames, runner.made)


def _finished(
    runner: BatchRunner, batch: _InFlight, buffer: _FrameBuffer, retouch: Retouch | None
) -> Iterator[Tensor]:
    """The frames (H,W,C) of a batch, each as soon as it is there; lets go of source frames that are done with."""
    made = shown = torch.empty(0)
    for k, step in enumerate(batch.steps):
        if step.kind != "new":
            yield passthrough_frame(step, buffer.frame, runner.weighs)
            continue
        runner.transfer.wait(batch.made)
        frame = batch.frames.pop(k)
        if retouch and frame is not made:  # what is shown several times is the same tensor
            shown = retouch(frame, step, buffer.frame)
        elif not retouch:
            shown = frame
        made = frame
        yield shown
    buffer.forget(batch.steps[-1].left)


class _FrameBuffer:
    """The frames of a stream that steps still need, by index; the first one is kept for loops."""

    def __init__(self, frames: Iterable[Tensor], watcher: Watcher | None):
        self._source = iter(frames)
        self._watcher = watcher
        self._held: dict[int, Tensor] = {}
        self.count = 0
        self.ended = False

    def frame(self, index: int) -> Tensor:
        """Source frame (H,W,C); one that steps still need."""
        return self._held[index]

    def steps(self, plan_for: Callable[[int | None], StreamPlan]) -> Iterator[Step]:
        """The plan's steps; the frames that one needs have been read when it comes."""
        plan = plan_for(None)
        ahead = self._watcher.ahead if self._watcher else 0
        if plan.options.at_repeats == "retime":
            ahead += LONGEST_DRAWING  # where the drawing ends
        k = 0
        while True:
            if not self.ended and self._read_to(plan.position(k) + 1 + ahead):
                if not self.count:
                    return
                plan = plan_for(self.count)
            if self.ended and k >= len(plan):
                return
            # Where drawings are put back to even times, the next one may lie further ahead.
            if not self.ended and self._read_to(max(plan[k].left, plan[k].right)):
                plan = plan_for(self.count)
                continue
            yield plan[k]
            k += 1

    def _read_to(self, index: int) -> bool:
        """Reads frames up to that one; whether the source has ended now."""
        while self.count <= index:
            frame = next(self._source, None)
            if frame is None:
                self.ended = True
                if self._watcher:
                    self._watcher.finish()
                return True
            frame = torch.as_tensor(frame)
            if self._watcher:
                self._watcher.push(frame)
            self._held[self.count] = frame
            self.count += 1
        return False

    def forget(self, before: int) -> None:
        """Lets go of frames that no later step needs."""
        for index in [i for i in self._held if 0 < i < before - LONGEST_DRAWING]:
            del self._held[index]
