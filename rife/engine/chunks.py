"""Computes the frames of a part of a plan by themselves: segments of a file, chunks of a batch loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor

from ..ops.transfer import SRGB, Transfer
from ..timeline.clock import Clock, Rate, exact_rate
from ..timeline.lazy import LazySequence
from ..timeline.parts import MARGIN, Part, Timing
from ..timeline.plans import Plan, Step
from ..timeline.request import AtTimes
from ..timeline.scenes import SceneFinder
from .batches import Interpolator
from .keep import Watchers, keeper_of
from .shutter import SLOTS, ShutterPlan, averaged, motion_of
from .stream import interpolate_stream


class _Shifted(Container):
    """Frames by the clip's numbers, of a set that has the part's."""

    def __init__(self, frames: Container[int], part: Part):
        self._frames, self._part = frames, part

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self._part.local(index) in self._frames


class _PartPlan(LazySequence[Step]):
    """A part's steps, with the part's own frame numbers, for `rife.engine.interpolate_stream`."""

    def __init__(self, plan: Plan | ShutterPlan, part: Part):
        self._plan, self._part = plan, part
        self.options = plan.options
        self._last = part.last if plan.known_length is None else min(part.last, plan.known_length)

    def __len__(self) -> int:
        return self._last - self._part.first

    def item(self, k: int) -> Step:
        """Output frame k of the part."""
        if not 0 <= k < len(self):
            raise IndexError(k)
        step = self._plan[self._part.first + k]
        return step._replace(left=self._part.local(step.left), right=self._part.local(step.right))

    def position(self, k: int) -> int:
        """The frame shown at output k's time; past the end, one that is never there, so that the stream ends."""
        return self._part.local(self._plan.position(self._part.first + k)) if k < len(self) else sys.maxsize


def part_frames(
    model: Interpolator,
    images: Iterable[Tensor],
    timing: Timing,
    clock_of: Callable[[int], Clock],
    total: int,
    part: Part,
    finder: SceneFinder | None = None,
    keep: Tensor | str | None = None,
    transfer: Transfer = SRGB,
    **options: Any,
) -> Iterator[Tensor]:
    """Yields the frames (H,W,C) of a part, in order.

    images: the source frames that it needs, (H,W,C) in 0..1. clock_of: the clock of so many frames; total: how many the
    clip has; where it turns out to have fewer, the last part ends earlier. finder: `timing.finder`'s, for those who
    want to know afterwards what was found. keep: a mask (H,W) or "auto", see `rife.engine.keep`. transfer: of the light
    that a shutter averages. options: of `interpolate_stream`.
    """
    finder, keeper = finder or timing.finder(), keeper_of(keep)
    watchers = [watcher for watcher in (finder, keeper) if watcher]
    motion = motion_of(finder.scenes) if finder else None
    slots = SLOTS if timing.shutter else 1
    asked = replace(part, first=part.first * slots, last=part.last * slots)
    found = [_Shifted(frames, part) for frames in (finder.cuts, finder.repeats)] if finder else []

    def plan_for(count: int | None) -> _PartPlan:
        short = count is not None and count < part.count and part.stop == total
        known = part.start + (count or 0) - part.keeps_first if short else total
        plan = timing.plan(clock_of(known), *found)
        return _PartPlan(ShutterPlan(plan, timing.shutter, motion) if timing.shutter else plan, asked)

    stream = interpolate_stream(
        model, images, plan_for=plan_for, watcher=Watchers(watchers) if watchers else None,
        retouch=keeper.retouched if keeper else None, **options,
    )  # fmt: skip
    if timing.shutter:
        stream = averaged(stream, transfer, False if options.get("premultiplied") else options.get("opacity"))
    return islice(stream, part.last - part.first)


class Chunks:
    """Interpolates a clip that comes in chunks, as batch loops hand it on: each gives the frames of which all is known
    by then.

    Together they are, bit for bit, those of the whole clip. rate: its frames per second. Raises ValueError.
    """

    def __init__(self, timing: Timing, rate: Rate):
        if isinstance(timing.request, AtTimes):
            raise ValueError(
                "a retime curve needs the whole clip, this is a part of it. Choose a frame rate."
            )
        self.timing, self.rate = timing, exact_rate(rate)
        self._held: list[Tensor] = []
        self._first: list[Tensor] = []  # the clip's first frame, once it is there
        self._count = self._next = 0

    def plan(self, last: bool) -> Plan:
        """Returns the plan of what has come; open unless that was the last."""
        return self.timing.plan(Clock(self._count if last else None, self.rate))

    def push(self, images: Sequence[Tensor], last: bool) -> Part:
        """Takes the next frames (H,W,C); returns the part that can be made now. `last`: there are no more."""
        self._first = self._first or [images[0]]
        self._held += images
        self._count += len(images)
        plan, start = self.plan(last), self._count - len(self._held)
        end = self._next
        while end < len(plan) if last else plan.position(end) + self.timing.ahead < self._count:
            end += 1
        return Part(self._next, end, start, self._count, self.timing.loop and last and start > 0)

    def make(self, model: Interpolator, part: Part, last: bool, **options: Any) -> Iterator[Tensor]:
        """Yields the frames (H,W,C) of `push`'s part; afterwards what no later one needs is let go."""
        images = [*self._first, *self._held] if part.keeps_first else self._held

        def clock_of(_: int) -> Clock:
            return Clock(self._count if last else None, self.rate)

        yield from part_frames(model, images, self.timing, clock_of, self._count, part, **options)
        self._next = part.last
        if not last:
            needed = max(part.start, self.plan(last).position(part.last) - MARGIN)
            self._held = [image.clone() for image in self._held[needed - part.start :]]
            self._first = [image.clone() for image in self._first]
