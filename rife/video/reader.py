"""Reading video files: what is shown when, and the pictures, from any frame on, a few at a time.

A `Clip` has looked at every packet of a file but decoded none: so it knows all presentation times, how many frames
there are and where decoding can begin. Times are exact Fractions of seconds.
"""

from __future__ import annotations

import io
import logging
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np

from ..timeline.clock import Clock
from .codecs import VideoError
from .colours import Look, look_of, to_rgb, turns_of
from .images import ImageSequence, find_image_sequence

log = logging.getLogger(__name__)

Source = str | os.PathLike | io.BytesIO

# Decoders that mend what is damaged without a word, unless they are told not to. Some others take much for damage.
_CONCEALING = {"h264", "hevc", "ffv1", "prores"}
_CUT_OFF = 3  # frames that a file may lack at its end because it was cut off within one


class DamagedError(VideoError):
    """A frame within a file cannot be decoded; those before it could."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its first video stream."""

    width: int
    height: int
    rate: Fraction  # average frames per second
    frames: int | None  # as the container states; None where it does not
    has_audio: bool


class _Times(Sequence):
    """Presentation times in seconds after the first, computed when asked for."""

    def __init__(self, ticks: array, time_base: Fraction):
        self._ticks, self._base = ticks, time_base

    def __len__(self) -> int:
        return len(self._ticks)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return (self._ticks[i] - self._ticks[0]) * self._base


def probe(path: str | os.PathLike) -> VideoInfo:
    """Size, rate and streams of a video file. Raises FileNotFoundError, VideoError."""
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
    """The frames of a file's first video stream, by index, and the times at which they are shown.

    source: a path, a file in memory, or what `find_image_sequence` takes. rate: frames per second of pictures.
    start, duration: a part of it, seconds, 0: all. conceal: frames that are damaged are shown as the decoder mends
    them, or held, instead of ending the reading with `DamagedError`.
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
    ):
        self.source, self.conceal = source, conceal
        self.name = "the video" if isinstance(source, io.BytesIO) else str(source)
        self.sequence = find_image_sequence(source, rate)
        if self.sequence:
            self._take(self.sequence)
        else:
            self._look_through()
        self._cut(Fraction(start), Fraction(duration))
        self._see_first()

    @property
    def _nothing(self) -> str:
        return f"{self.name} has no frames that can be decoded. It is empty or damaged; give one that a player shows."

    def _take(self, sequence: ImageSequence) -> None:
        """All that there is to know of pictures without a container."""
        self.time_base, self.origin, self.container = sequence.time_base, Fraction(0), sequence.kind
        self._ticks, self._keys, self._last = sequence.ticks, sequence.ticks, sequence.last
        self.rate = _constant_rate(self._ticks, self.time_base, [sequence.rate] if sequence.rate else [])
        self.audio, self.metadata, self._pixel_aspect = False, {}, Fraction(1)

    def _look_through(self) -> None:
        with open_source(self.source) as container:
            stream = main_stream(container)
            self.time_base = Fraction(stream.time_base)
            self.origin = _origin(container)
            self._index(container, stream)
            self.rate = _constant_rate(self._ticks, self.time_base, _stated_rates(stream))
            self.audio = bool(container.streams.audio)
            self.metadata = dict(container.metadata)
            self._pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.container = container.format.name

    def _index(self, container, stream) -> None:
        """Times and decoding starts, from the packets alone."""
        ticks, keys = array("q"), array("q")
        last = 0
        try:
            for packet in container.demux(stream):
                if not packet.size or not (keys or packet.is_keyframe):
                    continue
                pts = packet.pts
                if pts is None:  # AVI and raw streams have none: frames in the order in which they are shown
                    pts = packet.dts if packet.dts is not None else len(ticks) * (packet.duration or 1)
                if packet.is_keyframe:
                    keys.append(pts)
                if not packet.is_discard:  # by an edit list, which still needs it for decoding
                    ticks.append(pts)
                    last = packet.duration or last
        except av.error.FFmpegError as error:
            log.warning("%s breaks off after %d frames (%s).", self.name, len(ticks), error.strerror)
        first = keys[0] if keys else 0
        self._ticks = array("q", sorted({pts for pts in ticks if pts >= first}))
        self._keys = array("q", sorted(set(keys)))
        self._last = last
        if not self._ticks:
            raise VideoError(self._nothing)
        seconds = float((self._ticks[-1] - self._ticks[0]) * self.time_base)
        stated = _stated_duration(container, stream)
        if stated > 1.05 * seconds + 0.5:
            log.warning(
                "%s should last %.1f s, %.1f s of it are there: its end is missing.",
                self.name,
                stated,
                seconds,
            )

    def _cut(self, start: Fraction, duration: Fraction) -> None:
        """Leaves the frames shown first in [start, start + duration)."""
        self.trimmed = bool(start or duration)
        self.length = duration or None  # of the part, seconds; None: to the end
        low = bisect_left(self._ticks, (self.origin + start) / self.time_base) if start else 0
        high = len(self._ticks)
        if duration:
            high = bisect_left(self._ticks, (self.origin + start + duration) / self.time_base)
        if high <= low:
            raise VideoError(
                f"{self.name} shows no new frame from {float(start):g} s for {float(duration):g} s. Choose "
                "another part."
            )
        self._ticks = self._ticks[low:high]
        self.origin += start
        # When the first frame is shown, after the file's earliest stream.
        self.start = max(Fraction(0), self._ticks[0] * self.time_base - self.origin)

    def _see_first(self) -> None:
        """Decodes one frame: what the pictures are like is not known before."""
        self.look, self.width, self.height = Look(), 0, 0
        for frame in self._decoded(0):
            turns = turns_of(frame)
            self.look = look_of(frame, self.container, self._pixel_aspect).turned(turns)
            self.width, self.height = frame.width, frame.height
            if turns % 2:
                self.width, self.height = self.height, self.width
            return
        raise VideoError(self._nothing)

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def files(self) -> Sequence[Path]:
        """What it is read from, if that is on a disk."""
        if self.sequence:
            return self.sequence.files
        return [] if isinstance(self.source, io.BytesIO) else [Path(self.source)]

    @property
    def times(self) -> Sequence[Fraction]:
        """When each frame is shown, seconds after the first."""
        return _Times(self._ticks, self.time_base)

    @property
    def clock(self) -> Clock:
        """The times of all frames: a rate where it is constant."""
        return self.clock_of(len(self))

    def clock_of(self, count: int) -> Clock:
        """As `clock`, of the first `count` frames."""
        if self.rate is not None:
            return Clock(count, self.rate)
        times = _Times(self._ticks[:count], self.time_base)
        end = times[-1] + self._last * self.time_base if self._last and count == len(self) else None
        return Clock(count, times=times, end=end)

    @property
    def keys(self) -> list[int]:
        """The frames at which decoding can begin."""
        found = (bisect_left(self._ticks, pts) for pts in self._keys)
        return [
            i for i, pts in zip(found, self._keys, strict=True) if i < len(self) and self._ticks[i] == pts
        ]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start to stop - 1 as (H,W,3 or 4) RGB(A), uint8, or uint16 over all its range where the file has
        more than 8 bits. Decodes from the last key before `start`.

        Raises DamagedError at a frame that cannot be decoded, unless they are concealed.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        kind = ("rgba" if self.look.alpha else "rgb") if self.look.bits == 8 else None
        kind = {"rgba": "rgba", "rgb": "rgb24"}.get(kind, "rgba64le" if self.look.alpha else "rgb48le")
        held, expected = None, start
        for frame in self._decoded(start):
            index = self._index_of(frame, expected)
            if index < expected:
                held = frame
                continue
            if index > expected and not self.conceal:
                raise self._damaged(expected, index)
            image = self._image(frame, kind, index)
            while expected < min(index, stop):
                yield image if held is None else self._image(held, kind, expected)
                expected += 1
            if index >= stop:
                return
            yield image
            held, expected = frame, index + 1
            if expected == stop:
                return
        if expected + _CUT_OFF < stop and not self.conceal:
            raise self._damaged(expected, stop)
        if expected < stop:
            log.warning("%s: its last %d frames cannot be decoded.", self.name, stop - expected)

    def _image(self, frame, kind: str, index: int) -> np.ndarray:
        image = to_rgb(frame, self.look, kind)
        if image.shape[:2] != (self.height, self.width):
            raise DamagedError(
                f"{self.name} changes its size to {image.shape[1]}x{image.shape[0]} at {self._at(index)}, it was "
                f"{self.width}x{self.height}. Cut it there and interpolate the parts."
            )
        return image

    def _at(self, index: int) -> str:
        return f"{float(self.times[index]):.2f} s (frame {index})"

    def _damaged(self, first: int, after: int) -> DamagedError:
        return DamagedError(
            f"{self.name} is damaged at {self._at(first)}: {after - first} frames cannot be decoded. Mend or cut it, "
            "or have damaged frames concealed."
        )

    def _index_of(self, frame, expected: int) -> int:
        if frame.pts is None:
            return expected
        if frame.pts < self._ticks[0]:
            return -1
        index = bisect_right(self._ticks, frame.pts) - 1
        # A decoder may give times of its own, between those of the packets.
        return index if self._ticks[index] == frame.pts else max(index, expected)

    def _decoded(self, start: int) -> Iterator[av.VideoFrame]:
        """Decoded frames from `start` or some before it, through seeking where it leads there."""
        if self.sequence:
            yield from self.sequence.frames(start)
            return
        target = self._ticks[start]
        keys = [pts for pts in self._keys[: bisect_right(self._keys, target)] if pts > self._keys[0]]
        for pts in [*keys[-1:], *keys[-3:-2], None]:  # None: from the beginning, without seeking
            with open_source(self.source) as container:
                stream = main_stream(container)
                stream.thread_type = "AUTO"
                decoder = _decoder(stream)
                if decoder.name in _CONCEALING and not self.conceal:
                    decoder.options = {"err_detect": "explode"}
                if pts is not None and not _seek(container, stream, pts):
                    continue
                frames = _decode(container, stream, decoder, from_key=pts is not None)
                first = next(frames, None)
                if pts is not None and (first is None or first.pts is None or first.pts > target):
                    continue  # beyond it
                if first is not None:
                    yield first
                    yield from frames
                return


def _seek(container, stream, pts: int) -> bool:
    try:
        container.seek(pts, stream=stream)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _decoder(stream):
    """The decoder of a stream; FFmpeg's own for VP8 and VP9 leave alpha out."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        decoder = av.CodecContext.create(name, "r")
    except (av.error.FFmpegError, ValueError):
        log.warning("This build of FFmpeg has no %s: alpha is left out.", name)
        return stream.codec_context
    decoder.extradata = stream.codec_context.extradata
    return decoder


def _decode(container, stream, decoder, from_key: bool) -> Iterator[av.VideoFrame]:
    """What can be decoded; what cannot is left out, and missed by who counts."""
    try:
        for packet in container.demux(stream):
            if from_key and not packet.is_keyframe and packet.size:
                continue
            from_key = False
            try:
                yield from decoder.decode(packet if packet.size else None)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                continue
    except av.error.FFmpegError as error:
        log.debug("the file breaks off (%s)", error)


def open_source(source: Source):
    """An open container with a video stream. Raises FileNotFoundError, VideoError."""
    name, file = "the video", None
    if isinstance(source, io.BytesIO):
        file = io.BytesIO(source.getvalue())  # a position of its own; the bytes are shared
    else:
        path = Path(source)
        name = file = str(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no video file at {path}. Give the path of an existing file.")
        if not path.stat().st_size:
            raise VideoError(f"{path} is empty, it has 0 bytes. Give a file that a player shows.")
    try:
        container = av.open(file)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(
            f"{name} cannot be read as a video ({getattr(error, 'strerror', error)}). It is damaged or of another "
            "kind; give a file that a player shows."
        ) from error
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise VideoError(f"{name} has no video stream, only {kinds}. Give a file with pictures.")
    return container


def main_stream(container):
    """The first video stream that is no cover picture."""
    streams = container.streams.video
    return next((s for s in streams if not s.disposition & type(s.disposition).attached_pic), streams[0])


def _origin(container) -> Fraction:
    """When the earliest stream of pictures or sound begins; times before 0 are kept as they are."""
    streams = [s for s in container.streams if s.type in ("video", "audio") and s.start_time is not None]
    return max(Fraction(0), min((s.start_time * Fraction(s.time_base) for s in streams), default=Fraction(0)))


def _stated_duration(container, stream) -> float:
    """Seconds that the pictures should last, 0 where nothing is said of them alone."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = next((v for k, v in stream.metadata.items() if k.upper() == "DURATION"), "")  # Matroska
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        alone = len(container.streams) == 1 and container.duration
        return container.duration / av.time_base if alone else 0.0


def _stated_rates(stream) -> list[Fraction]:
    stated = (stream.average_rate, stream.base_rate, stream.guessed_rate)
    return list(dict.fromkeys(Fraction(rate) for rate in stated if rate))


def _constant_rate(ticks: array, time_base: Fraction, stated: list[Fraction]) -> Fraction | None:
    """The rate of which all times are multiples, as exactly as the ticks of the file can tell; None: there is none."""
    if len(ticks) == 1:
        return stated[0] if stated else Fraction(24)
    since = np.frombuffer(ticks, np.int64) - ticks[0]
    count = np.arange(len(ticks))
    mean = Fraction(len(ticks) - 1, int(since[-1])) / time_base
    # Where ticks are milliseconds, averages are next to the rate that is meant.
    meant = sorted({Fraction(max(1, round(mean))), Fraction(max(1, round(mean * 1001 / 1000)) * 1000, 1001)},
                   key=lambda rate: abs(rate - mean))  # fmt: skip
    usual = [rate for rate in stated if rate.denominator in (1, 1001)]
    for rate in [*usual, *meant, *stated, mean.limit_denominator(1001)]:
        if np.abs(since - count * float(1 / (rate * time_base))).max() <= 1.01:
            return rate
    return None
