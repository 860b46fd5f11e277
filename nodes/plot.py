"""Pictures of a training: its curves, and what it makes of a held-out frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..rife.evaluation.charts import ticks

_INK, _GRID, _START = (40, 40, 40), (225, 225, 225), (150, 150, 150)
_RAW, _MEAN, _SCORE = (170, 195, 230), (30, 90, 180), (200, 80, 20)
_MOST_POINTS = 4000
_MARGIN = (64, 22, 14, 24)  # left, top, right, bottom


class Line(NamedTuple):
    """Points to be joined, or marked where they are few."""

    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int]
    marked: bool = False


def curves(
    losses: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float]], size: tuple[int, int]
) -> Image:
    """Loss by step, as it was and smoothed, and below it the held-out PSNR, where there is one. size: width, height."""
    picture = Image.new("RGB", size, "white")
    losses = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    losses = losses[:: len(losses) // _MOST_POINTS + 1]
    last = max([step for step, _ in (*losses, *scores)], default=1)
    panels = [("loss", [Line(losses, _RAW), Line(_smoothed(losses), _MEAN)])]
    if scores:
        level = Line([(0, scores[0][1]), (last, scores[0][1])], _START)
        panels.append(("held-out PSNR, dB", [level, Line(scores, _SCORE, marked=True)]))
    height = size[1] // len(panels)
    for i, (title, lines) in enumerate(panels):
        _panel(ImageDraw.Draw(picture), (0, i * height, size[0], (i + 1) * height), title, lines, last)
    return picture


def _smoothed(points: Sequence[tuple[int, float]], share: float = 0.05) -> list[tuple[int, float]]:
    """An exponential mean over about `share` of all points."""
    keep = 1 - 1 / max(1.0, share * len(points))
    mean, result = None, []
    for step, value in points:
        mean = value if mean is None else keep * mean + (1 - keep) * value
        result.append((step, mean))
    return result


def _panel(draw, box: tuple[int, int, int, int], title: str, lines: Sequence[Line], last: int) -> None:
    left, top, right, bottom = (
        edge + sign * margin for edge, sign, margin in zip(box, (1, 1, -1, -1), _MARGIN, strict=True)
    )
    values = [y for line in lines for _, y in line.points] or [0.0]
    low, high = min(values), max(values)
    spread = (high - low) or max(1e-6, abs(high) * 0.1)
    for value in ticks(low, low + spread):
        y = bottom - (value - low) / spread * (bottom - top)
        draw.line(((left, y), (right, y)), fill=_GRID)
        draw.text((box[0] + 6, y - 6), f"{value:.6g}", fill=_INK)
    draw.text((left, box[1] + 5), title, fill=_INK)
    for step in ticks(0, last):
        x = left + step / max(1, last) * (right - left)
        draw.text((x, bottom + 5), f"{step:g}", fill=_INK, anchor="ma")
    for line in lines:
        at = [
            (left + x / max(1, last) * (right - left), bottom - (y - low) / spread * (bottom - top))
            for x, y in line.points
        ]
        if len(at) > 1:
            draw.line(at, fill=line.colour, width=2)
        for x, y in at if line.marked or len(at) == 1 else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=line.colour)


def beneath(picture: Image.Image, frames: dict[str, Tensor]) -> Image.Image:
    """`picture` with the frames (H,W,3) under it, side by side, each with its name."""
    width = picture.width // max(1, len(frames))
    tiles = [(name, _tile(frame, width)) for name, frame in frames.items()]
    whole = Image.new(
        "RGB", (picture.width, picture.height + max((t.height for _, t in tiles), default=0)), "white"
    )
    whole.paste(picture, (0, 0))
    for i, (name, tile) in enumerate(tiles):
        whole.paste(tile, (i * width, picture.height))
        box = ImageDraw.Draw(whole).textbbox((i * width + 6, picture.height + 5), name)
        ImageDraw.Draw(whole).rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="white")
        ImageDraw.Draw(whole).text((i * width + 6, picture.height + 5), name, fill=_INK)
    return whole


def _tile(frame: Tensor, width: int) -> Image.Image:
    array = frame.float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8).numpy()
    picture = Image.fromarray(np.ascontiguousarray(array))
    return picture.resize((width, max(1, round(width * picture.height / picture.width))))


def as_image(picture: Image.Image) -> Tensor:
    """(1,H,W,3) in 0..1."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float().div(255).unsqueeze(0)
