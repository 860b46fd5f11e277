"""Asks containers what they hold, by files that are begun in memory: who writes such a file knows best."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from .codecs import CODECS, ENCODERS, Encoder, Encoding, VideoError, choose, codec_here, is_pattern
from .colours import Look

log = logging.getLogger(__name__)

_TRIAL_SIZE = 176, 144  # which old codecs have too
# Names of FFmpeg's decoders of what a transport stream says the kind of.
_IN_TRANSPORT_STREAMS = (
    "mp1", "mp2", "mp3", "aac", "ac3", "eac3", "dca", "truehd", "opus", "libopus", "s302m", "pcm_bluray", "dvbsub",
    "dvb_", "pgssub", "hdmv_",
)  # fmt: skip
_SILENCE = 20160  # bytes of it: whole samples of any PCM of up to 8 channels
_PICTURES_ALONE = ("image2", "gif", "webp", "apng")


def container_of(path: Path) -> str:
    """Returns FFmpeg's name of the container that a file of that name is. Raises VideoError where there is none."""
    if is_pattern(path):
        return "image2"
    if path.suffix.lower() == ".m4v":
        return "mp4"  # FFmpeg's own choice, ipod, is the same without H.265
    file = io.BytesIO()
    file.name = f"x{path.suffix}"  # by which PyAV guesses
    try:
        with av.open(file, "w") as trial:
            return trial.format.name
    except (ValueError, av.error.FFmpegError) as error:
        raise VideoError(
            f"{path.name or path} names no known container ({error}). Use .mp4, .mkv, .mov or .webm."
        ) from error


def holds_sound(path: Path) -> bool:
    """Tells whether there is any place for sound in a file of that name."""
    return container_of(path) not in _PICTURES_ALONE


def encoder_for(path: Path, encoding: Encoding, look: Look, warn: bool = True) -> tuple[Encoder, str]:
    """Returns encoder and pixel format for pictures of that look, see `rife.video.codecs.choose`, which a file of that
    name holds, by trial. Raises VideoError where there is none."""
    encoder, pix_fmt = choose(path, encoding, look.bits, look.alpha, look.pix_fmt, warn)
    container = container_of(path)
    if is_pattern(path) or not (fault := _fault(container, encoder, pix_fmt)):
        return encoder, pix_fmt
    held = [
        codec
        for codec in CODECS
        if any(row.codec == codec and _is_soft(row) and not _fault(container, row) for row in ENCODERS)
    ]
    ways = [f"choose one of these codecs: {', '.join(held)}"] if held else []
    ways += ["write to .mkv"] if path.suffix.lower() != ".mkv" else []
    raise VideoError(f"{path.suffix} cannot hold {encoder.codec} ({fault}): {', or '.join(ways)}.")


def _fault(container: str, encoder: Encoder, pix_fmt: str = "") -> str:
    """Why a container does not hold what an encoder makes; "" where it does, or the encoder does not open here."""
    if encoder.hardware:  # which may be busy; the container does not care who encodes
        twins = [row for row in ENCODERS if row.codec == encoder.codec and _is_soft(row)]
        return _fault(container, twins[0]) if twins else ""
    return _trial(container, encoder.name, pix_fmt or encoder.formats[0][2], encoder.options)


def _is_soft(encoder: Encoder) -> bool:
    return not encoder.hardware and codec_here(encoder)


@lru_cache(maxsize=256)
def _trial(container: str, name: str, pix_fmt: str, options: tuple[tuple[str, str], ...]) -> str:
    """What becomes of some dark frames: muxers refuse at the head, at the first packet, or nothing at all, and then
    nobody can read it."""
    file = io.BytesIO()
    try:
        trial = av.open(file, "w", format=container)
        stream = trial.add_stream(name, rate=25, options=dict(options))
        assert isinstance(stream, VideoStream)
    except (ValueError, OSError, av.error.FFmpegError):
        return f"FFmpeg's {container} has no place for it"
    stream.width, stream.height, stream.pix_fmt = _TRIAL_SIZE[0], _TRIAL_SIZE[1], pix_fmt
    try:
        with _quiet():
            packets = [packet for frame in _dark(pix_fmt) for packet in stream.encode(frame)]
        packets += stream.encode(None)
    except (ValueError, OSError, av.error.FFmpegError) as error:
        log.debug("%s cannot be tried: %s", name, error)  # by size or options, of which the writer tells
        return ""
    try:
        trial.mux(packets)
        trial.close()
    except (ValueError, OSError, av.error.FFmpegError):
        return f"FFmpeg's {container} refuses it"
    if container in _PICTURES_ALONE:
        return ""  # of animated WebP with alpha Pillow is the reader, not FFmpeg
    return "" if _comes_back(file, stream.codec_context.codec.id) else "nobody could read it from there"


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block SVT-AV1 learns that it shall tell errors alone, not twenty lines about itself: it asks once in a
    process, when it is first opened, and FFmpeg has no option for it."""
    unsaid = "SVT_LOG" not in os.environ
    if unsaid:
        os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        if unsaid:
            os.environ.pop("SVT_LOG", None)


def _dark(pix_fmt: str) -> Iterator[av.VideoFrame]:
    for i in range(8):  # of fewer a program stream's kind is not found
        frame = av.VideoFrame(*_TRIAL_SIZE, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = i, Fraction(1, 25)
        yield frame


def _comes_back(file: io.BytesIO, codec: int) -> bool:
    file.seek(0)
    try:
        back = av.open(file, "r")
    except (ValueError, OSError, av.error.FFmpegError):
        return True  # written from begin to end, and of a kind that cannot be read from memory
    with back:
        for stream in back.streams.video:
            if stream.codec_context and stream.codec_context.codec.id == codec:
                try:
                    return next(back.decode(stream), None) is not None
                except (ValueError, OSError, av.error.FFmpegError):
                    return False
    return False


def begun(container: str) -> OutputContainer:
    """Returns a file of that kind in memory, to be closed."""
    return av.open(io.BytesIO(), "w", format=container)


def holds(container: str, stream: Stream) -> bool:
    """Tells whether the packets of such a stream can be copied into such a file."""
    if stream.type == "attachment" and container != "matroska":
        return False  # other muxers take it, and then refuse to write the file's head
    codec = stream.codec_context.name if stream.codec_context else ""
    if container == "mpegts" and stream.type != "attachment" and not codec.startswith(_IN_TRANSPORT_STREAMS):
        return False  # it is taken for data that nobody reads
    try:
        with begun(container) as trial:
            target = trial.add_stream_from_template(stream)
            trial.start_encoding()
            if codec.startswith("pcm_"):
                # MP4 refuses channels without names, but only once there is sound, at the end.
                silence = Packet(bytes(_SILENCE))
                silence.stream, silence.time_base = target, Fraction(1, 48000)
                silence.pts = silence.dts = 0
                trial.mux(silence)
    except (ValueError, OSError, av.error.FFmpegError):
        return False
    return True
