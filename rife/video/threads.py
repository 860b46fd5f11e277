"""Works meanwhile: threads run ahead of, or behind, the one that computes, by a bounded number of items."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Queue
from types import TracebackType
from typing import Any

_END = object()


def prefetch(items: Iterable, size: int) -> Iterator:
    """Yields `items`, taken by a thread up to `size` of them ahead. What they raise is raised here, in its place."""
    queue: Queue = Queue(size)
    stop = threading.Event()
    failure: list[BaseException] = []

    def fill() -> None:
        try:
            for item in items:
                queue.put(item)
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - it belongs to the other thread
            failure.append(error)
        finally:
            if hasattr(items, "close"):
                items.close()  # in the thread that ran it
            queue.put(_END)

    thread = threading.Thread(target=fill, name="rife-prefetch", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not _END:
            yield item
        if failure:
            raise failure[0]
    finally:
        stop.set()
        _empty(queue, thread)


def _empty(queue: Queue, thread: threading.Thread) -> None:
    """Takes what a thread still puts, until it ends."""
    while thread.is_alive():
        try:
            queue.get(timeout=0.05)
        except Empty:
            thread.join(0.05)


class BackgroundConsumer:
    """Runs a thread that calls `consume` with each item put, up to `size` of them behind.

    Leaving the block waits for it; by an exception, other than those of `finish_on`, it leaves out what it has not
    begun. What `consume` raises is raised by the next `put`, or on leaving.
    """

    def __init__(
        self, consume: Callable[[Any], None], size: int, finish_on: type[BaseException] | tuple = ()
    ):
        self._consume, self._finish_on = consume, finish_on
        self._queue: Queue = Queue(size)
        self._failure: BaseException | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="rife-background", daemon=True)

    def __enter__(self) -> BackgroundConsumer:
        self._thread.start()
        return self

    def put(self, item: Any) -> None:
        """Hands over an item; waits while the thread is `size` behind."""
        if self._failure:
            raise self._failure
        self._queue.put(item)

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            if self._stop or self._failure:
                continue
            try:
                self._consume(item)
            except BaseException as error:  # noqa: BLE001 - it belongs to the other thread
                self._failure = error

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = kind is not None and not isinstance(value, self._finish_on)
        self._queue.put(_END)
        self._thread.join()
        if self._failure and (kind is None or value is not self._failure):
            raise self._failure
