"""Writing video files: pictures encoded, everything else of the source copied, packet by packet.

A file gets its name only when it is complete. Times are exact Fractions of seconds after the first picture's.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import gcd
from pathlib import Path

import av
import av.error
import numpy as np

from ..atomic_write import flush_and_rename
from .codecs import Encoding, VideoError, choose
from .colours import BT709, FULL, Look
from .images import PICTURE_ENDINGS, is_pattern
from .reader import Clip, DamagedError
from .stream_copy import OF_THE_FILE, AudioEncoder, StreamCopier

log = logging.getLogger(__name__)

_FINEST = 10_000_000  # ticks per second; more than containers and encoders bear
MP4 = (".mp4", ".m4v", ".mov")
_MP4_TAGS = {"title", "artist", "album", "album_artist", "author", "comment", "composer", "copyright", "creation_time",
             "date", "description", "episode_id", "genre", "language", "location", "lyrics", "network", "show",
             "synopsis", "track", "year"}  # fmt: skip
_SHAPES = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}  # channels, bytes of each


class AtomicVideoFile:
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
        if self.path.suffix.lower() in set(PICTURE_ENDINGS) - {".webp"} and not self._pattern:
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
        if self.path.suffix.lower() in MP4:
            own = "" if metadata.keys() <= _MP4_TAGS else "+use_metadata_tags"
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
        if self._clip is not None and self._copy and not (only_pictures or self._clip.sequence):
            self._copies = StreamCopier(self._clip, self._container, self.path)

    @property
    def sound(self) -> bool:
        """Whether sound is copied into it."""
        return self._copies is not None and self._clip.audio

    def _metadata(self) -> dict[str, str]:
        if self._clip is None:
            return {}
        return {k: v for k, v in self._clip.metadata.items() if k.lower() not in OF_THE_FILE}

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
            flush_and_rename(file, path.parent / file.name if self._pattern else path)

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


class VideoWriter(AtomicVideoFile):
    """Encodes pictures to a temporary file beside `path`, renamed when the block ends well.

    with VideoWriter("out.mp4", Fraction(24), 720, 480, audio_from="in.mp4") as writer:
        writer.write(frame)            # (H,W,3) uint8 RGB

    Where a pixel format wants even sides, an odd one gets its last row or column twice, so that no pixel is lost.
    audio_from, clip: whose sound, subtitles, chapters and metadata are copied, not encoded again; clip also says what
    the pictures look like (colours, depth, alpha, shape of a pixel) and when the first is shown.
    A name such as out/%05d.png makes one file per picture; .gif and .webp are animated.
    sound: (C,S) float samples and their rate, encoded as AAC; or what adds a stream to the container and fills it, as
    `JoinedSound.into`. tick: what all times are multiples of, default by rate
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
        sound: tuple[np.ndarray, int] | Callable | None = None,
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
            sound = self._sound
            self._copies = (
                sound(self._container) if callable(sound) else AudioEncoder(self._container, *sound)
            )

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
        if encoder.codec == "h265" and self.path.suffix.lower() in MP4:
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


def tick_of(*times: Fraction) -> Fraction:
    """The longest time that all of these are multiples of; the first one alone where that would be too short."""
    tick = times[0]
    for time in times[1:]:
        a, b = tick * tick.denominator * time.denominator, time * tick.denominator * time.denominator
        if b:
            tick = Fraction(gcd(int(a), int(b)), tick.denominator * time.denominator)
    return tick if tick.denominator <= _FINEST else times[0]
