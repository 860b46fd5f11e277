"""Writes files that are there whole or not at all, whatever ends the process or the machine in the middle."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_DEVICES = {"/dev", "/proc"}  # folders of no files


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives the name to write to, in the folder of `path`; what was written there appears as `path` at the end.

    It is flushed to the disk before it is renamed, so that a power cut leaves the old file or the new one. Where the
    body raises, what it wrote is removed and `path` stays as it was. Raises OSError.
    """
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected the name of a file", str(path))
    refuse_device(path)
    # Not made by mkstemp, whose files nobody else may read: this one gets the permissions of any new file.
    temporary = path.with_name(f"{path.stem[:50]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        flush_and_rename(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a full disk is told without saying where
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def flush_and_rename(temporary: str | os.PathLike, path: str | os.PathLike) -> None:
    """Gives a finished file of the same file system the name `path`, once it is safely on the disk. Raises OSError."""
    refuse_device(path)
    with open(temporary, "rb+") as file:  # Windows flushes no file that is open for reading only
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _flush_folder(Path(path).parent)


def refuse_device(path: str | os.PathLike) -> None:
    """Raises OSError where `path` is no place for a file: a device or a pipe, whose place a file would take.

    Who runs as root, as in most containers, would have no /dev/null any more. /dev/stdout is a link, often to a file.
    """
    path = Path(path)
    try:
        special = not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode)
    except (OSError, ValueError):
        special = False
    if special or _DEVICES & {str(parent) for parent in path.absolute().parents}:
        raise OSError(errno.EINVAL, "is a device or a pipe, expected the name of a file", str(path))


def write_text(path: str | os.PathLike, text: str, newline: str | None = None) -> None:
    """Writes a text file in UTF-8, through `atomic_write`. newline: as of `open`. Raises OSError."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline=newline) as file:
        file.write(text)


def _flush_folder(folder: Path) -> None:
    """The rename itself. Windows cannot open folders, and some network drives cannot flush them: no fault of the file,
    which is there."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
