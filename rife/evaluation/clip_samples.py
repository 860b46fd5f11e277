"""Takes held-out samples of clips, and pictures of what was made of them best and worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..timeline.scenes import SceneFinder
from ..video.frames import clip_frames
from ..video.images import write_png
from ..video.job import to_bytes
from .baselines import average
from .charts import BRIGHT_ERROR, heat_map
from .scoring import AVERAGE, Row, Sample, held_out, usable_starts

TASKS = ((2, 1), (2, 2), (4, 1), (8, 1))  # factor, stride


def clip_samples(
    path: Path,
    tasks: Sequence[tuple[int, int]] = TASKS,
    true_frames: int = 12,
    max_frames: int | None = None,
    max_width: int | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[Sample]:
    """Yields held-out samples of one clip at every (factor, stride). It is read once per task, a window at a time.
    Raises ValueError for a clip without frames."""

    def frames() -> Iterator[Tensor]:
        return clip_frames(path, max_frames, max_width)

    finder, count, size = SceneFinder(), 0, ""
    for frame in frames():
        finder.push(frame)
        count, size = count + 1, f"{frame.shape[1]}x{frame.shape[0]}"
    finder.finish()
    if not count:
        raise ValueError(f"{path} has no frames that can be decoded. It is empty or damaged.")
    if note:
        note(
            f"{path.stem}: {count} frames of {size}; windows with the cuts "
            f"{sorted(finder.cuts) or '(none)'} or one of {len(finder.repeats)} repeated frames are left out"
        )
    for factor, stride in tasks:
        starts = usable_starts(finder.scenes, count, factor, stride, true_frames)
        yield from held_out(frames(), path.stem, factor, stride, starts)


class Gallery:
    """Keeps, of every set and task, the frames on which one method does best and worst against averaging."""

    def __init__(self, method: str):
        self.method = method
        self._averaged: list[Row] = []
        self.kept: dict[tuple[str, str, str], tuple[float, Row, Tensor]] = {}

    def __call__(self, sample: Sample, method: str, frames: Tensor, rows: list[Row]) -> None:
        """Is `on_frames` of `rife.evaluation.scoring.score`; averaging comes before the method."""
        if method == AVERAGE:
            self._averaged = rows
        if method != self.method:
            return
        for k, (row, base) in enumerate(zip(rows, self._averaged, strict=True)):
            gain = row.figures["psnr"] - base.figures["psnr"]
            for which, sign in (("worst", 1), ("best", -1)):
                key = row.set, row.task, which
                if math.isfinite(gain) and (key not in self.kept or sign * gain < sign * self.kept[key][0]):
                    self.kept[key] = gain, row, error_picture(sample, k, frames[k])

    def save(self, folder: Path) -> None:
        """Writes one PNG each into `folder`. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        for (name, task, which), (_, row, picture) in self.kept.items():
            stem = f"{name} {task} {which} {row.name} at {row.time}".replace("/", "of").replace(" ", "_")
            write_png(folder / f"{stem}.png", to_bytes(picture))


def error_picture(sample: Sample, k: int, made: Tensor) -> Tensor:
    """Draws (2H,2W,3) in 0..1: above the truth and what was made (3,H,W) of it, below the heat maps of averaging and of
    this."""
    img0, img1, true = (x.float() / 255 for x in (sample.img0, sample.img1, sample.truth[k]))
    averaged = average(img0, img1, [float(sample.times[k])])[0]
    heat = [heat_map((x - true).abs().mean(0), BRIGHT_ERROR) for x in (averaged, made.to(true))]
    pictures = [rearrange(x.to(true), "c h w -> h w c") for x in (true, made)]
    return torch.cat((torch.cat(pictures, 1), torch.cat(heat, 1)), 0)
