"""Defines retime curves: source times along straight lines between points."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

from .clock import Rate, exact_rate
from .lazy import Times, check_length
from .numbers import exact_number, shortened


class Curve(Times):
    """Gives source times along straight lines between (result seconds, source seconds), for `plan(times=)`.

    (0, 0), (1, 1), (3, 1.5): one second as it was, then two of quarter speed; level: a freeze; falling: reverse.
    rate: frames per second of the result, from the first point's time up to the last's. Raises ValueError.
    """

    def __init__(self, points: Sequence[tuple[Rate, Rate]], rate: Rate):
        self.points = [(exact_number(at), exact_number(shown)) for at, shown in points]
        self.rate = exact_rate(rate)
        self._starts = [at for at, _ in self.points]
        if len(self.points) < 2 or any(a >= b for a, b in pairwise(self._starts)):
            raise ValueError(
                f"the curve's result times are {shortened([*map(float, self._starts)])}, expected two or more that "
                "rise, such as 0:0, 1:1, 3:1.5 (result seconds : source seconds)."
            )
        self._length = check_length(floor((self._starts[-1] - self._starts[0]) * self.rate) + 1)

    def __repr__(self) -> str:
        points = ", ".join(f"{at}:{shown}" for at, shown in self.points)
        return f"Curve({points}; {self.rate} fps)"

    def __len__(self) -> int:
        return self._length

    def item(self, k: int) -> Fraction:
        """Returns the source time in seconds that output frame k shows. Raises IndexError outside of the curve."""
        if not 0 <= k < len(self):
            raise IndexError(k)
        now = self._starts[0] + k / self.rate
        i = min(bisect_right(self._starts, now), len(self.points) - 1) - 1
        (at0, shown0), (at1, shown1) = self.points[i : i + 2]
        return shown0 + (now - at0) / (at1 - at0) * (shown1 - shown0)

    @property
    def corners(self) -> list[int]:
        """Lists the first and last output frames on each line, rising: between two of them times only rise or only
        fall."""
        found: list[int] = []
        for at0, at1 in pairwise(self._starts):
            first, last = (
                ceil((at0 - self._starts[0]) * self.rate),
                floor((at1 - self._starts[0]) * self.rate),
            )
            found += [k for k in (first, last) if first <= last and k not in found[-1:]]
        return found
