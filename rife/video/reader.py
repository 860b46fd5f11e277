"""Reads video files: what is shown when, and the pictures, from any frame on, a few at a time.

A `Clip` has looked at every packet of a file but decoded few: so it knows all presentation times, how many frames there
are and where decoding can begin. Times are exact Fractions of seconds.
"""

from __future__ import annotations

import copy
import io
import logging
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path

import av
import numpy as np

from ..timeline.clock import Clock
from .codecs import VideoError
from .colours import kind_of, look_of, see_through, turns_of
from .convert import to_rgb
from .decode import comes_out_of_order, decoded, reorder_delay
from .deinterlace import AUTO, LEAD, OFF, Combing, deinterlaced, looked_at
from .gif_delays import clears
from .images import ImageSequence, find_image_sequence
from .index import FrameIndex, Times, constant_rate, evened_fields, index_frames, pulled_down
from .source import (
    Source,
    main_stream,
    open_source,
    origin_of,
    stated_duration,
    stated_rates,
    unreadable,
)
from .whole_files import FileEnd, end_of

log = logging.getLogger(__name__)

_WAY = "--deinterlace {} (in ComfyUI the input deinterlace)"

_HELD = Fraction(3, 2)  # frames that the last one lasts for to count as held
_CUT_OFF = 3  # frames that a file may lack at its end because it was cut off within one


class DamagedError(VideoError):
    """Is raised where a frame within a file cannot be decoded; those before it could."""


@dataclass(frozen=True)
class VideoInfo:
    """Holds what a file says about its first video stream."""

    width: int
    height: int
    rate: Fraction  # average frames per second
    frames: int | None  # as the container states; None where it does not
    has_audio: bool


def probe(path: str | os.PathLike) -> VideoInfo:
    """Reads size, rate and streams of a video file. Raises FileNotFoundError, VideoError."""
    with open_source(path) as container:
        stream = main_stream(container)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise VideoError(
                f"{path} states no frame rate, one is needed to time the new frames. Remux it with one."
            )
        height, width = stream.height, stream.width
        return VideoInfo(width, height, Fraction(rate), stream.frames or None, bool(container.streams.audio))


def read_frames(path: str | os.PathLike, max_frames: int | None = None) -> Iterator[np.ndarray]:
    """Yields frames as (H,W,3) uint8 RGB, turned as the file asks to show them. Raises as `probe`."""
    sequence = find_image_sequence(path)
    look = None
    for frame in islice(sequence.frames() if sequence else _all_frames(path), max_frames):
        look = look or look_of(frame)
        yield to_rgb(frame, look, "rgb24")


def _all_frames(path: str | os.PathLike) -> Iterator[av.VideoFrame]:
    with open_source(path) as container:
        stream = main_stream(container)
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


class Clip:
    """Gives the frames of a file's pictures, by index, and the times at which they are shown.

    source: a path, a file in memory, or what `find_image_sequence` takes. rate: frames per second of pictures.
    start, duration: a part of it, seconds, 0: all. conceal: frames that are damaged are shown as the decoder mends
    them, or held, instead of ending the reading with `DamagedError`. deinterlace: what is done about interlaced frames,
    one of `rife.video.deinterlace.CHOICES`; "auto": what they look to want. Where it is "off", a warning says what is
    seen while they are read.
    rate: its frames per second, None where it is variable. start: when the first frame is shown, seconds after the
    earliest stream of the file begins. interlaced: whether the first frame is said to be.
    Raises FileNotFoundError, VideoError.
    """

    def __init__(
        self,
        source: Source,
        *,
        rate: Fraction | None = None,
        start: Fraction | float = 0,
        duration: Fraction | float = 0,
        conceal: bool = False,
        deinterlace: str = OFF,
    ):
        self.source, self.conceal, self.deinterlace = source, conceal, OFF
        self.name = "the video" if isinstance(source, io.BytesIO) else str(source)
        self.sequence = find_image_sequence(source, rate)
        self._told_of_depth = False
        self.metadata: dict[str, str] = {}
        if self.sequence:
            self._take(self.sequence)
        else:
            self._look_through()
        self._cut(Fraction(start), Fraction(duration))
        self.combing = Combing()
        if deinterlace != OFF:
            self.combing = looked_at(self._decoded(0))
            self.deinterlace = self.combing.kind if deinterlace == AUTO else deinterlace
            self._doubt_the_flag()
        self._see_first()
        index = self._index
        self._evened: tuple[int, list[Fraction] | None] | None = None
        self.rate = constant_rate(
            index.ticks, index.time_base, self._stated_rates, exact=self.container == "gif"
        )

    @property
    def _nothing(self) -> str:
        return f"{self.name} has no frames that can be decoded. It is empty or damaged; give one that a player shows."

    def _take(self, sequence: ImageSequence) -> None:
        """All that there is to know of pictures without a container."""
        self.origin, self.container = Fraction(0), sequence.kind
        ticks = sequence.ticks
        durations = array(
            "q", [b - a for a, b in zip(ticks, [*ticks[1:], ticks[-1] + sequence.last], strict=True)]
        )
        self._index = FrameIndex(sequence.time_base, ticks, durations, ticks)
        self._stated_rates = [sequence.rate] if sequence.rate else []
        self.audio, self._pixel_aspect = False, Fraction(1)

    def _look_through(self) -> None:
        """All that the file's packets say, and where they say when they are decoded only, what the decoder does."""
        self._look_at_packets()
        index = self._index
        untimed = index.order is not None
        if not untimed and index.doubtful and comes_out_of_order(self.source, index):
            untimed = True
            if index.hidden:  # an edit list counts times of showing, which this file does not have
                self._look_at_packets(edits=False)
        index = self._index
        if untimed and index.uneven and (delay := reorder_delay(self.source, index)):
            self._look_at_packets(index.edits, delay=delay)
        if untimed:
            self._index.order = self._index.ticks

    def _look_at_packets(self, edits: bool = True, before: int | None = None, delay: int = 0) -> None:
        """before: the frames that were found, where that is done again. delay: see `rife.video.index.index_frames`."""
        with open_source(self.source, edits) as container:
            stream = main_stream(container)
            # In ASF and FLV what is stated is the sound's, too.
            alone = container.format.name == "avi" or len(container.streams) == 1
            index = index_frames(
                container,
                stream,
                self.name,
                held=alone and self._end.whole,
                until=self._end.another,
                delay=delay,
            )
            if index is None:
                raise VideoError(self._nothing)
            index.edits = edits
            if index.breaks_off and before is None:
                # A file that is cut off ends there every time, not so with a drive that fails.
                return self._look_at_packets(edits, len(index.ticks), delay)
            if index.breaks_off and before != len(index.ticks):
                raise unreadable(index.breaks_off)
            if index.breaks_off:
                log.warning("%s breaks off after %d frames (%s).", self.name, before, index.breaks_off)
            self._index, self.origin = index, origin_of(container)
            self._stated_rates = stated_rates(stream)
            self.audio = bool(container.streams.audio)
            self.metadata = dict(container.metadata)
            self._pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.container = container.format.name
            self._miss_the_end(stated_duration(container, stream, index.ticks[0] * index.time_base))

    @cached_property
    def _end(self) -> FileEnd:
        """How the file ends. Says so where another follows."""
        end = end_of(self.source)
        if end.another is not None:
            log.warning(
                "%s holds another file from byte %d on, of which nothing is read. Split it there, or join anew.",
                self.name, end.another,
            )  # fmt: skip
        return end

    def _miss_the_end(self, stated: Fraction) -> None:
        """Says so where a file is shorter than it states."""
        there = self._index.seconds
        if stated > there * Fraction(105, 100) + Fraction(1, 2) and self._index.retimed is None:
            log.warning(
                "%s should last %.4g s, %.4g s of it are there: its end is missing.",
                self.name, float(min(stated, Fraction(10**15))), float(there),
            )  # fmt: skip

    def _cut(self, start: Fraction, duration: Fraction) -> None:
        """Leaves the frames shown first in [start, start + duration)."""
        index = self._index
        self.trimmed = bool(start or duration)
        self.length = duration or None  # of the part, seconds; None: to the end
        low = bisect_left(index.ticks, (self.origin + start) / index.time_base) if start else 0
        high = len(index.ticks)
        if duration:
            high = bisect_left(index.ticks, (self.origin + start + duration) / index.time_base)
        if high <= low:
            raise VideoError(
                f"{self.name} shows no new frame from {float(start):g} s for {float(duration):g} s. Choose "
                "another part."
            )
        self._has_begin, self._has_end = low == 0, high == len(index.ticks)
        index.part(low, high)
        self.origin += start

    def _see_first(self) -> None:
        """Decodes one frame: what the pictures are like, and which is the first to be seen, is not known before."""
        for frame in self._decoded(0):
            turns = turns_of(frame)
            self.look = look_of(frame, self.container, self._pixel_aspect).turned(turns)
            if self.container == "gif" and not self.look.alpha and self._clears_later():
                self.look = replace(self.look, alpha=True)
            self.width, self.height = frame.width, frame.height
            if turns % 2:
                self.width, self.height = self.height, self.width
            self.interlaced = bool(frame.interlaced_frame)
            self.first = frame  # as decoded
            if self._has_begin:
                self._begin_at(self._index_of(frame, 0))
            # When the first frame is shown, after the file's earliest stream.
            self.start = max(Fraction(0), self._index.ticks[0] * self._index.time_base - self.origin)
            return
        raise VideoError(self._nothing)

    def _clears_later(self) -> bool:
        """Whether a GIF that begins opaque has transparent pixels later."""
        source = self.source if isinstance(self.source, io.BytesIO) else Path(self.source)
        return clears(source) and any(map(see_through, self._decoded(0)))

    def _begin_at(self, first: int) -> None:
        """Leaves out the frames before the first that can be decoded: they need others that are not in the file."""
        index = self._index
        if first <= 0 or (self.sequence and not self.conceal):
            return
        lost = (index.ticks[first] - index.ticks[0]) * index.time_base
        log.warning(
            "%s begins in the middle: its first %d frames (%.2f s) need others before them and cannot be decoded, its "
            "begin is missing.", self.name, first, float(lost),
        )  # fmt: skip
        index.part(first, len(index.ticks))

    def __len__(self) -> int:
        return len(self._index.ticks)

    def shortened(self, count: int) -> Clip:
        """Returns its first `count` frames as a clip, and its sound for as long."""
        part = copy.copy(self)
        part._index = copy.copy(self._index)
        part.length, part.trimmed, part._has_end = self.times[count], True, False
        part._index.part(0, count)
        return part

    @property
    def breaks_off(self) -> bool:
        """Whether the file was cut off, so that not all of it can be read."""
        return bool(self._index.breaks_off)

    @property
    def files(self) -> Sequence[Path]:
        """Lists what it is read from, if that is on a disk."""
        if self.sequence:
            return self.sequence.files
        return [] if isinstance(self.source, io.BytesIO) else [Path(self.source)]

    @property
    def time_base(self) -> Fraction:
        """Is what all times in the file are multiples of, in seconds."""
        return self._index.time_base

    @property
    def jumps(self) -> list:
        """Lists where the file's clock was joined, see `rife.video.index.Jump`."""
        return self._index.jumps

    @property
    def soft_telecine(self) -> bool:
        """Tells whether the file says to show frames of film for two and three fields in turn."""
        ticks = self._index.ticks
        if len(ticks) < 2 or self.sequence:
            return False
        since = np.frombuffer(ticks, np.int64) - ticks[0]
        return pulled_down(since, self.time_base) is not None or self._meant is not None

    @property
    def flagged_cadence(self) -> str:
        """Says in one line what flags tell of soft telecine, "" where there is none."""
        return (
            "soft telecine, by its flags: the film's own frames at even times" if self.soft_telecine else ""
        )

    @property
    def times(self) -> Sequence[Fraction]:
        """Lists when each frame is shown, in seconds after the first."""
        return Times(self._meant or self._index.ticks, self.time_base)

    @property
    def _meant(self) -> list[Fraction] | None:
        """The ticks that are meant where film was shown by fields, see `evened_fields`."""
        ticks = self._index.ticks
        if self.rate is not None or self.sequence:
            return None
        if self._evened is None or self._evened[0] != len(ticks):
            self._evened = len(ticks), evened_fields(ticks)
        return self._evened[1]

    @property
    def durations(self) -> Sequence[Fraction]:
        """Lists how long the file says that each frame is shown, in seconds; 0 where it says nothing."""
        return [ticks * self.time_base for ticks in self._index.durations]

    @property
    def clock(self) -> Clock:
        """Holds the times of all frames: a rate where it is constant."""
        return self.clock_of(len(self))

    def clock_of(self, count: int) -> Clock:
        """Returns the `clock` of the first `count` frames."""
        index = self._index
        last = (
            index.durations[count - 1] * self.time_base
            if count == len(self) and self._has_end
            else Fraction(0)
        )
        if self.rate is not None:
            # A last frame that is held for longer than the others says so itself.
            held = last * self.rate > _HELD
            return Clock(count, self.rate, end=(count - 1) / self.rate + last if held else None)
        times = Times((self._meant or index.ticks)[:count], self.time_base)
        return Clock(count, times=times, end=times[-1] + last if last else None)

    @property
    def keys(self) -> list[int]:
        """Lists the frames at which decoding can begin."""
        ticks = self._index.ticks
        found = ((bisect_left(ticks, pts), pts) for pts in (self._index.keys if self._index.seekable else ()))
        return [i for i, pts in found if i < len(ticks) and ticks[i] == pts]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yields frames start to stop - 1 as (H,W,3 or 4) RGB(A): uint8; uint16 over all its range where the file has
        more than 8 bits; float32 where it has floats, which may lie above 1.

        Decodes from the last key before `start`. Raises DamagedError at a frame that cannot be decoded, unless they
        are concealed.
        """
        kind = kind_of(self.look)
        last = image = None
        for frame in self.decoded(start, stop):
            if frame is not last or image is None:
                last, image = frame, to_rgb(frame, self.look, kind)
            yield image

    def decoded(self, start: int = 0, stop: int | None = None) -> Iterator[av.VideoFrame]:
        """Yields what `frames` does, as the decoder gives it, not turned; one that is held comes again. Raises
        DamagedError."""
        stop = len(self) if stop is None else min(stop, len(self))
        held, expected = None, start
        for threads in ("SLICE",) if self.sequence else ("AUTO", "SLICE"):
            for frame in self._decoded(expected, threads):
                index = self._index_of(frame, expected)
                if index < expected:
                    held = frame
                    continue
                if index > expected and self._tries_again(threads):
                    break
                if index > expected and not self.conceal:
                    raise self._damaged(expected, index)
                self._check_size(frame, index)
                self._check_depth(frame, index)
                while expected < min(index, stop):
                    yield frame if held is None else held
                    expected += 1
                if index >= stop:
                    return
                self._watch(frame, index)
                yield frame
                held, expected = frame, index + 1
                if expected == stop:
                    return
            if expected + _CUT_OFF >= stop:
                break
        if expected + _CUT_OFF < stop and not self.conceal:
            raise self._damaged(expected, stop)
        if expected < stop:
            log.warning("%s: its last %d frames cannot be decoded.", self.name, stop - expected)

    def _tries_again(self, threads: str) -> bool:
        """Whether frames that are missing may be there after all."""
        if self._index.doubtful and self._index.order is None:
            # The first frame out of order: times are those of decoding, though the file's begin did not show it.
            self._index.order = self._index.ticks
        return threads == "AUTO"

    def _check_size(self, frame: av.VideoFrame, index: int) -> None:
        sides = (frame.height, frame.width) if turns_of(frame) % 2 else (frame.width, frame.height)
        if sides != (self.width, self.height):
            raise DamagedError(
                f"{self.name} changes its size to {sides[0]}x{sides[1]} at {self._at(index)}, it was "
                f"{self.width}x{self.height}. Cut it there and interpolate the parts."
            )

    def _check_depth(self, frame: av.VideoFrame, index: int) -> None:
        """Says so where pictures, each of which may be of another kind, have more than the first."""
        if not self.sequence or self._told_of_depth or frame.format.name == self.look.pix_fmt:
            return
        look = look_of(frame, self.container)
        lost = ["alpha"] * (look.alpha and not self.look.alpha)
        lost += [f"more than {self.look.bits} bits"] * (look.bits > self.look.bits)
        if lost:
            self._told_of_depth = True
            log.warning(
                "%s: the picture at %s has %s, unlike the first one: that is left out. Store the first one as that one "
                "is, and it is kept.", self.name, self._at(index), " and ".join(lost),
            )  # fmt: skip

    def _at(self, index: int) -> str:
        return f"{float(self.times[index]):.2f} s (frame {index})"

    def _damaged(self, first: int, after: int) -> DamagedError:
        return DamagedError(
            f"{self.name} is damaged at {self._at(first)}: {after - first} frames cannot be decoded. Mend or cut it, "
            "or have damaged frames concealed."
        )

    def _index_of(self, frame: av.VideoFrame, expected: int) -> int:
        ticks = self._index.ticks
        if frame.pts is None:
            return expected
        if frame.pts < ticks[0]:
            return -1
        index = bisect_right(ticks, frame.pts) - 1
        if ticks[index] == frame.pts or index < expected - 1:
            return index
        # A decoder may give times of its own, between those of the packets.
        return max(index, expected)

    def _doubt_the_flag(self) -> None:
        said, seen = self.combing.said, self.combing.order
        if self.deinterlace == OFF or None in (said, seen) or said == seen:
            return
        names = {True: "upper", False: "lower"}
        log.warning(
            "%s is flagged as %s field first, though things move evenly with the %s one first only: so it is taken.",
            self.name, names[bool(said)], names[bool(seen)],
        )  # fmt: skip

    def look_at_fields(self) -> str:
        """Looks at some frames, whether they are interlaced, unless that was done: one line that says so, or ""."""
        if not self.combing.frames:
            self.combing = looked_at(self._decoded(0))
        return "" if self.deinterlace != OFF else self.combing.warning(self.name, _WAY)

    def _watch(self, frame: av.VideoFrame, index: int) -> None:
        """Warns of interlaced frames as soon as they are seen, where they are read from the clip's begin on."""
        combing = self.combing
        if self.deinterlace != OFF or index != combing.frames or not combing.wants_more:
            return
        combing.look(frame)
        if (not combing.wants_more or combing.frames == len(self)) and (said := self.look_at_fields()):
            log.warning("%s", said)

    def _decoded(self, start: int, threads: str = "AUTO") -> Iterator[av.VideoFrame]:
        """Decoded frames from `start` or some before it, deinterlaced where that is asked for."""
        if self.deinterlace == OFF:
            return self._as_in_file(start, threads)
        start = max(0, start - LEAD)
        first = self._index.ticks[start]
        frames = (f for f in self._as_in_file(start, threads) if f.pts is None or f.pts >= first)
        return deinterlaced(frames, self.deinterlace, self.combing.top_first, self.combing.order is not None)

    def _as_in_file(self, start: int, threads: str) -> Iterator[av.VideoFrame]:
        if self.sequence:
            return self.sequence.frames(start)
        return decoded(self.source, self._index, self._index.ticks[start], self.conceal, threads)
