"""Which output frame is which source frame, or which pair at which time. Exact fractions, no torch.

A plan is a sequence that computes its steps when asked: ten hours take no more memory than ten frames. Its length is
the number of frames that come out, always. Times are seconds of the source, rates frames per second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil, floor
from typing import NamedTuple

from .clock import ZERO, Clock, Rate, exact_rate
from .curve import Curve

AT_CUTS = ("hold", "nearest", "blend")
AT_REPEATS = ("hold", "retime")

# A drawing shown for more frames than this is a still, not animation on twos to fours.
LONGEST_DRAWING = 4


class Step(NamedTuple):
    """One output frame: source frame `left` where `time` is 0, else what is between left and right at 0 < time < 1.

    kind: "source" the frame of that very time, "new" to be interpolated, "blend" a cross-fade over a cut,
    "cut", "static", "tail" a source frame held because of a cut, a repeated picture, the end of the clip.
    """

    left: int
    right: int
    time: Fraction
    kind: str


class Plan(Sequence):
    """The steps of a result; made by `plan`. `len` is exact; an open plan (`count` None) only iterates.

    rate: of the result, frames per second. cuts, repeats: looked into when a step is asked for, so that a detector
    may run ahead of the reader.
    """

    def __init__(
        self, clock: Clock, places: _PerPair | _Regular | _Listed, rate: Fraction, options: _Options
    ):
        self.clock, self.rate, self.options = clock, rate, options
        self._places = places
        self._loop = options.loop and clock.count is not None  # an open plan cannot know where it leads back
        self.count: int | None = places.count(clock, options.loop or options.keep_duration)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("an open plan has no length: the source's number of frames is not known")
        return self.count

    def __getitem__(self, k: int) -> Step:
        if k < 0 or (self.count is not None and k >= self.count):
            raise IndexError(f"output frame {k} of {self.count}")
        place = self._places.place(self.clock, k)
        retime = self.options.at_repeats == "retime" and self.options.repeats != ()
        return self._between_drawings(*place) if retime else self._step(*place)

    def __iter__(self) -> Iterator[Step]:
        k = 0
        while self.count is None or k < self.count:
            yield self[k]
            k += 1

    def parts(self) -> list[tuple[int, Plan]]:
        """(first source frame, plan) of each clip; of this one alone."""
        return [(0, self)]

    def position(self, k: int) -> int:
        """The source frame that is shown, or was last, at output k's time."""
        return self._places.place(self.clock, k)[0]

    def time(self, k: int) -> Fraction:
        """The source time that output frame k is asked to show."""
        index, t = self._places.place(self.clock, k)
        return self.clock.at(index) + t * self._lasts(index)

    def shown(self, step: Step) -> Fraction:
        """The source time that a step's picture shows."""
        start = self.clock.at(step.left)
        if not step.time:
            return start
        return start + step.time * (self.clock.at(self._upward(step)) - start)

    def _upward(self, step: Step) -> int:
        """The right frame's index, counted on past the end in a loop."""
        return step.right if step.right > step.left else step.right + self.clock.count

    def _step(self, index: int, t: Fraction) -> Step:
        options = self.options
        if not t:
            return Step(index, index, ZERO, "source")
        right = index + 1
        if right == self.clock.count:
            if not self._loop:
                return Step(index, index, ZERO, "tail")
            right = 0
        if right in options.repeats or right == index:
            return Step(index, index, ZERO, "static")
        if right in options.cuts:
            return self._at_cut(index, right, t)
        return Step(index, right, t, "new")

    def _at_cut(self, left: int, right: int, t: Fraction) -> Step:
        if self.options.at_cuts == "blend":
            return Step(left, right, t, "blend")
        shown = right if self.options.at_cuts == "nearest" and t >= Fraction(1, 2) else left
        return Step(shown, shown, ZERO, "cut")

    def _between_drawings(self, index: int, t: Fraction) -> Step:
        """As `_step` where repeats stand for the drawing that they repeat, and motion goes on across them.

        The drawing shown at `index` is the frames first..after-1; in a loop indices count on past either end.
        """
        n, loop = self.clock.count, self._loop
        first, after = index, index + 1
        while index - first < LONGEST_DRAWING and self._repeats(first):
            first -= 1
        while after - first <= LONGEST_DRAWING and self._repeats(after):
            after += 1
        if after - first > LONGEST_DRAWING or (loop and after - first >= n):
            return self._step(index, t)
        source, right = (first % n, after % n) if loop else (first, after)
        if index == first and not t:
            return Step(source, source, ZERO, "source")
        if after == n and not loop:
            return Step(source, source, ZERO, "tail" if index == n - 1 and t else "static")
        start = self.clock.at(first)
        t = (self.clock.at(index) + t * self._lasts(index) - start) / (self.clock.at(after) - start)
        return self._at_cut(source, right, t) if right in self.options.cuts else Step(source, right, t, "new")

    def _repeats(self, index: int) -> bool:
        """Whether a frame repeats the one before it, in a loop also the first the last."""
        n = self.clock.count
        if self._loop:
            return index % n in self.options.repeats
        return 0 < index and (n is None or index < n) and index in self.options.repeats

    def _lasts(self, index: int) -> Fraction:
        return self.clock.at(index + 1) - self.clock.at(index)


class Clips(Sequence):
    """Plans of clips that stand one after the other in one batch: each as if it were alone, nothing between them.

    Steps count the source frames of the whole batch.
    """

    def __init__(self, plans: Sequence[Plan]):
        self._plans = list(plans)
        self._firsts = list(accumulate((plan.clock.count for plan in self._plans), initial=0))
        self._outputs = list(accumulate(map(len, self._plans), initial=0))
        self.rate = self._plans[0].rate
        self.clock = Clock(self._firsts[-1], self._plans[0].clock.mean_rate)

    def __len__(self) -> int:
        return self._outputs[-1]

    def __getitem__(self, k: int) -> Step:
        if not 0 <= k < len(self):
            raise IndexError(f"output frame {k} of {len(self)}")
        i = bisect_right(self._outputs, k) - 1
        step, first = self._plans[i][k - self._outputs[i]], self._firsts[i]
        return step._replace(left=step.left + first, right=step.right + first)

    def parts(self) -> list[tuple[int, Plan]]:
        """(first source frame, plan) of each clip."""
        return list(zip(self._firsts, self._plans, strict=False))


@dataclass(frozen=True)
class _Options:
    loop: bool = False
    keep_duration: bool = False
    cuts: Container[int] = ()
    at_cuts: str = "hold"
    repeats: Container[int] = ()
    at_repeats: str = "hold"


class _PerPair:
    """The same times between each two frames."""

    def __init__(self, times: Sequence[Fraction]):
        self.times = (ZERO, *times)

    def count(self, clock: Clock, tail: bool) -> int | None:
        n, m = clock.count, len(self.times)
        return n and (n * m if tail else (n - 1) * m + 1)

    def place(self, clock: Clock, k: int) -> tuple[int, Fraction]:
        index, j = divmod(k, len(self.times))
        return index, self.times[j]


class _Regular:
    """Output k shows start + k*step seconds of the source."""

    def __init__(self, start: Fraction, step: Fraction):
        self.start, self.step = start, step

    def count(self, clock: Clock, tail: bool) -> int | None:
        if clock.count is None:
            return None
        if tail:
            return ceil((clock.at(clock.count) - self.start) / self.step)
        return floor((clock.at(clock.count - 1) - self.start) / self.step) + 1

    def place(self, clock: Clock, k: int) -> tuple[int, Fraction]:
        return clock.place(self.start + k * self.step)


class _Listed:
    """Output k shows times[k]."""

    def __init__(self, times: Sequence[Fraction]):
        self.times = times

    def count(self, clock: Clock, tail: bool) -> int:
        return len(self.times)

    def place(self, clock: Clock, k: int) -> tuple[int, Fraction]:
        return clock.place(Fraction(self.times[k]))


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
) -> Plan:
    """The plan of one of four requests for n source frames.

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
    frames, else it is a still).
    Raises ValueError.
    """
    asked = [name for name, value in (("multiplier", multiplier), ("timesteps", timesteps), ("times", times))
             if value is not None]  # fmt: skip
    if len(asked) > 1 or (rate is not None and asked not in ([], ["times"])):
        raise ValueError(
            f"{', '.join(asked)}{' and rate' if rate else ''} are asked for at once. Choose one."
        )
    for name, value, choices in (("at_cuts", at_cuts, AT_CUTS), ("at_repeats", at_repeats, AT_REPEATS)):
        if value not in choices:
            raise ValueError(
                f"{name} is {value!r}, expected one of {', '.join(choices)}. Choose one of them."
            )
    options = _Options(loop, keep_duration, cuts, at_cuts, repeats, at_repeats)
    rate = exact_rate(rate) if rate is not None else None
    if times is not None:
        _check_times(source, times, loop or keep_duration)
        return Plan(source, _Listed(times), rate or source.mean_rate, options)
    if rate is not None or speed != 1:
        if speed <= 0:
            raise ValueError(f"speed is {speed}, expected more than 0. Ask for times to go backward.")
        rate = rate or source.mean_rate
        start = source.at(0) if source.times is not None else ZERO
        return Plan(source, _Regular(start, Fraction(speed) / rate), rate, options)
    between = pair_times(2 if multiplier is None else multiplier, timesteps)
    rate = source.mean_rate * (len(between) + 1) if source.rate or source.count else None
    return Plan(source, _PerPair(between), rate, options)


def pair_times(multiplier: int, timesteps: Sequence[Fraction | float] | None = None) -> list[Fraction]:
    """The times between two frames: timesteps as given, or multiplier-1 even ones. Raises ValueError."""
    if timesteps is None:
        if int(multiplier) != multiplier or multiplier < 1:
            raise ValueError(
                f"multiplier is {multiplier}, expected a whole number of 1 or more. 2 doubles the frame rate."
            )
        return [Fraction(j, int(multiplier)) for j in range(1, int(multiplier))]
    times = [Fraction(t) for t in timesteps]
    if any(not 0 < t < 1 for t in times) or any(a >= b for a, b in zip(times, times[1:], strict=False)):
        raise ValueError(
            f"timesteps are {[float(t) for t in times]}, expected rising values between 0 and 1 exclusive, such as "
            "0.25, 0.5, 0.75. 0 and 1 are the frames themselves and always in the result."
        )
    return times


def _check_times(source: Clock, times: Sequence[Fraction], past_last: bool) -> None:
    if source.count is None:
        raise ValueError(
            "source times need the number of frames, which this source does not tell. Count them."
        )
    if not len(times):
        raise ValueError("the list of source times is empty, expected at least one. Give some.")
    first, last = source.at(0), source.at(source.count if past_last else source.count - 1)
    for k, time in enumerate(times):
        if not first <= time <= last or (past_last and time == last):
            spans = f"{float(first):g} to {float(last):g} s{' exclusive' if past_last else ''}"
            if isinstance(times, Curve):
                raise ValueError(
                    f"the retime curve asks for second {float(time):g} of the clip, expected {spans}, as long as "
                    "the clip is. Lower what stands behind the colons of its points (result second : clip second), or "
                    "check the clip's fps."
                )
            raise ValueError(
                f"output frame {k} asks for {float(time):g} s of the source, expected {spans}. Change the list, or "
                "keep the duration."
            )
