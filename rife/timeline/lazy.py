"""Sequences whose items are computed when they are asked for, so that ten hours take no more memory than ten frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """A sequence by `__len__` and `item`; a slice of it is a list."""

    @abstractmethod
    def item(self, k: int) -> T:
        """Item k, from 0 on. Raises IndexError where there is none."""

    @overload
    def __getitem__(self, k: int) -> T: ...
    @overload
    def __getitem__(self, k: slice) -> list[T]: ...
    def __getitem__(self, k: int | slice) -> T | list[T]:
        if isinstance(k, slice):
            return [self.item(i) for i in range(*k.indices(len(self)))]
        return self.item(k)
