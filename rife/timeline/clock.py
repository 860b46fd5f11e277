"""Keeps exact frame rates, and when a source's frames are shown."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from statistics import median_low

from .numbers import exact_number, shortened

Rate = Fraction | int | float | str


ZERO = Fraction(0)
_HIGHEST_RATE = 1_000_000

# What a frame of a variable rate may last without being a pause: so many usual ones, and so many seconds at least.
LONGEST_USUAL, LONGEST_GAP = 4, Fraction(1, 5)


def exact_rate(value: Rate) -> Fraction:
    """Returns a frame rate as the exact fraction that is meant: 23.976 and "24000/1001" are both 24000/1001.

    Decimals within 0.005 of a whole number times 1000/1001, and not whole themselves, are taken as that NTSC rate.
    Raises ValueError.
    """
    try:
        rate = exact_number(value)
    except ValueError as error:
        raise ValueError(
            f"the frame rate is {shortened(value)}, expected a number such as 25, 23.976 or 24000/1001. Write it so."
        ) from error
    if rate <= 0:
        raise ValueError(
            f"the frame rate is {shortened(value)}, expected more than 0. Give frames per second."
        )
    if not 1 / _HIGHEST_RATE <= rate <= _HIGHEST_RATE:
        raise ValueError(
            f"the frame rate is {float(rate):g}, expected {1 / _HIGHEST_RATE:g} to {_HIGHEST_RATE:,}. Give frames "
            "per second."
        )
    if isinstance(value, Fraction) or rate.denominator == 1 or (isinstance(value, str) and "/" in value):
        return rate
    ntsc = Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)
    if ntsc and abs(rate - ntsc) < Fraction(1, 200) and abs(rate - round(rate)) > abs(rate - ntsc):
        return ntsc
    return rate.limit_denominator(1_000_000)


@dataclass(frozen=True)
class Clock:
    """Tells when the source frames are shown: `count` frames at a constant `rate`, or at rising `times`, in seconds.

    count None: not known yet, as in a stream; then a plan has no end. end: when the last frame's showing is over; the
    default is 1 / `rate` after it, for `times` as long after it as the frame before lasted. longest_gap: seconds that a
    frame may be shown, for `times`, without being a pause; None: several times as long as usual; 0: any.
    """

    count: int | None
    rate: Fraction | None = None
    times: Sequence[Fraction] | None = None
    end: Fraction | None = None
    longest_gap: Fraction | None = Fraction(0)

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.times is None):
            raise ValueError("a source has either a rate or presentation times. Give one of them.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"the source has {self.count} frames, expected at least one. Give it some.")
        if self.times is None:
            rate = exact_rate(self.rate or 0)
            object.__setattr__(self, "rate", rate)
            if self.end is not None and (self.count is None or self.end * rate <= self.count - 1):
                raise ValueError(
                    f"the source ends at {self.end} s, before its last frame. Give a later end, or none."
                )
            return
        if self.count != len(self.times):
            raise ValueError(
                f"there are {len(self.times)} presentation times for {self.count} frames, expected one each. Give "
                "the time of every frame."
            )
        if any(a >= b for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError("the presentation times do not rise. Sort the frames, drop those shown at once.")
        if self.end is not None and self.end <= self.times[-1]:
            raise ValueError(
                f"the source ends at {self.end} s, before its last frame. Give a later end, or none."
            )

    @cached_property
    def usual_gap(self) -> Fraction:
        """Says how long a frame is usually shown, in seconds: the median."""
        if self.rate is not None or len(self._known_times) < 2:
            return 1 / self.mean_rate
        return median_low(b - a for a, b in pairwise(self._known_times))

    @cached_property
    def gap_limit(self) -> Fraction | None:
        """Says how long a frame may be shown without being a pause, in seconds; None: as long as it likes."""
        if self.rate is not None or self.longest_gap == 0:
            return None
        return self._long_gap

    @property
    def _long_gap(self) -> Fraction:
        return self.longest_gap or max(LONGEST_USUAL * self.usual_gap, LONGEST_GAP)

    def pause(self, index: int) -> Fraction:
        """Says how long frame `index` is held before anything moves, in seconds.

        Where nothing was written for longer than `gap_limit`, nothing moved: then as fast as between other frames.
        """
        limit = self.gap_limit
        if limit is None or not 0 <= index < self.known_count - 1:
            return ZERO
        gap = self.at(index + 1) - self.at(index)
        return gap - min(self.usual_gap, gap) if gap > limit else ZERO

    @property
    def pauses(self) -> list[int]:
        """Lists the frames that are held for a pause."""
        return [] if self.gap_limit is None else [i for i in range(self.known_count - 1) if self.pause(i)]

    def at(self, index: int) -> Fraction:
        """Returns when frame `index` is shown, in seconds; index `count` is the end of the last one, others lie in
        further rounds."""
        if self.rate is not None:
            if self.end is None or 0 <= index < self.known_count:
                return index / self.rate
            rounds, index = divmod(index, self.known_count)
            return index / self.rate + rounds * self.end
        times = self._known_times
        if 0 <= index < len(times):
            return times[index]
        rounds, index = divmod(index, len(times))
        return times[index] + rounds * self.duration

    def place(self, time: Fraction) -> tuple[int, Fraction]:
        """Returns the frame shown at `time`, in seconds, and how far it is on the way to the next, 0 <= t < 1."""
        if self.rate is not None:
            # In whole numbers: a Fraction's division costs more than all the rest of a step.
            n, d = time.numerator * self.rate.numerator, time.denominator * self.rate.denominator
            index, rest = divmod(n, d)
            if self.end is not None and index >= self.known_count - 1:
                start = self.at(self.known_count - 1)
                return self.known_count - 1, (time - start) / (self.end - start)
            return index, (Fraction(rest, d) if rest else ZERO)
        index = max(0, bisect_right(self._known_times, time) - 1)
        start = self.at(index)
        return index, (time - start) / (self.at(index + 1) - start)

    @property
    def duration(self) -> Fraction:
        """Is the time from the first frame's to the end of the last one's, in seconds."""
        if self.rate is not None:
            return self.known_count / self.rate if self.end is None else self.end
        times = self._known_times
        if self.end is not None:
            return self.end - times[0]
        last = times[-1] - times[-2] if len(times) > 1 else Fraction(1)
        return times[-1] + last - times[0]

    @property
    def mean_rate(self) -> Fraction:
        """Is the number of frames per second on the whole."""
        return self.rate or self.known_count / self.duration

    @cached_property
    def moving_rate(self) -> Fraction:
        """Is the number of frames per second but for pauses and a last frame that is held, whatever is done with these:
        what a result gets where nobody asks for a rate. With the mean, frames would be left out where things move."""
        if self.rate is not None or self.known_count < 2:
            return self.mean_rate
        *gaps, last = (self.at(i + 1) - self.at(i) for i in range(self.known_count))
        limit = self._long_gap
        if max(*gaps, last) <= limit:
            return self.mean_rate
        return len(gaps) / sum((gap if gap <= limit else self.usual_gap for gap in gaps), ZERO)

    @property
    def known_count(self) -> int:
        """Is `count`, where it is known. Raises TypeError where it is not."""
        if self.count is None:
            raise TypeError("the source's number of frames is not known")
        return self.count

    @property
    def _known_times(self) -> Sequence[Fraction]:
        """`times` of a clock without a rate, which has them."""
        assert self.times is not None
        return self.times
