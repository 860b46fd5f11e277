"""Finds cuts and repeated frames, from small pictures in one pass.

How much of a frame is explained by its neighbour moved about? Each block of a thumbnail looks for its best match nearby
in the other one, by normalised correlation, which knows neither brightness nor contrast: so pans, flashes and fades
are explained, another scene is not. A cut is what is explained badly *and* worse than what happens around it: a clip
that is hard to explain throughout (noise, a whip pan) has no cuts, and neither has a pair without neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.luma import LUMA
from .repeats import MOST, REPEAT, Change, explained, is_repeat

SIDE = 64  # of a thumbnail, its longer one
_BLOCK = 8
_REACH = 1 / 8  # how far a block looks, of the thumbnail's longer side
_MOST_CONTRAST = 0.1  # of a block, in standard deviations; more of it weighs no more
_FAINT = 0.01  # contrast below which a block hardly counts
_NOISE = 0.0015  # contrast that is taken for noise
_SURE = 0.8  # correlation of a match that tells motion
_NEARER = 0.02  # correlation that a match may lack for being a pixel nearer

# Tuned on the edits of benchmarks/score_cuts.py, which says what they reach.
CUT = 0.40  # unexplained share of a pair that may be a cut
CUT_OVER_USUAL = 2.0  # times as much as what is usual around it
JUMP = 0.13  # the same for a jump within one scene,
JUMP_OVER_MOST = 2.0  # which must stand out from all around it
_AROUND = 3  # pairs on each side
_FLASH = 0.08  # brightness step of a flash

_CELL = 16
_SMALLEST = 96  # side of a frame on which motion can still be found
_MOST_AT_ONCE = 16  # frames that are looked at together,
_AT_ONCE = 1 << 24  # and numbers in them


@dataclass(frozen=True)
class Evidence:
    """Holds what a pair of frames tells: `unexplained` 0..1, `motion` in pixels (of its faster parts), `change` of the
    most changed cell 0..1, `level` and `level_before` the mean brightness of both frames, `contrast` of the flatter
    one."""

    unexplained: float
    motion: float
    change: float
    level_before: float
    level: float
    contrast: float


@dataclass
class Scenes:
    """Lists frames that begin a scene, frames that repeat the one before, evidence of pair i - 1, i at [i - 1].

    Evidence is None of a pair that is none (of two clips), or was let go.
    """

    cuts: set[int] = field(default_factory=set)
    repeats: set[int] = field(default_factory=set)
    evidence: list[Evidence | None] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Scenes], frames: int) -> Scenes:
        """Joins those of clips of `frames` frames each that stand one after the other."""
        whole = cls()
        for first, part in zip(count(0, frames), parts, strict=False):
            whole.cuts |= {first + i for i in part.cuts}
            whole.repeats |= {first + i for i in part.repeats}
            whole.evidence += ([None] if first else []) + part.evidence
        return whole


def find_scenes(frames: Iterable[Tensor], device: torch.device | str | None = None) -> Scenes:
    """Finds the cuts and repeats of frames (N,H,W,C) in 0..1 or uint8; reads each once, a few at a time."""
    finder = SceneFinder(device)
    held: list[Tensor] = []
    for frame in frames:
        held.append(frame)
        if len(held) == _MOST_AT_ONCE or len(held) * frame.numel() > _AT_ONCE:
            finder.push_all(held)
            held = []
    if held:
        finder.push_all(held)
    finder.finish()
    return finder.scenes


def choose_scale(scenes: Scenes, height: int, width: int, reach: tuple[float, float]) -> tuple[float, str]:
    """Chooses the scale for `Model.inference` of frames of height x width pixels, and says why.

    reach: pixels that the network follows at scale 1 and at 0.5, as `IFNetConfig.reach` has them.
    """
    moves = sorted(e.motion for i, e in enumerate(scenes.evidence) if e and i + 1 not in scenes.cuts)
    motion = moves[len(moves) * 9 // 10] if moves else 0.0
    near, far = reach
    scale = 1.0 if motion <= near else 0.5 if motion <= far else 0.25
    why = f"9 of 10 pairs move up to {motion:.0f} px; this network follows {near:.0f} px at scale 1, {far:.0f} at 0.5"
    while scale < 1 and min(height, width) * scale < _SMALLEST:
        scale *= 2
        why += f"; frames of {width}x{height} are too small for less than {scale:g}"
    return scale, why


class SceneFinder:
    """Fills `scenes` while frames (H,W,C) are pushed, `ahead` frames behind them.

    device: where to compare what the frames were made smaller to; default is each frame's own. keep_evidence: else it
    is None once it is used, for streams without end.
    """

    ahead = _AROUND

    def __init__(self, device: torch.device | str | None = None, keep_evidence: bool = True):
        self.scenes = Scenes()
        self._keep_evidence = keep_evidence
        self._device = device
        self._last: Tensor | None = None
        self._thumbs: dict[int, Tensor] = {}
        self._cells: dict[int, tuple[Tensor, Tensor]] = {}  # of pairs, see `_changes`
        self._decided = 0
        self._count = 0

    @property
    def cuts(self) -> set[int]:
        """Holds the frames that begin a scene, so far."""
        return self.scenes.cuts

    @property
    def repeats(self) -> set[int]:
        """Holds the frames that repeat the one before, so far."""
        return self.scenes.repeats

    def push(self, frame: Tensor) -> None:
        """Takes the next frame (H,W,C), in 0..1 or uint8."""
        self.push_all([frame])

    def push_all(self, frames: Sequence[Tensor]) -> None:
        """Takes the next frames (H,W,C), of one size.

        They are made small where they are, which takes a millisecond of one core, less than to send them.
        """
        thumbs = torch.cat([thumbnails(frame[None]) for frame in frames]).to(self._device)
        samples = [_samples(frame[None])[0] for frame in frames]
        for i, thumb in enumerate(thumbs):
            self._thumbs[self._count + i] = thumb
        if self._last is not None:
            samples = [self._last.to(samples[0].device), *samples]
            thumbs = torch.cat((self._thumbs[self._count - 1][None], thumbs))
        if len(samples) > 1:
            changes = [_changes(a, b) for a, b in zip(samples, samples[1:], strict=False)]
            self._cells.update(enumerate(changes, len(self.scenes.evidence)))
            self.scenes.evidence += _evidence(
                [cells for cells, _ in changes], thumbs, max(frames[0].shape[:2])
            )
        self._last = samples[-1].clone()  # alone: it may be a view of a whole clip
        self._count = len(self.scenes.evidence) + 1
        self._decide(len(self.scenes.evidence) - _AROUND)

    def finish(self) -> None:
        """Decides about the rest: there are no more frames."""
        self._decide(len(self.scenes.evidence))

    def _decide(self, end: int) -> None:
        for pair in range(self._decided, end):
            if self._is_repeat(pair):
                self.scenes.repeats.add(pair + 1)
            elif self._stands_out(pair) and not self._is_fade(pair) and not self._is_flash(pair):
                self.scenes.cuts.add(pair + 1)
            used = pair - 2 * _AROUND
            if not self._keep_evidence and used >= 0:
                self.scenes.evidence[used] = None
        self._decided = max(self._decided, end)
        for known in (self._thumbs, self._cells):
            for index in [i for i in known if i < self._decided - _AROUND]:
                del known[index]

    def _evidence(self, first: int, stop: int) -> list[Evidence]:
        """Of pairs first to stop - 1, as far as there are such: none of them has been let go yet."""
        return [e for e in self.scenes.evidence[max(0, first) : stop] if e is not None]

    def _around(self, pair: int) -> list[Evidence]:
        return self._evidence(pair - _AROUND, pair) + self._evidence(pair + 1, pair + 1 + _AROUND)

    def _is_repeat(self, pair: int) -> bool:
        first = max(0, pair - _AROUND)
        near = list(enumerate(self._evidence(first, pair + 1 + _AROUND), first))
        around = {
            i: Change(*self._cells[i], self._thumbs[i], self._thumbs[i + 1])
            for i, evidence in near
            if i == pair or evidence.unexplained < CUT
        }
        return is_repeat(pair, around, dict(near)[pair].change)

    def _stands_out(self, pair: int) -> bool:
        (evidence,) = self._evidence(pair, pair + 1)
        value = evidence.unexplained
        around = sorted(e.unexplained for e in self._around(pair) if e.change >= REPEAT)
        if not around:
            return False
        if value >= CUT and value >= CUT_OVER_USUAL * around[(len(around) - 1) // 2]:
            return True
        return len(around) > 3 and value >= JUMP and value >= JUMP_OVER_MOST * around[-1]

    def _is_fade(self, pair: int) -> bool:
        """Whether a picture comes from or goes into nothing at the pace at which it did so before."""
        (evidence,) = self._evidence(pair, pair + 1)
        if evidence.contrast > _FAINT:
            return False
        steps = [e.level - e.level_before for e in self._evidence(pair - 1, pair + 2)]
        this = evidence.level - evidence.level_before
        return sum(step * this > 0 and abs(this) < 2 * abs(step) for step in steps) > 1

    def _is_flash(self, pair: int) -> bool:
        """Whether the scene goes on after up to two frames of other brightness that begin or end here."""
        for a in range(max(0, pair - 2), pair + 1):
            for b in range(max(pair + 1, a + 2), min(a + 3, self._count - 1) + 1):
                if self._odd_between(a, b):
                    pictures = self._thumbs[a][None], self._thumbs[b][None]
                    if float(unexplained(*pictures)[0]) < CUT:
                        return True
        return False

    def _odd_between(self, a: int, b: int) -> bool:
        """Whether all frames between a and b are brighter than both, or darker."""
        pairs = self._evidence(a, b)
        ends = pairs[0].level_before, pairs[-1].level
        between = [pair.level for pair in pairs[:-1]]
        return min(between) > max(ends) + _FLASH or max(between) < min(ends) - _FLASH


def thumbnails(frames: Tensor) -> Tensor:
    """Shrinks (N,H,W,C), 0..1 or bytes, to (N,3,h,w) float32, by area, the longer side `SIDE` at most; grey thrice,
    maps left out."""
    height, width = frames.shape[1:3]
    cell = max(1, max(height, width) // SIDE)
    rows, columns = max(1, height // cell), max(1, width // cell)
    # Whole cells first, of which a few dozen points are enough: cheap, and all that most sizes need.
    step = max(1, cell // 6)
    colours = 3 if frames.shape[3] > 2 else 1
    cells = frames[:, : rows * cell, : columns * cell, :colours]
    if min(height, width) >= cell:
        cells = _floats(cells.unflatten(1, (rows, cell))[:, :, ::step]).mean(2)
        cells = cells.unflatten(2, (columns, cell))[:, :, :, ::step].mean(3)
    images = _floats(cells.permute(0, 3, 1, 2))
    size = [min(side, max(_BLOCK, round(side * SIDE / max(images.shape[-2:])))) for side in images.shape[-2:]]
    if list(images.shape[-2:]) != size:
        images = _by_area(images, size)
    if min(size) < _BLOCK:
        images = F.interpolate(images, size=[max(side, _BLOCK) for side in size], mode="nearest")
    return images.expand(-1, 3, -1, -1)


def _samples(frames: Tensor) -> Tensor:
    """Some of the pixels of (N,H,W,C), where they are many."""
    step = max(1, max(frames.shape[1:3]) // 512)
    return _floats(frames[:, ::step, ::step])


def _floats(numbers: Tensor) -> Tensor:
    return numbers.float() if numbers.is_floating_point() else numbers.float().div_(255)


def unexplained(thumbs0: Tensor, thumbs1: Tensor) -> Tensor:
    """Returns, for (P,3,h,w) twice, the share (P,) in 0..1 of the pictures' structure that moving blocks about does not
    explain."""
    return _compare(_Pictures.of(thumbs0), _Pictures.of(thumbs1))[0]


class _Blocks(NamedTuple):
    """Blocks of P pictures: their pixels without the mean (P,K,pixels), contrast (P,K), places (K,), (K,)."""

    pixels: Tensor
    contrast: Tensor
    y: Tensor
    x: Tensor

    @classmethod
    def of(cls, pictures: Tensor, step: int) -> _Blocks:
        """Of pictures (P,h,w), one each `step` pixels."""
        parts = pictures.unfold(1, _BLOCK, step).unfold(2, _BLOCK, step)
        rows, columns = parts.shape[1:3]
        parts = parts.reshape(len(pictures), rows * columns, _BLOCK * _BLOCK)
        parts = parts - parts.mean(2, keepdim=True)
        y = torch.arange(rows, device=pictures.device) * float(step)
        x = torch.arange(columns, device=pictures.device) * float(step)
        return cls(parts, parts.norm(dim=2) / _BLOCK, y.repeat_interleave(columns), x.repeat(rows))


class _Pictures(NamedTuple):
    """What `_compare` wants to know of P thumbnails."""

    blocks: _Blocks  # side by side
    places: _Blocks  # at every pixel: what is looked through
    side: int

    @classmethod
    def of(cls, thumbs: Tensor) -> _Pictures:
        """Of thumbnails (P,3,h,w)."""
        red, green, blue = (weight * thumbs[:, i] for i, weight in enumerate(LUMA))
        grey = red + green + blue
        return cls(_Blocks.of(grey, _BLOCK), _Blocks.of(grey, 1), max(thumbs.shape[2:]))

    def some(self, which: slice) -> _Pictures:
        """Those of these indices."""
        blocks, places = (
            part._replace(pixels=part.pixels[which], contrast=part.contrast[which]) for part in self[:2]
        )
        return self._replace(blocks=blocks, places=places)


def _compare(one: _Pictures, other: _Pictures) -> tuple[Tensor, Tensor, Tensor]:
    """P pictures twice -> unexplained, motion in thumbnail pixels, contrast of the flatter picture; all (P,)."""
    correlation, moved = (
        torch.cat(part, 1) for part in zip(_match(one, other), _match(other, one), strict=True)
    )
    contrasts = one.blocks.contrast, other.blocks.contrast
    flatter = torch.minimum(*(contrast.mean(1) for contrast in contrasts))
    weight = torch.cat(contrasts, 1).clamp(max=_MOST_CONTRAST)
    weight = weight * weight / (weight + _FAINT)
    missing = (weight * (1 - correlation.clamp(min=0) ** 2)).sum(1)
    # A picture of next to no structure explains nothing and is no evidence either.
    share = missing / (weight.sum(1) + weight.shape[1] * _NOISE / 2)
    return share, _quantile_of_numbers(moved, 0.9), flatter


def _quantile_of_numbers(values: Tensor, share: float) -> Tensor:
    """Quantile (P,) of what is no NaN in each row of (P,N), 0 where all are. As torch.nanquantile, which from PyTorch
    2.15 on takes float64, and MPS has none."""
    ranks = share * ((~values.isnan()).sum(1) - 1).clamp(min=0).float()
    below, ordered = ranks.long(), values.sort(1).values
    low, high = (ordered.gather(1, place[:, None])[:, 0] for place in (below, ranks.ceil().long()))
    return torch.lerp(low, high, ranks - below).nan_to_num()


def _match(one: _Pictures, other: _Pictures) -> tuple[Tensor, Tensor]:
    """Each block of one picture in the other: best correlation, distance (nan: unsure); both (P, blocks)."""
    blocks, places = one.blocks, other.places
    unit = blocks.pixels / ((blocks.contrast + _NOISE) * _BLOCK**2)[:, :, None]
    correlation = (unit @ places.pixels.transpose(1, 2)).div_((places.contrast + _NOISE)[:, None])
    dy, dx = (blocks.y[:, None] - places.y), (blocks.x[:, None] - places.x)
    distance = (dy * dy + dx * dx).sqrt()
    correlation.masked_fill_(distance > max(2, round(one.side * _REACH)), -1.0)
    # Motion is the nearest of nearly equal matches: smooth and striped pictures match far away as well.
    near = (correlation - distance * _NEARER).max(2).indices
    best, moved = (
        x.gather(2, near[:, :, None])[:, :, 0] for x in (correlation, distance.expand_as(correlation))
    )
    moved = torch.where((best > _SURE) & (blocks.contrast > _FAINT), moved, torch.nan)
    return correlation.amax(2), moved


def _evidence(changes: Sequence[Tensor], thumbs: Tensor, side: int) -> list[Evidence]:
    """Of each two neighbours, from the changes of their cells and the thumbnails; side: the frames' longer one."""
    pictures = _Pictures.of(thumbs)
    share, motion, contrast = _compare(pictures.some(slice(None, -1)), pictures.some(slice(1, None)))
    motion = motion * (side / max(thumbs.shape[2:]))
    change = torch.stack([cells.amax() for cells in changes]).to(share.device)
    level = thumbs.mean((1, 2, 3))
    table = torch.stack((share, motion, change, level[:-1], level[1:], contrast), 1)
    return [Evidence(*row) for row in table.tolist()]


def _changes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The mean difference that each cell has between two pictures (h,w,C), and what a shift explains of it: of pairs
    that may be repeats, else all is taken for motion."""
    difference = (a - b).abs_()
    size = [max(1, side // _CELL) for side in difference.shape[:2]]
    cells = _by_area(difference.flatten(1), size)
    if not REPEAT <= float(cells.amax()) <= MOST:
        return cells, cells
    shifted = explained(a.permute(2, 0, 1), b.permute(2, 0, 1), _CELL, _CELL)[: size[0], : size[1]]
    return cells, torch.where(shifted > 0, cells, 0.0)


def _by_area(x: Tensor, size: Sequence[int]) -> Tensor:
    """(...,h,w) -> means of `size` equal parts, which share a pixel's row or column where the sides are no multiples.

    What F.adaptive_avg_pool2d and F.interpolate's "area" do, which MPS refuses for such sides (pytorch#96056).
    """
    height, width = size
    if x.shape[-2] % height:
        x = _parts(x.shape[-2], height, x.device) @ x
    else:
        x = x.unflatten(-2, (height, -1)).mean(-2)
    if x.shape[-1] % width:
        return x @ _parts(x.shape[-1], width, x.device).T
    return x.unflatten(-1, (width, -1)).mean(-1)


@lru_cache(maxsize=32)
def _parts(side: int, parts: int, device: torch.device) -> Tensor:
    """Matrix (parts, side) that takes the mean of each part of `side` numbers."""
    numbers = torch.arange(side, device=device)
    first = torch.arange(parts, device=device)[:, None] * side
    inside = (numbers >= first // parts) & (numbers * parts < first + side)
    return inside.float() / inside.sum(1, keepdim=True)
