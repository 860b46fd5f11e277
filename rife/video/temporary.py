"""Makes folders in which outputs are made, beside them, and clears those of runs that are dead."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from pathlib import Path

from ..atomic_write import flush_and_rename, write_text
from .codecs import VideoError

log = logging.getLogger(__name__)

_PREFIX = ".rife-"
_NAME = re.compile(
    r"\.rife-(\d{1,10})-([0-9a-f]{8})-"
)  # the process, and within what that number has a meaning
_WAITING = f"{_PREFIX}whole-"  # nobody's any more, to be taken up by who comes next
_WHOLE = "whole.json"  # there when all is made and only names are to be given
_ABANDONED = (
    7 * 24 * 3600.0
)  # seconds after which a folder of another machine that nobody touched is taken for dead


def make_temporary(folder: Path) -> Path:
    """Makes a new folder in `folder` that bears the name of this process. Removes those of dead runs. Raises
    OSError."""
    clear_dead(folder)
    # In its name, since a process can be killed between making a folder and writing something into it.
    return Path(tempfile.mkdtemp(dir=folder, prefix=_owned_prefix()))


def _owned_prefix() -> str:
    return f"{_PREFIX}{os.getpid()}-{_short(machine())}-"


def take_away(folder: Path) -> None:
    """Deletes a folder that others may be writing into: for them it is there whole, or not at all. What is left where
    this process is killed meanwhile, `clear_dead` removes."""
    doomed = folder
    # Windows renames no folder with open files: there it goes file by file.
    with contextlib.suppress(OSError):
        doomed = folder.rename(folder.with_name(_owned_prefix() + secrets.token_hex(4)))
    shutil.rmtree(doomed, ignore_errors=True)


def files_in(temporary: Path) -> list[Path]:
    """Lists what was made there, by name."""
    return sorted(path for path in temporary.iterdir() if path.name != _WHOLE)


def name_together(temporary: Path, folder: Path) -> None:
    """Gives many files their names in `folder`, all or, where that fails or the process dies in between, as soon as the
    next run comes there. Raises OSError where none got its name, VideoError where some did.
    """
    for path in files_in(temporary):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    write_text(temporary / _WHOLE, json.dumps([path.name for path in files_in(temporary)]))
    paths = files_in(temporary)
    for count, path in enumerate(paths):
        try:
            os.replace(path, folder / path.name)
        except OSError as error:
            raise VideoError(
                f"{count} of {len(paths)} pictures have their names in {folder}, then it failed ({error.strerror}). "
                "The others are kept, and get theirs when something is written there the next time. Run it again."
            ) from error
    (temporary / _WHOLE).unlink()


def discard(temporary: Path) -> None:
    """Removes a folder of this run, unless files in it still wait for their names: then the next run finds it."""
    if not (temporary / _WHOLE).exists():
        shutil.rmtree(temporary, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # else it is found once this process has ended
        temporary.rename(temporary.with_name(_WAITING + secrets.token_hex(4)))


def clear_dead(folder: Path) -> None:
    """Removes what runs left in `folder` that ended without a chance to; pictures that were whole get their names."""
    for left in folder.glob(_PREFIX + "*"):
        if not left.is_dir() or not _is_dead(left):
            continue
        try:
            if (left / _WHOLE).exists():
                pictures = files_in(left)
                for path in pictures:
                    flush_and_rename(path, folder / path.name)
                log.warning(
                    "%s: a run ended while it gave its pictures their names; the last %d have them now.",
                    folder, len(pictures),
                )  # fmt: skip
        except OSError as error:
            log.warning("%s is left of a run that died and cannot be cleared away (%s).", left, error)
            continue
        shutil.rmtree(left, ignore_errors=True)
        log.info("%s was left of a run that died; it is removed.", left)


def _is_dead(temporary: Path) -> bool:
    owner = _NAME.match(temporary.name)
    if temporary.name.startswith(_WAITING):
        return True
    if owner and owner[2] == _short(machine()):
        return not is_alive(int(owner[1]))
    try:
        return time.time() - temporary.stat().st_mtime > _ABANDONED
    except OSError:
        return False


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def machine() -> str:
    """Names within what the numbers of processes have a meaning: a machine, or a container on it. Without blanks."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_alive(pid: int) -> bool:
    """Tells whether the process of number `pid` runs on this machine, as far as that can be told."""
    if os.name == "nt":
        return True  # where signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
