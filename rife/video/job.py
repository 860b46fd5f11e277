"""Makes video of video: decoding, interpolation and encoding at once, in constant memory.

Decoding runs some frames ahead in a thread of its own, encoding some frames behind in another; both queues are bounded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..engine.batches import Interpolator
from ..engine.chunks import part_frames
from ..engine.in_memory import with_mask
from ..engine.loops import ends_of, find_loop
from ..engine.seams import Seam, corrected_colours
from ..ops.transfer import transfer_of
from ..timeline.clock import Clock, Rate, exact_rate
from ..timeline.numbers import exact_number, shortened
from ..timeline.parts import Part, Timing, check_forward, found_in, part_of
from ..timeline.request import AtRate, PerPair, Request, request_of
from ..timeline.scenes import SceneFinder, Scenes
from .codecs import FLOAT, Encoding, VideoError
from .colours import kind_of
from .convert import to_rgb
from .deinterlace import FILM, OFF
from .holding import encoder_for
from .images import is_pattern, numbered, write_png
from .lost_chroma import ChromaLoss, LostChroma
from .masks import Masks, encoding_of_masks, look_of_masks, mask_pixels, masks_beside
from .reader import Clip, DamagedError, VideoInfo, probe, read_frames
from .sound_encode import LEFT_OUT
from .stream_copy import sound_said
from .threads import BackgroundConsumer, prefetch
from .writer import FINEST, VideoWriter, tick_of

__all__ = [
    "Clip", "DamagedError", "Encoding", "Job", "Summary", "VideoError", "VideoInfo", "VideoWriter",
    "interpolate_video", "probe", "read_frames", "render", "to_bytes", "write_png",
]  # fmt: skip

log = logging.getLogger(__name__)

LONGEST_VIDEO = 1_000_000_000  # frames
_PREFETCHED, _WAITING = 4, 6  # frames that wait decoded, and to be encoded
_CACHED = 100_000  # values that are converted at once


@dataclass(frozen=True)
class Summary:
    """Says what `interpolate_video` did."""

    frames_in: int
    frames_out: int
    rate: Fraction
    audio: bool
    sound: str = ""  # what became of it, such as "sound copied"; "" where there is none


class Job:
    """Holds a clip and what is asked of it: the plan, and when each new picture is shown.

    keep_fps: slow motion, the rate stays and the pictures last longer. enlarged: how many times as large pictures are
    written, see `render`'s enlarge. masks: of its frames, which move with them. Raises ValueError.
    """

    def __init__(
        self,
        clip: Clip,
        timing: Timing,
        encoding: Encoding | None = None,
        keep_fps: bool = False,
        drift: Seam | None = None,
        enlarged: int = 1,
        masks: Masks | None = None,
    ):
        self.enlarged, self.masks = enlarged, masks
        self.drift = drift if drift and drift.gain else None
        if clip.deinterlace == FILM and timing.at_repeats == "hold":
            # Its frames are those of the film again, one in five twice.
            timing = replace(timing, at_repeats="auto")
        self.clip, self.timing, self.encoding = clip, timing, encoding or Encoding()
        self.plan = timing.plan(clip.clock)
        check_forward(self.plan)
        if len(self.plan) > LONGEST_VIDEO:
            raise ValueError(
                f"the video would have {len(self.plan):,} frames, expected {LONGEST_VIDEO:,} at most: 190 days at 60 "
                "per second. Ask for a lower rate, a smaller multiplier or less slow motion."
            )
        request = timing.request
        per_pair = request if isinstance(request, PerPair) else None
        if keep_fps and per_pair is None:
            raise ValueError("a rate is asked for and also that it stays. Choose one.")
        self._stretch = per_pair.frames_per_pair if keep_fps and per_pair else 1
        self.rate = self.plan.rate / self._stretch
        clock = self.plan.clock
        held = clock.rate is not None and clock.end is not None
        # Whether frames come at any time; else they are multiples of 1 / rate.
        self._at_any_time = per_pair is not None and (clip.rate is None or held)
        self.same_time = self._stretch == 1 and request.speed == 1
        # When a last frame that is held for longer than the others is over, seconds after the first is shown.
        self._held_until = None
        if request.speed and _is_held(clock):
            self._held_until = clock.duration * self._stretch / request.speed
        self.tick = 1 / self.rate
        if per_pair and self._at_any_time and clip.rate is None:
            self.tick = clip.time_base / per_pair.denominator
            if self.tick.denominator > FINEST:  # which no container bears: a microsecond is near enough
                self.tick = Fraction(1, 1_000_000)
        if self.same_time:
            self.tick = tick_of(self.tick, clip.start)

    def look_through(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Finds what the clip holds, where what is shown depends on frames far ahead, and nobody has looked yet.

        All frames are decoded for it. on_progress gets the number of frames looked at.
        """
        if not self.timing.wants_whole:
            return
        found = found_in(self.scenes(on_progress=on_progress), len(self.clip), self.timing.cut_frames)
        self.timing = replace(self.timing, found=found)
        self.plan = self.timing.plan(self.clip.clock)

    def scenes(self, frames: int | None = None, on_progress: Callable[[int], None] | None = None) -> Scenes:
        """Finds the cuts and repeats of the clip, or of its first frames; up to a frame that is damaged."""
        finder = SceneFinder(keep_evidence=False)
        try:
            for count, frame in enumerate(prefetch(self.clip.frames(0, frames), _PREFETCHED), 1):
                finder.push(to_tensor(frame))
                if on_progress:
                    on_progress(count)
        except DamagedError:
            pass  # what is made of the frames before it tells
        finder.finish()
        return finder.scenes

    def sound_said(self, target: Path) -> str:
        """Says what would become of the sound in a file of that name, as a writer says it; "" where there is none."""
        if self.clip.audio and not (self.same_time and self.encoding.audio):
            return LEFT_OUT
        return sound_said(self.clip, target)

    def time(self, k: int) -> Fraction:
        """Returns when output frame k is shown, in seconds after the first; k may be the number of frames."""
        if k == len(self.plan):
            return self._end()
        if not self._at_any_time:
            return k / self.rate
        return self.plan.due(k) * self._stretch

    def _end(self) -> Fraction:
        k = len(self.plan) - 1
        if self._at_any_time and (self.timing.loop or self.timing.keep_duration):
            usual = self.plan.clock.duration * self._stretch
        elif self._at_any_time and k > 0 and self.clip.rate is None:
            usual = 2 * self.time(k) - self.time(k - 1)
        else:
            usual = self.time(k) + 1 / self.rate
        return max(usual, self._held_until or usual)

    def part(self, after: int = 0, until: int | None = None) -> Part:
        """Returns the part of the outputs between two source frames, see `rife.timeline.parts.part_of`."""
        until = len(self.clip) if until is None else until
        return part_of(self.plan, after, until, self.timing.margin(self.plan))

    def codec_for(self, target: Path) -> str:
        """Returns the name of the encoder for a file of that name. Raises VideoError where it cannot hold what is asked
        for."""
        return encoder_for(target, self.encoding, self.clip.look, warn=False)[0].name

    def codec_for_masks(self, target: Path) -> str:
        """Returns the name of the encoder for a file of masks, likewise."""
        look = look_of_masks(self.clip)
        return encoder_for(target, encoding_of_masks(target, look.bits), look, warn=False)[0].name

    def writer(self, path: Path, copy: bool = True, codec: str | None = None) -> VideoWriter:
        """Makes a file for its pictures; `copy`: also for all else that the clip's file holds; `codec`: instead of the
        one that suits the ending."""
        copy = copy and self.same_time
        encoding = self.encoding if codec is None else replace(self.encoding, codec=codec)
        return VideoWriter(
            path, self.rate, self.clip.width * self.enlarged, self.clip.height * self.enlarged,
            encoding=encoding, clip=self.clip, tick=self.tick, copy=copy,
        )  # fmt: skip

    def mask_writer(
        self, path: str | os.PathLike | None, codec: str | None = None
    ) -> AbstractContextManager[VideoWriter | None]:
        """Makes a file for its masks, without loss where its ending has that; none where there are no masks."""
        if path is None or self.masks is None:
            return nullcontext()
        path, look = Path(path), look_of_masks(self.clip)
        encoding = encoding_of_masks(path, look.bits)
        if codec is not None and codec != encoding.codec:
            encoding = Encoding(codec, audio=False)
        return VideoWriter(
            path, self.rate, self.clip.width, self.clip.height,
            encoding=encoding, look=look, tick=self.tick, copy=False,
        )  # fmt: skip


def as_loop(clip: Clip, twin: bool = True, drift: bool = False) -> tuple[Clip, Seam]:
    """Returns a clip without the frames at its end that are its first ones again, and what was found; for `Job`'s
    drift.

    See `rife.engine.loops.as_loop`; looks at some frames of each end.
    """
    if len(clip) < 3:
        return clip, Seam("meet")
    ends = ends_of(len(clip))
    first, last = clip.frames(0, ends), clip.frames(len(clip) - ends)
    seam = find_loop(list(map(to_tensor, first)), list(map(to_tensor, last)), drift)
    if not twin or not seam.overlap:
        return clip, replace(seam, overlap=0)
    return clip.shortened(len(clip) - seam.overlap), seam


def _is_held(clock: Clock) -> bool:
    """Whether the last frame is shown for much longer than the one before it."""
    if clock.end is None:
        return False
    n = clock.count or 0
    before = clock.at(n - 1) - clock.at(n - 2) if n > 1 else clock.end
    return clock.at(n) - clock.at(n - 1) > Fraction(3, 2) * before


def render(
    model: Interpolator,
    job: Job,
    part: Part,
    writer: VideoWriter,
    on_progress: Callable[[int, Tensor], None] | None = None,
    enlarge: Callable[[Tensor], Tensor] | None = None,
    mask_writer: VideoWriter | None = None,
    **options: Any,
) -> int:
    """Computes a part of a job into an open writer; returns the number of source frames that were there.

    on_progress gets the number of frames done and the newest (H,W,C). enlarge: makes of each frame the one that is
    written, `job.enlarged` times as large. mask_writer: takes the masks of a job that has some. options: finder of
    `rife.engine.chunks.part_frames`, scale, TTA, ensemble, batch_size ... of `rife.engine.interpolate_stream`. Raises
    DamagedError, VideoError.
    """
    job.look_through()
    bits, zero = writer.look.bits, job.time(part.first)
    source = _SourceFrames(job, part)
    options["premultiplied"] = job.clip.look.premultiplied
    if job.masks:
        options["opacity"] = job.clip.look.alpha

    def write(item: tuple) -> None:
        picture, mask, time, lasts, lost = item
        writer.write(picture, time, lasts, lost)
        if mask_writer is not None and mask is not None:
            mask_writer.write(mask, time, lasts)

    frames = part_frames(
        model, prefetch(source.images(), _PREFETCHED), job.timing, job.clip.clock_of, len(job.clip), part,
        transfer=transfer_of(job.clip.look.transfer), **options,
    )  # fmt: skip
    with BackgroundConsumer(write, _WAITING, finish_on=DamagedError) as encoder:
        shown = picture = None
        for k, frame in enumerate(frames, part.first):
            image, mask = _apart(frame, job.masks is not None, bits)
            if enlarge is None:
                picture = source.planes(frame) or to_pixels(image, bits)
            elif frame is not shown:  # a held one is enlarged once
                shown, picture = frame, to_pixels(enlarge(image), bits)
            lasts = job.time(k + 1) - job.time(k) if k + 1 == len(job.plan) else None
            encoder.put((picture, mask, job.time(k) - zero, lasts, source.lost_before(job.plan.position(k))))
            if on_progress:
                on_progress(k - part.first + 1, image)
    return source.read


def _apart(frame: Tensor, masked: bool, bits: int) -> tuple[Tensor, np.ndarray | None]:
    """A frame (H,W,C) and, as the picture that is written, the mask behind its channels."""
    if not masked:
        return frame, None
    return frame[..., :-1], mask_pixels(to_pixels(frame[..., -1:], 8 if bits == 8 else 16))


class _SourceFrames:
    """Opens the source frames that a part needs, with their masks. read: how many there were.

    Given frames come out of the engine as the tensors that went in: their planes then go to the encoder untouched.
    """

    def __init__(self, job: Job, part: Part):
        self.read = 0
        self._job, self._part, self._kind = job, part, kind_of(job.clip.look)
        self._given: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._loss = ChromaLoss(job.clip.look, self._kind)
        self._lost: dict[int, LostChroma] = {}  # of given frames

    def images(self) -> Iterator[Tensor]:
        """Yields (H,W,C), masks behind the other channels."""
        clip, part = self._job.clip, self._part
        if part.keeps_first:
            yield self._opened(next(clip.decoded(0, 1)), 0, self._masks(0, 1))
        masks = self._masks(part.start, part.stop)
        for i, frame in enumerate(clip.decoded(part.start, part.stop), part.start):
            self.read += 1
            yield self._opened(frame, i, masks)

    def _masks(self, start: int, stop: int) -> Iterator[Tensor] | None:
        return self._job.masks.frames(start, stop) if self._job.masks else None

    def _opened(self, frame: av.VideoFrame, i: int, masks: Iterator[Tensor] | None) -> Tensor:
        job = self._job
        pixels = to_rgb(frame, job.clip.look, self._kind)
        image = to_tensor(pixels)
        drift = job.drift if i else None
        if drift is not None:
            gain, offset = torch.tensor(drift.gain), torch.tensor(drift.offset)
            image = corrected_colours(image, gain, offset, i / len(job.clip))
        image = with_mask(image, next(masks) if masks else None)
        if drift is not None:
            return image
        self._given[image] = frame
        if (missing := self._loss.of(frame, pixels)) is not None:
            self._lost[i] = missing
        return image

    def planes(self, frame: Tensor) -> av.VideoFrame | None:
        """Returns the decoded frame that `frame` is; None where it was made."""
        return self._given.get(frame)

    def lost_before(self, index: int) -> LostChroma | None:
        """Returns what RGB has taken from source frame `index`; lets go of those before it."""
        for i in [i for i in self._lost if i < index]:
            del self._lost[i]
        return self._lost.get(index)


def interpolate_video(
    model: Interpolator,
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
    crf: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    slow: Rate | None = None,
    encoding: Encoding | None = None,
    steady: bool = False,
    shutter: float = 0.0,
    keep: Tensor | str | None = None,
    deinterlace: str = OFF,
    longest_gap: Rate | None = None,
    loop_twin: str = "keep",
    loop_drift: str = OFF,
    masks: str | os.PathLike | None = None,
    masks_to: str | os.PathLike | None = None,
) -> Summary:
    """Makes a video of (N-1)*multiplier+1 frames, or of as many as `rate` needs, of a video of N, in constant memory.

    rate: frames per second of the result, instead of multiplier. loop, keep_duration: see `rife.timeline.plan`.
    cuts: what frames between two scenes show, "hold", "nearest", "blend" or "off"; repeats: what those between
    repeated frames do, "hold", "retime", "auto" or "off". deinterlace: see `rife.video.Clip`.
    longest_gap: see `rife.timeline.parts.Timing`.
    keep_fps: slow motion, multiplier times as long; else the rate is multiplied and the sound copied. slow: so many
    times as long, at `rate` or the clip's. encoding: codec, quality ...; crf: the quality alone. on_progress
    gets the number of frames computed. steady: all frames made ones, equally sharp. shutter: degrees of motion blur, 0
    to 360. keep: a mask (H,W) of what stays as in the nearer given frame, or "auto". loop_twin: with loop, "drop"
    leaves out a last frame that is the first again; loop_drift: "auto" spreads a change of colours from begin to end
    over the clip. masks: a picture, or a video or pictures with one for each frame, which move with the frames;
    masks_to: the file they are written to. Raises ValueError,
    FileNotFoundError, VideoError; nothing stands under `target` before all is written. Where a frame is damaged, what
    was before it stands under NAME.partial.EXT.
    """
    source, target = Path(source), Path(target)
    gap = None if longest_gap is None else Fraction(longest_gap)
    timing = Timing(
        video_request(multiplier, rate, slow), loop, keep_duration, cuts, repeats,
        steady=steady, shutter=shutter, longest_gap=gap,
    )  # fmt: skip
    clip, back = Clip(source, deinterlace=deinterlace), None
    moving = masks_beside(masks, masks_to, clip)
    if loop:
        clip, back = as_loop(clip, loop_twin == "drop", loop_drift == "auto")
    job = Job(clip, timing, encoding or Encoding(crf=crf), keep_fps, back, masks=moving)
    refuse_same(clip, target, moving, masks_to)
    if job.clip.audio and not job.same_time:
        log.warning("slow motion: the sound of %s is left out, it would not fit.", source)
    with job.writer(target) as writer, job.mask_writer(masks_to) as mask_writer:
        read = render(
            model, job, job.part(), writer, scale=scale, TTA=TTA, ensemble=ensemble, batch_size=batch_size, keep=keep,
            on_progress=on_progress and (lambda count, _: on_progress(count)), mask_writer=mask_writer,
        )  # fmt: skip
    return Summary(read, writer.count, job.rate, writer.sound, writer.sound_said)


def video_request(multiplier: int | None, rate: Rate | None, slow: Rate | None) -> Request:
    """Returns the request for a multiplier (None: 2) or a rate, stretched to `slow` times the length. Raises
    ValueError."""
    if slow is None:
        return request_of(multiplier if rate is None else None, rate=rate)
    try:
        stretch = exact_number(slow)
    except ValueError as error:
        raise ValueError(f"slow: {error}. 4 makes it last four times as long.") from error
    if stretch <= 0:
        raise ValueError(
            f"slow is {shortened(slow)}, expected more than 0: 4 makes it last four times as long."
        )
    return AtRate(None if rate is None else exact_rate(rate), 1 / stretch)


def refuse_same(
    clip: Clip, target: Path, masks: Masks | None = None, masks_to: str | os.PathLike | None = None
) -> None:
    """Raises VideoError where an output would overwrite an input, or the other output."""
    outputs = [target] if masks_to is None else [target, Path(masks_to)]
    if len({os.path.abspath(output) for output in outputs}) < len(outputs):
        raise VideoError(
            f"{target} is named for the pictures and for the masks. Name another output for one of them."
        )
    inputs = [*clip.files, *(masks.files if masks else ())]
    here = {(s.st_dev, s.st_ino) for s in map(os.stat, inputs)}
    for output in outputs:
        files = numbered(output).values() if is_pattern(output) else [output]
        if here & {(s.st_dev, s.st_ino) for s in map(os.stat, filter(Path.exists, files))}:
            raise VideoError(
                f"{output} is both input and output; the input would be lost. Name another output."
            )


def to_tensor(frame: np.ndarray) -> Tensor:
    """Returns (H,W,C) uint8 and floats as they are, which the engine takes; uint16 becomes floats in 0..1."""
    if frame.dtype != np.uint16:
        return torch.from_numpy(frame)
    return torch.from_numpy(frame.astype(np.float32)).div_(65535)


def to_pixels(frame: Tensor, bits: int) -> np.ndarray:
    """Returns (H,W,C) in 0..1 as uint8, or uint16 for more than 8 bits, rounded; floats as they are where bits is
    `FLOAT`."""
    if bits == FLOAT:
        return frame.float().cpu().numpy()
    if bits == 8:
        return to_bytes(frame)
    return _rounded(frame.float().cpu(), np.uint16)


def to_bytes(frame: Tensor) -> np.ndarray:
    """Returns (H,W,3) in 0..1 as uint8, rounded: what came from bytes gives the same bytes back. uint8 stays as
    it is."""
    if not frame.is_floating_point():
        return frame.cpu().numpy()
    if frame.device.type != "cpu" or frame.dtype != torch.float32:
        return frame.clamp(0, 1).mul_(255).round_().byte().cpu().numpy()
    return _rounded(frame, np.uint8)


def _rounded(frame: Tensor, kind: type) -> np.ndarray:
    """Float32 (H,W,C) in 0..1 as integers of all the range of `kind`: a few rows at a time, which stay in the
    processor's cache and so take half as long."""
    top = np.iinfo(kind).max
    pixels: np.ndarray = np.empty(frame.shape, kind)
    rows = max(1, _CACHED // max(1, frame[:1].numel()))
    with np.errstate(invalid="ignore"):  # NaN, which no integer holds
        for first in range(0, len(pixels), rows):
            values = frame[first : first + rows].clamp(0, 1).numpy()
            values *= top
            np.rint(values, out=pixels[first : first + rows], casting="unsafe")
    return pixels
