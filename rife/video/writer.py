"""Writes video files: pictures encoded, everything else of the source copied, packet by packet.

A file gets its name only when it is complete. Times are exact Fractions of seconds after the first picture's.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import gcd
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ..atomic_write import flush_and_rename, refuse_device
from .alpha import divided, multiplied, spread_colours
from .codecs import IN_PLANES, Encoder, Encoding, VideoError
from .colours import BT709, FIXED_COLOURS, FULL, Look, kind_of, turns_of
from .convert import FromRgb, chroma_site, ready_frames, to_rgb
from .holding import container_of, encoder_for, holds_sound
from .images import PICTURE_ENDINGS, is_pattern
from .last_delay import set_length
from .lost_chroma import LostChroma, put_back
from .pixel_aspect import keep_pixel_aspect
from .reader import Clip, DamagedError
from .sound_encode import LEFT_OUT, AudioEncoder, Sound, no_sound
from .spherical import keep_spherical
from .stream_copy import OF_THE_FILE, StreamCopier
from .temporary import discard, make_temporary, name_together

log = logging.getLogger(__name__)

FINEST = 10_000_000  # ticks per second; more than containers and encoders bear
MP4 = (".mp4", ".m4v", ".mov")
_MP4_TAGS = {"title", "artist", "album", "album_artist", "author", "comment", "composer", "copyright", "creation_time",
             "date", "description", "episode_id", "genre", "language", "location", "lyrics", "network", "show",
             "synopsis", "track", "year"}  # fmt: skip
# FFmpeg's name of arrays of so many channels, of that type.
_KINDS = {(3, "uint8"): "rgb24", (4, "uint8"): "rgba", (3, "uint16"): "rgb48le", (4, "uint16"): "rgba64le",
          (3, "float32"): "gbrpf32le", (4, "float32"): "gbrapf32le"}  # fmt: skip


_GIF_TICK = Fraction(1, 100)  # what it counts in, seconds
# How many frames a second browsers show of animations, as these count: what lasts 10 ms or less, for 100 ms.
_FASTEST = {".gif": 50, ".webp": 90, ".apng": 90}


class AtomicVideoFile:
    """Is a file in the making, under a temporary name beside `path`, with all but the pictures of `clip` copied into
    it.

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
        self._opened: OutputContainer | None = None
        self._copies: Sound | None = None

    @property
    def _container(self) -> OutputContainer:
        assert self._opened is not None
        return self._opened

    def __enter__(self) -> Any:
        folder = self.path.parent
        if not folder.is_dir():
            raise VideoError(f"There is no folder {folder} to write {self.path.name} into. Create it first.")
        if self.path.suffix.lower() in set(PICTURE_ENDINGS) - {".webp"} and not self._pattern:
            raise VideoError(
                f"{self.path} names one picture, there are many. Write {self.path.stem}_%05d{self.path.suffix}."
            )
        try:
            refuse_device(self.path)
        except OSError as error:
            raise VideoError(f"{self.path} {error.strerror}. Choose another output.") from error
        try:
            self._temporary = make_temporary(folder) / self.path.name
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
        elif self.path.suffix.lower() in (".gif", ".webp", ".apng") and not self._pattern:
            options["plays" if self.path.suffix.lower() == ".apng" else "loop"] = "0"
        self._opened = av.open(str(self._temporary), "w", format=container_of(self.path), options=options)
        self._container.metadata.update(metadata)
        self._add_pictures()
        if holds_sound(self.path):
            self._add_sound()

    def _add_sound(self) -> None:
        """And all else that is no picture."""
        if self._clip is not None and self._copy and not self._clip.sequence:
            self._copies = StreamCopier(self._clip, self._container, self.path)

    @property
    def sound(self) -> bool:
        """Tells whether there is sound in it."""
        return self._copies is not None and self._copies.has_sound

    @property
    def sound_said(self) -> str:
        """Says what became of the sound; "" where there is none."""
        if self._copies is not None:
            return self._copies.said
        return self._no_sound()

    def _no_sound(self) -> str:
        if self._clip is None or not self._clip.audio:
            return ""
        return no_sound(self.path) if self._copy else LEFT_OUT

    def _metadata(self) -> dict[str, str]:
        if self._clip is None:
            return {}
        return {k: v for k, v in self._clip.metadata.items() if k.lower() not in OF_THE_FILE}

    def _add_pictures(self) -> None:
        raise NotImplementedError

    def _mux(self, packets: Packet | Iterable[Packet], until: Fraction) -> None:
        """Packets of pictures, after all that is to be seen or heard until then."""
        if self._copies:
            self._copies.copy(until)
        self._container.mux(packets)  # type: ignore[arg-type]

    def _finish(self) -> None:
        """Writes what an encoder still holds."""

    def _closed(self) -> None:
        """Mends the finished file before it gets its name."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        damaged = isinstance(error, DamagedError) and self.count > 0
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
                self._closed()
                self._name(path)
        except BaseException:
            self._discard()
            raise
        self._discard()
        if damaged:
            raise DamagedError(f"{error} The {self.count} frames before it are in {path}.") from error

    def _end(self) -> Fraction:
        return Fraction(0)

    def _name(self, path: Path) -> None:
        if self._pattern:
            name_together(self._temporary.parent, path.parent)
        else:
            flush_and_rename(self._temporary, path)

    def _discard(self) -> None:
        for open_file in (self._opened, self._copies):
            try:
                if open_file is not None:
                    open_file.close()
            except (ValueError, OSError, av.error.FFmpegError):
                log.debug("closing an unfinished file failed", exc_info=True)
        discard(self._temporary.parent)

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
    sound: (C,S) float samples and their rate, encoded as what the file holds; or what adds a stream to the container
    and fills it, as `JoinedSound.into`. tick: what all times are multiples of, default by rate
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
        self._like = clip.first if clip and look is None else None
        self._tick = tick or tick_of(1 / self.rate, start)
        self._palette: _Palette | None = None
        self._converters: dict[str, FromRgb] = {}
        self._sound = sound
        self._last = Fraction(0)
        self._lasts: Fraction | None = None
        self._first: Fraction = Fraction(0)  # when the first picture is shown, and when its packet is decoded
        self._first_decoded: Fraction | None = None

    def _add_sound(self) -> None:
        super()._add_sound()
        if self._copies is None and self._sound is not None:
            target = self._container, self.path
            sound = self._sound
            self._copies = sound(*target) if callable(sound) else AudioEncoder(*target, *sound)

    def _no_sound(self) -> str:
        return no_sound(self.path) if self._sound is not None else super()._no_sound()

    def _add_pictures(self) -> None:
        look = self.look
        encoder, pix_fmt = encoder_for(self.path, self.encoding, look)
        settings = self.encoding.settings(encoder, look.hdr)
        self._premultiplies = encoder.codec == "exr"
        site = chroma_site(self._like)
        if site and not av.VideoFormat(pix_fmt, 16, 16).is_rgb:
            settings["chroma_sample_location"] = site
        stream = self._container.add_stream(encoder.name, rate=self.rate, options=settings)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        if look.hdr and not look.hdr.settings(encoder.name):
            log.warning("%s is not told of HDR10's mastering display. h265 and av1 are.", encoder.name)
        self._shape(av.VideoFormat(pix_fmt, 16, 16), encoder)
        self._warn_of_browsers()
        context = stream.codec_context
        if pix_fmt == "pal8":
            self._tick = _GIF_TICK
            if self.rate > 1 / _GIF_TICK:
                raise VideoError(
                    f"A GIF holds 100 frames a second at most, this one would have {float(self.rate):.6g}. Write "
                    "to .webp or .mp4, or ask for a lower rate."
                )
            self._palette = _Palette(*self.size, look.alpha, self._tick)
        context.time_base = self._tick
        if look.pixel_aspect != 1:
            context.sample_aspect_ratio = look.pixel_aspect
        if encoder.codec == "h265" and self.path.suffix.lower() in MP4:
            context.codec_tag = "hvc1"  # the one that Apple plays
        self._yuv = None if self._is_rgb else self._tag(pix_fmt)

    def _warn_of_browsers(self) -> None:
        ending = self.path.suffix.lower()
        fastest = _FASTEST.get(ending)
        if fastest and not self._pattern and self.rate > fastest:
            log.warning(
                "Browsers show a %s at %d fps at most, this one of %g as if it had 10. %s has no such limit.",
                ending[1:].upper(), fastest, self.rate, "MP4" if fastest == 90 else "WebP has 90, MP4",
            )  # fmt: skip

    def _shape(self, kind: av.VideoFormat, encoder: Encoder) -> None:
        """Width and height as the pixel format wants them."""
        self._is_rgb = kind.is_rgb or kind.name == "pal8"
        self._mixes_hidden = kind.name.startswith("yuva") and kind.chroma_width(16) < 16
        even = (16 // kind.chroma_width(16), 16 // kind.chroma_height(16))
        if self._is_rgb or encoder.lossless:  # which takes half a chroma pixel for one
            even = (1, 1)
        width, height = (side + -side % step for side, step in zip(self.size, even, strict=True))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = kind.name

    def _tag(self, pix_fmt: str) -> tuple[int, int]:
        """Writes the colours' tags; the matrix and range to convert with."""
        look, context = self.look, self._stream.codec_context
        matrix, range_ = look.of_planes(self.size[1]) if pix_fmt == look.pix_fmt else look.yuv(self.size[1])
        if pix_fmt.startswith("yuvj"):
            range_ = FULL
        tags = (BT709,) * 3 if look.rgb else (look.matrix, look.primaries, look.transfer)
        if context.name in FIXED_COLOURS:
            matrix, range_ = FIXED_COLOURS[context.name]
            tags = matrix, *tags[1:]
        # What was not said stays unsaid: players guess as we did.
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = range_
        return matrix, range_

    def write(
        self,
        frame: np.ndarray | av.VideoFrame,
        time: Fraction | None = None,
        lasts: Fraction | None = None,
        lost: LostChroma | None = None,
    ) -> None:
        """Appends one frame, shown at `time` seconds, by default as the rate says, for `lasts` seconds, by default 1 /
        rate.

        frame: (H,W,3 or 4) RGB(A) of the writer's size: uint8, uint16 over all its range, or float32; or a decoded
        frame of the clip, whose planes go to the encoder as they are where it takes their format. lost: what RGB has
        taken from the chroma of a frame that was made, see `rife.video.lost_chroma`. Raises ValueError.
        """
        self._last = self.count / self.rate if time is None else time
        self._lasts = lasts
        shown = self._start + self._last
        picture = self._picture(frame, lost)
        picture.pts, picture.time_base = round(shown / self._tick), self._tick
        picture.pict_type = 0  # what it, or what it was made like, was in its file is no order for this one
        picture.duration = max(1, round((lasts or 1 / self.rate) / self._tick))
        with self._explained():
            for ready in self._palette.through(picture) if self._palette else (picture,):
                self._mux(self._encoded(ready), shown)
        self.count += 1

    def _picture(self, frame: np.ndarray | av.VideoFrame, lost: LostChroma | None) -> av.VideoFrame:
        if isinstance(frame, av.VideoFrame):
            given = self._as_it_is(frame)
            if given is not None:
                return given
            frame = to_rgb(frame, self.look, kind_of(self.look))
        width, height = self.size
        kind = _KINDS.get((frame.shape[-1], frame.dtype.name))
        if frame.shape[:2] != (height, width) or frame.ndim != 3 or kind is None:
            raise ValueError(
                f"the frame is {frame.shape} {frame.dtype}, expected {(height, width, 3)} uint8: the size must not "
                "change within a video."
            )
        pix_fmt = self._stream.pix_fmt or ""
        if self.look.premultiplied and not self._premultiplies:
            frame = divided(frame)
        frame, kind = _fitting(frame, pix_fmt)
        if self._premultiplies and not self.look.premultiplied:
            frame = multiplied(frame)
        if self._palette:
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)
        if kind not in self._converters:
            size = self._stream.width, self._stream.height
            self._converters[kind] = FromRgb(kind, pix_fmt, size, self._yuv, self._like)
        if self._mixes_hidden and frame.shape[-1] == 4:
            frame = spread_colours(frame)
        picture = self._converters[kind](frame)
        if lost is not None:
            put_back(lost, frame, picture)
        return picture

    def _as_it_is(self, frame: av.VideoFrame) -> av.VideoFrame | None:
        """A decoded frame that the encoder can take plane by plane: no conversion, no loss. None: it cannot."""
        pix_fmt = self._stream.pix_fmt or ""
        form = IN_PLANES.get(frame.format.name, frame.format.name)
        same = form.replace("yuvj", "yuv") == pix_fmt.replace("yuvj", "yuv")
        size = (frame.width, frame.height) == (self._stream.width, self._stream.height)
        if not (same and size) or turns_of(frame) or self._palette:
            return None
        if self._yuv is not None and self._yuv != self.look.of_planes(self.size[1]):
            return None  # the same numbers would be other colours
        if form != frame.format.name:
            return frame.reformat(format=pix_fmt)  # the same samples
        if frame.format.name != pix_fmt:  # JPEG's own name of full range, which the tags say too
            named = av.VideoFrame(frame.width, frame.height, pix_fmt)
            for plane, values in zip(named.planes, frame.planes, strict=True):
                rows = np.frombuffer(memoryview(values), np.uint8).reshape(values.height, -1)
                wide = np.zeros((plane.height, plane.line_size), np.uint8)
                wide[:, : plane.width] = rows[:, : plane.width]
                plane.update(wide.tobytes())
            return named
        return frame

    def _encoded(self, picture: av.VideoFrame | None) -> list[Packet]:
        """Packets that are ready. Filters and some encoders forget how long a frame lasts, which the last one needs."""
        packets: list[Packet] = list(self._stream.encode(picture))
        if packets and self._first_decoded is None and packets[0].dts is not None:
            self._first_decoded = packets[0].dts * Fraction(packets[0].time_base or self._tick)
            self._first = (packets[0].pts or 0) * Fraction(packets[0].time_base or self._tick)
        if self._lasts is None:
            return packets
        last = round((self._start + self._last) / self._tick)
        for packet in packets:
            if packet.pts is not None and packet.time_base:
                if round(packet.pts * packet.time_base / self._tick) == last:
                    packet.duration = max(1, round(self._lasts / packet.time_base))
        return packets

    def _finish(self) -> None:
        for picture in self._palette.through(None) if self._palette else ():
            self._container.mux(self._encoded(picture))
        packets = self._encoded(None)
        if packets and self._lasts is not None and self.path.suffix.lower() in MP4:
            whole = self._start + self._end() - self._first
            held = self._lasts > 1 / self.rate + self._tick
            last_for(packets[-1], whole, self._first_decoded, self._first if held else None)
        self._container.mux(packets)

    def _closed(self) -> None:
        if self._lasts is not None and not self._pattern:
            set_length(self._temporary, self._end())
        keep_spherical(self._temporary, self._like)
        keep_pixel_aspect(self._temporary, self.look.pixel_aspect, self._pattern)

    def _end(self) -> Fraction:
        return self._last + (self._lasts or 1 / self.rate) if self.count else Fraction(0)


def _fitting(frame: np.ndarray, pix_fmt: str) -> tuple[np.ndarray, str]:
    """A frame and its kind, floats where the pixel format holds floats, and only there."""
    floats = "f32" in pix_fmt or "f16" in pix_fmt
    if frame.dtype == np.float32 and not floats:
        frame = (frame.clip(0, 1) * 65535).round().astype(np.uint16)
    elif frame.dtype != np.float32 and floats:
        frame = frame.astype(np.float32) / np.iinfo(frame.dtype).max
    return frame, _KINDS[frame.shape[-1], frame.dtype.name]


class _Palette:
    """RGB pictures to pictures of 256 colours, each with the palette that suits it."""

    def __init__(self, width: int, height: int, alpha: bool, time_base: Fraction):
        self._format = "rgba" if alpha else "rgb24"
        graph = self._graph = av.filter.Graph()
        self._in = graph.add_buffer(
            width=width, height=height, format=av.VideoFormat(self._format), time_base=time_base
        )
        split = graph.add("split")
        palette = graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}")
        use = graph.add("paletteuse", "new=1")
        sink = graph.add("buffersink")
        self._in.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()

    def through(self, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Pushes one picture, or None at the end; the pictures that come out."""
        self._in.push(picture and picture.reformat(format=self._format))
        yield from ready_frames(self._graph)


def last_for(
    packet: Packet, whole: Fraction, first_decoded: Fraction | None, first_shown: Fraction | None
) -> None:
    """Gives the last packet in the order of decoding, which with B-frames is not the last one shown, what is left of
    `whole` seconds: MP4's length is that of all packets in that order.

    first_shown: when the first frame is shown, where the last one is held. Then copies of the packets last as long as
    the one that is shown to the latest time, which has to be this one, though the mean rate comes out lower by it.
    """
    base = Fraction(packet.time_base or 1)
    if packet.dts is not None and first_decoded is not None:
        left = whole + first_decoded - packet.dts * base
        if first_shown is not None and packet.pts is not None:
            left = max(left, whole + first_shown - packet.pts * base)
        packet.duration = max(packet.duration or 1, round(left / base))


def tick_of(*times: Fraction) -> Fraction:
    """Returns the longest time, in seconds, that all of these are multiples of; the first one alone where that would be
    too short."""
    tick = times[0]
    for time in times[1:]:
        a, b = tick * tick.denominator * time.denominator, time * tick.denominator * time.denominator
        if b:
            tick = Fraction(gcd(int(a), int(b)), tick.denominator * time.denominator)
    return tick if tick.denominator <= FINEST else times[0]
