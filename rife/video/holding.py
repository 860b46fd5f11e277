"""Asks containers what they hold, by files that are begun in memory: who writes such a file knows best."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from .codecs import VideoError, is_pattern

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
