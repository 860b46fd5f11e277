"""Sets how long a finished animation's last frame is shown, where FFmpeg's muxers take the mean of the others."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_WEBP, _PNG = 12, 8  # bytes before the first chunk


def set_length(path: Path, seconds: Fraction) -> None:
    """Lets the last frame of an animated WebP or PNG last until `seconds` after the first one's begin; other files are
    left as they are."""
    with open(path, "rb+") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            frames = [at + 12 for name, at, _ in _riff_chunks(file) if name == b"ANMF"]
            before = sum(int.from_bytes(_read(file, at)[:3], "little") for at in frames[:-1])
            if frames:
                last = max(1, round(seconds * 1000) - before)
                file.seek(frames[-1])
                file.write(min(last, (1 << 24) - 1).to_bytes(3, "little"))
        elif head[:8] == b"\x89PNG\r\n\x1a\n":
            frames = [at for name, at, _ in _png_chunks(file) if name == b"fcTL"]
            gone = sum((_png_delay(file, at) for at in frames[:-1]), Fraction(0))
            if frames and seconds > gone:
                _set_png_delay(file, frames[-1], seconds - gone)


def _png_delay(file: BinaryIO, at: int) -> Fraction:
    delay, per_second = struct.unpack_from(">HH", _read(file, at + 20))
    return Fraction(delay, per_second or 100)


def _set_png_delay(file: BinaryIO, at: int, seconds: Fraction) -> None:
    """at: of the 26 bytes of a frame control chunk, which a check sum over its name and them follows."""
    per_second = max(1, min(1000, int(65535 / seconds)))
    delay = seconds
    if max(delay.numerator, delay.denominator) > 65535:
        delay = Fraction(round(seconds * per_second), per_second)
    file.seek(at)
    data = bytearray(file.read(26))
    data[20:24] = struct.pack(">HH", min(delay.numerator, 65535), delay.denominator)
    file.seek(at)
    file.write(data + struct.pack(">I", zlib.crc32(b"fcTL" + data)))


def _riff_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, place of the data and size of each chunk."""
    at = _WEBP
    while len(head := _read(file, at)) == 8:
        size = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, size
        at += 8 + size + size % 2


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    at = _PNG
    while len(head := _read(file, at)) == 8:
        size = int.from_bytes(head[:4], "big")
        yield head[4:], at + 8, size
        at += 12 + size


def _read(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(8)
