"""Writing video files: pictures encoded, everything else of the source copied, packet by packet.

A file gets its name only when it is complete. Times are exact Fractions of seconds after the first picture's.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from math import gcd
from pathlib import Path

import av
import av.error
import numpy as np

from ..atomic_write import atomic_write
from .codecs import PICTURES, Encoding, VideoError, choose
from .images import is_pattern
from .reader import BT709, FULL, Clip, DamagedError, Look, main_stream, open_source

log = logging.getLogger(__name__)

_FINEST = 10_000_000  # ticks per second; more than containers and encoders bear
# What a muxer writes itself; copied, it would be about another file.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "number_of_frames",
                "number_of_bytes", "handler_name", "vendor_id"}  # fmt: skip
_MP4 = (".mp4", ".m4v", ".mov")
_MP4_KEYS = {"title", "artist", "album", "album_artist", "author", "comment", "composer", "copyright", "creation_time",
             "date", "description", "episode_id", "genre", "language", "location", "lyrics", "network", "show",
             "synopsis", "track", "year"}  # fmt: skip
_SHAPES = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}  # channels, bytes of each


class _Output:
    """A file in the making, under a temporary name beside `path`, with all but the pictures of `clip` copied into it.

    Leaving the block well gives it its name. Leaving it by an exception removes it; by `DamagedError`, what there is
    becomes NAME.partial.EXT.
    """

    def __init__(
        self, path: str | os.PathLike, clip: Clip | None, copy: bool = True, start: Fraction = Fraction(0)
    ):
        self.path = Path(path)
        self.count = 0  # pictures written
        self._clip, self._copy = clip, copy
        self._start = start
        self._pattern = is_pattern(self.path)
        self._container = self._copies = None

    def __enter__(self):
        folder = self.path.parent
        if not folder.is_dir():
            raise VideoError(f"There is no folder {folder} to write {self.path.name} into. Create it first.")
        if self.path.suffix.lower() in set(PICTURES) - {".webp"} and not self._pattern:
            raise VideoError(
                f"{self.path} names one picture, there are many. Write {self.path.stem}_%05d{self.path.suffix}."
            )
        try:
            self._temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".rife-")) / self.path.name
        except OSError as error:
            raise VideoError(
                f"{folder} cannot be written to ({error.strerror}). Choose another folder."
            ) from error
        try:
            with self._explained():
                self._begin()
        except BaseException:
            self._discard()
            raise
        return self

    def _begin(self) -> None:
        options = {}
        metadata = self._metadata()
        if self.path.suffix.lower() in _MP4:
            own = "" if metadata.keys() <= _MP4_KEYS else "+use_metadata_tags"
            options["movflags"] = "+faststart" + own
        elif self.path.suffix.lower() in (".gif", ".webp", ".apng"):
            options["plays" if self.path.suffix.lower() == ".apng" else "loop"] = "0"
        try:
            self._container = av.open(
                str(self._temporary), "w", format="image2" if self._pattern else None, options=options
            )
        except (ValueError, av.error.FFmpegError) as error:
            raise VideoError(
                f"{self.path.name} names no known container ({error}). Use .mp4, .mkv, .mov or .webm."
            ) from error
        self._container.metadata.update(metadata)
        self._add_pictures()
        only_pictures = self._pattern or self._container.format.name in ("gif", "webp", "apng")
        if self._clip is not None and self._copy and not (only_pictures or self._clip.reel):
            self._copies = _Copies(self._clip, self._container, self.path)

    @property
    def sound(self) -> bool:
        """Whether sound is copied into it."""
        return self._copies is not None and self._clip.audio

    def _metadata(self) -> dict[str, str]:
        if self._clip is None:
            return {}
        return {k: v for k, v in self._clip.metadata.items() if k.lower() not in _OF_THE_FILE}

    def _add_pictures(self) -> None:
        raise NotImplementedError

    def _mux(self, packets, until: Fraction) -> None:
        """Packets of pictures, after all that is to be seen or heard until then."""
        if self._copies:
            self._copies.copy(until)
        self._container.mux(packets)

    def _finish(self) -> None:
        """Writes what an encoder still holds."""

    def __exit__(self, kind, value, trace) -> None:
        damaged = isinstance(value, DamagedError) and self.count > 0
        if kind is not None and not damaged:
            self._discard()
            return
        path = self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}") if damaged else self.path
        try:
            with self._explained():
                self._finish()
                if self._copies:
                    self._copies.copy(self._start + self._end() if damaged else None)
                self._container.close()
                self._name(path)
        except BaseException:
            self._discard()
            raise
        self._discard()
        if damaged:
            raise DamagedError(f"{value} The {self.count} frames before it are in {path}.") from value

    def _end(self) -> Fraction:
        return Fraction(0)

    def _name(self, path: Path) -> None:
        folder = self._temporary.parent
        for file in sorted(folder.iterdir()):
            os.replace(file, path.parent / file.name if self._pattern else path)

    def _discard(self) -> None:
        for open_file in (self._container, self._copies):
            try:
                if open_file is not None:
                    open_file.close()
            except (ValueError, OSError, av.error.FFmpegError):
                log.debug("closing an unfinished file failed", exc_info=True)
        shutil.rmtree(self._temporary.parent, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what a failing write means."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise VideoError(
                    f"The disk of {self.path.parent} is full after {self.count} frames of {self.path.name}, nothing "
                    "was left there. Free some space, or write elsewhere."
                ) from error
            raise VideoError(
                f"{self.path.name} cannot be written ({error.strerror or error}). Try another codec, pixel format or "
                "container: .mkv takes all."
            ) from error


class VideoWriter(_Output):
    """Encodes pictures to a temporary file beside `path`, renamed when the block ends well.

    with VideoWriter("out.mp4", Fraction(24), 720, 480, audio_from="in.mp4") as writer:
        writer.write(frame)            # (H,W,3) uint8 RGB

    Where a pixel format wants even sides, an odd one gets its last row or column twice, so that no pixel is lost.
    audio_from, clip: whose sound, subtitles, chapters and metadata are copied, not encoded again; clip also says what
    the pictures look like (colours, depth, alpha, shape of a pixel) and when the first is shown.
    A name such as out/%05d.png makes one file per picture; .gif and .webp are animated.
    sound: (C,S) float samples and their rate, encoded as AAC. tick: what all times are multiples of, default by rate
    and start. Raises VideoError.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rate: Fraction,
        width: int,
        height: int,
        audio_from: str | os.PathLike | None = None,
        crf: int | None = None,
        *,
        encoding: Encoding | None = None,
        clip: Clip | None = None,
        look: Look | None = None,
        tick: Fraction | None = None,
        copy: bool = True,
        sound: tuple[np.ndarray, int] | None = None,
    ):
        if clip is None and audio_from is not None:
            clip, look = Clip(audio_from), look or Look(rgb=True)
        self.encoding = encoding or Encoding(crf=crf)
        start = clip.start if clip and copy else Fraction(0)
        super().__init__(path, clip, copy and self.encoding.audio, start)
        self.rate, self.size = Fraction(rate), (width, height)
        self.look = look or (clip.look if clip else Look(rgb=True))
        self._tick = tick or tick_of(1 / self.rate, start)
        self._palette: _Palette | None = None
        self._sound = sound

    def _begin(self) -> None:
        super()._begin()
        if self._sound is not None and self._copies is None:
            self._copies = _Sound(self._container, *self._sound)

    def _add_pictures(self) -> None:
        look = self.look
        encoder, pix_fmt = choose(self.path, self.encoding, look.bits, look.alpha)
        try:
            self._stream = self._container.add_stream(
                encoder.name, rate=self.rate, options=self.encoding.settings(encoder, look.hdr)
            )
        except (ValueError, av.error.FFmpegError) as error:
            raise VideoError(
                f"{self.path.suffix} cannot hold {encoder.codec} ({error}). Write to .mkv, or choose another codec."
            ) from error
        if look.hdr and not look.hdr.settings(encoder.name):
            log.warning("%s is not told of HDR10's mastering display. h265 and av1 are.", encoder.name)
        self._shape(av.VideoFormat(pix_fmt, 16, 16))
        context = self._stream.codec_context
        if pix_fmt == "pal8":
            self._tick = Fraction(1, 100)  # GIF counts in these
            if self.rate > 50:
                log.warning(
                    "Browsers show a GIF at 50 fps at most, this one has %g. WebP has no such limit.",
                    self.rate,
                )
            self._palette = _Palette(*self.size, look.alpha, self._tick)
        context.time_base = self._tick
        if look.pixel_aspect != 1:
            context.sample_aspect_ratio = look.pixel_aspect
        if encoder.codec == "h265" and self.path.suffix.lower() in _MP4:
            context.codec_tag = "hvc1"  # the one that Apple plays
        self._yuv = None if self._is_rgb else self._tag(context, pix_fmt)

    def _shape(self, kind: av.VideoFormat) -> None:
        """Width and height as the pixel format wants them."""
        self._is_rgb = kind.is_rgb or kind.name == "pal8"
        even = (1, 1) if self._is_rgb else (16 // kind.chroma_width(16), 16 // kind.chroma_height(16))
        self._more = [-side % step for side, step in zip(self.size, even, strict=True)]
        self._stream.width, self._stream.height = (a + b for a, b in zip(self.size, self._more, strict=True))
        self._stream.pix_fmt = kind.name

    def _tag(self, context, pix_fmt: str) -> tuple[int, int]:
        """Writes the colours' tags; the matrix and range to convert with."""
        look = self.look
        matrix, range_ = look.yuv(self.size[1])
        if pix_fmt.startswith("yuvj"):
            range_ = FULL
        tags = (BT709,) * 3 if look.rgb else (look.matrix, look.primaries, look.transfer)
        # What was not said stays unsaid: players guess as we did.
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = range_
        return matrix, range_

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Appends one frame (H,W,3 or 4) RGB(A) of the writer's size, uint8 or uint16 over all its range, shown at
        `time`, by default as the rate says."""
        width, height = self.size
        kind = _SHAPES.get((frame.shape[-1], frame.dtype.itemsize)) if frame.dtype.kind == "u" else None
        if frame.shape[:2] != (height, width) or frame.ndim != 3 or kind is None:
            raise ValueError(
                f"the frame is {frame.shape} {frame.dtype}, expected {(height, width, 3)} uint8: the size must not "
                "change within a video."
            )
        self._last = self.count / self.rate if time is None else time
        shown = self._start + self._last
        picture = self._picture(frame, kind)
        picture.pts, picture.time_base = round(shown / self._tick), self._tick
        picture.duration = max(1, round(1 / self.rate / self._tick))
        with self._explained():
            for ready in self._palette.through(picture) if self._palette else (picture,):
                self._mux(self._stream.encode(ready), shown)
        self.count += 1

    def _picture(self, frame: np.ndarray, kind: str) -> av.VideoFrame:
        if any(self._more):
            right, below = self._more
            frame = np.pad(frame, ((0, below), (0, right), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)
        if self._palette:
            return picture
        if self._is_rgb:
            return picture.reformat(format=self._stream.pix_fmt)
        matrix, range_ = self._yuv
        return picture.reformat(
            format=self._stream.pix_fmt, dst_colorspace=matrix, src_color_range=FULL, dst_color_range=range_
        )

    def _finish(self) -> None:
        for picture in self._palette.through(None) if self._palette else ():
            self._container.mux(self._stream.encode(picture))
        self._container.mux(self._stream.encode(None))

    def _end(self) -> Fraction:
        return self._last + 1 / self.rate if self.count else Fraction(0)


class _Palette:
    """RGB pictures to pictures of 256 colours, each with the palette that suits it."""

    def __init__(self, width: int, height: int, alpha: bool, time_base: Fraction):
        self._format = "rgba" if alpha else "rgb24"
        graph = self._graph = av.filter.Graph()
        self._in = graph.add_buffer(width=width, height=height, format=self._format, time_base=time_base)
        split = graph.add("split")
        palette = graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}")
        use = graph.add("paletteuse", "new=1")
        self._out = graph.add("buffersink")
        self._in.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(self._out)
        graph.configure()

    def through(self, picture) -> Iterator[av.VideoFrame]:
        """Pushes one picture, or None at the end; the pictures that come out."""
        self._in.push(picture and picture.reformat(format=self._format))
        while True:
            try:
                yield self._out.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return


class _Copies:
    """The streams of a clip's file that are no pictures, on their way into another file."""

    def __init__(self, clip: Clip, container, path: Path):
        self._clip = clip
        self._source = open_source(clip.source)
        self._targets: dict[int, object] = {}
        pictures = main_stream(self._source)
        for stream in self._source.streams:
            if stream.type in ("audio", "subtitle", "attachment") and stream is not pictures:
                self._add(stream, container, path)
        chapters = self._source.chapters() if hasattr(self._source, "chapters") else []
        if chapters and hasattr(container, "set_chapters"):
            container.set_chapters([c for c in map(self._shifted, chapters) if c])
        sources = [self._source.streams[i] for i in self._targets]
        self._packets = self._source.demux(*sources) if sources else iter(())
        self._waiting = None
        self._damaged = False

    def _add(self, stream, container, path: Path) -> None:
        try:
            target = container.add_stream_from_template(stream)
        except (ValueError, av.error.FFmpegError) as error:
            name = stream.codec_context.name if stream.codec_context else stream.type
            if stream.type == "audio":
                other = "" if path.suffix.lower() == ".mkv" else "Write to .mkv, which holds nearly all; or l"
                raise VideoError(
                    f"{path.suffix} cannot hold the source's {name} sound ({error}). {other or 'L'}eave the sound "
                    "out."
                ) from error
            kind, end = stream.type, path.suffix
            log.warning(
                "%s cannot hold the source's %s (%s): it is left out. .mkv holds all.", end, kind, name
            )
            return
        target.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in _OF_THE_FILE})
        try:
            target.disposition = stream.disposition
        except (AttributeError, ValueError):
            log.debug("this PyAV sets no dispositions")
        if stream.type != "attachment":
            self._targets[stream.index] = target

    def _shifted(self, chapter: dict) -> dict | None:
        """A chapter within the clip's part of the file, counted from its start."""
        base = Fraction(chapter["time_base"])
        start, end = (Fraction(chapter[side]) * base - self._clip.origin for side in ("start", "end"))
        length = self._clip.length
        if end <= 0 or (length is not None and start >= length):
            return None
        end = end if length is None else min(end, length)
        return {**chapter, "start": round(max(start, Fraction(0)) / base), "end": round(end / base)}

    def copy(self, until: Fraction | None) -> None:
        """Packets up to a time, so that the muxer never has to hold pictures for sound or sound for pictures."""
        while True:
            packet = self._waiting or self._next()
            self._waiting = None
            if packet is None:
                return
            time = packet.dts if packet.dts is not None else packet.pts
            if time is None:  # the demuxer's end mark
                continue
            base = Fraction(packet.time_base)
            seconds = time * base - self._clip.origin
            length = self._clip.length
            if (self._clip.trimmed and seconds < 0) or (length is not None and seconds >= length):
                continue
            if until is not None and seconds > until:
                self._waiting = packet
                return
            shift = round(self._clip.origin / base)
            packet.pts = packet.pts if packet.pts is None else packet.pts - shift
            packet.dts = packet.dts if packet.dts is None else packet.dts - shift
            packet.stream = self._targets[packet.stream_index]
            try:
                packet.stream.container.mux(packet)
            except av.error.InvalidDataError:
                self._complain()

    def _next(self):
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:
            self._complain()
            return None

    def _complain(self) -> None:
        if not self._damaged:
            log.warning("The sound or subtitles of %s are damaged: some is left out.", self._clip.name)
        self._damaged = True

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


class _Sound:
    """Samples (C,S) on their way into a file, encoded; in the place of `_Copies`."""

    def __init__(self, container, samples: np.ndarray, rate: int):
        layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(len(samples))
        if layout is None:
            log.warning("The sound has %d channels: the first two are taken.", len(samples))
            samples, layout = samples[:2], "stereo"
        self._samples, self._rate, self._layout = samples, rate, layout
        self._container, self._done = container, 0
        self._stream = container.add_stream("aac", rate=rate, layout=layout)

    def copy(self, until: Fraction | None) -> None:
        """Samples up to a time; None: all, and the end."""
        total = self._samples.shape[1]
        end = total if until is None else min(total, int(until * self._rate) + self._rate)
        if end > self._done:
            part = np.ascontiguousarray(self._samples[:, self._done : end], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
            self._container.mux(self._stream.encode(frame))
            self._done = end
        if until is None:
            self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        """Nothing is open."""


class Joiner(_Output):
    """Files of encoded pictures, one after the other, made one file without encoding them again.

    with Joiner("out.mp4", parts, clip, times, tick) as joiner:
        joiner.join()

    parts: files as `VideoWriter` makes them, all with the same settings; times(k): when picture k of all is shown,
    seconds after the first; tick: what all times are multiples of.
    """

    def __init__(
        self,
        path,
        parts: Sequence[Path],
        clip: Clip,
        times: Callable[[int], Fraction],
        tick: Fraction,
        copy: bool,
    ):
        super().__init__(path, clip, copy, clip.start if copy else Fraction(0))
        self._parts, self._times, self._tick = parts, times, tick

    def _add_pictures(self) -> None:
        with av.open(str(self._parts[0])) as first:
            self._stream = self._container.add_stream_from_template(first.streams.video[0], opaque=True)
        if self._stream.codec_context.name == "hevc" and self.path.suffix.lower() in _MP4:
            self._stream.codec_context.codec_tag = "hvc1"
        self._stream.time_base = self._tick

    def join(self) -> None:
        """Copies all packets."""
        orders = [_order(part) for part in self._parts]
        # Decoders need so many pictures before the first can be shown: the same in all parts, so that they follow on.
        delay = max(i - shown for order in orders for i, shown in enumerate(order))
        for part, order in zip(self._parts, orders, strict=True):
            first = self.count
            with self._explained(), av.open(str(part)) as source:
                packets = (p for p in source.demux(source.streams.video[0]) if p.size)
                for packet, shown in zip(packets, order, strict=True):
                    packet.time_base = self._tick
                    packet.pts = self._at(first + shown)
                    packet.dts = self._at(self.count - delay)
                    packet.duration = self._at(first + shown + 1) - packet.pts
                    packet.stream = self._stream
                    self._mux(packet, packet.dts * self._tick)
                    self.count += 1

    def _at(self, k: int) -> int:
        if k < 0:  # before the first picture, as decoding is
            return self._at(0) + k * (self._at(1) - self._at(0))
        return round((self._start + self._times(k)) / self._tick)


def _order(part: Path) -> array:
    """For each packet of a file, the how many-th picture shown it is."""
    with av.open(str(part)) as source:
        shown = [p.pts for p in source.demux(source.streams.video[0]) if p.size]
    ranks = {pts: i for i, pts in enumerate(sorted(shown))}
    return array("q", (ranks[pts] for pts in shown))


def tick_of(*times: Fraction) -> Fraction:
    """The longest time that all of these are multiples of; the first one alone where that would be too short."""
    tick = times[0]
    for time in times[1:]:
        a, b = tick * tick.denominator * time.denominator, time * tick.denominator * time.denominator
        if b:
            tick = Fraction(gcd(int(a), int(b)), tick.denominator * time.denominator)
    return tick if tick.denominator <= _FINEST else times[0]


def write_png(path: str | os.PathLike, image: np.ndarray) -> Path:
    """Writes an (H,W,3) uint8 RGB picture, to a temporary name, then renamed."""
    context = av.CodecContext.create("png", "w")
    context.height, context.width = image.shape[:2]
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    path = Path(path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return path
