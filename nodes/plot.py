"""Draws charts as pictures: the curves of a training, what it makes of a held-out frame, lines of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..rife.evaluation.charts import Axes

_INK, _GRID, _START = (40, 40, 40), (225, 225, 225), (150, 150, 150)
_RAW, _MEAN, _SCORE = (170, 195, 230), (30, 90, 180), (200, 80, 20)
_MOST_POINTS = 4000
_MARGIN = (64, 22, 14, 24)  # left, top, right, bottom


class Line(NamedTuple):
    """Holds points to be joined, or marked where they are few."""

    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int] | str
    marked: bool = False
    name: str = ""


def curves(
    losses: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float]], size: tuple[int, int]
) -> Image:
    """Draws loss by step, as it was and smoothed, and below it the held-out PSNR, where there is one. size: width,
    height in pixels. size: width, height."""
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
        left, top, right, bottom = _MARGIN
        box = left, i * height + top, size[0] - right, (i + 1) * height - bottom
        values = [y for line in lines for _, y in line.points]
        panel(
            picture,
            Axes.around(box, last, values, max(1e-6, 0.05 * abs(max(values, default=0)))),
            title,
            lines,
        )
    return picture


def _smoothed(points: Sequence[tuple[int, float]], share: float = 0.05) -> list[tuple[int, float]]:
    """An exponential mean over about `share` of all points."""
    keep = 1 - 1 / max(1.0, share * len(points))
    mean, result = None, []
    for step, value in points:
        mean = value if mean is None else keep * mean + (1 - keep) * value
        result.append((step, mean))
    return result


def panel(picture: Image.Image, axes: Axes, title: str, lines: Sequence[Line]) -> None:
    """Draws lines and their axes into a part of `picture`; lines that have a name have it at their right."""
    draw = ImageDraw.Draw(picture)
    for value in axes.y_ticks:
        y = axes.y(value)
        draw.line(((axes.left, y), (axes.right, y)), fill=_GRID)
        draw.text((axes.left - 6, y), f"{value:.6g}", fill=_INK, anchor="rm")
    draw.text((axes.left, axes.top - 17), title, fill=_INK)
    for step in axes.x_ticks:
        draw.text((axes.x(step), axes.bottom + 5), f"{step:g}", fill=_INK, anchor="ma")
    named = 0
    for line in lines:
        at = [(axes.x(x), axes.y(y)) for x, y in line.points]
        if len(at) > 1:
            draw.line(at, fill=line.colour, width=2)
        for x, y in at if line.marked or len(at) == 1 else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=line.colour)
        if line.name:
            draw.text((axes.right + 12, axes.top + 18 * named), line.name, fill=line.colour)
            named += 1


def beneath(picture: Image.Image, frames: dict[str, Tensor]) -> Image.Image:
    """Returns `picture` with the frames (H,W,3) under it, side by side, each with its name."""
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
    """Returns the picture as an IMAGE (1,H,W,3) in 0..1."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float().div(255).unsqueeze(0)
