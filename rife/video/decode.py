"""Decodes the frames of a file in the order in which they are shown, from any of them on, with its index's times."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator

import av
import av.error
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from .canvas import MAX_PIXELS
from .field_pictures import FieldPictures
from .index import FrameIndex
from .source import Source, main_stream, open_source, packets_of, unreadable

log = logging.getLogger(__name__)

# Decoders that mend what is damaged without a word, unless they are told not to. Some others take much for damage.
_CONCEALING = {"h264", "hevc", "ffv1", "prores"}


def decoded(
    source: Source, index: FrameIndex, target: int, conceal: bool = False, threads: str = "AUTO"
) -> Iterator[av.VideoFrame]:
    """Yields frames from the one shown at tick `target`, or from some before it, through seeking where it leads there.

    Their pts are ticks of `index`. What cannot be decoded is left out. threads: "SLICE" is slower for most files, but
    one frame that cannot be decoded takes no others along, as it does with FFmpeg's threads for frames.
    Raises VideoError.
    """
    keys = [pts for pts in index.keys[: bisect_right(index.keys, target)] if pts > index.keys[0]]
    # None: from the beginning, without seeking.
    starts = [*keys[-1:], *keys[-3:-2]] if index.seekable else []
    for pts in [*starts, None]:
        with open_source(source, index.edits) as container:
            stream = main_stream(container)
            stream.thread_type = threads
            decoder = _decoder(stream)
            decoder.options = {"max_pixels": str(MAX_PIXELS)}
            if decoder.name in _CONCEALING and not conceal:
                decoder.options |= {"err_detect": "explode"}
            if pts is not None and not _seek(container, stream, pts):
                continue
            frames = _decode(container, stream, decoder, index, from_key=pts is not None)
            first = next(frames, None)
            if pts is not None and (first is None or first.pts is None or first.pts > target):
                continue  # beyond it
            if first is not None:
                yield first
                yield from frames
                return
    if threads == "AUTO":
        yield from decoded(source, index, target, conceal, "SLICE")


def comes_out_of_order(source: Source, index: FrameIndex, look_at: int = 48) -> bool:
    """Tells whether the decoder gives a frame an earlier time than the one before: then packets carry times of
    decoding. look_at: frames that are decoded to see, at most. Raises VideoError."""
    last = None
    for count, frame in enumerate(decoded(source, index, index.ticks[0], conceal=True)):
        if count == look_at:
            return False
        if frame.pts is not None and last is not None and frame.pts < last:
            return True
        last = frame.pts
    return False


def reorder_delay(source: Source, index: FrameIndex, look_at: int = 48) -> int:
    """Counts the packets that the decoder takes in beyond those whose frames it has given: what times of decoding come
    before those of showing. look_at: frames that are decoded to see, at most. Raises VideoError."""
    with open_source(source, index.edits) as container:
        stream = main_stream(container)
        stream.thread_type = "SLICE"  # others hold frames back of themselves
        decoder, fields = stream.codec_context, FieldPictures(stream)
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        taken = given = most = 0
        for packet in packets_of(container, stream, index.until):
            second = fields.is_second(packet)
            if not packet.size or (taken == look_at and not second):
                break
            taken += not second
            try:
                given += len(decoder.decode(packet))
            except av.error.FFmpegError:
                pass
            most = max(most, taken - given)
        try:
            given += len(decoder.decode(None))
        except av.error.FFmpegError:
            pass
        return max(0, most - (taken - given))  # without those that never come, as at a begin that was cut off


def _seek(container: InputContainer, stream: VideoStream, pts: int) -> bool:
    try:
        container.seek(pts, stream=stream)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream; FFmpeg's own for VP8 and VP9 leave alpha out."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        decoder = av.CodecContext.create(name, "r")
    except (av.error.FFmpegError, ValueError):
        log.warning("This build of FFmpeg has no %s: alpha is left out.", name)
        return stream.codec_context
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    return decoder


def _decode(
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext,
    index: FrameIndex,
    from_key: bool,
) -> Iterator[av.VideoFrame]:
    """What can be decoded; what cannot is left out, and missed by who counts."""
    read = shown = 0
    try:
        for packet in packets_of(container, stream, index.until):
            if not packet.size and packet.pts is not None:
                continue  # Theora's "the same again", at which PyAV raises an error as at damage
            if from_key and not packet.is_keyframe and packet.size:
                continue
            from_key = False
            if index.retimed is not None and packet.size:
                packet.pts = index.retimed[min(read, len(index.retimed) - 1)]
            read += bool(packet.size)
            try:
                frames = decoder.decode(packet if packet.size else None)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                shown += (
                    shown > 0
                )  # one is missing; at the very begin those that need others that are not there
                continue
            for frame in frames:
                if index.order is not None:
                    if shown >= len(index.order):
                        return
                    frame.pts = index.order[shown]
                shown += 1
                yield frame
    except av.error.FFmpegError as error:
        if not index.breaks_off:
            raise unreadable(error.strerror or str(error)) from error
        log.debug("the file breaks off (%s)", error)
