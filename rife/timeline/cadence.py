"""Finds film, or drawings, in a video of another rate: which frames are shown again, in what pattern; and undoes it.

Film in 60 frames per second shows its frames for three and two in turn, film in 30 each fourth one twice, animation
each drawing for two or three. Where the frames that repeat the one before follow such a pattern, the drawings were
evenly spaced, and are put back to even times; a pattern that an edit or a dropped frame breaks goes on with another
phase, and what it has gained or lost is spread over the drawings around.

The likeliest patterns of a scene are those of least cost over all its frames (Viterbi 1967): a frame that is a
repeat where the pattern says it is none, or the other way about, costs `_WRONG`; another pattern, or phase, `_CHANGE`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, groupby, pairwise
from math import ceil, gcd
from typing import NamedTuple

import numpy as np

# Costs of a wrong frame, of another pattern or phase, and, of coming to a pattern, for each frame of its period.
_WRONG, _CHANGE, _LONGER = 1.0, 3.0, 0.02
_MOST_WRONG = 0.1  # of a stretch's frames, else the pattern is not certain
_PERIODS, _DRAWINGS = 2, 5  # of a stretch, at least
# Frames that a drawing may be off for all to be even where the pattern breaks; else the break is spread.
_MOST_OFF = 1
_AROUND = 24  # over so many drawings before and after it
_DRAWING, _STILL = 4, 14  # frames that any drawing may be shown for, and that none may, without being a still
_PART = 10_000  # frames that are looked at together
_LONGEST_PERIOD = 12  # of the patterns that are looked for, and these:
_LONG = [Fraction(25, 24), Fraction(25, 12), Fraction(25, 16), Fraction(24, 23)]
_UNEVEN = [(2, 3, 3, 2)]  # frames each drawing is shown for, which are not the nearest to even ones
_NAMES = {
    Fraction(5, 2): "3:2 pulldown",
    Fraction(2): "each frame twice",
    Fraction(3): "each frame three times",
}


class Pattern(NamedTuple):
    """Says for how many frames one drawing after the other is shown, over and over."""

    runs: tuple[int, ...]

    @property
    def period(self) -> int:
        """Counts the frames after which it begins again."""
        return sum(self.runs)

    @property
    def per_drawing(self) -> Fraction:
        """Says for how many frames a drawing is shown, on average."""
        return Fraction(self.period, len(self.runs))

    def __str__(self) -> str:
        if len(set(self.runs)) == 1:
            return _NAMES.get(self.per_drawing, f"each frame {self.period} times")
        if self.period - len(self.runs) == 1:
            return f"one frame in {self.period} is a repeat"
        return _NAMES.get(self.per_drawing, f"{len(self.runs)} drawings in {self.period} frames")


class Stretch(NamedTuple):
    """Holds the frames first to after - 1, in which drawings are evenly spaced.

    times: of each drawing, in frames since the clip's first; shown: the frame that shows it. The last drawing goes on
    to frame `after`. pattern: the usual one.
    """

    first: int
    after: int
    pattern: Pattern
    times: Sequence[Fraction]
    shown: Sequence[int]

    def when(self, frame: int) -> Fraction | None:
        """Returns the time, in frames, of the drawing that `frame` shows first; None where it shows none."""
        if frame == self.after:
            return Fraction(frame)
        i = bisect_right(self.shown, frame) - 1
        while i > 0 and self.shown[i - 1] == frame:  # held before it moves on
            i -= 1
        return self.times[i] if i >= 0 and self.shown[i] == frame else None

    def place(self, time: Fraction) -> tuple[int, int, Fraction]:
        """Returns the frames to be seen at `time` (in frames): left, right, and how far from one to the other, 0 <= t <
        1."""
        i = max(0, bisect_right(self.times, time) - 1)
        last = i + 1 == len(self.times)
        start, end = self.times[i], Fraction(self.after) if last else self.times[i + 1]
        return self.shown[i], self.after if last else self.shown[i + 1], (time - start) / (end - start)


@dataclass(frozen=True)
class Cadence:
    """Says where a clip's repeats follow a pattern: stretches in order, of a clip of `count` frames."""

    count: int
    stretches: Sequence[Stretch] = field(default_factory=tuple)

    def at(self, index: int) -> Stretch | None:
        """Returns the stretch that a frame is in; None where it is in none."""
        i = bisect_right(self.stretches, index, key=lambda stretch: stretch.first) - 1
        return self.stretches[i] if i >= 0 and index < self.stretches[i].after else None

    @property
    def share(self) -> float:
        """Is the share, 0..1, of the clip's frames in which a pattern is certain."""
        return sum(stretch.after - stretch.first for stretch in self.stretches) / max(1, self.count)

    def described(self, rate: Fraction | None = None) -> str:
        """Describes it in words, most frequent pattern first; "" where there is none. rate: of the clip, in frames per
        second, for that of the film. rate: of the clip, for that of the film."""
        lengths: Counter[Pattern] = Counter()
        for stretch in self.stretches:
            lengths[stretch.pattern] += stretch.after - stretch.first
        parts = []
        for pattern, length in lengths.most_common():
            of = f", {float(rate / pattern.per_drawing):.5g} drawings a second" if rate else ""
            parts.append(f"{pattern}{of} ({100 * length / self.count:.0f} % of the frames)")
        return "; ".join(parts)


def find_cadence(repeats: Collection[int], cuts: Collection[int], count: int) -> Cadence:
    """Finds the cadence of a clip of `count` frames, from those that repeat the one before and those that begin a
    scene."""
    repeated = np.zeros(count, bool)
    repeated[[i for i in repeats if 0 < i < count]] = True
    bounds = sorted({0, count, *(i for i in cuts if 0 < i < count)})
    stretches: list[Stretch] = []
    for first, after in zip(bounds, bounds[1:], strict=False):
        repeated[first] = False
        if repeated[first:after].any():
            stretches += _stretches_of_scene(repeated, first, after)
    return Cadence(count, tuple(stretches))


@lru_cache(maxsize=1)
def _patterns() -> tuple[Pattern, ...]:
    """Those that are looked for: drawings shown as evenly as whole frames allow. The first shows each once."""
    ratios = [Fraction(period, drawings) for period in range(2, _LONGEST_PERIOD + 1)
              for drawings in range(1, period) if gcd(period, drawings) == 1]  # fmt: skip
    even = []
    for ratio in (Fraction(1), *ratios, *_LONG):
        starts = [-(-k * ratio.numerator // ratio.denominator) for k in range(ratio.denominator + 1)]
        even.append(Pattern(tuple(b - a for a, b in zip(starts, starts[1:], strict=False))))
    return (*even, *map(Pattern, _UNEVEN))


class _States(NamedTuple):
    """Places in patterns, of all patterns one after the other, and one more: a still, which repeats for ever."""

    pattern: np.ndarray  # of each, its index; -1: still
    place: np.ndarray  # frames since its pattern began
    repeats: np.ndarray  # whether a frame there repeats the one before
    before: np.ndarray  # the state of the frame before
    entry: np.ndarray  # what coming from another pattern costs


@lru_cache(maxsize=1)
def _states() -> _States:
    rows: list[tuple[int, int, bool, int, float]] = []
    for i, pattern in enumerate(_patterns()):
        start, cost = len(rows), _CHANGE + _LONGER * pattern.period
        repeated = [repeats for run in pattern.runs for repeats in (False, *[True] * (run - 1))]
        rows += [(i, k, repeated[k], start + (k - 1) % pattern.period, cost) for k in range(pattern.period)]
    rows.append((-1, 0, True, len(rows), _CHANGE))
    return _States(*map(np.array, zip(*rows, strict=True)))


def _likeliest(repeated: np.ndarray) -> np.ndarray:
    """The state of each frame of a scene, or of a part of one: the first frame begins a drawing, or shows its rest."""
    states = _states()
    cost, came_from = states.entry, np.empty((len(repeated), len(states.entry)), np.int16)
    for i, seen in enumerate(repeated[1:], 1):
        best = int(cost.argmin())
        kept, changed = cost[states.before], cost[best] + states.entry
        came_from[i] = np.where(kept <= changed, states.before, best)
        cost = np.minimum(kept, changed) + _WRONG * (states.repeats != seen)
    path = np.empty(len(repeated), np.int64)
    path[-1] = cost.argmin()
    for i in range(len(repeated) - 1, 0, -1):
        path[i - 1] = came_from[i, path[i]]
    return path


class _Piece(NamedTuple):
    """Frames first to after - 1 of one pattern in one phase, which began at frame `begin`, perhaps before `first`."""

    first: int
    after: int
    pattern: Pattern
    begin: int


def _stretches_of_scene(repeated: np.ndarray, first: int, after: int) -> list[Stretch]:
    """Finds the stretches of the scene of frames first to after - 1. repeated: which frames are repeats."""
    parts = [repeated[i : min(i + _PART, after)] for i in range(first, after, _PART)]
    path, states = np.concatenate([_likeliest(part) for part in parts]), _states()
    changes = np.flatnonzero(states.before[path[1:]] != path[:-1]) + 1
    wrong = states.repeats[path] != repeated[first:after]
    wrong[0] = False
    pieces: list[_Piece | None] = []
    for start, end in pairwise((0, *changes.tolist(), len(path))):
        number = int(states.pattern[path[start]])
        certain = number > 0 and wrong[start:end].sum() <= _MOST_WRONG * (end - start)
        begin = first + start - int(states.place[path[start]])
        pieces.append(_Piece(first + start, first + end, _patterns()[number], begin) if certain else None)
    groups = groupby(pieces, key=lambda piece: piece and piece.pattern.per_drawing)
    found = (_stretch([piece for piece in group if piece], repeated) for ratio, group in groups if ratio)
    return [stretch for stretch in found if stretch]


def _stretch(pieces: Sequence[_Piece], repeated: np.ndarray) -> Stretch | None:
    """Of pieces of equally many drawings that follow each other; None where they are too short to be sure."""
    pattern = max(pieces, key=lambda piece: piece.after - piece.first).pattern
    pace, first, after = pattern.per_drawing, pieces[0].first, pieces[-1].after
    if after - first < max(Fraction(_PERIODS * pattern.period), _DRAWINGS * pace):
        return None
    times, shown = [], []
    for piece in pieces:
        for time, frame in _drawings(piece, repeated):
            times.append(time)
            shown.append(frame)
    times = _even_times(times, pace)
    for i in range(len(times) - 1, 0, -1):
        if times[i] - times[i - 1] > min(
            max(2 * pace, Fraction(_DRAWING)), Fraction(_STILL)
        ):  # held, then as fast as all else
            times.insert(i, times[i] - pace)
            shown.insert(i, shown[i - 1])
    first, held = shown[0], ceil(times[0] - pace)
    if held > 0 and repeated[held:first].all() and held < first:  # a still before it
        times.insert(0, times[0] - pace)
        shown.insert(0, held)
        first = held
    return Stretch(first, after, pattern, times, shown)


def _drawings(piece: _Piece, repeated: np.ndarray) -> Iterator[tuple[Fraction, int]]:
    """When each drawing of a piece was meant to be seen, and the first frame that shows it.

    A drawing is shown from the first frame on whose time has come; one that no frame shows is left out.
    """
    starts = list(accumulate(piece.pattern.runs, initial=0))
    pace = piece.pattern.per_drawing
    early = min(start - k * pace for k, start in enumerate(starts[:-1]))
    for begin in range(piece.begin, piece.after, piece.pattern.period):
        for k, (start, end) in enumerate(pairwise(starts)):
            frames = range(max(begin + start, piece.first), min(begin + end, piece.after))
            frame = next((i for i in frames if not repeated[i]), None)
            if frame is not None:
                yield begin + k * pace + early, frame


def _even_times(times: Sequence[Fraction], pace: Fraction) -> list[Fraction]:
    """Times with what breaks of the pattern add or take away spread over all of them, or over the drawings around."""
    numbers = [0]
    for before, after in pairwise(times):
        # Half a drawing more is a frame too many, a whole one is a drawing that is missing.
        numbers.append(numbers[-1] + max(1, round((after - before) / pace - Fraction(1, 4))))
    offsets = [time - number * pace for time, number in zip(times, numbers, strict=True)]
    if len(set(offsets)) == 1:
        return list(times)
    slope, start = (
        Fraction(float(x)).limit_denominator(100_000)
        for x in np.polyfit(numbers, np.array(offsets, float), 1)
    )
    line = [start + number * slope for number in numbers]
    residuals = [a - b for a, b in zip(offsets, line, strict=True)]
    if max(residuals) - min(residuals) <= 2 * _MOST_OFF:
        line = [value + (max(residuals) + min(residuals)) / 2 for value in line]
    else:
        sums, line = list(accumulate(offsets, initial=Fraction(0))), []
        for i in range(len(offsets)):
            wide = min(_AROUND, i, len(offsets) - 1 - i)
            line.append((sums[i + wide + 1] - sums[i - wide]) / (2 * wide + 1))
    evened = [number * pace + offset for number, offset in zip(numbers, line, strict=True)]
    early = max(Fraction(0), evened[0] - times[0])  # no frame comes before the first drawing
    return [time - early for time in evened]
