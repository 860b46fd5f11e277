"""Video files with PyAV: streaming decode, interpolation, encode. The only module that knows of codecs.

Frames are (H,W,3) RGB uint8 outside, rates are exact Fractions. Nothing holds more than a batch of frames.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import torch

from .engine import interpolate_stream
from .model import Model
from .scenes import SceneFinder
from .timeline import Clock, Plan, Rate, plan

log = logging.getLogger(__name__)


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file, the cause and the way out."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its first video stream."""

    width: int
    height: int
    rate: Fraction  # average frames per second
    frames: int | None  # as the container states; None where it does not
    has_audio: bool


@dataclass(frozen=True)
class Summary:
    """What `interpolate_video` did."""

    frames_in: int
    frames_out: int
    rate: Fraction
    audio: bool


def probe(path: str | os.PathLike) -> VideoInfo:
    """Size, rate and streams of a video file. Raises FileNotFoundError, VideoError."""
    with _open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise VideoError(
                f"{path} states no frame rate, one is needed to time the new frames. Remux it with one."
            )
        height, width = stream.height, stream.width
        return VideoInfo(width, height, Fraction(rate), stream.frames or None, bool(container.streams.audio))


def read_frames(path: str | os.PathLike, max_frames: int | None = None) -> Iterator[np.ndarray]:
    """Yields frames as (H,W,3) uint8 RGB, turned as the file asks to show them. Raises as `probe`."""
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for i, frame in enumerate(container.decode(stream)):
            if max_frames is not None and i >= max_frames:
                return
            image = frame.to_ndarray(format="rgb24")
            # The display matrix counts degrees counter-clockwise, as rot90 does.
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            yield np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _open(path: str | os.PathLike):
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no video file at {path}. Give the path of an existing file.")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path} cannot be read as a video ({error.strerror}). It is damaged or of another kind; "
            "give a file that a player shows."
        ) from error
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise VideoError(f"{path} has no video stream, only {kinds}. Give a file with pictures.")
    return container


class VideoWriter:
    """Writes H.264 (yuv420p, BT.709) to a temporary file beside `path`, renamed when the block ends well.

    with VideoWriter("out.mp4", Fraction(24), 720, 480, audio_from="in.mp4") as writer:
        writer.write(frame)            # (H,W,3) uint8 RGB

    H.264 wants even sides: an odd one gets its last row or column twice, so that no pixel is lost. The audio
    packets of `audio_from` are copied, not encoded again. Leaving the block by an exception removes the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rate: Fraction,
        width: int,
        height: int,
        audio_from: str | os.PathLike | None = None,
        crf: int = 18,
    ):
        self.path = Path(path)
        self.rate = Fraction(rate)
        self.size = width, height
        self.crf = crf
        self.audio_from = audio_from
        self.count = 0

    def __enter__(self) -> VideoWriter:
        if not self.path.parent.is_dir():
            raise VideoError(
                f"There is no folder {self.path.parent} to write {self.path.name} into. Create it first."
            )
        try:
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".rife-", suffix=self.path.suffix)
        except OSError as error:
            raise VideoError(
                f"{self.path.parent} cannot be written to ({error.strerror}). Choose another folder."
            ) from error
        os.close(handle)
        self._temporary = Path(name)
        self._source = None
        try:
            self._begin()
        except BaseException:
            self._discard()
            raise
        return self

    def _begin(self) -> None:
        width, height = (side + side % 2 for side in self.size)
        try:
            self._container = av.open(str(self._temporary), "w")
        except (ValueError, av.error.FFmpegError) as error:
            raise VideoError(
                f"{self.path.name} names no known container ({error}). Use .mp4, .mkv or .mov."
            ) from error
        self._stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": str(self.crf)})
        context = self._stream.codec_context
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context.time_base = 1 / self.rate
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1  # limited
        self._audio: list[tuple] = []
        if self.audio_from is not None:
            self._begin_audio()

    def _begin_audio(self) -> None:
        self._source = av.open(str(self.audio_from))
        for stream in self._source.streams.audio:
            try:
                self._audio.append((stream, self._container.add_stream_from_template(stream)))
            except (ValueError, av.error.FFmpegError) as error:
                raise VideoError(
                    f"{self.path.suffix} cannot hold the source's {stream.codec_context.name} sound ({error}). "
                    "Write to .mkv, which holds all."
                ) from error
        copies = dict(self._audio)
        self._packets = self._source.demux(*copies) if copies else iter(())
        self._copies = {source.index: copy for source, copy in copies.items()}
        self._waiting = None

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame (H,W,3) uint8 RGB of the writer's size."""
        width, height = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"the frame is {frame.shape} {frame.dtype}, expected {(height, width, 3)} uint8: the size must not "
                "change within a video."
            )
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self.count, 1 / self.rate
        self._copy_audio(until=self.count / self.rate)
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        self.count += 1

    def _copy_audio(self, until: Fraction | None) -> None:
        """Sound up to the picture's time, so that the muxer never has to hold one for the other."""
        if not self._audio:
            return
        while True:
            packet = self._waiting or next(self._packets, None)
            if packet is None:
                return
            if packet.dts is None:  # the demuxer's end mark
                self._waiting = None
                continue
            if until is not None and packet.dts * packet.time_base > until:
                self._waiting = packet
                return
            self._waiting = None
            packet.stream = self._copies[packet.stream.index]
            self._container.mux(packet)

    def __exit__(self, kind, value, trace) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._copy_audio(until=None)
            self._container.close()
            if self._source is not None:
                self._source.close()
            os.chmod(self._temporary, 0o644)  # mkstemp makes it private
            os.replace(self._temporary, self.path)
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        for container in (getattr(self, "_container", None), self._source):
            try:
                if container is not None:
                    container.close()
            except (ValueError, av.error.FFmpegError):
                log.debug("closing an unfinished file failed", exc_info=True)
        self._temporary.unlink(missing_ok=True)


def interpolate_video(
    model: Model,
    source: str | os.PathLike,
    target: str | os.PathLike,
    multiplier: int = 2,
    *,
    rate: Rate | None = None,
    loop: bool = False,
    keep_duration: bool = False,
    cuts: str = "hold",
    repeats: str = "hold",
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    keep_fps: bool = False,
    crf: int = 18,
    on_progress: Callable[[int], None] | None = None,
) -> Summary:
    """Video in, video with (N-1)*multiplier+1 frames out, or with as many as `rate` needs, in constant memory.

    rate: frames per second of the result, instead of multiplier. loop, keep_duration: see `rife.timeline.plan`.
    cuts: what frames between two scenes show, "hold", "nearest", "blend" or "off"; repeats: what those between
    repeated frames do, "hold", "retime" or "off".
    keep_fps: slow motion, multiplier times as long; else the rate is multiplied and the sound copied. on_progress
    gets the number of frames written. Raises ValueError, FileNotFoundError, VideoError; nothing stands under
    `target` before all is written.
    """
    source, target = Path(source), Path(target)
    info = probe(source)
    if target.exists() and target.resolve() == source.resolve():
        raise VideoError(f"{target} is both input and output; the input would be lost. Name another output.")
    if rate is not None and keep_fps:
        raise ValueError("a rate is asked for and also that it stays. Choose one.")
    finder = SceneFinder(model.run_device, keep_evidence=False) if (cuts, repeats) != ("off", "off") else None
    scenes = {"cuts": finder.cuts, "at_cuts": cuts} if cuts != "off" else {}
    scenes |= {"repeats": finder.repeats, "at_repeats": repeats} if repeats != "off" else {}
    request = {"multiplier": multiplier} if rate is None else {"rate": rate}

    def plan_for(count: int | None) -> Plan:
        return plan(Clock(count, info.rate), **request, loop=loop, keep_duration=keep_duration, **scenes)

    rate = info.rate if keep_fps else plan_for(None).rate
    sound = info.has_audio and not keep_fps
    if info.has_audio and keep_fps:
        log.warning("slow motion: the sound of %s is left out, it would not fit.", source)
    frames_in = 0

    def frames() -> Iterator[torch.Tensor]:
        nonlocal frames_in
        for frame in read_frames(source):
            frames_in += 1
            yield torch.from_numpy(frame).float() / 255

    stream = interpolate_stream(
        model, frames(), plan_for=plan_for, watcher=finder, scale=scale, TTA=TTA, ensemble=ensemble,
        batch_size=batch_size,
    )  # fmt: skip
    first = next(stream, None)
    if first is None:
        raise VideoError(f"{source} has no frames that can be decoded. It is empty or damaged.")
    height, width = first.shape[:2]
    with VideoWriter(target, rate, width, height, source if sound else None, crf) as writer:
        frame: torch.Tensor | None = first
        while frame is not None:
            writer.write(to_bytes(frame))
            if on_progress:
                on_progress(writer.count)
            frame = next(stream, None)
    return Summary(frames_in, writer.count, rate, sound)


def to_bytes(frame: torch.Tensor) -> np.ndarray:
    """(H,W,3) in 0..1 -> uint8, rounded: what came from bytes gives the same bytes back."""
    return (frame.clamp(0, 1) * 255).round().byte().cpu().numpy()


def write_png(path: str | os.PathLike, image: np.ndarray) -> Path:
    """Writes an (H,W,3) uint8 RGB picture, to a temporary name, then renamed."""
    context = av.CodecContext.create("png", "w")
    context.height, context.width = image.shape[:2]
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return path
