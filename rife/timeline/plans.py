"""Plans which output frame is which source frame, or which pair at which time. Fractions are
exact, and nothing here needs torch.

A plan is a sequence that computes its steps when asked: ten hours take no more memory than ten frames. Its length is
the number of frames that come out, always. Times are seconds of the source, rates frames per second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Container, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from .cadence import Cadence, Stretch, find_cadence
from .clock import ZERO, Clock, Rate
from .lazy import LazySequence
from .numbers import shortened
from .request import Request, request_of

AT_CUTS = ("hold", "nearest", "blend")
AT_REPEATS = ("hold", "retime", "auto")

# A drawing shown for more frames than this is a still, not animation on twos to fours.
LONGEST_DRAWING = 4
_CHECKED_EVERY = 1024  # steps


class Step(NamedTuple):
    """Is one output frame: source frame `left` where `time` is 0, else what is between left and right at 0 < time < 1.

    kind: "source" the frame of that very time, "new" to be interpolated, "blend" a cross-fade over a cut,
    "cut", "static", "tail" a source frame held because of a cut, a repeated picture, the end of the clip.
    """

    left: int
    right: int
    time: Fraction
    kind: str


@dataclass(frozen=True)
class PlanOptions:
    """Says how a plan ends, and what it shows at cuts and repeats: as the arguments of `plan`. Raises ValueError.

    check: called now and then while all steps are gone through; what it raises ends that, as for a cancel button.
    """

    loop: bool = False
    keep_duration: bool = False
    cuts: Container[int] = ()
    at_cuts: str = "hold"
    repeats: Container[int] = ()
    at_repeats: str = "hold"
    steady: bool = False
    cadence: Cadence | None = None
    check: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        asked = ("at_cuts", self.at_cuts, AT_CUTS), ("at_repeats", self.at_repeats, AT_REPEATS)
        for name, value, choices in asked:
            if value not in choices:
                raise ValueError(
                    f"{name} is {shortened(value)}, expected one of {', '.join(choices)}. Choose one of them."
                )


class Plan(LazySequence[Step]):
    """Lists the steps of a result; made by `plan`. `len` is exact; an open plan (`known_length` None) only iterates.

    rate: of the result, frames per second. cuts, repeats: looked into when a step is asked for, so that a detector
    may run ahead of the reader.
    """

    def __init__(self, clock: Clock, request: Request, options: PlanOptions):
        self.clock, self.request, self.options = clock, request, options
        # Frames after which a loop begins again; an open plan cannot know where it leads back.
        self._round_length = clock.count if options.loop else None
        self._places = request.places(clock, past_last=options.loop or options.keep_duration)
        # Of all times, as a share of the way to the next frame.
        self._shift = request.half_a_step(clock) if options.steady else ZERO
        self.rate, self.known_length = self._places.rate, self._places.count
        even = clock.rate is not None and options.at_repeats in ("retime", "auto")
        self._cadence = options.cadence if even else None

    def __len__(self) -> int:
        if self.known_length is None:
            raise TypeError("an open plan has no length: the source's number of frames is not known")
        return self.known_length

    def item(self, k: int) -> Step:
        """Returns the step of output frame k. Raises IndexError where there is none."""
        if k < 0 or (self.known_length is not None and k >= self.known_length):
            raise IndexError(f"output frame {k} of {self.known_length}")
        return self.step_at(*self._place(k))

    def step_at(self, index: int, t: Fraction) -> Step:
        """Returns what is shown at t on the way from frame `index` to the next, 0 <= t < 1."""
        if self._cadence and (stretch := self._cadence.at(index)):
            return self._in_stretch(stretch, index, t)
        if t and (pause := self.clock.pause(index)):
            return self._after_pause(pause, index, t)
        retime = self.options.at_repeats == "retime" and self.options.repeats != ()
        return self._between_drawings(index, t) if retime else self._step(index, t)

    def __iter__(self) -> Iterator[Step]:
        check = self.options.check
        k = 0
        while self.known_length is None or k < self.known_length:
            if check and k % _CHECKED_EVERY == 0:
                check()
            yield self[k]
            k += 1

    @property
    def steady(self) -> bool:
        """Whether all frames are to be as sharp as the given ones."""
        return self.options.steady

    def parts(self) -> list[tuple[int, Plan]]:
        """Lists (first source frame, plan) of each clip; of this one alone."""
        return [(0, self)]

    def position(self, k: int) -> int:
        """Returns the source frame that is shown, or was last, at output k's time."""
        return self._place(k)[0]

    def time(self, k: int) -> Fraction:
        """Returns the source time, in seconds, that output frame k is asked to show."""
        return self._time(*self._place(k))

    def due(self, k: int) -> Fraction:
        """Returns when output frame k is shown, in seconds on the source's clock: its time, but for the shift of a
        steady plan."""
        return self._time(*self._places.place(k))

    def _time(self, index: int, t: Fraction) -> Fraction:
        return self.clock.at(index) + t * self._lasts(index)

    def _place(self, k: int) -> tuple[int, Fraction]:
        """The frame at or before output k's time, and how far on the way to the next."""
        index, t = self._places.place(k)
        if not self._shift:
            return index, t
        t += self._shift
        if t < 1:
            return index, t
        if index + 1 != self.clock.count:
            return index + 1, t - 1
        return (0, t - 1) if self._round_length else (index, self._shift)  # the last one is held

    def shown(self, step: Step) -> Fraction:
        """Returns the source time, in seconds, that a step's picture shows."""
        start = self._seen_at(step.left, step.left)
        if not step.time:
            return start
        start += self.clock.pause(step.left)
        return start + step.time * (self._seen_at(self._upward(step), step.left) - start)

    def _seen_at(self, index: int, left: int) -> Fraction:
        """The time of the picture of frame `index`, as the stretch of frame `left` has it, where there is one."""
        stretch = self._cadence.at(left) if self._cadence else None
        when = stretch.when(index) if stretch else None
        return self.clock.at(index) if when is None or self.clock.rate is None else when / self.clock.rate

    def _upward(self, step: Step) -> int:
        """The right frame's index, counted on past the end in a loop."""
        return step.right if step.right > step.left else step.right + self.clock.known_count

    def _step(self, index: int, t: Fraction) -> Step:
        options = self.options
        if not t:
            return Step(index, index, ZERO, "source")
        right = index + 1
        if right == self.clock.count:
            if not self._round_length:
                return Step(index, index, ZERO, "tail")
            right = 0
        if right in options.repeats or right == index:
            return Step(index, index, ZERO, "static")
        if right in options.cuts:
            return self._at_cut(index, right, t)
        return Step(index, right, t, "new")

    def _in_stretch(self, stretch: Stretch, index: int, t: Fraction) -> Step:
        """As `_step` where the drawings are evenly spaced."""
        left, right, t = stretch.place(index + t)
        if not t:
            return Step(left, left, ZERO, "source")
        if right == self.clock.count:
            if not self._round_length:
                return Step(left, left, ZERO, "tail" if index == right - 1 else "static")
            right = 0
        if left == right or (right in (0, stretch.after) and right in self.options.repeats):
            return Step(left, left, ZERO, "static")
        return self._at_cut(left, right, t) if right in self.options.cuts else Step(left, right, t, "new")

    def _after_pause(self, pause: Fraction, index: int, t: Fraction) -> Step:
        """As `_step` where the picture is held for `pause` seconds before it moves on."""
        gap = self._lasts(index)
        t = (t * gap - pause) / (gap - pause)
        return self._step(index, t) if t > 0 else Step(index, index, ZERO, "static")

    def _at_cut(self, left: int, right: int, t: Fraction) -> Step:
        if self.options.at_cuts == "blend":
            return Step(left, right, t, "blend")
        shown = right if self.options.at_cuts == "nearest" and t >= Fraction(1, 2) else left
        return Step(shown, shown, ZERO, "cut")

    def _between_drawings(self, index: int, t: Fraction) -> Step:
        """As `_step` where repeats stand for the drawing that they repeat, and motion goes on across them.

        The drawing shown at `index` is the frames first..after-1; in a loop indices count on past either end.
        """
        n, round_length = self.clock.count, self._round_length
        first, after = index, index + 1
        while index - first < LONGEST_DRAWING and self._repeats(first):
            first -= 1
        while after - first <= LONGEST_DRAWING and self._repeats(after):
            after += 1
        if after - first > LONGEST_DRAWING or (round_length and after - first >= round_length):
            return self._step(index, t)
        source, right = (first % round_length, after % round_length) if round_length else (first, after)
        if index == first and not t:
            return Step(source, source, ZERO, "source")
        if after == n and not round_length:
            return Step(source, source, ZERO, "tail" if index == after - 1 and t else "static")
        start = self.clock.at(first)
        t = (self.clock.at(index) + t * self._lasts(index) - start) / (self.clock.at(after) - start)
        return self._at_cut(source, right, t) if right in self.options.cuts else Step(source, right, t, "new")

    def _repeats(self, index: int) -> bool:
        """Whether a frame repeats the one before it, in a loop also the first the last."""
        if self._round_length:
            return index % self._round_length in self.options.repeats
        n = self.clock.count
        return 0 < index and (n is None or index < n) and index in self.options.repeats

    def _lasts(self, index: int) -> Fraction:
        return self.clock.at(index + 1) - self.clock.at(index)


class ConcatenatedPlan(LazySequence[Step]):
    """Joins the plans of clips that stand one after the other in one batch: each as if it were alone, nothing between
    them.

    Steps count the source frames of the whole batch.
    """

    def __init__(self, plans: Sequence[Plan]):
        self._plans = list(plans)
        self._firsts = list(accumulate((plan.clock.known_count for plan in self._plans), initial=0))
        self._outputs = list(accumulate(map(len, self._plans), initial=0))
        self.rate = self._plans[0].rate
        self.clock = Clock(self._firsts[-1], self._plans[0].clock.mean_rate)

    def __len__(self) -> int:
        return self._outputs[-1]

    def item(self, k: int) -> Step:
        """Returns the step of output frame k of all. Raises IndexError where there is none."""
        if not 0 <= k < len(self):
            raise IndexError(f"output frame {k} of {len(self)}")
        i = bisect_right(self._outputs, k) - 1
        step, first = self._plans[i][k - self._outputs[i]], self._firsts[i]
        return step._replace(left=step.left + first, right=step.right + first)

    def __iter__(self) -> Iterator[Step]:
        for first, plan in self.parts():
            for step in plan:
                yield step._replace(left=step.left + first, right=step.right + first)

    @property
    def steady(self) -> bool:
        """Whether all frames are to be as sharp as the given ones."""
        return any(plan.steady for plan in self._plans)

    def parts(self) -> list[tuple[int, Plan]]:
        """Lists (first source frame, plan) of each clip."""
        return list(zip(self._firsts, self._plans, strict=False))


Clips = ConcatenatedPlan  # the name that scripts know it by


def plan(
    source: Clock,
    *,
    multiplier: int | None = None,
    timesteps: Sequence[Fraction | float] | None = None,
    rate: Rate | None = None,
    speed: Fraction | int = 1,
    times: Sequence[Fraction] | None = None,
    loop: bool = False,
    keep_duration: bool = False,
    cuts: Container[int] = (),
    at_cuts: str = "hold",
    repeats: Container[int] = (),
    at_repeats: str = "hold",
    steady: bool = False,
) -> Plan:
    """Plans one of four requests for n source frames.

    multiplier: m - 1 even times between each two frames, (n-1)*m + 1 frames. timesteps: these times between each two,
    0 < t < 1, rising. rate: frames per second; output k shows the time k*speed/rate after the first frame, exactly, up
    to the last frame's time. times: the source time in seconds that each output frame shows: ramps, freezes, reverse;
    `rate` then only says how fast they are played.
    speed: of the motion, with `rate`: 1/4 at the source's rate is slow motion that keeps the rate.
    keep_duration: also the times while the last frame is shown, which hold it: n*m frames, or all k*speed/rate before
    the end. loop: as many, and they lead back to the first frame.
    cuts: frames that begin a scene (0: the last does not lead to the first); frames asked for across one hold the old
    scene, show the "nearest" or "blend". repeats: frames that repeat the one before (0: the last). Between those the
    picture is held; or, with at_repeats "retime", motion goes on from drawing to drawing (of up to `LONGEST_DRAWING`
    frames, else it is a still). Where they follow a pattern, as film in 60 frames per second does, and are those of the
    whole clip in a set, the drawings are put back to even times (`rife.timeline.cadence`); at_repeats "auto" does that
    and holds all others.
    steady: all times half a step of their pattern later (a quarter of the way at twice the rate), so that no frame is a
    given one and all are about as sharp; the number of frames is the same. Not with times. Raises ValueError.
    """
    request = request_of(multiplier, timesteps, rate, speed, times)
    options = PlanOptions(loop, keep_duration, cuts, at_cuts, repeats, at_repeats, steady)
    if at_repeats != "hold" and source.count and isinstance(repeats, Set) and isinstance(cuts, Collection):
        options = replace(options, cadence=find_cadence(repeats, cuts, source.count))
    return Plan(source, request, options)
