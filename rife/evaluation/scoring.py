"""Scores methods that make frames between frames, on frames that were held out: samples x methods -> rows.

A sample is two given frames and the true ones between them. A method is anything that makes frames at given times
from the two. All methods of a run see the same samples; every true frame gives one row per method.
"""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..atomic_write import write_text
from ..model import InferenceOptions, Model
from ..timeline.scenes import Scenes
from .metrics import interpolation_error, interpolation_error_rms, lpips_metric, moving, psnr, ssim

AVERAGE = "average"  # the method that gains are over
EQUAL_DB = 100.0  # what a frame without error, of infinite PSNR, counts in a mean
MOTION_SIZES = (1, 4, 8, 16, 32)  # pixels between the given frames, limits of the breakdown
MOTION_CLASSES = (
    f"0 to {MOTION_SIZES[0]} px",
    *(f"{low} to {high} px" for low, high in zip(MOTION_SIZES, MOTION_SIZES[1:], strict=False)),
    f"over {MOTION_SIZES[-1]} px",
)


@dataclass(frozen=True)
class Sample:
    """Holds two given frames (3,H,W) uint8 and the true ones (T,3,H,W) uint8 at `times`."""

    set: str  # what a mean is taken over: a clip, or a benchmark
    name: str
    img0: Tensor
    img1: Tensor
    times: tuple[Fraction, ...]
    truth: Tensor
    task: str = ""  # such as 2x, of held-out clips
    group: str = ""  # a clip within the set, where the protocol averages clips
    padding: tuple[int, int, int, int] = (
        0,
        0,
        0,
        0,
    )  # left, right, top, bottom, before a method sees the frames
    pad_mode: str = "replicate"
    bgr: bool = False  # whether a method gets, and gives, the channels in reverse, as code on OpenCV has them


# Makes frames (T,3,H,W) in 0..1 at the times between two (3,H,W) in 0..1.
Method = Callable[[Tensor, Tensor, Sequence[float]], Tensor]
# A figure of a made frame: from (made, true, img0, img1), each (3,H,W) in 0..1.
Metric = Callable[[Tensor, Tensor, Tensor, Tensor], float]

METRICS: dict[str, Metric] = {
    "psnr": lambda made, true, *_: psnr(made, true),
    "ssim": lambda made, true, *_: ssim(made, true),
    "ie": lambda made, true, *_: interpolation_error(made, true),
    "ie_rms": lambda made, true, *_: interpolation_error_rms(made, true),
    "moving_ie": lambda made, true, img0, img1: interpolation_error(made, true, moving(img0, img1)),
}
HELD_OUT_METRICS = ("psnr", "ssim", "ie", "moving_ie")


def held_out_metrics() -> dict[str, Metric]:
    """Returns the figures of held-out frames."""
    return {name: METRICS[name] for name in HELD_OUT_METRICS}


def lpips() -> dict[str, Metric]:
    """Returns LPIPS as a further figure. Raises ValueError where its package is missing."""
    distance = lpips_metric()
    if distance is None:
        raise ValueError(
            "LPIPS needs the package lpips, which is not installed. pip install lpips, or leave it out."
        )
    return {"lpips": lambda made, true, *_: distance(made, true)}


@dataclass(frozen=True)
class Row:
    """Holds one frame's figures, as one method made it."""

    set: str
    task: str
    group: str
    name: str
    time: Fraction
    method: str
    motion: float  # pixels between the given frames, NaN where it was not measured
    figures: dict[str, float] = field(default_factory=dict)


class Network:
    """Makes a method of a `Model` with its options."""

    def __init__(self, model: Model, scale: float = 1.0, tta: bool = False, ensemble: bool = False):
        self.model, self.options = model, InferenceOptions(scale, tta, ensemble)

    def __call__(self, img0: Tensor, img1: Tensor, times: Sequence[float]) -> Tensor:
        source0, source1 = (x[None].to(self.model.run_device) for x in (img0, img1))
        frames = [
            self.model.inference(source0, source1, timestep=t, **self.options.keywords()) for t in times
        ]
        return torch.cat(frames).to(img0)


def score(
    samples: Iterable[Sample],
    methods: dict[str, Method],
    metrics: dict[str, Metric],
    motion_of: Callable[[Tensor, Tensor], float] | None = None,
    on_frames: Callable[[Sample, str, Tensor, list[Row]], None] | None = None,
) -> Iterator[Row]:
    """Scores every method on every sample.

    motion_of: measures the motion between two given frames (3,H,W) in pixels. on_frames: is shown what was made,
    (T,3,H,W) in 0..1, with its rows, as for pictures of it.
    """
    for sample in samples:
        img0, img1, truth = (x.float() / 255 for x in (sample.img0, sample.img1, sample.truth))
        motion = motion_of(img0, img1) if motion_of else math.nan
        for name, method in methods.items():
            frames = _made(method, sample, img0, img1).clamp(0, 1)
            rows = [
                Row(
                    sample.set, sample.task, sample.group, sample.name, time, name, motion,
                    {key: metric(made, true, img0, img1) for key, metric in metrics.items()},
                )
                for time, made, true in zip(sample.times, frames, truth, strict=True)
            ]  # fmt: skip
            if on_frames:
                on_frames(sample, name, frames, rows)
            yield from rows


def _made(method: Method, sample: Sample, img0: Tensor, img1: Tensor) -> Tensor:
    """(T,3,H,W), from frames padded and ordered as the sample says."""
    times = [float(t) for t in sample.times]
    if sample.bgr:
        img0, img1 = img0.flip(0), img1.flip(0)
    if any(sample.padding):
        img0, img1 = (F.pad(x[None], sample.padding, mode=sample.pad_mode)[0] for x in (img0, img1))
    made = method(img0, img1, times)
    left, right, top, bottom = sample.padding
    made = made[:, :, top : made.shape[2] - bottom, left : made.shape[3] - right]
    return made.flip(1) if sample.bgr else made


def task_name(factor: int, stride: int) -> str:
    """Returns how a task is called in tables; factor and stride in frames."""
    return f"{factor}x" + (f" stride {stride}" if stride > 1 else "")


def held_out(
    frames: Iterable[Tensor], name: str, factor: int, stride: int, starts: Sequence[int]
) -> Iterator[Sample]:
    """Yields samples of a clip (H,W,3) uint8 frame by frame: given frames `factor * stride` apart, true ones between
    them.

    starts: indices of the first given frame, rising, as `usable_starts` finds them. Holds one window of frames.
    """
    span = factor * stride
    wanted, last = set(starts), max(starts, default=-1) + span
    window: deque[Tensor] = deque(maxlen=span + 1)
    times = tuple(Fraction(k, factor) for k in range(1, factor))
    for i, frame in enumerate(islice(frames, last + 1)):
        window.append(frame)
        start = i - span
        if start in wanted:
            kept = torch.stack([window[k] for k in range(0, span + 1, stride)])
            given = rearrange(kept, "n h w c -> n c h w")
            yield Sample(
                name, f"{start}-{i}", given[0], given[-1], times, given[1:-1], task=task_name(factor, stride)
            )


def usable_starts(scenes: Scenes, count: int, factor: int, stride: int, true_frames: int = 0) -> list[int]:
    """Returns the first frames of the windows of a clip of `count` frames that can be scored.

    Left out are windows with a cut in them, and with a repeated frame: nobody knows which time that one shows.
    true_frames: how many to score at most, in windows evenly spread over the clip, which may overlap; 0: windows end
    to end, as they are when a video has lost every frame but each factor-th.
    """
    span = factor * stride
    spoilt = sorted(scenes.cuts | scenes.repeats)
    good = [
        start
        for start in range(0, count - span, 1 if true_frames else span)
        if bisect_right(spoilt, start) == bisect_right(spoilt, start + span)  # none in start+1..start+span
    ]
    wanted = -(-true_frames // (factor - 1)) if true_frames else len(good)
    if len(good) <= wanted:
        return good
    return [good[(2 * i + 1) * len(good) // (2 * wanted)] for i in range(wanted)]


def mean(values: Iterable[float]) -> float:
    """Returns the mean of the figures that are there; infinite PSNR counts as `EQUAL_DB`. NaN for none."""
    counted = [EQUAL_DB if value == math.inf else value for value in values if not math.isnan(value)]
    return statistics.fmean(counted) if counted else math.nan


def means(
    rows: Iterable[Row], by: Callable[[Row], Hashable], of_groups: bool = False
) -> dict[tuple[Hashable, str], dict[str, float]]:
    """Returns (what `by` says, method) -> mean of each figure, and `frames`, their number.

    of_groups: means of the groups' means, as where a protocol averages clips.
    """
    table: dict[tuple, dict[str, list[Row]]] = {}
    for row in rows:
        table.setdefault((by(row), row.method), {}).setdefault(row.group if of_groups else "", []).append(row)
    result = {}
    for key, groups in table.items():
        keys = next(iter(groups.values()))[0].figures
        result[key] = {
            name: mean(mean(row.figures[name] for row in group) for group in groups.values()) for name in keys
        }
        result[key]["frames"] = sum(map(len, groups.values()))
    return result


def motion_class(motion: float) -> str:
    """Returns the class of `MOTION_SIZES` that a motion in pixels belongs to; empty where it was not measured."""
    if math.isnan(motion):
        return ""
    return MOTION_CLASSES[bisect_right(MOTION_SIZES, motion)]


def rows_csv(rows: Sequence[Row]) -> str:
    """Writes every row as CSV text: set, group, pair, time, method, motion_px and the figures."""
    names = list(rows[0].figures) if rows else []
    header = ("set", "task", "group", "pair", "time", "method", "motion_px", *names)
    lines = (
        (r.set, r.task, r.group, r.name, r.time, r.method, shown(r.motion, 2))
        + tuple(shown(r.figures[name], 4) for name in names)
        for r in rows
    )
    return _csv(header, lines)


def write_rows(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Writes `rows_csv` as a file. Raises OSError."""
    write_text(path, rows_csv(rows), newline="")


def write_csv(path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file, which gets its name once it is whole. Raises OSError."""
    write_text(path, _csv(header, rows), newline="")


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((header, *rows))
    return text.getvalue()


def shown(value: float, digits: int) -> str:
    """Writes a figure as text with so many digits behind the point; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"
