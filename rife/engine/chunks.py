"""Parts of a plan that are computed apart: segments of a file, chunks of a batch loop.

A part knows which source frames it needs besides its own, so that its frames are, bit for bit, those of the whole.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from ..timeline.clock import Clock, Rate
from ..timeline.plans import LONGEST_DRAWING, Plan, Step
from ..timeline.plans import plan as make_plan
from ..timeline.scenes import SceneFinder
from .batches import Interpolator
from .stream import interpolate_stream

OFF = "off"
# Frames that are looked at before and after a part, to judge cuts and drawings as the whole does: more than
# `rife.scenes` and `rife.timeline` look back and ahead.
MARGIN = 16


@dataclass(frozen=True)
class Timing:
    """What is asked of a clip.

    request: multiplier, timesteps, rate and speed, or times, as `rife.timeline.plan` takes them. cuts, repeats: what is
    shown there ("hold" ..., or "off"); given: the frames that begin a scene, instead of those that are found.
    """

    request: Mapping = field(default_factory=lambda: {"multiplier": 2})
    loop: bool = False
    keep_duration: bool = False
    cuts: str = "hold"
    repeats: str = "hold"
    given: frozenset[int] = frozenset()

    @property
    def watches(self) -> bool:
        """Whether scenes are to be found."""
        return self.repeats != OFF or (self.cuts != OFF and not self.given)

    def finder(self) -> SceneFinder | None:
        """What finds them, where the frames are: asking the device would be waiting for the batch it computes."""
        return SceneFinder(keep_evidence=False) if self.watches else None

    def cuts_among(self, finder: SceneFinder | None) -> list[int]:
        """The frames that begin a scene and are heeded, once `finder` has seen all."""
        if self.cuts == OFF:
            return []
        return sorted(self.given or (finder.cuts if finder else ()))

    @property
    def ahead(self) -> int:
        """Frames after one that must be known before it is known what is shown next to it."""
        retime = LONGEST_DRAWING if self.repeats == "retime" else 0
        return 1 + (SceneFinder.ahead if self.watches else 0) + retime

    def plan(self, clock: Clock, cuts: Container[int] = (), repeats: Container[int] = ()) -> Plan:
        """The plan for these frames, with cuts and repeats as they are found."""
        scenes = {"cuts": self.given or cuts, "at_cuts": self.cuts} if self.cuts != OFF else {}
        if self.repeats != OFF:
            scenes |= {"repeats": repeats, "at_repeats": self.repeats}
        return make_plan(clock, **self.request, loop=self.loop, keep_duration=self.keep_duration, **scenes)


@dataclass(frozen=True)
class Part:
    """Output frames first to last - 1 of a plan, and the source frames start to stop - 1 that they need.

    keeps_first: a loop's end needs the clip's first frame too; it is then the first of the part's.
    """

    first: int
    last: int
    start: int
    stop: int
    keeps_first: bool = False

    def local(self, index: int) -> int:
        """Where a source frame is among the part's own."""
        return 0 if self.keeps_first and index == 0 else index - self.start + self.keeps_first

    @property
    def count(self) -> int:
        """How many source frames it needs."""
        return self.stop - self.start + self.keeps_first


def part_of(plan: Plan, after: int, until: int) -> Part:
    """The part of the output frames at whose time a source frame after <= i < until is shown. Raises ValueError."""
    n = plan.clock.count
    outputs = range(len(plan))
    first = bisect_left(outputs, after, key=plan.position) if after else 0
    last = bisect_left(outputs, until, key=plan.position) if until < n else len(plan)
    start = max(0, after - MARGIN)
    stop = min(n, (plan.position(last - 1) if last > first else after) + 1 + MARGIN)
    return Part(first, last, start, stop, plan.options.loop and start > 0 and stop == n)


def check_forward(plan: Plan) -> None:
    """Raises ValueError where a plan goes backward, which a stream cannot."""
    if any(plan.position(k) < plan.position(k - 1) for k in range(1, len(plan))):
        raise ValueError(
            "the retime curve goes backward, which needs all frames at once. Let it rise, or use RIFE Interpolate, "
            "which holds the clip."
        )


class _Shifted(Container):
    """Frames by the clip's numbers, of a set that has the part's."""

    def __init__(self, frames: Container[int], part: Part):
        self._frames, self._part = frames, part

    def __contains__(self, index) -> bool:
        return self._part.local(index) in self._frames


class _PartPlan(Sequence):
    """A part's steps, with the part's own frame numbers, for `rife.engine.interpolate_stream`."""

    def __init__(self, plan: Plan, part: Part):
        self._plan, self._part = plan, part
        self.options = plan.options
        self._last = part.last if plan.count is None else min(part.last, plan.count)

    def __len__(self) -> int:
        return self._last - self._part.first

    def __getitem__(self, k: int) -> Step:
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
    **options,
) -> Iterator[Tensor]:
    """The frames (H,W,C) of a part, in order.

    images: the source frames that it needs, (H,W,C) in 0..1. clock_of: the clock of so many frames; total: how many the
    clip has; where it turns out to have fewer, the last part ends earlier. finder: `timing.finder`'s, for those who
    want to know afterwards what was found. options: of `interpolate_stream`.
    """
    finder = finder or timing.finder()
    found = [_Shifted(frames, part) for frames in (finder.cuts, finder.repeats)] if finder else []

    def plan_for(count: int | None) -> _PartPlan:
        short = count is not None and count < part.count and part.stop == total
        known = part.start + count - part.keeps_first if short else total
        return _PartPlan(timing.plan(clock_of(known), *found), part)

    stream = interpolate_stream(model, images, plan_for=plan_for, watcher=finder, **options)
    return islice(stream, part.last - part.first)


class Chunks:
    """A clip that comes in chunks, as batch loops hand it on: each gives the frames of which all is known by then.

    Together they are, bit for bit, those of the whole clip. rate: its frames per second. Raises ValueError.
    """

    def __init__(self, timing: Timing, rate: Rate):
        if "times" in timing.request:
            raise ValueError(
                "a retime curve needs the whole clip, this is a part of it. Choose a frame rate."
            )
        self.timing, self.rate = timing, rate
        self._held: list[Tensor] = []
        self._first: Tensor | None = None
        self._count = self._next = 0

    def plan(self, last: bool) -> Plan:
        """The plan of what has come; open unless that was the last."""
        return self.timing.plan(Clock(self._count if last else None, self.rate))

    def push(self, images: Sequence[Tensor], last: bool) -> Part:
        """Takes the next frames (H,W,C); the part that can be made now. `last`: there are no more."""
        if self._first is None:
            self._first = images[0]
        self._held += images
        self._count += len(images)
        plan, start = self.plan(last), self._count - len(self._held)
        end = self._next
        while end < plan.count if last else plan.position(end) + self.timing.ahead < self._count:
            end += 1
        return Part(self._next, end, start, self._count, self.timing.loop and last and start > 0)

    def make(self, model: Interpolator, part: Part, last: bool, **options) -> Iterator[Tensor]:
        """The frames (H,W,C) of `push`'s part; afterwards what no later one needs is let go."""
        images = [self._first, *self._held] if part.keeps_first else self._held

        def clock_of(_: int) -> Clock:
            return Clock(self._count if last else None, self.rate)

        yield from part_frames(model, images, self.timing, clock_of, self._count, part, **options)
        self._next = part.last
        if not last:
            needed = max(part.start, self.plan(last).position(part.last) - MARGIN)
            self._held = [image.clone() for image in self._held[needed - part.start :]]
            self._first = self._first.clone()
