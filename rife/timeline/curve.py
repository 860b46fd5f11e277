"""Retime curves: source times along straight lines between points."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import floor

from .clock import Rate, exact_rate


class Curve(Sequence):
    """Source times along straight lines between (result seconds, source seconds), for `plan(times=)`.

    (0, 0), (1, 1), (3, 1.5): one second as it was, then two of quarter speed; level: a freeze; falling: reverse.
    rate: frames per second of the result, from the first point's time up to the last's. Raises ValueError.
    """

    def __init__(self, points: Sequence[tuple[Rate, Rate]], rate: Rate):
        self.points = [(Fraction(at), Fraction(shown)) for at, shown in points]
        self.rate = exact_rate(rate)
        starts = [at for at, _ in self.points]
        if len(starts) < 2 or any(a >= b for a, b in zip(starts, starts[1:], strict=False)):
            raise ValueError(
                f"the curve's result times are {[float(at) for at in starts]}, expected two or more that rise, "
                "such as 0:0, 1:1, 3:1.5 (result seconds : source seconds)."
            )
        self._starts = starts

    def __len__(self) -> int:
        return floor((self._starts[-1] - self._starts[0]) * self.rate) + 1

    def __getitem__(self, k: int) -> Fraction:
        if not 0 <= k < len(self):
            raise IndexError(k)
        now = self._starts[0] + k / self.rate
        i = min(bisect_right(self._starts, now), len(self.points) - 1) - 1
        (at0, shown0), (at1, shown1) = self.points[i : i + 2]
        return shown0 + (now - at0) / (at1 - at0) * (shown1 - shown0)
