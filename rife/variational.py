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

import torch
import torch.nn.functional as F
from torch import Tensor

from .warp import resize, warp

# Of the finest level's, from coarse to fine: downscale, steps of Lucas and Kanade.
_LEVELS = ((8, 5), (4, 4), (2, 3), (1, 2))
_WINDOW = 7  # pixels that move together, in a step of Lucas and Kanade
_NOISE = 0.05  # of a frame in 0..1: larger differences weigh less
_TEXTURE = 0.004  # of the structure tensor: with less of it, steps are short

# Of the variational refinement, for frames in 0..255: as OpenCV's DIS has them, but for twice the weight of gradients.
_SMOOTH, _BRIGHTNESS, _GRADIENT = 20.0, 5.0, 20.0
_EPSILON, _ZETA = 1e-3, 0.1
_REWEIGHTED, _SWEEPS, _OVER = 3, 5, 1.6
_FARTHEST = 4.0  # pixels that the refinement of one level may move anything


@torch.no_grad()
def motion_flow(img0: Tensor, img1: Tensor, timestep: Tensor, coarse: Tensor, finest: int = 2) -> Tensor:
    """Flow (B,4,H/finest,W/finest), t->0 and t->1 in pixels of the full size, without gradients.

    img0, img1: (B,3,H,W) in 0..1, H and W multiples of 8*finest. timestep: (B,1,1,1), or (B,1,H,W). coarse: flow
    (B,4,H/(4*finest),W/(4*finest)) in the same pixels that is tried besides, and followed where it matches better.
    """
    frames = [F.avg_pool2d(x.float(), finest) for x in (img0, img1)]
    v, before = None, 0
    for factor, steps in _LEVELS:
        a, b = (F.avg_pool2d(x, factor) for x in frames)
        t = timestep.float() if timestep.shape[-1] == 1 else F.avg_pool2d(timestep.float(), factor * finest)
        if v is None:
            v = a.new_zeros(a.shape[0], 2, *a.shape[2:])
        else:
            v = resize(v, before // factor) * (before // factor)
        if factor == 4:
            v = _better(a, b, t, v, (coarse[:, 2:4] - coarse[:, :2]).float() / (factor * finest))
        a, b = _equally_bright(a, b, t, v)
        for _ in range(steps):
            v = v + _step(a, b, t, v)
        v = v + _refinement(255 * a, 255 * b, t, v)
        before = factor
    v = v * finest
    return torch.cat((-t * v, (1 - t) * v), 1)


def _equally_bright(a: Tensor, b: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Both frames, so that each colour has the same mean in what the motion shows of them: a fade is no motion."""
    mean0, mean1 = (x.mean((2, 3), True).clamp_min(1e-3) for x in _pair(a, b, t, v))
    gain = (mean1 / mean0).clamp(0.25, 4).sqrt()
    return a * gain, b / gain


def _pair(a: Tensor, b: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Both frames as they are at time t by this motion."""
    return warp(a, -t * v), warp(b, (1 - t) * v)


def _better(a: Tensor, b: Tensor, t: Tensor, v: Tensor, other: Tensor) -> Tensor:
    """v, or the other motion where the frames around differ less by it."""
    difference, others = (
        _mean((x - y).abs().mean(1, True), 5) for x, y in (_pair(a, b, t, v), _pair(a, b, t, other))
    )
    return torch.lerp(v, other, ((difference - others) / (0.2 * difference + 1e-3)).clamp(0, 1))


def _mean(x: Tensor, window: int) -> Tensor:
    """Of the pixels around, as far as there are any."""
    for size in ((window, 1), (1, window)):
        x = F.avg_pool2d(x, size, 1, tuple(s // 2 for s in size), count_include_pad=False)
    return x


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    wide, high = F.pad(x, (1, 1, 0, 0), mode="replicate"), F.pad(x, (0, 0, 1, 1), mode="replicate")
    return (wide[..., 2:] - wide[..., :-2]) / 2, (high[..., 2:, :] - high[..., :-2, :]) / 2


def _step(a: Tensor, b: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Change of v by one step of Lucas and Kanade, a pixel at most."""
    at0, at1 = _pair(a, b, t, v)
    difference = at0 - at1
    dx, dy = _gradient(torch.lerp(at1, at0, t))
    weight = 1 / (difference.abs().mean(1, True) + _NOISE)
    products = (dx * dx, dx * dy, dy * dy, dx * difference, dy * difference)
    sums = _mean(weight * torch.cat([p.mean(1, True) for p in products], 1), _WINDOW)
    xx, xy, yy, xd, yd = sums.split(1, 1)
    xx, yy = xx + _TEXTURE, yy + _TEXTURE
    change = torch.cat((yy * xd - xy * yd, xx * yd - xy * xd), 1) / (xx * yy - xy * xy)
    return change / change.square().sum(1, True).clamp_min(1).sqrt()


def _refinement(a: Tensor, b: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Change of v that lowers the energy of brightness, gradients and smoothness; frames in 0..255.

    The frames are warped once; the robust weights are taken anew a few times, and for each the linear equations are
    solved by over-relaxation, black pixels after red ones.
    """
    terms = _terms(a, b, t, v)
    weights = v.new_tensor((_BRIGHTNESS, _GRADIENT)).view(2, 1, 1, 1, 1)
    colours = _chess_board(v)
    change = torch.zeros_like(v)
    for _ in range(_REWEIGHTED):
        left = _left(terms, change)
        robust = weights / (torch.stack((left[0], left[1] + left[2])).clamp_min(0) + _EPSILON**2).sqrt()
        equations = terms[:5, 0] * robust[0] + (terms[:5, 1] + terms[:5, 2]) * robust[1]
        change = _relaxed(equations, _tension(v + change), v, change, colours)
    return change.clamp(-_FARTHEST, _FARTHEST)


def _terms(a: Tensor, b: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """(6,3,B,1,h,w) xx, xy, yy, xd, yd, dd of what each pixel keeps: brightness, its gradient along x, along y."""
    at0, at1 = _pair(a, b, t, v)
    difference = at0 - at1
    dx, dy = _gradient(torch.lerp(at1, at0, t))
    dxx, dxy = _gradient(dx)
    rows = zip((dx, dxx, dxy), (dy, dxy, _gradient(dy)[1]), (difference, *_gradient(difference)), strict=True)
    terms = []
    for x, y, d in rows:
        scale = 1 / (x * x + y * y + _ZETA**2)
        products = (one * other * scale for one, other in ((x, x), (x, y), (y, y), (x, d), (y, d), (d, d)))
        terms.append(torch.stack([product.mean(1, True) for product in products]))
    return torch.stack(terms, 1)


def _left(terms: Tensor, change: Tensor) -> Tensor:
    """(3,B,1,h,w) what is left of each row's squared difference after the change."""
    x, y = change[:, :1], change[:, 1:]
    xx, xy, yy, xd, yd, dd = terms.unbind(0)
    return dd - 2 * (x * xd + y * yd) + x * (x * xx + 2 * y * xy) + y * y * yy


def _chess_board(v: Tensor) -> tuple[Tensor, Tensor]:
    """(h,w) where the fields are red, and where black."""
    y, x = (torch.arange(side, device=v.device) for side in v.shape[2:])
    red = (y[:, None] + x) % 2 == 0
    return red, ~red


def _tension(v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How much each pixel is bound to the one at its right, left, below, above: little across edges of the motion."""
    right = F.pad(v, (0, 1, 0, 0), mode="replicate")[..., 1:] - v
    below = F.pad(v, (0, 0, 0, 1), mode="replicate")[..., 1:, :] - v
    bound = _SMOOTH / ((right**2 + below**2).sum(1, True) + _EPSILON**2).sqrt()
    right, below = (bound[..., 1:] + bound[..., :-1]) / 2, (bound[..., 1:, :] + bound[..., :-1, :]) / 2
    return F.pad(right, (0, 1)), F.pad(right, (1, 0)), F.pad(below, (0, 0, 0, 1)), F.pad(below, (0, 0, 1, 0))


def _relaxed(equations: Tensor, tension, v: Tensor, change: Tensor, colours) -> Tensor:
    """The change after some sweeps over (xx xy; xy yy) change = (xd; yd), with `tension` on v + change.

    equations: xx, xy, yy, xd, yd, each (B,1,h,w). colours: of `_chess_board`.
    """
    xx, xy, yy, xd, yd = equations.unbind(0)
    right, left, below, above = tension
    total = right + left + below + above

    def pulled(x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        sideways = right * x[..., 1:-1, 2:] + left * x[..., 1:-1, :-2]
        return sideways + below * x[..., 2:, 1:-1] + above * x[..., :-2, 1:-1]

    towards = torch.cat((xd, yd), 1) + pulled(v) - total * v
    # A single pixel is bound to none, and may have no texture either.
    inverse = _OVER / torch.cat((xx + total, yy + total), 1).clamp_min(_EPSILON**2)
    for _ in range(_SWEEPS):
        for colour in colours:
            new = (towards + pulled(change) - xy * change.flip(1)) * inverse + (1 - _OVER) * change
            change = torch.where(colour, new, change)
    return change
