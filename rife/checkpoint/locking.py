"""Lets one process at a time work on a file, by `filelock`, which PyTorch brings."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def file_lock(lock: Path, tick: Callable[[], None] = lambda: None, poll: float = 0.2) -> Iterator[None]:
    """Holds the file `lock`, which one process at a time can; the system frees it however that process ends.

    tick: called while another process has it; may raise to give up. poll: seconds between two tries.
    A drive without locks is used without one: two downloads at once are the user's to avoid there, and the checks
    of what arrived find it out.
    """
    held = FileLock(lock)
    waited = False
    while not _acquired(held):
        if not waited and not _has_locks(lock.parent):
            break
        waited = True
        tick()
        time.sleep(poll)
    try:
        yield
    finally:
        if os.name != "nt":  # there `filelock` removes the file, which nobody can while it is open
            # While it is held: who opened it before looks, after locking, whether it is still there.
            with contextlib.suppress(OSError):
                lock.unlink()
        held.release()


def _acquired(lock: FileLock) -> bool:
    """Whether it could be had at once. Releases of `filelock` differ in what they raise on a drive without locks:
    3 times out or has NotImplementedError, 4 hands on the system's OSError."""
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):
        return False
    return True


def _has_locks(folder: Path) -> bool:
    """Whether a file that nobody else knows can be locked there."""
    path = folder / f".rife-{uuid.uuid4().hex}.lock"
    lock = FileLock(path)
    try:
        return _acquired(lock)
    finally:
        lock.release()
        path.unlink(missing_ok=True)
