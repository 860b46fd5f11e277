"""Geometry of rendered scenes: where a moving layer's points are at any time, what covers what.

Points are pairs of planes (B,H,W), x and y, in pixels: side by side in memory, they take a third of the time of
(B,H,W,2). What an object cannot reach is not computed (`reach`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Points = tuple[Tensor, Tensor]
Window = tuple[slice, slice]  # rows, columns
WHOLE: Window = (slice(None), slice(None))
# Eight times the width of its edge away from an object, it covers less than float32 tells from nothing: e**-16.
FADED = 8.0


class Layer(NamedTuple):
    """A moving thing of every scene of a batch: its path, its texture, its outline."""

    centre: Tensor  # (B,2) at t = 0.5, pixels
    shift: Tensor  # (B,2) pixels per unit of time
    angle: Tensor  # (B,) radians at t = 0.5
    turn: Tensor  # (B,) radians per unit of time
    zoom: Tensor  # (B,) log of the scale per unit of time
    tilt: Tensor  # (B,2) perspective per unit of time, per pixel
    bend: Tensor  # (B,2,4) two waves per unit of time: amplitude x and y in pixels, wave vector x and y per pixel
    texture: Tensor  # (B,3,h,w) in 0..1
    offset: Tensor  # (B,2) where in the texture, in pixels
    radius: Tensor  # (B,2) half axes; infinite for the background
    lobes: Tensor  # (B,3) amplitude, count and phase of the outline's waves
    soft: Tensor  # (B,) width of the edge, pixels

    @property
    def everywhere(self) -> bool:
        """Whether it is the background."""
        return bool(torch.isinf(self.radius).all())

    def slowed(self, pace: Tensor) -> Layer:
        """Returns the same layer with all its motion times `pace` (B,)."""
        amplitude, waves = self.bend.chunk(2, 2)
        return self._replace(
            shift=self.shift * pace[:, None],
            turn=self.turn * pace,
            zoom=self.zoom * pace,
            tilt=self.tilt * pace[:, None],
            bend=torch.cat((amplitude * pace[:, None, None], waves), 2),
        )

    def repeated(self, count: int) -> Layer:
        """Returns a batch that shows the same scenes `count` times over."""
        # One scene, as examples of a training are, is not copied.
        return Layer(
            *(
                x.expand(count, *x.shape[1:]) if len(x) == 1 else x.repeat(count, *[1] * (x.ndim - 1))
                for x in self
            )
        )

    def last(self, batch: int) -> Layer:
        """Returns the last scenes alone."""
        return Layer(*(x[-batch:] for x in self))

    def to(self, device: torch.device) -> Layer:
        """Returns the layer on a device."""
        return Layer(*(x.to(device) for x in self))


def pixel_points(height: int, width: int, window: Window, device: torch.device) -> Points:
    """Returns x (1,1,w) and y (1,h,1) of the pixels of a window of a picture; they broadcast."""
    rows, columns = (
        torch.arange(side, device=device)[part] * 1.0
        for side, part in zip((height, width), window, strict=True)
    )
    return columns[None, None], rows[None, :, None]


def reach(layer: Layer, times: Tensor, matrix: Tensor, height: int, width: int) -> Window:
    """Returns the part of a picture outside of which a layer, put there by `matrix`, covers nothing at `times` (B,)."""
    # A GPU would be waited for; and what tilts has no simple outline.
    if times.device.type != "cpu" or layer.everywhere or layer.tilt.any():
        return WHOLE
    place = matrix[:, :2]
    # Of an outline with its soft edge, in half axes; how far the waves bend that, in the layer's own pixels.
    longest = 1 + layer.lobes[:, 0] + FADED * layer.soft / layer.radius.amin(1)
    bent = (layer.bend[..., :2].abs().sum(1) * (times - 0.5).abs()[:, None])[:, None]
    half = (place[..., :2] * (layer.radius * longest[:, None])[:, None]).norm(dim=2)
    half = half + (place[..., :2].abs() * bent).sum(2)
    first = (place[..., 2] - half).amin(0).floor().clamp_min(0).int().tolist()
    last = (place[..., 2] + half).amax(0).ceil().clamp_min(-1).int().tolist()
    return slice(min(first[1], height), last[1] + 1), slice(min(first[0], width), last[0] + 1)


def placement(layer: Layer, times: Tensor) -> Tensor:
    """Returns (B,3,3) homographies from the layer's own pixels (origin at its centre) to the image at `times` (B,)."""
    elapsed = times - 0.5
    angle, scale = layer.angle + layer.turn * elapsed, (layer.zoom * elapsed).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    x, y = (layer.centre + layer.shift * elapsed[:, None]).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    place = torch.stack((cos, -sin, x, sin, cos, y, zero, zero, one), 1).view(-1, 3, 3)
    # Times the identity with `tilt` in its last row.
    return place + place[:, :, 2:] * F.pad(layer.tilt * elapsed[:, None], (0, 1))[:, None]


def layer_points(layer: Layer, times: Tensor, matrix: Tensor, pixels: Points) -> Points:
    """Returns the layer's own points that pixels show at `times` (B,): flattened by the inverse of the placement
    `matrix`, then unbent."""
    flat = _mapped(torch.linalg.inv(matrix), pixels, bool(layer.tilt.any()))
    if not layer.bend[..., :2].any():
        return flat
    x, y = _bent(layer, times, flat)
    return flat[0] - x, flat[1] - y


def image_points(layer: Layer, times: Tensor, origin: Points) -> Points:
    """Returns where the layer's own points are seen at `times` (B,): the inverse of `layer_points`.

    flat = origin + bent(flat) has no closed form; the waves' slope is at most 0.7 of which half applies, so each
    round leaves less than four tenths of the error.
    """
    flat = origin
    if layer.bend[..., :2].any():
        for _ in range(6):
            x, y = _bent(layer, times, flat)
            flat = origin[0] + x, origin[1] + y
    return _mapped(placement(layer, times), flat, bool(layer.tilt.any()))


def _bent(layer: Layer, times: Tensor, flat: Points) -> Points:
    """Displacement of flat points by the waves at `times`."""
    x, y = torch.zeros_like(flat[0]), torch.zeros_like(flat[1])
    elapsed = (times - 0.5).view(-1, 1, 1)
    for wave in _planes(layer.bend).unbind(1):
        along_x, along_y, across, down = wave.unbind(1)
        height = (across * flat[0]).addcmul_(down, flat[1]).sin_()
        x.addcmul_(along_x * elapsed, height)
        y.addcmul_(along_y * elapsed, height)
    return x, y


def _mapped(matrix: Tensor, points: Points, tilted: bool) -> Points:
    """Homographies (B,3,3) applied to points; `tilted`: whether any is more than affine."""
    x, y = points
    rows = [row.unbind(1) for row in _planes(matrix).unbind(1)]
    to_x, to_y = (a * x + (b * y + c) for a, b, c in rows[:2])
    if not tilted:
        return to_x, to_y
    a, b, c = rows[2]
    far = (a * x + (b * y + c)).clamp_min_(0.1)
    return to_x.div_(far), to_y.div_(far)


def _planes(values: Tensor) -> Tensor:
    """Values as planes of one point, to be broadcast over pictures."""
    return values[..., None, None]


def colours(layer: Layer, own: Points) -> Tensor:
    """Returns (B,3,H,W) what is painted at the layer's own points; the texture goes on mirrored."""
    height, width = layer.texture.shape[2:]
    grid = torch.stack(
        [
            (point + shift).mul_(2 / side).sub_(1)
            for point, shift, side in zip(own, _planes(layer.offset).unbind(1), (width, height), strict=True)
        ],
        3,
    )
    return F.grid_sample(layer.texture, grid, padding_mode="reflection", align_corners=False)


def coverage(layer: Layer, own: Points) -> Tensor:
    """Returns (B,1,H,W) coverage of the layer's own points: an ellipse whose outline waves, with a soft edge; 1
    everywhere for the background."""
    if layer.everywhere:
        return torch.ones_like(own[0]).unsqueeze(1)
    x, y = (point / axis for point, axis in zip(own, _planes(layer.radius).unbind(1), strict=True))
    amplitude, count, phase = _planes(layer.lobes).unbind(1)
    outline = torch.atan2(y, x).mul_(count).add_(phase).cos_().mul_(amplitude).add_(1)
    distance = outline.sub_((x * x).addcmul_(y, y).sqrt_())
    return distance.mul_(_planes(2 * layer.radius.amin(1) / layer.soft)).sigmoid_().unsqueeze(1)
