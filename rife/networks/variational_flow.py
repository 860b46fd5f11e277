"""Finds classical flow, without learnt weights: the motion that makes both frames agree at t, from coarse to fine.

Where things move far or nothing but brightness tells them apart, a small network is a poor judge of half pixels; this
finds them. Each level takes steps of Lucas and Kanade (1981), which follow what moves far, then the variational
refinement of Brox et al. (2004), normalised as in DeepFlow (Weinzaepfel et al. 2013), which is smooth but for edges:
together what Dense Inverse Search does (Kroeger et al., arXiv:1603.03590), here at time t instead of in a frame, so
that nothing has to be splatted, and in operations of whole images, so that it runs wherever PyTorch does. Motion
also spreads to neighbours that it fits better, as in PatchMatch (Barnes et al. 2009).

Motion v is (B,2,h,w) in pixels of its level, x first: the pixel at x at time t was at x - t v and will be at
x + (1 - t) v.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.red_black_sor import coupling, pack, pad_to_even, sor, unpack
from ..ops.row_strips import row_strips
from ..ops.tracing import is_tracing
from ..ops.warp import resize, warp
from ..ops.window_sums import sum_3x3, sum_7x7
from .borders import outside
from .linear_motion import flow_along
from .multiscale import WarpGrids

# From coarse to fine: downscale against the finest level, and steps of Lucas and Kanade.
_LEVELS = ((8, 5), (4, 4), (2, 3), (1, 2))
# A step of Lucas and Kanade.
_LK_WINDOW = 7  # side of the window, in pixels, that is taken to move as one: of `sum_7x7`
_LK_NOISE = 0.05  # of frames in 0..1: larger differences weigh less
_LK_DAMPING = (
    0.004  # per pixel of the window, added to the structure tensor: steps are short where it is small
)

# The variational refinement, for frames in 0..255: weights of smoothness, brightness constancy and gradient constancy
# (alpha, delta, gamma of OpenCV's VariationalRefinement, with DIS's values but for twice its gamma), then epsilon of
# the robust penalty sqrt(x^2 + epsilon^2) and the zeta of the normalisation.
_SMOOTHNESS, _BRIGHTNESS, _GRADIENT = 20.0, 5.0, 20.0
_EPSILON, _ZETA = 1e-3, 0.1
_FIXED_POINT_ITERATIONS, _SOR_SWEEPS = 2, 4
_STRIP_PIXELS = 1 << 18  # of a strip: what a step holds on its way weighs up to 300 bytes a pixel
_MAX_CHANGE = 4.0  # pixels, by the refinement of one level

_OUTSIDE = 0.02  # how much a pixel counts whose place is outside of a frame, against one inside

# Spreading: downscale of the levels that it is done at, against the finest (there it gains 0.02 dB more, for a tenth of
# a pass); from which pixels of them; what share of the frames' difference, summed over 3x3 pixels and averaged over
# colours, another motion must save, besides what noise makes of it. Where frames differ by more than the last, that
# motion is not right either.
_SPREAD_LEVELS, _NEIGHBOURS = (4, 2), ((3, 0), (-3, 0), (0, 3), (0, -3))
_SAVING, _SPREAD_NOISE, _NO_MATCH = 0.15, 0.007, 0.72


@torch.no_grad()
def motion_flow(
    img0: Tensor,
    img1: Tensor,
    timestep: Tensor,
    coarse: Tensor,
    finest: int = 2,
    grids: WarpGrids | None = None,
    wrap: Callable[[Callable], Callable] = lambda function: function,
) -> Tensor:
    """Returns flow (B,4,H/finest,W/finest), t->0 and t->1 in pixels of the full size, without gradients.

    img0, img1: (B,3,H,W) in 0..1, H and W multiples of 8*finest. timestep: (B,1,1,1), or (B,1,H,W).
    coarse: another flow, (B,4,H/(4*finest),W/(4*finest)) in the same pixels, which is followed where it matches better.
    finest: downscale of the finest level. grids: of the frames, which saves making them anew.
    wrap: put around the three functions that do nearly all of the work, over and over; a compiler, for instance.
    """
    step, iterate, spread = wrap(lucas_kanade_step), wrap(fixed_point_iteration), wrap(spread_motion)
    levels = _pyramid(img0, img1, timestep, finest, WarpGrids.of(img0, grids))
    v = levels[0].zero_motion()
    for level, (factor, steps) in zip(levels, _LEVELS, strict=True):
        if level is not levels[0]:
            v = 2 * resize(v, 2)
        if factor == 4:
            v = pick_better_flow(level, v, (coarse[:, 2:4] - coarse[:, :2]).float() / (factor * finest))
        level.equalise_brightness(v)
        level.leave_out(v)
        for _ in range(steps):
            v = v + step(level, v)
        v = v + _variational_refinement(level, v, iterate)
        if factor in _SPREAD_LEVELS:
            v = spread(level, v)
    return flow_along(v * finest, levels[-1].t)


class PyramidLevel:
    """Holds both frames at one size, and the time between them."""

    def __init__(self, frames: Tensor, t: Tensor, grids: WarpGrids):
        self.frame0, self.frame1 = frames.chunk(2)  # (B,3,h,w) in 0..1
        self.t = t  # (B,1,1,1), or (B,1,h,w)
        self.grid = grids.grid_of(frames)
        self.seen = frames.new_ones(1, 1, 1, 1)  # or (B,1,h,w): how much a pixel counts
        # As many times as the window has pixels here, and frames have colours.
        self.damping = sum_7x7(frames.new_full((1, 1, *frames.shape[2:]), 3 * _LK_DAMPING))

    def zero_motion(self) -> Tensor:
        """Returns a motion (B,2,h,w) of zeros."""
        return torch.zeros_like(self.frame0[:, :2])

    def warped(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Warps both frames as the motion v (B,2,h,w) shows them at time t: each (B,3,h,w)."""
        to1 = (1 - self.t) * v
        return warp(self.frame0, to1 - v, self.grid), warp(self.frame1, to1, self.grid)

    def difference(self, v: Tensor) -> Tensor:
        """Returns by how much the frames differ, (B,3,h,w), as the motion v (B,2,h,w) shows them at time t."""
        at0, at1 = self.warped(v)
        return (at0 - at1).abs_()

    def equalise_brightness(self, v: Tensor) -> None:
        """Gives each colour of both frames the same mean in what the motion v (B,2,h,w) shows of them: a fade is no
        motion."""
        mean0, mean1 = (x.mean((2, 3), True).clamp_min_(1e-3) for x in self.warped(v))
        # Each frame takes half of the difference, as a factor.
        gain = (mean1 / mean0).clamp_(0.25, 4).sqrt_()
        self.frame0, self.frame1 = self.frame0 * gain, self.frame1 / gain

    def leave_out(self, v: Tensor) -> None:
        """Lets what the motion v (B,2,h,w) brings in from outside of a frame count for little: only its border is seen
        there, over and over."""
        beyond = torch.maximum(outside(v * -self.t, self.grid), outside(v * (1 - self.t), self.grid))
        self.seen = 1 - (1 - _OUTSIDE) * beyond


def _pyramid(
    img0: Tensor, img1: Tensor, timestep: Tensor, finest: int, grids: WarpGrids
) -> list[PyramidLevel]:
    """Levels from coarse to fine."""
    frames, t = torch.cat((img0, img1)).float(), timestep.float()
    levels = []
    for factor in (finest, *[2] * (len(_LEVELS) - 1)):
        frames, t = _downsample(frames, factor), _downsample(t, factor) if t.shape[-1] > 1 else t
        levels.append(PyramidLevel(frames, t, grids))
    return levels[::-1]


def _downsample(x: Tensor, factor: int) -> Tensor:
    """Means of cells of `factor` pixels."""
    while factor % 2 == 0:
        x, factor = resize(x, 0.5), factor // 2
    return F.avg_pool2d(x, factor) if factor > 1 else x


def pick_better_flow(level: PyramidLevel, v: Tensor, other: Tensor) -> Tensor:
    """Returns v, or the `other` motion (both (B,2,h,w)) where the frames differ less by it, in the window around; in
    between, a mixture."""
    difference, other_difference = (sum_7x7(level.difference(x).sum(1, True)) for x in (v, other))
    floor = level.damping * (1e-3 / _LK_DAMPING)
    return torch.lerp(v, other, ((difference - other_difference) / (0.2 * difference + floor)).clamp_(0, 1))


def spread_motion(level: PyramidLevel, v: Tensor) -> Tensor:
    """Returns v (B,2,h,w), or where the frames differ clearly less by it the motion of one of the pixels around."""

    def of_nine(motion: Tensor) -> Tensor:
        return sum_3x3(level.difference(motion).mean(1, True))

    least = of_nine(v).mul_(1 - _SAVING).sub_(_SPREAD_NOISE).clamp_max_(_NO_MATCH)
    best = v
    for x, y in _NEIGHBOURS:
        other = _shifted(v, x, y)
        by_other = of_nine(other)
        best = torch.where(by_other < least, other, best)
        least = torch.minimum(least, by_other)
    return best


def _shifted(x: Tensor, right: int, down: int) -> Tensor:
    """Moves an image (B,C,h,w) by whole pixels; what comes in repeats its border."""
    height, width = x.shape[2:]
    sides = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    moved = F.pad(x, sides, mode="replicate")
    return moved[..., sides[3] : sides[3] + height, sides[1] : sides[1] + width]


def _central_differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    wide, high = F.pad(x, (1, 1, 0, 0), mode="replicate"), F.pad(x, (0, 0, 1, 1), mode="replicate")
    return (wide[..., 2:] - wide[..., :-2]).mul_(0.5), (high[..., 2:, :] - high[..., :-2, :]).mul_(0.5)


def lucas_kanade_step(level: PyramidLevel, v: Tensor) -> Tensor:
    """Returns the change of v (B,2,h,w) by one step of Lucas and Kanade (1981), a pixel at most.

    The 2x2 normal equations of each window are solved in closed form; pixels that differ much weigh less.
    """
    # Differences see a row further, and windows three.
    return _in_strips(_step_of, 1 + _LK_WINDOW // 2, *level.warped(v), level.t, level.damping, level.seen)


def _step_of(at0: Tensor, at1: Tensor, t: Tensor, damping: Tensor, seen: Tensor) -> Tensor:
    """`lucas_kanade_step` of frames (B,3,h,w) that are warped already."""
    difference = at0 - at1
    weight = seen / (difference.abs().mean(1, True) + _LK_NOISE)
    dx, dy = _central_differences(torch.lerp(at1, at0, t))
    # The structure tensor, and its right side, summed over colours.
    pairs = ((dx, dx), (dx, dy), (dx, difference), (dy, dy), (dy, difference))
    products = torch.stack([_dot(*pair) for pair in pairs], 1)
    xx, xy, xd, yy, yd = sum_7x7(products.mul_(weight)).split(1, 1)
    xx, yy = xx + damping, yy + damping
    change = torch.cat((yy * xd - xy * yd, xx * yd - xy * xd), 1) / (xx * yy - xy * xy)
    return change / change.square().sum(1, True).clamp_min_(1).sqrt_()


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Products of two images (B,3,h,w), summed over colours: (B,h,w).

    Colour by colour, in two thirds of the time of products that are summed afterwards.
    """
    total = one[:, 0] * other[:, 0]
    return total.addcmul_(one[:, 1], other[:, 1]).addcmul_(one[:, 2], other[:, 2])


def _in_strips(compute: Callable[..., Tensor], halo: int, *maps: Tensor) -> Tensor:
    """What `compute` makes of maps (...,h,w), or (...,1,1), in strips of rows where the maps are large. halo: how many
    rows above and below a row it looks at."""
    height, width = maps[0].shape[-2:]
    if is_tracing() or torch.compiler.is_compiling() or height * width <= 2 * _STRIP_PIXELS:
        return compute(*maps)
    out = maps[0]
    for start, stop in row_strips(height, width, _STRIP_PIXELS):
        low, high = max(0, start - halo), min(height, stop + halo)
        part = compute(*(x if x.shape[-2] == 1 else x[..., low:high, :] for x in maps))
        if start == 0:
            out = part.new_empty((*part.shape[:-2], height, width))
        out[..., start:stop, :] = part[..., start - low : stop - low, :]
    return out


def _variational_refinement(level: PyramidLevel, v: Tensor, iterate: Callable) -> Tensor:
    """Change of v that lowers the energy of brightness, gradients and smoothness (Brox et al. 2004, eq. 4).

    The frames are warped once; in each fixed-point iteration the robust weights are taken anew, and the linear
    equations that they make are solved by a few sweeps of `sor`.
    """
    terms, start = pack(pad_to_even(_data_terms(level, v))), pack(pad_to_even(v))
    motion, refined = F.pad(start, (1, 1, 1, 1)), v
    for _ in range(_FIXED_POINT_ITERATIONS):
        motion, refined = iterate(terms, start, motion, refined)
    return (refined - v).clamp_(-_MAX_CHANGE, _MAX_CHANGE)


def fixed_point_iteration(terms: Tensor, start: Tensor, motion: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the motion after sweeps with robust weights that are taken from it: packed with a border, and (B,2,h,w).

    terms: of `_data_terms` at the motion `start`; both packed. motion, v: the motion so far, in the same two forms.
    """
    height, width = v.shape[2:]
    inside = (..., slice(1, -1), slice(1, -1))
    motion = sor(
        motion, _linear_equations(terms, start, motion[inside]), coupling(*smoothness_weights(v)), _SOR_SWEEPS
    )
    return motion, unpack(motion[inside])[..., :height, :width]


def _data_terms(level: PyramidLevel, v: Tensor) -> Tensor:
    """(B,6,2,h,w): xx, yy, xy, xd, yd, dd of what each pixel keeps, in levels of 255: brightness, and its gradient.

    They are the normal equations of (gradient . change + difference)^2, each divided by the squared gradient and zeta^2
    as in DeepFlow (Weinzaepfel et al. 2013), so that strong edges do not outweigh all else.
    """
    # Two differences see two rows further.
    return _in_strips(_data_terms_of, 2, *level.warped(v), level.t, level.seen)


def _data_terms_of(at0: Tensor, at1: Tensor, t: Tensor, seen: Tensor) -> Tensor:
    """`_data_terms` of frames (B,3,h,w) that are warped already."""
    mean_and_difference = torch.cat((torch.lerp(at1, at0, t), at0 - at1), 1).mul_(255)
    (dx, distance_x), (dy, distance_y) = (x.chunk(2, 1) for x in _central_differences(mean_and_difference))
    (dxx, _), (dxy, dyy) = (x.chunk(2, 1) for x in _central_differences(torch.cat((dx, dy), 1)))
    weight = (seen / 3).sqrt_()  # colours are averaged
    brightness = _normal_equations(weight, (dx, dy, mean_and_difference[:, 3:]))
    gradient = _normal_equations(weight, (dxx, dxy, distance_x), (dxy, dyy, distance_y))
    both = [x for pair in zip(brightness, gradient, strict=True) for x in pair]
    return torch.stack(both, 1).unflatten(1, (6, 2))


def _normal_equations(weight: Tensor, *equations: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """xx, yy, xy, xd, yd, dd, each (B,h,w), summed over equations (x y . change + d)^2 of (B,3,h,w) and their colours.

    weight: (B,1,h,w), of what is squared.
    """
    of_each = []
    for x, y, d in equations:
        scale = torch.addcmul(x * x, y, y).add_(_ZETA**2).rsqrt_().mul_(weight)
        x, y, d = x * scale, y * scale, d * scale
        of_each.append([_dot(*pair) for pair in ((x, x), (y, y), (x, y), (x, d), (y, d), (d, d))])
    return [reduce(torch.add, terms) for terms in zip(*of_each, strict=True)]


def _linear_equations(terms: Tensor, start: Tensor, motion: Tensor) -> Tensor:
    """Equations for `sor`, packed (B,5,2,h,w/2): `terms` at `start`, weighing less where `motion` misses them."""
    xx, yy, xy, xd, yd, dd = terms.unbind(1)
    x, y = (motion - start).split(1, 1)
    residual = (xx * x).addcmul_(xy, y, value=2).sub_(xd, alpha=2).mul_(x)
    residual.add_((yy * y).sub_(yd, alpha=2).mul_(y)).add_(dd)  # of each squared difference
    weight = residual.clamp_min_(0).add_(_EPSILON**2).rsqrt_()
    equations = _BRIGHTNESS * terms[:, :5, 0] * weight[:, None, 0]
    equations.addcmul_(terms[:, :5, 1], weight[:, None, 1], value=_GRADIENT)
    # For the motion itself instead of its change.
    if is_tracing():  # exporters do not follow what is written into parts
        free = equations[:, 3:] + equations[:, :2] * start + equations[:, 2:3] * start.flip(1)
        return torch.cat((equations[:, :3], free), 1)
    equations[:, 3:].addcmul_(equations[:, :2], start).addcmul_(equations[:, 2:3], start.flip(1))
    return equations


def smoothness_weights(v: Tensor) -> tuple[Tensor, Tensor]:
    """Says how strongly each pixel is coupled to the one at its right, and below: weakly across edges of the motion.

    v: (B,2,h,w). Returns (B,1,h,w-1) and (B,1,h-1,w), the robust penalty's diffusivity between the pixels.
    """
    right = F.pad(v[..., 1:] - v[..., :-1], (0, 1))
    below = F.pad(v[..., 1:, :] - v[..., :-1, :], (0, 0, 0, 1))
    diffusivity = (
        right.square_().addcmul_(below, below).sum(1, True).add_(_EPSILON**2).rsqrt_().mul_(_SMOOTHNESS / 2)
    )
    return diffusivity[..., 1:] + diffusivity[..., :-1], diffusivity[..., 1:, :] + diffusivity[..., :-1, :]
