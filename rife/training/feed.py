"""Prepares the batches of a run ahead, by threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from .samples import Sample, Source, concatenated
from .schedule import Settings, seed_of


class Feed:
    """Gives the batches of one process, in `accumulate` parts; threads prepare the next ones while this one is used.

    look: called before each example, may raise. Raises ValueError for a batch that cannot be shared evenly.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        rank: int,
        world: int,
        look: Callable[[], None] = lambda: None,
    ):
        parts = world * settings.accumulate
        if settings.batch % parts:
            raise ValueError(
                f"batch is {settings.batch}, expected a multiple of {parts}: {world} processes that take "
                f"{settings.accumulate} passes each. Change the batch or `accumulate`."
            )
        self.source, self.settings, self._look = source, settings, look
        self._size = settings.batch // parts
        self._first = rank * settings.accumulate * self._size
        self._pool = ThreadPoolExecutor(settings.workers) if settings.workers else None
        self._ahead: dict[int, list[Future]] = {}

    def parts(self, step: int) -> list[Sample]:
        """Returns this process's share of a step."""
        indices = range(self._first, self._first + self.settings.accumulate * self._size)
        if self._pool is None:
            examples = [self._looking(self._example, step, i) for i in indices]
        else:
            for s in range(step, min(step + 3, self.settings.steps)):
                if s not in self._ahead:
                    self._ahead[s] = [self._pool.submit(self._example, s, i) for i in indices]
            examples = [self._looking(future.result) for future in self._ahead.pop(step)]
        return [concatenated(examples[i : i + self._size]) for i in range(0, len(examples), self._size)]

    def _looking(self, function: Callable[..., Sample], *args: int) -> Sample:
        self._look()
        return function(*args)

    def _example(self, step: int, index: int) -> Sample:
        return self.source.example(seed_of(self.settings, step, index), step, step / self.settings.steps)

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._ahead.clear()
