"""Keeps how a 360 degree picture wraps around its viewer: read from a decoded frame, written into a finished MP4.

FFmpeg's muxer takes it from side data of a stream, which PyAV does not let one set. The boxes are those of Spherical
Video V2: https://github.com/google/spatial-media/blob/master/docs/spherical-video-v2-rfc.md
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av

log = logging.getLogger(__name__)

_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2  # FFmpeg's AVSphericalProjection
_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def spherical_of(frame: av.VideoFrame | None) -> bytes | None:
    """Returns FFmpeg's AVSphericalMapping of a decoded frame, nine numbers of 32 bits; None where it is flat."""
    try:
        data = [bytes(d) for d in frame.side_data if d.type.name == "SPHERICAL"] if frame else []  # type: ignore[attr-defined, arg-type]
    except ValueError:  # PyAV 18 knows no Exif, and then lists nothing
        return None
    return data[0][:36] if data and len(data[0]) >= 36 else None


def keep_spherical(path: Path, like: av.VideoFrame | None) -> None:
    """Writes what a frame of the source says into the finished file; where that cannot be, it is said."""
    mapping = spherical_of(like)
    if mapping is None:
        return
    if path.suffix.lower() in (".mp4", ".m4v", ".mov"):
        write_spherical(path, mapping)
    else:
        log.warning("%s does not get the source's 360 degree projection; .mp4 and .mov do.", path.name)


def write_spherical(path: Path, mapping: bytes) -> None:
    """Adds what `spherical_of` read to the pictures of an MP4 or MOV."""
    box = _sv3d(mapping)
    if box is None:
        log.warning("%s does not get the source's 360 degree projection: it is of a rare kind.", path.name)
        return
    with open(path, "rb") as file:
        places = {name: (at, size) for name, at, size in _boxes(file, os.path.getsize(path))}
        at, size = places[b"moov"]
        file.seek(at)
        moov = bytearray(file.read(size))
    way = _way_to_pictures(moov)
    end = way[-1][0] + way[-1][1]
    for place, length in way:
        moov[place : place + 4] = struct.pack(">I", length + len(box))
    moov[end:end] = box
    if at < places[b"mdat"][0]:
        _move_chunks(moov, len(box))
    temporary = path.with_name(path.name + ".360")
    with open(path, "rb") as source, open(temporary, "wb") as target:
        target.write(source.read(at))
        target.write(moov)
        source.seek(at + size)
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(temporary, path)


def _sv3d(mapping: bytes) -> bytes | None:
    projection, yaw, pitch, roll, left, top, right, bottom, padding = struct.unpack("=i3i5I", mapping)
    if projection in (_EQUIRECTANGULAR, _TILE):
        how = _box(b"equi", struct.pack(">I4I", 0, top, bottom, left, right))
    elif projection == _CUBEMAP:
        how = _box(b"cbmp", struct.pack(">III", 0, 0, padding))
    else:
        return None
    head = _box(b"prhd", struct.pack(">I3i", 0, yaw, pitch, roll))
    return _box(b"sv3d", _box(b"svhd", struct.pack(">I", 0) + b"rife\0") + _box(b"proj", head + how))


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of the boxes of a file."""
    begin = 0
    while begin + 8 <= end:
        file.seek(begin)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        size = size or end - begin
        yield name, begin, size
        begin += size


def _inside(data: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, begin)
        if size < 8:
            return
        yield name, begin, size
        begin += size


def _way_to_pictures(moov: bytearray) -> list[tuple[int, int]]:
    """Places and sizes of the boxes around the description of the video's samples, and of that itself."""
    for name, at, size in _inside(moov, 8, len(moov)):
        if name != b"trak" or b"vide" not in moov[at : at + size]:
            continue
        way, begin, end = [(0, len(moov)), (at, size)], at + 8, at + size
        for wanted in _WAY[2:]:
            place = next((p, s) for n, p, s in _inside(moov, begin, end) if n == wanted)
            way.append(place)
            begin, end = place[0] + (16 if wanted == b"stsd" else 8), place[0] + place[1]
        return [*way, (begin, struct.unpack_from(">I", moov, begin)[0])]
    raise ValueError("no video track")


def _move_chunks(moov: bytearray, by: int) -> None:
    """Pictures and sound lie so much further on in the file."""
    for name, at, size in _inside(moov, 8, len(moov)):
        begin, end = at + 8, at + size
        for wanted in (b"mdia", b"minf", b"stbl") if name == b"trak" else ():
            at, size = next((p, s) for n, p, s in _inside(moov, begin, end) if n == wanted)
            begin, end = at + 8, at + size
        for table, place, _ in _inside(moov, begin, end) if name == b"trak" else ():
            form = {b"stco": ">I", b"co64": ">Q"}.get(table)
            for k in range(struct.unpack_from(">I", moov, place + 12)[0] if form else 0):
                assert form is not None
                spot = place + 16 + k * struct.calcsize(form)
                struct.pack_into(form, moov, spot, struct.unpack_from(form, moov, spot)[0] + by)
