"""Makes videos that follow each other one file, as a stream: see `rife.engine.joining`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..engine.joining import Joining, check_sizes, join_stream
from ..engine.seams import Seam
from .codecs import Encoding
from .colours import kind_of
from .convert import chroma_site, to_rgb
from .holding import encoder_for
from .job import refuse_same, to_pixels, to_tensor
from .reader import Clip, DamagedError
from .sound_encode import LEFT_OUT
from .sound_mix import JoinedSound
from .threads import BackgroundConsumer, prefetch
from .writer import VideoWriter

_PREFETCHED, _WAITING = 4, 6  # frames that wait decoded, and to be encoded


@dataclass(frozen=True)
class JoinedVideo:
    """Says what `join_videos` did. seams: in front of each clip but the first; starts: each clip's first picture among
    those of the result."""

    frames: int
    rate: Fraction
    sound: bool
    sound_said: str  # what became of it; "" where there is none
    seams: list[Seam]
    starts: list[int]


def open_clips(
    sources: Sequence[str | os.PathLike], target: Path, encoding: Encoding | None = None
) -> list[Clip]:
    """Opens the clips of a join. Raises FileNotFoundError, VideoError, and ValueError where they do not fit together,
    or the target cannot hold them."""
    clips = [Clip(source) for source in sources]
    for clip in clips:
        refuse_same(clip, target)
    check_clips(clips)
    encoder_for(target, encoding or Encoding(), clips[0].look, warn=False)
    return clips


def check_clips(clips: Sequence[Clip]) -> None:
    """Raises ValueError unless all clips are of one size and rate."""
    check_sizes([(clip.height, clip.width, 4 if clip.look.alpha else 3) for clip in clips])
    rates = [clip.rate or clip.clock.moving_rate for clip in clips]
    for clip, rate in zip(clips, rates, strict=True):
        if rate != rates[0]:
            raise ValueError(
                f"{clip.name} has {float(rate):.3f} frames per second and {clips[0].name} {float(rates[0]):.3f}, "
                f"expected one rate. Bring it there first: rife interpolate --fps {rates[0]}."
            )


def join_videos(
    make: Callable[..., Tensor],
    clips: Sequence[Clip],
    target: Path,
    asked: Joining,
    encoding: Encoding | None = None,
    on_progress: Callable[[int, Tensor], None] | None = None,
) -> JoinedVideo:
    """Writes a join of clips that `check_clips` let through to `target`, in memory that does not grow with them.

    make: see `rife.engine.joining.join_stream`. Look, metadata and rate are the first clip's. Raises VideoError.
    """
    encoding = encoding or Encoding()
    first, rate = clips[0], clips[0].rate or clips[0].clock.moving_rate
    heard = any(clip.audio for clip in clips)
    sound = JoinedSound(list(clips)) if encoding.audio and heard else None
    seams: list[Seam] = []
    starts = [0]

    def found(seam: Seam) -> None:
        starts.append(starts[-1] + len(clips[len(seams)]) - seam.overlap + seam.bridge)
        seams.append(seam)
        if sound:
            sound.seam(starts[-1] / rate, seam.overlap / rate)

    given = _GivenFrames(first)
    writer = VideoWriter(
        target, rate, first.width, first.height, encoding=encoding, clip=first, copy=False, tick=1 / rate,
        sound=sound.into if sound else None,
    )  # fmt: skip
    with writer:
        bits = writer.look.bits
        stream = join_stream(make, map(given.of, clips), asked, found)
        with BackgroundConsumer(
            lambda item: writer.write(*item), _WAITING, finish_on=DamagedError
        ) as encoder:
            for k, frame in enumerate(stream):
                encoder.put((given.planes(frame) or to_pixels(frame, bits), k / rate))
                if on_progress:
                    on_progress(k + 1, frame)
        if sound:
            sound.ends(writer.count / rate)
    said = LEFT_OUT if heard and not sound else writer.sound_said
    return JoinedVideo(writer.count, rate, writer.sound, said, seams, starts)


class _GivenFrames:
    """Opens the clips' frames. Those that the join leaves alone come out of it as the tensors that went in: their
    planes then go to the encoder untouched, where they mean what those of the first clip do."""

    def __init__(self, first: Clip):
        self._first = first
        self._given: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def of(self, clip: Clip) -> Iterator[Tensor]:
        """Yields the frames (H,W,C) of a clip, some of them decoded ahead."""
        return prefetch(self._opened(clip), _PREFETCHED)

    def _opened(self, clip: Clip) -> Iterator[Tensor]:
        kind, alike = kind_of(clip.look), _meaning(clip) == _meaning(self._first)
        last = image = None
        for frame in clip.decoded():
            if frame is not last or image is None:
                last, image = frame, to_tensor(to_rgb(frame, clip.look, kind))
                if alike:
                    self._given[image] = frame
            yield image

    def planes(self, frame: Tensor) -> av.VideoFrame | None:
        """Returns the decoded frame that `frame` is; None where it was made, or means other colours."""
        return self._given.get(frame)


def _meaning(clip: Clip) -> tuple:
    """What the values in a clip's planes stand for."""
    look = clip.look
    return look.of_planes(clip.height), look.primaries, look.transfer, chroma_site(clip.first)
