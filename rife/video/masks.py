"""Takes the masks of a clip through its stream: each lies behind the channels of its frame and moves with its flow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .codecs import FLOAT, Encoding, VideoError
from .colours import Look
from .reader import Clip


class Masks:
    """Gives the mask of each frame of a clip, white is 1.

    source: one picture for all frames, or a video or pictures with one for each frame of `clip`, or of the whole file
    of which `clip` is a part: `whole` frames, from number `first`. Raises FileNotFoundError, VideoError where its size
    or number differs.
    """

    def __init__(self, source: str | os.PathLike, clip: Clip, first: int = 0, whole: int | None = None):
        self._clip = Clip(source)
        self.files = self._clip.files
        size, wanted = (self._clip.width, self._clip.height), (clip.width, clip.height)
        if size != wanted:
            raise VideoError(
                f"the masks {self._clip.name} are {size[0]}x{size[1]}, expected {wanted[0]}x{wanted[1]} as the "
                "frames are. Resize them."
            )
        count = len(self._clip)
        fitting = {1, len(clip), len(clip) if whole is None else whole}
        if count not in fitting:
            raise VideoError(
                f"the masks {self._clip.name} are {count}, expected {' or '.join(map(str, sorted(fitting)))}: one for "
                "all frames, or one for each."
            )
        self._single = count == 1
        self._first = first if count == whole else 0

    def frames(self, start: int, stop: int) -> Iterator[Tensor]:
        """Yields the masks (H,W) in 0..1 of the clip's frames start to stop - 1."""
        if self._single:
            yield from repeat(grey_of(next(self._clip.frames(0, 1))), stop - start)
            return
        yield from map(grey_of, self._clip.frames(self._first + start, self._first + stop))


def masks_beside(
    source: str | os.PathLike | None, target: str | os.PathLike | None, clip: Clip, *place: int
) -> Masks | None:
    """Returns the masks of a clip, or None where none are named. place: see `Masks`. Raises ValueError where only one
    of source and target is there."""
    if source is None and target is None:
        return None
    if source is None or target is None:
        raise ValueError(
            "masks go from a file to a file: give both, the masks to read and the name to write them under."
        )
    return Masks(source, clip, *place)


def grey_of(picture: np.ndarray) -> Tensor:
    """Returns the mean (H,W) in 0..1 of the colours of a picture (H,W,C), of bytes, 16 bits or floats."""
    values = torch.from_numpy(picture[..., :3].astype(np.float32)).mean(-1)
    return values if picture.dtype == np.float32 else values / np.iinfo(picture.dtype).max


def mask_pixels(mask: np.ndarray) -> np.ndarray:
    """Returns a mask (H,W,1) as the grey picture (H,W,3) that a writer takes."""
    return np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:2], 3)))


def look_of_masks(clip: Clip) -> Look:
    """Says how the masks of a clip are written: grey RGB with the depth and the shape of pixels of its pictures."""
    bits = 16 if clip.look.bits == FLOAT else clip.look.bits
    return Look(rgb=True, bits=bits, pixel_aspect=clip.look.pixel_aspect)


def encoding_of_masks(path: Path, bits: int) -> Encoding:
    """Returns an encoding for masks, without loss where the ending has one: hard edges and exact values are what they
    are for."""
    if path.suffix.lower() != ".mkv":
        return Encoding(audio=False)
    return Encoding("ffv1", pix_fmt="bgr0" if bits == 8 else "gbrp16le", audio=False)
