"""Reads how large a picture says it is, and judges it before anything is allocated for it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from .codecs import VideoError

# The largest canvas that is read, 16K (15360x8640) and little more: a file of some hundred bytes can claim gigapixels.
MAX_PIXELS = 1 << 27


class TooLargeError(VideoError):
    """Is raised where a picture claims more pixels than are read."""


def check_size(name: str | os.PathLike, width: int, height: int) -> None:
    """Raises TooLargeError where a picture of width x height pixels is larger than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"{name} claims {width}x{height} pixels, {width * height / 1e6:.0f} million; at most "
            f"{MAX_PIXELS / 1e6:.0f} million are read. It is damaged, or has to be cut or reduced first."
        )


def check_canvas(path: Path) -> None:
    """Reads how large a picture or animation says it is, before FFmpeg allocates that. Raises VideoError."""
    with open(path, "rb") as file:
        # One that is cut off claims nothing, and is refused when it is read.
        head = file.read(32).ljust(32, b"\0")
    if head[:4] == b"GIF8":
        check_size(path, *struct.unpack_from("<HH", head, 6))
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        check_size(path, *struct.unpack_from(">II", head, 16))
    elif head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        check_size(path, *(int.from_bytes(head[i : i + 3], "little") + 1 for i in (24, 27)))
    elif head[:4] in (b"SDPX", b"XPDS"):
        with open(path, "rb") as file:
            file.seek(772)
            check_size(
                path, *struct.unpack(">II" if head[:1] == b"S" else "<II", (file.read(8) + bytes(8))[:8])
            )
    elif head[:2] == b"BM":
        old = head[14] == 12  # OS/2's header
        width, height = struct.unpack_from("<HH" if old else "<ii", head, 18)
        check_size(path, abs(width), abs(height))
    elif head[:4] == b"\x76\x2f\x31\x01":
        _check_exr(path)


def _check_exr(path: Path) -> None:
    """OpenEXR: the data window and the display window are attributes, four signed numbers each."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    for name in (b"dataWindow\0box2i\0", b"displayWindow\0box2i\0"):
        at = head.find(name)
        if at >= 0 and len(head) >= at + len(name) + 20:
            left, top, right, bottom = struct.unpack_from("<4i", head, at + len(name) + 4)
            check_size(path, max(0, right - left + 1), max(0, bottom - top + 1))
