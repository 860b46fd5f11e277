"""Cuts plans into parts that are computed apart, such as segments of a file: which frames they need. It knows no model.
No model.

A part knows which source frames it needs besides its own, so that its frames are, bit for bit, those of the whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from .cadence import Cadence, find_cadence
from .clock import Clock
from .plans import LONGEST_DRAWING, Plan, PlanOptions
from .request import AtTimes, PerPair, Request
from .scenes import SceneFinder, Scenes

OFF = "off"
# Frames that are looked at before and after a part, to judge cuts and drawings as the whole does: more than
# `rife.timeline.scenes` and `rife.timeline.plans` look back and ahead.
MARGIN = 16


def check_angle(angle: float) -> float:
    """Returns the `angle` of a shutter, in degrees. Raises ValueError unless it is in 0..360."""
    if not 0 <= angle <= 360:
        raise ValueError(
            f"shutter is {angle}, expected 0 (no motion blur) to 360 degrees. 180 is a film camera's."
        )
    return angle


@dataclass(frozen=True)
class Found:
    """Holds what was found in the whole of a clip before anything is made of it, see `found_in`."""

    cuts: frozenset[int]
    repeats: frozenset[int]
    cadence: Cadence


def found_in(scenes: Scenes, count: int, cut_frames: Collection[int] = ()) -> Found:
    """Returns what a clip of `count` frames holds; cut_frames: those that begin a scene, instead of the cuts that were
    found."""
    cuts = frozenset(cut_frames or scenes.cuts)
    return Found(cuts, frozenset(scenes.repeats), find_cadence(scenes.repeats, cuts, count))


@dataclass(frozen=True)
class Timing:
    """Holds what is asked of a clip before its scenes are known.

    at_cuts, at_repeats: what is shown there, as `rife.timeline.plan` takes them, or "off" where neither is heeded.
    cut_frames: the frames that begin a scene, instead of those that are found. steady: no given frames, all as sharp.
    shutter: degrees of motion blur, see `rife.engine.shutter`. found: what the whole clip was found to hold, instead of
    what is found as its frames go by; without it no cadence can be undone. longest_gap: seconds that a frame of a
    variable rate may last without being a pause, which is held; None: by how long they usually last, 0: any.
    check: see `PlanOptions`. Raises ValueError.
    """

    request: Request = PerPair()
    loop: bool = False
    keep_duration: bool = False
    at_cuts: str = "hold"
    at_repeats: str = "hold"
    cut_frames: frozenset[int] = frozenset()
    steady: bool = False
    shutter: float = 0.0
    found: Found | None = None
    longest_gap: Fraction | None = None
    check: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_angle(self.shutter)

    @property
    def wants_whole(self) -> bool:
        """Tells whether what is shown depends on frames far ahead, so that the whole clip is to be looked at before."""
        return self.found is None and self.at_repeats in ("retime", "auto")

    @property
    def watches(self) -> bool:
        """Tells whether scenes are to be found as frames go by."""
        if self.found:
            return False
        return self.at_repeats != OFF or (self.at_cuts != OFF and not self.cut_frames) or self.shutter > 0

    def margin(self, plan: Plan) -> int:
        """Says how many frames around a part are looked at, at most."""
        if not self.shutter or len(plan) < 2:
            return MARGIN
        # A shutter is open for up to half an output frame before and after, however many frames of the source that is.
        return MARGIN + 1 + int((plan.time(1) - plan.time(0)) * plan.clock.mean_rate)

    def finder(self) -> SceneFinder | None:
        """Makes what finds scenes, where the frames are: asking the device would be waiting for the batch it
        computes."""
        return SceneFinder(keep_evidence=False) if self.watches else None

    def cuts_among(self, finder: SceneFinder | None) -> list[int]:
        """Returns the frames that begin a scene and are heeded, once `finder` has seen all."""
        if self.at_cuts == OFF:
            return []
        if self.found:
            return sorted(self.found.cuts)
        return sorted(self.cut_frames or (finder.cuts if finder else ()))

    def cadence_among(self, finder: SceneFinder | None, count: int) -> Cadence:
        """Returns what patterns the repeats of a clip of `count` frames follow, once `finder` has seen all."""
        if self.found or finder is None:
            return self.found.cadence if self.found else Cadence(count)
        return find_cadence(finder.repeats, finder.cuts, count)

    @property
    def ahead(self) -> int:
        """Counts the frames after one that must be known before it is known what is shown next to it."""
        retime = LONGEST_DRAWING if self.at_repeats == "retime" else 0
        return 1 + (SceneFinder.ahead if self.watches else 0) + retime

    def plan(self, clock: Clock, cuts: Container[int] = (), repeats: Container[int] = ()) -> Plan:
        """Makes the plan for these frames, with cuts and repeats as they are found."""
        options = PlanOptions(self.loop, self.keep_duration, steady=self.steady, check=self.check)
        if self.found:
            cuts, repeats = self.found.cuts, self.found.repeats
            options = replace(options, cadence=self.found.cadence)
        if self.at_cuts != OFF:
            options = replace(options, cuts=self.cut_frames or cuts, at_cuts=self.at_cuts)
        if self.at_repeats != OFF:
            options = replace(options, repeats=repeats, at_repeats=self.at_repeats)
        if clock.times is not None and clock.longest_gap != self.longest_gap:
            clock = replace(clock, longest_gap=self.longest_gap)
        return Plan(clock, self.request, options)


@dataclass(frozen=True)
class Part:
    """Names the output frames first to last - 1 of a plan, and the source frames start to stop - 1 that they need.

    keeps_first: a loop's end needs the clip's first frame too; it is then the first of the part's.
    """

    first: int
    last: int
    start: int
    stop: int
    keeps_first: bool = False

    def local(self, index: int) -> int:
        """Returns where a source frame is among the part's own."""
        return 0 if self.keeps_first and index == 0 else index - self.start + self.keeps_first

    @property
    def count(self) -> int:
        """Counts the source frames that it needs."""
        return self.stop - self.start + self.keeps_first


def part_of(plan: Plan, after: int, until: int, margin: int = MARGIN) -> Part:
    """Returns the part of the output frames at whose time a source frame after <= i < until is shown. Raises
    ValueError."""
    n = plan.clock.known_count
    outputs = range(len(plan))
    first = bisect_left(outputs, after, key=plan.position) if after else 0
    last = bisect_left(outputs, until, key=plan.position) if until < n else len(plan)
    start = max(0, after - margin)
    stop = min(n, (plan.position(last - 1) if last > first else after) + 1 + margin)
    return Part(first, last, start, stop, plan.options.loop and start > 0 and stop == n)


def check_forward(plan: Plan) -> None:
    """Raises ValueError where a plan goes backward, which a stream cannot."""
    corners = plan.request.corners if isinstance(plan.request, AtTimes) else ()
    if any(plan.position(b) < plan.position(a) for a, b in pairwise(corners)):
        raise ValueError(
            "the retime curve goes backward, which needs all frames at once. Let it rise, or use RIFE Interpolate, "
            "which holds the clip."
        )
