"""Looks at how a file is put together, where FFmpeg does not: whether it ends as it should, whether another follows."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple

from .source import Source


class FileEnd(NamedTuple):
    """Says how a file ends.

    whole: it is of a kind where that is seen (AVI, FLV, ASF) and nothing of it was cut off: then what it states beyond
    its last frame holds that one. another: the byte at which a second file begins of which FFmpeg reads nothing (in
    FLV, ASF, IVF, NUT, MP4); None: there is none.
    """

    whole: bool = False
    another: int | None = None


class _Kind(NamedTuple):
    """A kind of file: where its first bytes are, and which; its parts, each `length(head)` long, 0 where it is none."""

    place: int
    first: bytes
    head: int = 0  # bytes that a part's length is known by; 0: its parts are not walked
    length: Callable[[bytes], int] = len

    def begins(self, head: bytes) -> bool:
        return head[self.place : self.place + len(self.first)] == self.first


def end_of(source: Source) -> FileEnd:
    """Looks through the parts of a file for how it ends; of kinds that are not known nothing is said."""
    with _opened(source) as file:
        head = file.read(32)
        name = next((name for name, kind in _KINDS.items() if kind.begins(head)), "")
        if name == "nut":
            return FileEnd(another=_found_again(_KINDS[name].first, file))
        return _walked(name, file) if name else FileEnd()


def _walked(name: str, file: BinaryIO) -> FileEnd:
    size, last, another = file.seek(0, os.SEEK_END), 0, None
    for at, length, head in _parts(_KINDS[name], file, size):
        last = at + length
        if name == "mp4" and head[4:8] == b"moof":
            return FileEnd()  # of fragments, FFmpeg reads on
        if at and another is None and _KINDS[name].begins(head):
            another = at
    if name == "avi":  # FFmpeg reads on in the next one; a part of an odd length may be filled up
        return FileEnd(last - size in (0, 1))
    return FileEnd(name in ("flv", "asf") and last == size, another)


def _parts(kind: _Kind, file: BinaryIO, size: int) -> Iterator[tuple[int, int, bytes]]:
    """Where each part begins, its length, what it begins with; up to something that is none."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(kind.head)
        if (length := kind.length(head)) <= 0:
            return
        yield at, length, head
        at += length


def _found_again(first: bytes, file: BinaryIO) -> int | None:
    if isinstance(file, io.BytesIO):
        found = file.getvalue().find(first, 1)
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = data.find(first, 1)
    return found if found > 0 else None


def _opened(source: Source) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else open(source, "rb")


def _riff(head: bytes) -> int:
    return (
        8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"RIFF" and head[8:] in (b"AVI ", b"AVIX")
        else 0
    )


def _flv(head: bytes) -> int:
    """A tag and its length again behind it; or the file's header and a length of 0."""
    if head[:3] == b"FLV":
        return int.from_bytes(head[5:9], "big") + 4
    return 11 + int.from_bytes(head[1:4], "big") + 4 if head and head[0] & 31 in (8, 9, 18) else 0


def _asf(head: bytes) -> int:
    size = int.from_bytes(head[16:24], "little")
    return size if size >= 24 else 0


def _ivf(head: bytes) -> int:
    if head[:4] == b"DKIF":
        return int.from_bytes(head[6:8], "little")
    return 12 + int.from_bytes(head[:4], "little") if len(head) == 12 else 0


def _mp4(head: bytes) -> int:
    size = int.from_bytes(head[:4], "big")
    size = int.from_bytes(head[8:16], "big") if size == 1 else size
    return size if size >= 8 else 0  # 0: to the end of the file


_KINDS = {
    "avi": _Kind(8, b"AVI ", 12, _riff),
    "flv": _Kind(0, b"FLV\x01", 11, _flv),
    "asf": _Kind(0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), 24, _asf),
    "ivf": _Kind(0, b"DKIF", 12, _ivf),
    "mp4": _Kind(4, b"ftyp", 16, _mp4),
    "nut": _Kind(0, b"nut/multimedia container\0"),
}
