"""Windows of real clips whose true frames are known, and the checkpoints that are compared on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import rife
from rife.checkpoint.load import read_checkpoint
from rife.timeline.scenes import find_scenes
from rife.video.frames import clip_frames


def windows(
    path: Path, strides: Sequence[int], count: int, width: int, offsets: Sequence[int]
) -> Iterator[tuple[int, int, list[Tensor]]]:
    """Yields (stride, frame, the frames (H,W,3) uint8 at `offsets` strides from it), `count` for each stride, none
    across a cut; width: of the frames at most, in pixels."""
    frames = list(clip_frames(path, max_width=width))
    cuts = find_scenes(torch.stack(frames)).cuts
    for stride in strides:
        first, last = min(offsets) * stride, max(offsets) * stride
        whole = [
            i for i in range(-first, len(frames) - last) if not cuts & set(range(i + first + 1, i + last + 1))
        ]
        for i in whole[:: max(1, len(whole) // count)][:count]:
            yield stride, i, [frames[i + offset * stride] for offset in offsets]


def models_of(paths: Sequence[Path]) -> dict[str, rife.Model]:
    """Loads the bundled checkpoint and files, by their release."""
    models = {"bundled": rife.load_model()}
    for path in paths:
        found = read_checkpoint(path)
        models[found.versions] = rife.Model.from_network(found.network)
    return models
