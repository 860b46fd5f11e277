"""Writes the shape of pixels into a finished Matroska or WebM file, in room that FFmpeg's muxer has left there.

Nothing behind the tracks' description moves: what that grows by is taken from the empty element in front of it. What is
written where: https://www.rfc-editor.org/rfc/rfc9559
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

MAGIC = b"\x1a\x45\xdf\xa3"

# Names of elements.
_SEGMENT, _TRACKS, _SEEK_HEAD, _SEEK = 0x18538067, 0x1654AE6B, 0x114D9B74, 0x4DBB
_TRACK, _TRACK_TYPE, _VIDEO, _SEEK_POSITION = 0xAE, 0x83, 0xE0, 0x53AC
_WIDTH, _HEIGHT, _SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2
_CHECK_SUM, _EMPTY = 0xBF, 0xEC
_RATIO = 3  # a unit of _SHOWN_UNIT: only the ratio of both counts; pixels where there is none


class _Element(NamedTuple):
    """Where an element lies: its name and size from `at`, its content from `begin` to `end`."""

    name: int
    at: int
    begin: int
    end: int


def with_pixel_aspect(head: bytes, aspect: Fraction) -> bytes | None:
    """Returns the beginning of a file, as long as it was, with the shape of the first video's pixels in it; None where
    there is no room for it."""
    segment = next(e for e in _elements(head, 0, len(head)) if e.name == _SEGMENT)
    found: dict[int, _Element] = {}
    for element in _elements(head, segment.begin, min(segment.end, len(head))):
        found.setdefault(element.name, element)
        if element.name == _TRACKS:
            break
    empty, tracks, seek_head = (found.get(name) for name in (_EMPTY, _TRACKS, _SEEK_HEAD))
    if empty is None or tracks is None or seek_head is None or tracks.end > len(head):
        return None
    webm = b"webm" in head[: segment.at]
    described = _described(head[tracks.at : tracks.end], aspect, webm)
    grown = len(described) - (tracks.end - tracks.at)
    room = empty.end - empty.at - grown
    if room < 2 or seek_head.end > empty.at:  # the smallest one has a name and a size
        return None
    moved = range(empty.end - segment.begin, tracks.at - segment.begin + 1)
    places = _sought(head[seek_head.at : seek_head.end], moved, grown)
    between = head[seek_head.end : empty.at], _empty(room), head[empty.end : tracks.at]
    return b"".join((head[: seek_head.at], places, *between, described, head[tracks.end :]))


def _described(tracks: bytes, aspect: Fraction, webm: bool) -> bytes:
    """The tracks' description with that of the first one with pictures changed."""
    whole = next(_elements(tracks, 0, len(tracks)))
    entries = list(_elements(tracks, whole.begin, whole.end))
    for i, entry in enumerate(entries):
        inside = list(_elements(tracks, entry.begin, entry.end))
        video = next((e for e in inside if e.name == _VIDEO), None)
        if entry.name == _TRACK and video is not None:
            parts = [tracks[e.at : e.end] for e in inside]
            parts[inside.index(video)] = _shaped(tracks[video.at : video.end], aspect, webm)
            others = [tracks[e.at : e.end] for e in entries]
            others[i] = _rebuilt(tracks, entry, parts)
            return _rebuilt(tracks, whole, others)
    return tracks


def _shaped(video: bytes, aspect: Fraction, webm: bool) -> bytes:
    whole = next(_elements(video, 0, len(video)))
    inside = list(_elements(video, whole.begin, whole.end))
    width, height = (
        next(int.from_bytes(video[e.begin : e.end], "big") for e in inside if e.name == name)
        for name in (_WIDTH, _HEIGHT)
    )
    kept = [video[e.at : e.end] for e in inside if e.name not in (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT)]
    shape = width * aspect / height
    shown = shown_size(width, height, aspect) if webm else (shape.numerator, shape.denominator)
    kept += [_number(_SHOWN_WIDTH, shown[0]), _number(_SHOWN_HEIGHT, shown[1])]
    return _rebuilt(video, whole, kept if webm else [*kept, _number(_SHOWN_UNIT, _RATIO)])


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Returns the size in whole pixels, about as high as before, at which pictures have their shape: browsers show them
    so large."""
    shape = width * aspect / height
    times = round(Fraction(height, shape.denominator))
    if abs(times * shape.denominator - height) <= height / 10:
        return times * shape.numerator, times * shape.denominator
    return round(width * aspect), height


def _sought(seek_head: bytes, moved: range, by: int) -> bytes:
    """The list of where elements are, with those in `moved` nearer by so much. The numbers stay as long."""
    whole = next(_elements(seek_head, 0, len(seek_head)))
    changed = bytearray(seek_head)
    entries = list(_elements(seek_head, whole.begin, whole.end))
    for entry in entries:
        for e in _elements(seek_head, entry.begin, entry.end) if entry.name == _SEEK else ():
            place = int.from_bytes(seek_head[e.begin : e.end], "big")
            if e.name == _SEEK_POSITION and place in moved:
                changed[e.begin : e.end] = (place - by).to_bytes(e.end - e.begin, "big")
    return _rebuilt(bytes(changed), whole, [bytes(changed[e.at : e.end]) for e in entries])


def _rebuilt(data: bytes, whole: _Element, parts: list[bytes]) -> bytes:
    """An element of these parts, its size written at least as long as it was, so that it never shrinks by that."""
    if parts[0][0] == _CHECK_SUM:
        rest = b"".join(parts[1:])
        parts = [bytes((_CHECK_SUM, 0x84)) + zlib.crc32(rest).to_bytes(4, "little"), rest]
    content = b"".join(parts)
    name = _name(whole.name)
    return name + _size(len(content), whole.begin - whole.at - len(name)) + content


def _elements(data: bytes, begin: int, end: int) -> Iterator[_Element]:
    """Elements one after the other; one of unknown size goes on to the end."""
    while begin + 2 <= end:
        length = 9 - data[begin].bit_length()
        name, place = int.from_bytes(data[begin : begin + length], "big"), begin + length
        length = 9 - data[place].bit_length()
        unknown = (1 << 7 * length) - 1
        size = int.from_bytes(data[place : place + length], "big") & unknown
        content = place + length
        until = end if size == unknown else content + size
        yield _Element(name, begin, content, until)
        begin = until


def _name(name: int) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big")


def _size(size: int, length: int = 1) -> bytes:
    while size >= (1 << 7 * length) - 1:
        length += 1
    return (size | 1 << 7 * length).to_bytes(length, "big")


def _number(name: int, value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _name(name) + _size(len(content)) + content


def _empty(size: int) -> bytes:
    """An element of `size` bytes in all, 2 or more, that says nothing."""
    length = 1 if size < 128 else 8
    return _name(_EMPTY) + _size(size - 1 - length, length) + bytes(size - 1 - length)
