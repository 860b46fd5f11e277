"""Draws what was measured: flow in Middlebury's colours, heat maps of errors, charts as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

# Baker et al., "A Database and Evaluation Methodology for Optical Flow", 2011; lengths of the wheel's six arcs.
_ARCS = (15, 6, 4, 11, 13, 6)
# Black, violet, red, orange, pale yellow: brightness rises evenly, in print and to the colour-blind too.
_HEAT = ((0.0, 0.0, 0.02), (0.34, 0.06, 0.43), (0.73, 0.21, 0.33), (0.98, 0.56, 0.03), (0.99, 1.0, 0.64))
BRIGHT_ERROR = 32 / 255  # what heat maps of errors show brightest
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")


def flow_picture(flow: Tensor, max_flow: float = 0.0) -> Tensor:
    """Draws flow (…,2,H,W) in pixels as (…,H,W,3) in 0..1 by Middlebury's colour wheel.

    Direction is hue (right red, down yellow, left cyan, up blue), length is saturation: white rests, `max_flow` pixels
    have the full colour, longer ones are darkened. max_flow 0: the longest finite one, of all pictures together.
    """
    u, v = flow.float().unbind(-3)
    longest = max_flow or longest_flow(flow)
    u, v = ((x / longest).nan_to_num(0.0, 0.0, 0.0) for x in (u, v))
    wheel = _colour_wheel().to(flow.device)
    position = (torch.atan2(-v, -u) / math.pi + 1) / 2 * (len(wheel) - 1)
    low = position.floor().long()
    share = (position - low)[..., None]
    colour = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    length = torch.hypot(u, v)[..., None]
    return torch.where(length <= 1, 1 - length * (1 - colour), colour * 0.75)


def longest_flow(flow: Tensor) -> float:
    """Returns the length in pixels of the longest finite flow in (…,2,H,W); 1 where nothing moves at all."""
    lengths = flow.float().norm(dim=-3)
    return float(lengths[lengths.isfinite()].amax()) if (lengths > 0).any() else 1.0


def _colour_wheel() -> Tensor:
    """(55,3): red, yellow, green, cyan, blue, magenta and back, each neighbour by one channel."""
    wheel: list[Tensor] = []
    corners = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))
    for count, start, end in zip(_ARCS, corners, corners[1:], strict=False):
        first, last = torch.tensor(start).float(), torch.tensor(end).float()
        wheel += [first + (last - first) * k / count for k in range(count)]
    return torch.stack(wheel)


def heat_map(values: Tensor, top: float = 1.0) -> Tensor:
    """Draws values (…,H,W) as (…,H,W,3) in 0..1: black at 0, over red, to pale yellow at `top` and above."""
    anchors = torch.tensor(_HEAT, device=values.device)
    position = (values.float() / top).clamp(0, 1) * (len(anchors) - 1)
    low = position.floor().long().clamp(max=len(anchors) - 2)
    return torch.lerp(anchors[low], anchors[low + 1], (position - low)[..., None])


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns round numbers from `low` to `high`, about `count` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def line_colours(names: Iterable[str]) -> dict[str, str]:
    """Chooses a colour per line of a chart; grey for averaging, to which the others are compared."""
    colours = cycle(_COLOURS)
    return {name: "#888888" if name == "average" else next(colours) for name in names}


class Axes(NamedTuple):
    """Says where values lie in a chart: the box in pixels, x from 0 to `last`, y from `low` to `high`."""

    left: float
    top: float
    right: float
    bottom: float
    last: float
    low: float
    high: float

    @classmethod
    def around(
        cls, box: tuple[float, float, float, float], last: float, values: Iterable[float], margin: float
    ) -> Axes:
        """Makes axes that the finite `values` fill, with `margin` beyond them where they are all the same."""
        finite = [y for y in values if math.isfinite(y)] or [0.0]
        low, high = min(finite), max(finite)
        return cls(*box, max(1, last), *((low - margin, high + margin) if low == high else (low, high)))

    def x(self, value: float) -> float:
        """Returns the place of `value` in pixels from the left."""
        return self.left + (self.right - self.left) * value / self.last

    def y(self, value: float) -> float:
        """Returns the place of `value` in pixels from the top."""
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    @property
    def y_ticks(self) -> list[float]:
        """Lists round values of y."""
        return ticks(self.low, self.high)

    @property
    def x_ticks(self) -> list[float]:
        """Lists round values of x that are whole: there is no frame 0.2."""
        return [x for x in ticks(0, self.last) if x == int(x)]


def chart_svg(
    title: str, series: Mapping[str, Sequence[float]], unit: str, width: int = 860, height: int = 320
) -> str:
    """Draws lines over their index as SVG text, of width x height pixels. NaN and infinite values leave gaps."""
    left, top, right, bottom = 60, 40, width - 160, height - 30
    longest = max((len(line) for line in series.values()), default=1)
    values = (y for line in series.values() for y in line)
    axes = Axes.around((left, top, right, bottom), longest - 1, values, 0.5)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="24" font-size="14">{escape(title)}</text>',
        f'<text x="8" y="{top - 8}">{escape(unit)}</text>',
    ]
    for y in axes.y_ticks:
        parts.append(
            f'<path d="M{left} {axes.y(y):.1f}H{right}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{axes.y(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    for i in axes.x_ticks:
        parts.append(f'<text x="{axes.x(i):.1f}" y="{bottom + 18}" text-anchor="middle">{i:g}</text>')
    colours = line_colours(series)
    for k, (name, line) in enumerate(series.items()):
        path, drawing = "", False
        for i, y in enumerate(line):
            if math.isfinite(y):
                path += f"{'L' if drawing else 'M'}{axes.x(i):.1f} {axes.y(y):.1f}"
            drawing = math.isfinite(y)
        parts.append(f'<path d="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
        parts.append(
            f'<text x="{right + 12}" y="{top + 12 + 18 * k}" fill="{colours[name]}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
