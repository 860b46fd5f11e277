"""Folders in which outputs are made, beside them: whose they are, and what becomes of those of runs that are dead."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from ..atomic_write import flush_and_rename, write_text

log = logging.getLogger(__name__)

_PREFIX = ".rife-"
_OWNER, _WHOLE = "owner.json", "whole.json"  # who makes it; that all is there and only names are to be given
_ABANDONED = (
    7 * 24 * 3600.0
)  # seconds after which a folder of another machine that nobody touched is taken for dead


def make_temporary(folder: Path) -> Path:
    """A new folder in `folder` that bears the name of this process. Removes those of dead runs. Raises OSError."""
    clear_dead(folder)
    made = Path(tempfile.mkdtemp(dir=folder, prefix=_PREFIX))
    write_text(made / _OWNER, json.dumps({"machine": machine(), "pid": os.getpid()}))
    return made


def files_in(temporary: Path) -> list[Path]:
    """What was made there, by name."""
    return sorted(path for path in temporary.iterdir() if path.name not in (_OWNER, _WHOLE))


def name_together(temporary: Path, folder: Path) -> None:
    """Gives many files their names in `folder`, all or, at a crash in between, as soon as the next run comes there.

    Raises OSError.
    """
    for path in files_in(temporary):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    write_text(temporary / _WHOLE, json.dumps([path.name for path in files_in(temporary)]))
    for path in files_in(temporary):
        os.replace(path, folder / path.name)


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
    try:
        age = time.time() - temporary.stat().st_mtime
        owner = json.loads((temporary / _OWNER).read_text(encoding="utf-8"))
        here = owner["machine"] == machine()
        pid = int(owner["pid"])
    except FileNotFoundError:
        return age > 60  # of an older version, or of one that is just about to write its name
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return not is_alive(pid) if here else age > _ABANDONED


def machine() -> str:
    """Within what the numbers of processes have a meaning: a machine, or a container on it. Without blanks."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs, as far as that can be told."""
    if os.name == "nt":
        return True  # where signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
