"""Says what can be asked of a clip: times between each two frames, a frame rate, or the times themselves.

A request knows nothing of a clip; `places` holds it against one and tells the time of the source that each output
frame shows. Exact fractions, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Protocol

from .clock import ZERO, Clock, Rate, exact_rate
from .curve import Curve
from .lazy import LazySequence, Times, check_length
from .numbers import LONGEST_NUMBER, exact_number, shortened

HIGHEST_MULTIPLIER = 1_000_000
MOST_TIMESTEPS = 10_000
_HIGHEST_SPEED = 1_000_000


class Places(Protocol):
    """Tells where output frames lie in the source."""

    @property
    def count(self) -> int | None:
        """Counts the output frames; None: as many as the source gives."""
        ...

    @property
    def rate(self) -> Fraction:
        """Is the number of output frames per second."""
        ...

    def place(self, k: int) -> tuple[int, Fraction]:
        """Returns the source frame that is shown, or was last, at output k's time, and how far it is on the way to the
        next."""
        ...


@dataclass(frozen=True)
class EvenTimes(LazySequence[Fraction]):
    """Lists 1/m, 2/m ... (m-1)/m, computed when asked for. Raises ValueError for an m that is no whole number from 1
    on."""

    multiplier: int

    def __post_init__(self) -> None:
        if not 1 <= self.multiplier <= HIGHEST_MULTIPLIER or int(self.multiplier) != self.multiplier:
            raise ValueError(
                f"multiplier is {shortened(self.multiplier)}, expected a whole number from 1 to "
                f"{HIGHEST_MULTIPLIER:,}. 2 doubles the frame rate."
            )
        object.__setattr__(self, "multiplier", int(self.multiplier))

    def __len__(self) -> int:
        return self.multiplier - 1

    def item(self, k: int) -> Fraction:
        """Returns (k+1)/m. Raises IndexError where there is none."""
        if not 0 <= k < len(self):
            raise IndexError(k)
        return Fraction(k + 1, self.multiplier)


@dataclass(frozen=True)
class PerPair:
    """Asks for the same `times` between each two frames: fractions 0 < t < 1 of the way, rising. Raises ValueError."""

    times: Sequence[Fraction] = EvenTimes(2)

    def __post_init__(self) -> None:
        if isinstance(self.times, EvenTimes):
            return
        if len(self.times) > MOST_TIMESTEPS:
            raise ValueError(
                f"there are {len(self.times):,} timesteps, expected {MOST_TIMESTEPS:,} at most. Ask for a multiplier."
            )
        times = tuple(map(exact_number, self.times))
        if any(not 0 < t < 1 for t in times) or any(a >= b for a, b in zip(times, times[1:], strict=False)):
            raise ValueError(
                f"timesteps are {shortened([*map(float, times)])}, expected rising values between 0 and 1 exclusive, "
                "such as 0.25, 0.5, 0.75. 0 and 1 are the frames themselves and always in the result."
            )
        object.__setattr__(self, "times", times)

    @classmethod
    def multiplied(cls, multiplier: int) -> PerPair:
        """Asks for `multiplier` - 1 even times: as many frames out per frame in. Raises ValueError."""
        return cls(EvenTimes(multiplier))

    @property
    def frames_per_pair(self) -> int:
        """Counts the output frames per source frame: the source frame itself and those after it."""
        return len(self.times) + 1

    @property
    def denominator(self) -> int:
        """Is the smallest number of equal parts of the way that all times are multiples of; of a number too large for
        anything, some such number."""
        if isinstance(self.times, EvenTimes):
            return self.times.multiplier
        parts = 1
        for time in self.times:
            parts = lcm(parts, time.denominator)
            if parts > 10**LONGEST_NUMBER:  # it would grow with every time
                break
        return parts

    @property
    def speed(self) -> Fraction:
        """Is 1: seconds of the source per second of the result."""
        return Fraction(1)

    def half_a_step(self, clock: Clock) -> Fraction:
        """Says how far a steady plan is behind, as a share of the way to the next frame; 0 where all frames are given
        ones."""
        ends = (ZERO, *self.times), (*self.times, Fraction(1))
        return max(b - a for a, b in zip(*ends, strict=True)) / 2 if len(self.times) else ZERO

    def places(self, clock: Clock, past_last: bool) -> Places:
        """Returns the places among `clock`'s frames; past_last: also the times while the last one is shown."""
        return _PairPlaces(clock, self, past_last)


@dataclass(frozen=True)
class AtRate:
    """Asks for a frame every 1/`rate` seconds of the result (None: the source's, but for pauses), each showing
    `speed` / `rate` seconds of the source more than the one before. Raises ValueError."""

    rate: Fraction | None = None
    speed: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.rate is not None:
            object.__setattr__(self, "rate", exact_rate(self.rate))
        try:
            speed = exact_number(self.speed)
        except ValueError as error:
            raise ValueError(f"speed: {error}, expected a number such as 0.25 or 2.") from error
        if not 1 / _HIGHEST_SPEED <= speed <= _HIGHEST_SPEED:
            raise ValueError(
                f"speed is {shortened(self.speed)}, expected more than 0, from {1 / _HIGHEST_SPEED:g} to "
                f"{_HIGHEST_SPEED:,}. Ask for times to go backward."
            )
        object.__setattr__(self, "speed", speed)

    def half_a_step(self, clock: Clock) -> Fraction:
        """Says how far a steady plan is behind, as a share of the way to the next frame; 0 where all frames are given
        ones."""
        # Between two frames all times are multiples of one over this, where the source has a rate.
        steps = (self.speed / (self.rate or clock.mean_rate) * clock.rate).denominator if clock.rate else 2
        return Fraction(1, 2 * steps) if steps > 1 else ZERO

    def places(self, clock: Clock, past_last: bool) -> Places:
        """Returns the places among `clock`'s frames; past_last: also the times while the last one is shown."""
        return _EvenPlaces(clock, self, past_last)


@dataclass(frozen=True)
class AtTimes:
    """Output frame k shows the source at `times[k]` seconds: ramps, freezes, reverse. `rate` only says how fast they
    are played (None: the source's, but for pauses)."""

    times: Sequence[Fraction]
    rate: Fraction | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            object.__setattr__(self, "rate", exact_rate(self.rate))

    @property
    def speed(self) -> None:
        """Is None: it changes."""
        return None

    @property
    def corners(self) -> Iterable[int]:
        """Lists output frames in rising order between which times only rise or only fall: all, but for `Times`."""
        return self.times.corners if isinstance(self.times, Times) else range(len(self.times))

    def half_a_step(self, clock: Clock) -> Fraction:
        """Raises ValueError: listed times say themselves what is shown."""
        raise ValueError(
            "steady is asked for with source times, which say themselves what is shown. Leave one of them out."
        )

    def places(self, clock: Clock, past_last: bool) -> Places:
        """Returns the places among `clock`'s frames; past_last: the last frame's time may be passed. Raises
        ValueError."""
        return _ListedPlaces(clock, self, past_last)


Request = PerPair | AtRate | AtTimes


def request_of(
    multiplier: int | None = None,
    timesteps: Sequence[Fraction | float] | None = None,
    rate: Rate | None = None,
    speed: Fraction | int = 1,
    times: Sequence[Fraction] | None = None,
) -> Request:
    """Returns the request that `rife.timeline.plan`'s arguments of these names make. Raises ValueError where they are
    two."""
    asked = [name for name, value in (("multiplier", multiplier), ("timesteps", timesteps), ("times", times))
             if value is not None]  # fmt: skip
    if len(asked) > 1 or (rate is not None and asked not in ([], ["times"])):
        raise ValueError(
            f"{', '.join(asked)}{' and rate' if rate else ''} are asked for at once. Choose one."
        )
    exact = exact_rate(rate) if rate is not None else None
    if times is not None:
        return AtTimes(times, exact)
    if exact is not None or speed != 1:
        return AtRate(exact, speed)  # type: ignore[arg-type]  # made exact there
    if timesteps is not None:
        return PerPair(timesteps)  # type: ignore[arg-type]  # made exact there, once their number is checked
    return PerPair.multiplied(2 if multiplier is None else multiplier)


class _PairPlaces:
    """Places of `PerPair`: (n-1)*m + 1 of n frames, n*m past the last."""

    def __init__(self, clock: Clock, request: PerPair, past_last: bool):
        self._clock, self._times, self._frames = clock, request.times, request.frames_per_pair
        n, m = clock.count, self._frames
        self.count = n and check_length(n * m if past_last else (n - 1) * m + 1)
        self.rate = clock.mean_rate * m

    def place(self, k: int) -> tuple[int, Fraction]:
        index, j = divmod(k, self._frames)
        if not j:
            return index, ZERO
        t, pause = self._times[j - 1], self._clock.pause(index)
        if not pause:
            return index, t
        gap = self._clock.at(index + 1) - self._clock.at(index)
        return index, (pause + t * (gap - pause)) / gap  # while it moves


class _EvenPlaces:
    """Places of `AtRate`: output k shows start + k*step seconds of the source."""

    def __init__(self, clock: Clock, request: AtRate, past_last: bool):
        self._clock, self.rate = clock, request.rate or clock.moving_rate
        self._start = clock.at(0) if clock.times is not None else ZERO
        self._step = request.speed / self.rate
        self.count: int | None = None
        if clock.count is not None and past_last:
            self.count = check_length(ceil((clock.at(clock.count) - self._start) / self._step))
        elif clock.count is not None:
            self.count = check_length(floor((clock.at(clock.count - 1) - self._start) / self._step) + 1)

    def place(self, k: int) -> tuple[int, Fraction]:
        return self._clock.place(self._start + k * self._step)


class _ListedPlaces:
    """Places of `AtTimes`."""

    def __init__(self, clock: Clock, request: AtTimes, past_last: bool):
        _check_times(clock, request, past_last)
        self._clock, self._times = clock, request.times
        self.rate, self.count = request.rate or clock.moving_rate, len(request.times)

    def place(self, k: int) -> tuple[int, Fraction]:
        return self._clock.place(Fraction(self._times[k]))


def _check_times(source: Clock, request: AtTimes, past_last: bool) -> None:
    if source.count is None:
        raise ValueError(
            "source times need the number of frames, which this source does not tell. Count them."
        )
    if not len(request.times):
        raise ValueError("the list of source times is empty, expected at least one. Give some.")
    first, last = source.at(0), source.at(source.count if past_last else source.count - 1)
    for k in request.corners:
        time = request.times[k]
        if not first <= time <= last or (past_last and time == last):
            spans = f"{float(first):g} to {float(last):g} s{' exclusive' if past_last else ''}"
            if isinstance(request.times, Curve):
                raise ValueError(
                    f"the retime curve asks for second {float(time):g} of the clip, expected {spans}, as long as "
                    "the clip is. Lower what stands behind the colons of its points (result second : clip second), or "
                    "check the clip's fps."
                )
            raise ValueError(
                f"output frame {k} asks for {float(time):g} s of the source, expected {spans}. Change the list, or "
                "keep the duration."
            )
