"""Keeps the shape of pixels in finished files: many muxers of FFmpeg look for it where PyAV does not let one set it.

That is in AVStream.sample_aspect_ratio (PyAV 18). What codecs tell themselves, and MP4's pasp, come from the encoder.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error

from . import matroska
from .source import main_stream

log = logging.getLogger(__name__)

_HEAD = 1 << 20  # bytes in which a file of FFmpeg's has said what its streams are
_NEAR = 0.02  # of what GIF and MPEG-2 can say


def keep_pixel_aspect(path: Path, aspect: Fraction, pictures: bool = False) -> None:
    """Writes the shape of pixels into the finished file; where that cannot be, it is said.

    pictures: it stands for files of one picture each.
    """
    if aspect == 1:
        return
    if not pictures:
        _write(path, aspect)
    told = Fraction(1) if pictures else _told(path)
    if abs(told / aspect - 1) > _NEAR:
        log.warning(
            "%s will be shown too %s: the source's pixels have the shape %d:%d, of which players are told nothing by "
            "such a file. Write .mp4, .mov or .mkv.",
            path.name, "narrow" if aspect > 1 else "wide", aspect.numerator, aspect.denominator,
        )  # fmt: skip


def _write(path: Path, aspect: Fraction) -> None:
    with open(path, "r+b") as file:
        head = file.read(_HEAD)
        if head.startswith(matroska.MAGIC):
            changed = matroska.with_pixel_aspect(head, aspect)
        elif head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            changed = _avi(head, aspect)
        else:
            return
        if changed is not None:
            file.seek(0)
            file.write(changed)


def _told(path: Path) -> Fraction:
    try:
        with av.open(str(path)) as container:
            return Fraction(main_stream(container).sample_aspect_ratio or 1)
    except av.error.FFmpegError:  # animated WebP, which FFmpeg writes only
        return Fraction(1)


def _avi(head: bytes, aspect: Fraction) -> bytes | None:
    """The beginning of an AVI, as long as it was, with the shape among the video's properties; None where there is no
    room. What they take is taken from the padding before the pictures, so that none of these moves."""
    top = list(_chunks(head, 12, len(head)))
    movie = next((i for i, (_, at, _) in enumerate(top) if head[at + 8 : at + 12] == b"movi"), 0)
    name, padding, end = top[movie - 1]
    header = top[0]
    videos = (
        (at, stop)
        for _, at, stop in _chunks(head, header[1] + 12, header[2])
        if head[at + 8 : at + 16] + head[at + 20 : at + 24] == b"strlstrhvids"
    )
    video, stop = next(videos, (0, 0))
    properties = _properties(head, video, stop, aspect)
    by = len(properties)
    if not movie or name != b"JUNK" or not video or end - padding - 8 < by:
        return None
    changed = bytearray(head[:stop] + properties + head[stop : padding + 8] + head[padding + 8 + by :])
    for place, grown in ((video, by), (header[1], by), (padding + by, -by)):
        (size,) = struct.unpack_from("<I", changed, place + 4)
        struct.pack_into("<I", changed, place + 4, size + grown)
    return bytes(changed)


def _properties(head: bytes, begin: int, end: int, aspect: Fraction) -> bytes:
    """OpenDML's chunk of what a stream of pictures looks like: 0 is what is not said."""
    form = next(at for name, at, _ in _chunks(head, begin + 12, end) if name == b"strf")
    width, height = struct.unpack_from("<2I", head, form + 12)
    shape = (width * aspect / height).limit_denominator(0x7FFF)
    field = height, width, height, width, 0, 0, 0, 0
    sizes = 0, 0, 0, width, height, shape.denominator, shape.numerator, width, height, 1
    return b"vprp" + struct.pack("<I5I2H3I8I", 68, *sizes, *field)


def _chunks(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the chunks of a RIFF."""
    while begin + 8 <= min(end, len(data)):
        (size,) = struct.unpack_from("<I", data, begin + 4)
        yield data[begin : begin + 4], begin, begin + 8 + size + size % 2
        begin += 8 + size + size % 2
