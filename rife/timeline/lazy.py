"""Defines sequences whose items are computed when asked for: ten hours take no more memory than ten frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeVar, overload

from .numbers import shortened

T = TypeVar("T")

LONGEST = 10**15  # frames of a result; `len` holds no more than nine thousand times that


def check_length(frames: int) -> int:
    """Returns `frames`. Raises ValueError where a result would have more than `LONGEST`."""
    if frames > LONGEST:
        raise ValueError(
            f"the result would have {shortened(frames)} frames, expected {LONGEST:,} at most. Ask for a lower rate, a "
            "smaller multiplier or less slow motion."
        )
    return frames


class LazySequence(Sequence[T]):
    """Is a sequence by `__len__` and `item`; a slice of it is a list."""

    @abstractmethod
    def item(self, k: int) -> T:
        """Returns item k, from 0 on. Raises IndexError where there is none."""

    @overload
    def __getitem__(self, k: int) -> T: ...
    @overload
    def __getitem__(self, k: slice) -> list[T]: ...
    def __getitem__(self, k: int | slice) -> T | list[T]:
        if isinstance(k, slice):
            return [self.item(i) for i in range(*k.indices(len(self)))]
        return self.item(k)


class Times(LazySequence[Fraction]):
    """Lists source times in seconds, which are known to rise or to fall between some of them."""

    @property
    @abstractmethod
    def corners(self) -> Iterable[int]:
        """Lists items in rising order between which times only rise or only fall; the first and the last are among
        them."""
