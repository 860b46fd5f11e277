"""Flow without weights: the motion that makes both frames agree at time t, found from coarse to fine.

Where things move far or nothing but brightness tells them apart, a small network is a poor judge of half pixels; this
finds them. Each level takes steps of Lucas and Kanade (1981), which follow what moves far, then the variational
refinement of Brox et al. (2004), normalised as in DeepFlow (Weinzaepfel et al. 2013), which is smooth but for edges:
together what Dense Inverse Search does (Kroeger et al., arXiv:1603.03590), here at time t instead of in a frame, so
that nothing has to be splatted, and in operations of whole images, so that it runs wherever PyTorch does.

Motion v is (B,2,h,w) in pixels of its level, x first: the pixel at x at time t was at x - t v and will be at
x + (1 - t) v.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.red_black_sor import coupling, pack, pad_to_even, sor, unpack
from ..ops.warp import resize, warp
from .multiscale import Geometry

# Of the finest level's, from coarse to fine: downscale, steps of Lucas and Kanade.
_LEVELS = ((8, 5), (4, 4), (2, 3), (1, 2))
_WINDOW = 7  # pixels that move together, in a step of Lucas and Kanade
_NOISE = 0.05  # of a frame in 0..1: larger differences weigh less
_TEXTURE = 0.004  # of the structure tensor: with less of it, steps are short

# Of the variational refinement, for frames in 0..255: as OpenCV's DIS has them, but for twice the weight of gradients.
_SMOOTH, _BRIGHTNESS, _GRADIENT = 20.0, 5.0, 20.0
_EPSILON, _ZETA = 1e-3, 0.1
_REWEIGHTED, _SWEEPS = 3, 3
_FARTHEST = 4.0  # pixels that the refinement of one level may move anything


@torch.no_grad()
def motion_flow(
    img0: Tensor,
    img1: Tensor,
    timestep: Tensor,
    coarse: Tensor,
    finest: int = 2,
    geometry: Geometry | None = None,
    wrap: Callable[[Callable], Callable] = lambda function: function,
) -> Tensor:
    """Flow (B,4,H/finest,W/finest), t->0 and t->1 in pixels of the full size, without gradients.

    img0, img1: (B,3,H,W) in 0..1, H and W multiples of 8*finest. timestep: (B,1,1,1), or (B,1,H,W). coarse: flow
    (B,4,H/(4*finest),W/(4*finest)) in the same pixels that is tried besides, and followed where it matches better.
    geometry: of the frames, which saves making the grids anew. wrap: what is put around the two functions that do
    nearly all of it, over and over; a compiler, for instance.
    """
    step, reweighted = wrap(_step), wrap(_reweighted)
    v, geometry = None, geometry or Geometry(*img0.shape[2:], img0.device)
    for level, (factor, steps) in zip(_pyramid(img0, img1, timestep, finest, geometry), _LEVELS, strict=True):
        v = level.still() if v is None else 2 * resize(v, 2)
        if factor == 4:
            v = _better(level, v, (coarse[:, 2:4] - coarse[:, :2]).float() / (factor * finest))
        level.equalise(v)
        for _ in range(steps):
            v = v + step(level, v)
        v = v + _refinement(level, v, reweighted)
    v = v * finest
    return torch.cat((-level.t * v, (1 - level.t) * v), 1)


class _Level:
    """Both frames at one size, and the time between them."""

    def __init__(self, frames: Tensor, t: Tensor, geometry: Geometry):
        self.frame0, self.frame1 = frames.chunk(2)  # (B,3,h,w) in 0..1
        self.t = t  # (B,1,1,1), or (B,1,h,w)
        self.grid = geometry.grid_of(frames)
        # Of the pixels of each window, as many as there are, and three colours.
        self.texture = _around(frames.new_full((1, 1, *frames.shape[2:]), 3 * _TEXTURE))

    def still(self) -> Tensor:
        return torch.zeros_like(self.frame0[:, :2])

    def seen(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Both frames as they are at time t by this motion."""
        to1 = (1 - self.t) * v
        return warp(self.frame0, to1 - v, self.grid), warp(self.frame1, to1, self.grid)

    def equalise(self, v: Tensor) -> None:
        """Gives each colour of both frames the same mean in what the motion shows of them: a fade is no motion."""
        mean0, mean1 = (x.mean((2, 3), True).clamp_min_(1e-3) for x in self.seen(v))
        gain = (mean1 / mean0).clamp_(0.25, 4).sqrt_()
        self.frame0, self.frame1 = self.frame0 * gain, self.frame1 / gain


def _pyramid(img0: Tensor, img1: Tensor, timestep: Tensor, finest: int, geometry: Geometry) -> list[_Level]:
    """From coarse to fine."""
    frames, t = torch.cat((img0, img1)).float(), timestep.float()
    levels = []
    for factor in (finest, *[2] * (len(_LEVELS) - 1)):
        frames, t = _smaller(frames, factor), _smaller(t, factor) if t.shape[-1] > 1 else t
        levels.append(_Level(frames, t, geometry))
    return levels[::-1]


def _smaller(x: Tensor, factor: int) -> Tensor:
    """Means of cells of `factor` pixels."""
    while factor % 2 == 0:
        x, factor = resize(x, 0.5), factor // 2
    return F.avg_pool2d(x, factor) if factor > 1 else x


def _better(level: _Level, v: Tensor, other: Tensor) -> Tensor:
    """v, or the other motion where the frames around differ less by it."""
    difference, others = (_around((x - y).abs_().sum(1, True)) for x, y in (level.seen(v), level.seen(other)))
    least = level.texture * (1e-3 / _TEXTURE)
    return torch.lerp(v, other, ((difference - others) / (0.2 * difference + least)).clamp_(0, 1))


def _around(x: Tensor) -> Tensor:
    """Sums over the window of 7x7 around each pixel, as far as there are pixels."""
    reach = _WINDOW // 2
    if x.device.type != "cpu":
        return F.avg_pool2d(x, _WINDOW, 1, reach).mul_(_WINDOW**2)
    # Sums of two, of four and of seven, which take a twelfth of the time of avg_pool2d there.
    for axis in (2, 3):
        side = x.shape[axis]
        x = F.pad(x, (0, 0, reach, reach) if axis == 2 else (reach, reach))
        two = x.narrow(axis, 0, side + 5) + x.narrow(axis, 1, side + 5)
        four = two.narrow(axis, 0, side) + two.narrow(axis, 2, side)
        x = four.add_(two.narrow(axis, 4, side)).add_(x.narrow(axis, 6, side))
    return x


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    wide, high = F.pad(x, (1, 1, 0, 0), mode="replicate"), F.pad(x, (0, 0, 1, 1), mode="replicate")
    return (wide[..., 2:] - wide[..., :-2]).mul_(0.5), (high[..., 2:, :] - high[..., :-2, :]).mul_(0.5)


def _step(level: _Level, v: Tensor) -> Tensor:
    """Change of v by one step of Lucas and Kanade, a pixel at most."""
    at0, at1 = level.seen(v)
    difference = at0 - at1
    weight = 1 / (difference.abs().mean(1, True) + _NOISE)
    # (B,3,3,h,w) dx, dy, difference of each colour
    rows = torch.stack((*_gradient(torch.lerp(at1, at0, level.t)), difference), 1)
    products = torch.cat(((rows[:, :1] * rows).sum(2), (rows[:, 1:2] * rows[:, 1:]).sum(2)), 1)
    xx, xy, xd, yy, yd = _around(products.mul_(weight)).split(1, 1)
    xx, yy = xx + level.texture, yy + level.texture
    change = torch.cat((yy * xd - xy * yd, xx * yd - xy * xd), 1) / (xx * yy - xy * xy)
    return change / change.square().sum(1, True).clamp_min_(1).sqrt_()


def _refinement(level: _Level, v: Tensor, reweighted: Callable) -> Tensor:
    """Change of v that lowers the energy of brightness, gradients and smoothness.

    The frames are warped once; the robust weights are taken anew a few times, and each time the linear equations that
    they make are solved by `sor`.
    """
    terms, start = pack(pad_to_even(_terms(level, v))), pack(pad_to_even(v))
    motion, found = F.pad(start, (1, 1, 1, 1)), v
    for _ in range(_REWEIGHTED):
        motion, found = reweighted(terms, start, motion, found)
    return (found - v).clamp_(-_FARTHEST, _FARTHEST)


def _reweighted(terms: Tensor, start: Tensor, motion: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The motion, with a border and packed, and (B,2,h,w), after sweeps with weights that it gives itself."""
    height, width = v.shape[2:]
    inside = (..., slice(1, -1), slice(1, -1))
    motion = sor(motion, _equations(terms, start, motion[inside]), coupling(*_tension(v)), _SWEEPS)
    return motion, unpack(motion[inside])[..., :height, :width]


def _terms(level: _Level, v: Tensor) -> Tensor:
    """(B,6,2,h,w) xx, yy, xy, xd, yd, dd of what each pixel keeps, in levels of 255: brightness, and its gradient."""
    at0, at1 = level.seen(v)
    both = torch.cat((torch.lerp(at1, at0, level.t), at0 - at1), 1).mul_(255)
    along = _gradient(both)
    (dx, distance_x), (dy, distance_y) = (x.chunk(2, 1) for x in along)
    (dxx, _), (dxy, dyy) = (x.chunk(2, 1) for x in _gradient(torch.cat((dx, dy), 1)))
    x, y = torch.cat((dx, dxx, dxy), 1), torch.cat((dy, dxy, dyy), 1)
    d = torch.cat((both[:, 3:], distance_x, distance_y), 1)
    scale = 1 / torch.addcmul(x * x, y, y).add_(_ZETA**2).mul_(3)  # colours are averaged
    products = [
        (one * other).mul_(scale).unflatten(1, (3, 3)).sum(2)
        for one, other in ((x, x), (y, y), (x, y), (x, d), (y, d), (d, d))
    ]
    brightness, along_x, along_y = torch.stack(products, 1).unbind(2)
    return torch.stack((brightness, along_x + along_y), 2)


def _equations(terms: Tensor, start: Tensor, motion: Tensor) -> Tensor:
    """What `sor` wants of the `terms` at `start`, those weighing less that are far from kept by `motion`; packed."""
    xx, yy, xy, xd, yd, dd = terms.unbind(1)
    x, y = (motion - start).split(1, 1)
    left = (xx * x).addcmul_(xy, y, value=2).sub_(xd, alpha=2).mul_(x)
    left.add_((yy * y).sub_(yd, alpha=2).mul_(y)).add_(dd)  # of each squared difference
    weight = left.clamp_min_(0).add_(_EPSILON**2).rsqrt_()
    equations = _BRIGHTNESS * terms[:, :5, 0] * weight[:, None, 0]
    equations.addcmul_(terms[:, :5, 1], weight[:, None, 1], value=_GRADIENT)
    # For the motion itself instead of its change.
    equations[:, 3:].addcmul_(equations[:, :2], start).addcmul_(equations[:, 2:3], start.flip(1))
    return equations


def _tension(v: Tensor) -> tuple[Tensor, Tensor]:
    """How much each pixel is bound to the one at its right, and below: little across edges of the motion."""
    right = F.pad(v[..., 1:] - v[..., :-1], (0, 1))
    below = F.pad(v[..., 1:, :] - v[..., :-1, :], (0, 0, 0, 1))
    bound = right.square_().addcmul_(below, below).sum(1, True).add_(_EPSILON**2).rsqrt_().mul_(_SMOOTH / 2)
    return bound[..., 1:] + bound[..., :-1], bound[..., 1:, :] + bound[..., :-1, :]
