"""Threads ahead and behind: order, bounds, errors, leaving early."""

from __future__ import annotations

import threading
import time

import pytest

from rife.video.threads import BackgroundConsumer, prefetch


def named(kind: str) -> int:
    return sum(thread.name == f"rife-{kind}" for thread in threading.enumerate())


def test_ahead_keeps_order_and_runs_no_further_than_told():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    stream = prefetch(items(), 3)
    assert next(stream) == 0
    time.sleep(0.2)
    assert len(taken) <= 6
    assert list(stream) == list(range(1, 20)) and not named("prefetch")


def test_what_goes_wrong_ahead_is_raised_in_its_place():
    def items():
        yield 1
        raise KeyError("broken")

    stream = prefetch(items(), 3)
    assert next(stream) == 1
    with pytest.raises(KeyError, match="broken"):
        next(stream)
    assert not named("prefetch")


def test_leaving_ahead_early_ends_the_thread_and_closes_the_source():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    stream = prefetch(items(), 2)
    next(stream)
    stream.close()
    assert closed and not named("prefetch")


def test_behind_consumes_all_in_order():
    seen = []
    with BackgroundConsumer(lambda item: (time.sleep(0.001), seen.append(item)), 2) as behind:
        for i in range(50):
            behind.put(i)
    assert seen == list(range(50)) and not named("background")


def test_what_goes_wrong_behind_is_raised_by_the_next_put_or_on_leaving():
    def consume(item):
        if item == 2:
            raise OSError("full")

    with pytest.raises(OSError, match="full"), BackgroundConsumer(consume, 1) as behind:
        for i in range(100):
            behind.put(i)
    with pytest.raises(OSError, match="full"), BackgroundConsumer(consume, 5) as behind:
        behind.put(2)
    assert not named("background")


@pytest.mark.parametrize("kind, finished", [(KeyboardInterrupt, False), (ValueError, True)])
def test_an_exception_drops_what_was_not_begun_unless_that_is_good(kind, finished):
    seen, go = [], threading.Event()

    def consume(item):
        go.wait()
        seen.append(item)

    with pytest.raises(kind), BackgroundConsumer(consume, 5, finish_on=ValueError) as behind:
        for i in range(4):
            behind.put(i)
        threading.Timer(0.1, go.set).start()
        raise kind
    assert (len(seen) == 4) == finished
