"""Reads the frames of a clip, whether it is a video file or a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from .colours import look_of
from .convert import to_rgb
from .images import pictures_in, read_image
from .reader import read_frames


def clip_frames(
    path: str | os.PathLike, max_frames: int | None = None, max_width: int | None = None
) -> Iterator[Tensor]:
    """Yields (H,W,3) uint8, reduced by whole factors to at most `max_width` pixels, rounded to 8 bit again.

    Pictures come in the order of the numbers in their names. Raises FileNotFoundError, ValueError, VideoError.
    """
    path = Path(path)
    if path.is_dir():
        files = pictures_in(path)
        frames = (read_picture(file) for file in files)
    else:
        frames = (torch.from_numpy(frame) for frame in read_frames(path))
    size = None
    for frame in islice(frames, max_frames):
        size = size or frame.shape
        if frame.shape != size:
            sizes = " and of ".join(f"{shape[1]}x{shape[0]}" for shape in (size, frame.shape))
            raise ValueError(
                f"{path} has frames of {sizes}, expected one size. Take the others out, or resize them."
            )
        yield frame if max_width is None else reduced(frame, -(-frame.shape[1] // max_width))


def read_picture(path: str | os.PathLike) -> Tensor:
    """Reads a picture file as (H,W,3) uint8. Raises FileNotFoundError, VideoError."""
    frame = read_image(Path(path))
    return torch.from_numpy(to_rgb(frame, look_of(frame), "rgb24"))


def reduced(frame: Tensor, factor: int) -> Tensor:
    """Averages (H,W,3) uint8 over squares of `factor` pixels; what is left over at the border is cut off. Raises
    ValueError where nothing is left."""
    if factor == 1:
        return frame
    if factor > min(frame.shape[:2]):
        raise ValueError(
            f"Frames of {frame.shape[1]}x{frame.shape[0]} pixels cannot be reduced {factor} times: nothing is left. "
            "Ask for a larger width."
        )
    pooled = torch.nn.functional.avg_pool2d(rearrange(frame, "h w c -> c h w").float(), factor)
    return rearrange(pooled.round().byte(), "c h w -> h w c")
