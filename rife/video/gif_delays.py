"""Reads what GIFs say of their pictures in front of each, and gives those that say nothing an extension that does.

Old GIFs, and those of Pillow without a duration, have no graphic control extension in front of their pictures. FFmpeg
tells pictures apart by it, and takes all of such a file for one.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

_NOTHING_SAID = b"\x21\xf9\x04\x00\x00\x00\x00\x00"  # a graphic control extension with a delay of 0
_EXTENSION, _PICTURE, _CONTROL = 0x21, 0x2C, 0xF9


def clears(source: Path | io.BytesIO) -> bool:
    """Tells whether a GIF takes pictures away before it shows the next: only then can one that begins opaque become
    transparent. Raises OSError."""
    data = source.getvalue() if isinstance(source, io.BytesIO) else source.read_bytes()
    return re.search(rb"\x21\xf9\x04[\x08-\x0b]", data) is not None


def with_delays(path: Path) -> io.BytesIO | None:
    """Returns a GIF with an extension in front of each picture; None where it is none, or has them. Raises OSError."""
    with open(path, "rb") as file:
        if file.read(4) != b"GIF8":
            return None
        file.seek(0)
        data = file.read()
    parts: list[bytes] = []
    begin, controlled, at = 0, False, 13 + _table(data[10:11])
    while at + 10 < len(data):
        if data[at] == _EXTENSION:
            controlled |= data[at + 1] == _CONTROL
            at = _after_blocks(data, at + 2)
        elif data[at] == _PICTURE:
            if controlled and not parts:
                return None
            if not controlled:
                parts += data[begin:at], _NOTHING_SAID
                begin = at
            controlled = False
            at = _after_blocks(data, at + 11 + _table(data[at + 9 : at + 10]))
        else:
            break
    return io.BytesIO(b"".join((*parts, data[begin:]))) if parts else None


def _table(flags: bytes) -> int:
    """Bytes of a table of colours."""
    return 6 << (flags[0] & 7) if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
