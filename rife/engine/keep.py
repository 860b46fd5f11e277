"""Keeps regions that new frames take from the nearer given frame, unwarped: logos, subtitles, a game's display.

A mask says where; or they are found: what stands still, to the pixel, for some frames while things move around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..timeline.numbers import shortened
from ..timeline.plans import Step

AUTO, OFF = "auto", "off"

_STILL = 3 / 255  # change of a pixel that stands still
_LONG = 8  # pairs of frames that an overlay stands still for
_NEAR = 48  # pixels around it in which there must be motion,
_MOVES = 0.25  # and how much of them moves
_CONTRAST = 0.08  # between brightest and darkest pixel around one, which is no flat part then
_GAP = 8  # pixels between edges that belong together
_DILATION, _FEATHER = 1, 5  # pixels that a region is dilated by, and its soft edge


def feathered(mask: Tensor) -> Tensor:
    """Returns a mask (H,W) in 0..1, dilated by a few pixels, with soft edges outside of it."""
    dilated = F.max_pool2d(mask[None, None].float(), 2 * _DILATION + 1, 1, _DILATION)
    soft = F.avg_pool2d(F.max_pool2d(dilated, _FEATHER, 1, _FEATHER // 2), _FEATHER, 1, _FEATHER // 2)
    return torch.maximum(soft, dilated)[0, 0].clamp(0, 1)


def check_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Returns a mask (H,W), or (N,H,W) whose parts are put together, as (H,W). Raises ValueError where its size
    differs."""
    mask = mask.amax(0) if mask.ndim == 3 else mask
    if tuple(mask.shape) != (height, width):
        raise ValueError(
            f"keep is {tuple(mask.shape)} (H,W), expected {height}x{width} as the frames are. Resize the mask."
        )
    return mask


class KeptMask:
    """Keeps a region that is the same for all frames."""

    ahead = 0

    def __init__(self, mask: Tensor):
        self._mask = feathered(mask)

    def push(self, frame: Tensor) -> None:
        """Does nothing with a frame (H,W,C): the region need not be looked for."""

    def finish(self) -> None:
        """Does nothing."""

    def retouched(self, made: Tensor, step: Step, frame_at: Callable[[int], Tensor]) -> Tensor:
        """Returns a new frame `made` (H,W,C) with the region from the given frame that is nearer in time."""
        return _from_nearer(made, self._mask, step, frame_at)


class OverlayFinder:
    """Finds regions that stand still over motion while frames (H,W,C) are pushed; a `Watcher`.

    Of each pair of frames it keeps one byte a pixel, for a dozen pairs.
    """

    ahead = _LONG

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._still: dict[int, Tensor] = {}  # pair i, i+1 -> (H,W) bool
        self._count = 0
        self._known: tuple[int, Tensor | None] = (-1, None)

    def push(self, frame: Tensor) -> None:
        """Takes the next frame (H,W,C), in 0..1 or uint8."""
        frame = frame[..., :3]
        self._edges = _edges(frame)
        if self._last is not None:
            pair = self._count - 1
            self._still[pair] = _change(self._last, frame) <= _STILL
            self._still.pop(pair - 4 * _LONG, None)
        self._last, self._count = frame, self._count + 1

    def finish(self) -> None:
        """Does nothing more: there are no more frames."""

    def mask(self, left: int) -> Tensor | None:
        """Returns (H,W) in 0..1, what to keep between frame `left` and the next; None for nothing."""
        if self._known[0] != left:
            self._known = left, self._find(left)
        return self._known[1]

    def _find(self, pair: int) -> Tensor | None:
        still = self._still.get(pair)
        if still is None or still.all():
            return None
        runs = [still.int(), still.int()]  # how long it has stood still up to the pair, and from it on
        for side, direction in enumerate((-1, 1)):
            standing = still
            for k in range(1, _LONG):
                other = self._still.get(pair + direction * k)
                if other is None:
                    break
                standing = standing & other
                runs[side] += standing
        enough = min(_LONG, len(self._still))
        overlay = (runs[0] + runs[1] - 1 >= enough) & still
        if enough < 2 or not overlay.any():
            return None
        overlay = overlay & (_moving_share(~still) >= _MOVES)
        # What is flat may stand still by chance; between edges that do, it belongs to them.
        overlay = overlay & _closed(overlay & self._edges)
        # The soft edge ends where something moves.
        return feathered(overlay.float()) * (still | _dilated(overlay)) if overlay.any() else None

    def retouched(self, made: Tensor, step: Step, frame_at: Callable[[int], Tensor]) -> Tensor:
        """Returns a new frame `made` (H,W,C) with what was found from the given frame that is nearer in time."""
        mask = self.mask(step.left) if step.right == step.left + 1 else None
        return made if mask is None else _from_nearer(made, mask, step, frame_at)


Keeper = KeptMask | OverlayFinder


def keeper_of(keep: Tensor | str | None) -> Keeper | None:
    """Returns what keeps a mask (H,W), "auto" what finds one, None or "off" nothing. Raises ValueError for another
    word."""
    if keep is None or (isinstance(keep, str) and keep == OFF):
        return None
    if isinstance(keep, Tensor):
        return KeptMask(keep)
    if keep != AUTO:
        raise ValueError(f"keep is {shortened(keep)}, expected off, auto or a mask. Choose one of these.")
    return OverlayFinder()


class Watchers:
    """Shows frames to several watchers as to one."""

    def __init__(self, watchers: Iterable):
        self._all = list(watchers)
        self.ahead = max((watcher.ahead for watcher in self._all), default=0)

    def push(self, frame: Tensor) -> None:
        """Shows the next frame (H,W,C) to each."""
        for watcher in self._all:
            watcher.push(frame)

    def finish(self) -> None:
        """Tells each that there are no more frames."""
        for watcher in self._all:
            watcher.finish()


def _from_nearer(made: Tensor, mask: Tensor, step: Step, frame_at: Callable[[int], Tensor]) -> Tensor:
    given = frame_at(step.left if step.time * 2 < 1 else step.right)
    given = given if given.is_floating_point() else given.float().div(255)
    weight = mask.to(made)[..., None]
    return torch.where(weight > 0, torch.lerp(made, given.to(made), weight), made)


def _change(a: Tensor, b: Tensor) -> Tensor:
    """(H,W): the largest change of a pixel's colours, less single pixels of noise."""
    values = [x.float() if x.is_floating_point() else x.float().div(255) for x in (a, b)]
    change = (values[0] - values[1]).abs().amax(-1)
    return F.avg_pool2d(change[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def _edges(frame: Tensor) -> Tensor:
    """(H,W): where the picture is not flat."""
    grey = (frame.float() if frame.is_floating_point() else frame.float().div(255)).mean(-1)[None, None]
    return (F.max_pool2d(grey, 5, 1, 2) + F.max_pool2d(-grey, 5, 1, 2))[0, 0] > _CONTRAST


def _closed(mask: Tensor) -> Tensor:
    """(H,W) bool with gaps of some pixels filled."""
    side = 2 * _GAP + 1
    padded = F.pad(mask[None, None].float(), (_GAP,) * 4)
    dilated = F.max_pool2d(padded, side, 1, _GAP)
    return (-F.max_pool2d(-dilated, side, 1, _GAP))[0, 0, _GAP:-_GAP, _GAP:-_GAP] > 0


def _dilated(mask: Tensor) -> Tensor:
    return F.max_pool2d(mask[None, None].float(), 3, 1, 1)[0, 0] > 0


def _moving_share(moving: Tensor) -> Tensor:
    """(H,W): how much of what is around each pixel moves."""
    height, width = moving.shape
    small = F.avg_pool2d(moving[None, None].float(), 8, 8, ceil_mode=True, count_include_pad=False)
    around = F.avg_pool2d(small, 2 * (_NEAR // 8) + 1, 1, _NEAR // 8, count_include_pad=False)
    return F.interpolate(around, size=(height, width), mode="nearest")[0, 0]
