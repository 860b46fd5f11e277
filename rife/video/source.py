"""Opens a video file, the stream of its pictures, and reads what the file says of itself."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from .canvas import check_canvas, check_size
from .codecs import VideoError
from .gif_delays import with_delays

Source = str | os.PathLike | io.BytesIO
_APNG = {"default_fps": "10"}  # of pictures with a delay of 0, as browsers; FFmpeg's own is 15


def open_source(source: Source, edits: bool = True) -> InputContainer:
    """Opens a container with a video stream. edits: whether an MP4's edit list counts.

    Raises FileNotFoundError, VideoError.
    """
    name: str = "the video"
    file: Any
    if isinstance(source, io.BytesIO):
        file = io.BytesIO(source.getvalue())  # a position of its own; the bytes are shared
    else:
        path = Path(source)
        name = str(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no video file at {path}. Give the path of an existing file.")
        if not path.stat().st_size:
            raise VideoError(f"{path} is empty, it has 0 bytes. Give a file that a player shows.")
        check_canvas(path)
        file = with_delays(path) or name
    try:
        container = av.open(file, options=_APNG if edits else {"ignore_editlist": "1"})
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(
            f"{name} cannot be read as a video ({getattr(error, 'strerror', error)}). It is damaged or of another "
            "kind; give a file that a player shows."
        ) from error
    try:
        _check(container, name)
    except VideoError:
        container.close()
        raise
    return container


def unreadable(reason: str) -> VideoError:
    """Of a file that was read to its end before: no damage of its own, which is worked around."""
    return VideoError(
        f"the video could be read a moment ago and cannot now ({reason}): the disk, the network or "
        "the drive fails, or another program changes the file. Run it again, or copy the file elsewhere first."
    )


def _check(container: InputContainer, name: str) -> None:
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{name} has no video stream, only {kinds}. Give a file with pictures.")
    stream = main_stream(container)
    if stream.codec_context is None:
        raise VideoError(
            f"{name} holds pictures of a kind ({container.format.name}) that this build of FFmpeg has no decoder for. "
            "Convert it to a common one, such as H.264 in .mp4 or pictures in .png."
        )
    check_size(name, stream.codec_context.width, stream.codec_context.height)


def main_stream(container: InputContainer) -> VideoStream:
    """Returns the stream of the pictures: FFmpeg's best one, as the first may be a cover or the still of an animated
    AVIF."""
    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & type(s.disposition).attached_pic]
    best = container.streams.best("video")
    return best if best in moving else (moving or list(streams))[0]


def origin_of(container: InputContainer) -> Fraction:
    """Returns when the earliest stream of pictures or sound begins, in seconds; times before 0 are kept as they are."""
    begins = [
        s.start_time * Fraction(s.time_base or 1)
        for s in container.streams
        if s.type in ("video", "audio") and s.start_time is not None
    ]
    return max(Fraction(0), min(begins, default=Fraction(0)))


def stated_duration(container: InputContainer, stream: VideoStream, begin: Fraction) -> Fraction:
    """Returns the seconds that the pictures should last, 0 where nothing is said of them alone. begin: when the first
    is shown."""
    if stream.duration:
        return stream.duration * Fraction(stream.time_base or 0)
    # Durations of Matroska and FLV count from 0, also where the first frame comes later.
    late = begin if container.format.name.startswith(("matroska", "flv")) else Fraction(0)
    return max(Fraction(0), _stated(container, stream) - late)


def _stated(container: InputContainer, stream: VideoStream) -> Fraction:
    tag = next((v for k, v in stream.metadata.items() if k.upper() == "DURATION"), "")  # Matroska
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        alone = len(container.streams) == 1 and container.duration
        return Fraction(container.duration or 0, av.time_base) if alone else Fraction(0)


def packets_of(container: InputContainer, stream: VideoStream, until: int | None) -> Iterator[av.Packet]:
    """Yields packets up to byte `until` of the file, where another begins whose head FFmpeg takes for packets, and an
    empty one at the end. None: all."""
    for packet in container.demux(stream):
        if until is not None and packet.size and (packet.pos or 0) >= until:
            yield av.Packet()
            return
        yield packet


def stated_rates(stream: VideoStream) -> list[Fraction]:
    """Lists all frame rates that a stream names, the mean one first."""
    stated = (stream.average_rate, stream.base_rate, stream.guessed_rate)
    return list(dict.fromkeys(Fraction(rate) for rate in stated if rate))
