"""Tells whether a frame is the one before it again, judged where things move.

A frame that is shown twice, or drawn once for two or three frames, differs from itself by what a codec leaves: little
everywhere, and in no direction. A slow pan differs by as little, but each part of it goes on at its own pace, and what
has changed is what a shift changes. So each part is held against what changes *there* around it, never against the most
that changes anywhere: a subtitle that appears, a character on twos in front of a pan are no measure for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

REPEAT = 0.75 / 255  # change of a cell in which nothing moves, or nothing that can be told from noise
MOST = 3 / 255  # change of the most changed cell of a repeat that a codec has left traces in
_STANDS_OUT = 0.15  # share of the most that changes around it, at most
_PACE = 0.3  # share of a part's usual change, where its motion goes on,
_AREA = 0.2  # and how much of what moves does so
_COHERENT = 0.25  # share of a part's change that a shift explains, where it is motion
_SEEN = 0.06 / 255  # motion in thumbnails, root mean square of what a shift explains
_WINDOW = 8, 4  # of thumbnails, and from one to the next
_RETURNED = 0.5  # of the change into a flash is left when it is over
_FLASH = 2  # frames that a flash lasts, at most
_ALL_AROUND = 6  # pairs from which on one of them alone does not say how a cell changes


class Change(NamedTuple):
    """Holds what differs between a frame and the next.

    cells: the mean change (rows,columns) of each; moved: as much of it as a shift explains, where that is most of it.
    before, after: thumbnails (3,h,w).
    """

    cells: Tensor
    moved: Tensor
    before: Tensor
    after: Tensor

    @property
    def size(self) -> float:
        """Is the mean change of the thumbnails, 0..1."""
        return float((self.after - self.before).abs().mean())


def is_repeat(pair: int, around: Mapping[int, Change], most: float) -> bool:
    """Tells whether the second frame of `pair` is its first again.

    around: changes by pair, that one's and those of the pairs on both sides that are of the same scene. most: of its
    cells' changes the largest.
    """
    if most > MOST:
        return False
    change = around[pair]
    others = {i: other for i, other in around.items() if i != pair}
    if most >= REPEAT and most > _STANDS_OUT * max(
        (float(c.cells.amax()) for c in others.values()), default=0
    ):
        return False  # it may as well be noise that is everywhere
    flashes = _flashes(around)
    steady = [other for i, other in others.items() if i not in flashes]
    usual = _usual([other.cells for other in steady])
    rms = _usual([_rms(other.after - other.before) for other in steady])
    shifted = explained(change.before, change.after, *_WINDOW)
    return not (_goes_on(change.moved, usual, REPEAT) or _goes_on(shifted, rms, _SEEN))


def _goes_on(moved: Tensor, usual: Tensor | float, least: float) -> bool:
    """Whether motion goes on in enough of what moves at all."""
    moving = (torch.maximum(moved, torch.as_tensor(usual, device=moved.device)) >= least).sum()
    continuing = ((moved >= least) & (moved >= _PACE * usual)).sum()
    return bool(continuing > _AREA * moving)


def _usual(changes: Sequence[Tensor]) -> Tensor | float:
    """How each part (rows,columns), or one beside it, changes where it moves.

    The second most of all pairs, since what happens once is no motion; on threes, two of six pairs move. At the end of
    a clip the most.
    """
    if not changes:
        return 0.0
    order = torch.stack(list(changes)).sort(0, descending=True).values
    usual = order[1 if len(changes) >= _ALL_AROUND else 0]
    return F.max_pool2d(usual[None], 3, 1, 1)[0]


def _flashes(around: Mapping[int, Change]) -> set[int]:
    """The pairs that lead into a flash and out of it: the picture is then as it was."""
    found = set()
    for start in around:
        for end in range(start + 1, start + _FLASH + 1):
            if end not in around:
                continue
            left = float((around[end].after - around[start].before).abs().mean())
            if left < _RETURNED * min(around[start].size, around[end].size):
                found |= {start, end}
    return found


def explained(before: Tensor, after: Tensor, size: int, step: int) -> Tensor:
    """Measures what a shift explains of the change between two pictures (C,h,w), root mean square in windows
    (rows,columns) of `size` pixels, one each `step`; 0 where it is not most of the change, as of noise.

    The shift is Lucas and Kanade's (1981): least squares of the change against the gradient.
    """
    difference, picture = after - before, (before + after) / 2
    x, y = torch.zeros_like(picture), torch.zeros_like(picture)
    x[:, :, 1:-1] = (picture[:, :, 2:] - picture[:, :, :-2]) / 2
    y[:, 1:-1] = (picture[:, 2:] - picture[:, :-2]) / 2
    products = x * x, x * y, y * y, x * difference, y * difference, difference * difference
    xx, xy, yy, xt, yt, tt = (_means(product, size, step) for product in products)
    xx, yy = xx + 1e-9, yy + 1e-9  # a flat window must not divide by zero
    # What the least squares explain: b' A^-1 b of the structure tensor A and b = (xt, yt).
    explained_square = ((yy * xt - xy * yt) * xt + (xx * yt - xy * xt) * yt) / (xx * yy - xy * xy)
    return torch.where(explained_square > _COHERENT * tt, explained_square, 0.0).clamp(min=0).sqrt()


def _rms(difference: Tensor) -> Tensor:
    return _means(difference * difference, *_WINDOW).sqrt()


def _means(x: Tensor, size: int, step: int) -> Tensor:
    """(C,h,w) -> means of windows (rows,columns); what is left over at the border is left out."""
    sides = [min(size, side) for side in x.shape[1:]]
    return F.avg_pool2d(x.mean(0, keepdim=True)[None], sides, step)[0, 0]
