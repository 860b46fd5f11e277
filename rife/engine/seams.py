"""Finds where one clip goes over into the next: what both show, how far they are apart, how their colours differ.

Frames are compared small and grey, without their mean and contrast: so drift of exposure or colour hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ..ops.luma import LUMA
from ..timeline.scenes import CUT, find_scenes
from .batches import to_float

LONGEST = 32  # frames of overlap that are looked for
MOST_BRIDGED = 8  # new frames that are put into a gap by themselves

_SIDE = 192  # of the pictures that are compared, their longer side
_ALIKE = 0.5  # of the distance of neighbours: frames nearer than that show the same moment
_DISTINCT = 0.6  # of the distance of the ends: an overlap that was displaced is nearer than that
_SAME = 1e-5  # distance of frames that nothing tells apart
_MOST_GAIN = 2.0
_NO_JUMP = 0.25 / 255  # steps that small are left as they are, and with them every frame
_STANDS_OUT = 1.0  # times as much as the level jitters around it: a step that is no motion
_AROUND = 8  # frames on each side by which that is judged


@dataclass(frozen=True)
class Seam:
    """Holds what was found between two clips, and what is done about it.

    kind: "twin" the last frame and the first are the same, "overlap" several are, "meet" the one follows the other,
    "gap" frames are missing between them, "cut" they show different scenes. overlap: frames that both have; bridge:
    new frames put between. gain, offset: of each channel, what brings the second clip's colours (0..1) to the first
    one's. jump, jump_left: the step of the mean level across the seam, of 255, without and with that.
    """

    kind: str
    overlap: int = 0
    bridge: int = 0
    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    jump: float = 0.0
    jump_left: float = 0.0

    def as_dict(self) -> dict:
        """Returns plain data, for a report."""
        return asdict(self)


def find_seam(
    tail: Sequence[Tensor], head: Sequence[Tensor], overlap: int | None = None, bridge: int | None = None
) -> Seam:
    """Finds the seam between the last frames (H,W,C) of a clip and the first ones of the next.

    overlap: frames that both have, 0 for none, None to find them. bridge: new frames for a gap, None to choose up to
    `MOST_BRIDGED` of them by how far apart the clips are. Raises ValueError where a clip is shorter than the overlap.
    """
    if overlap is not None:
        if not 0 <= overlap <= min(len(tail), len(head)):
            raise ValueError(
                f"the overlap is {overlap} frames, but the clips have {len(tail)} and {len(head)} there. Give fewer, "
                "or leave it to be found."
            )
        kind = ("meet", "twin")[overlap] if overlap < 2 else "overlap"
        return Seam(kind, overlap, 0 if overlap else bridge or 0)
    before, after = _signatures(tail), _signatures(head)
    if found := _overlap(before, after):
        return Seam("twin" if found == 1 else "overlap", found)
    # Alone: frames that follow only some steps later are a jump among their neighbours, but the scene goes on.
    (evidence,) = find_scenes([tail[-1], head[0]]).evidence
    if evidence and evidence.unexplained >= CUT:
        return Seam("cut")
    missing = _missing(before, after) if bridge is None else bridge
    return Seam("gap" if missing else "meet", 0, missing)


def moves(frames: Sequence[Tensor]) -> bool:
    """Tells whether frames (H,W,C) of one clip differ at all."""
    signatures = _signatures(frames)
    return len(frames) > 1 and bool((_distances(signatures, signatures).diagonal(1) > 2 * _SAME).any())


def match_colours(seam: Seam, tail: Sequence[Tensor], head: Sequence[Tensor], match: bool = True) -> Seam:
    """Returns `seam` with gain and offset of the second clip, from the mean and the deviation of what both show, in
    frames (H,W,C).

    Of clips that meet, that is the last frame and the first, less what changes from frame to frame anyway. Not across a
    cut, and not where nothing stands out from that; match False: measured only.
    """
    shared = max(1, seam.overlap)
    mean0, deviation0 = _statistics(tail[-shared:])
    mean1, deviation1 = _statistics(head[:shared])
    usual = torch.zeros(2).double()
    if not seam.overlap:
        steps, usual = _usual_steps(tail, head)
        mean0, deviation0 = mean0 + steps[0] * (seam.bridge + 1), deviation0 + steps[1] * (seam.bridge + 1)
    apart = torch.stack((mean0 - mean1, deviation0 - deviation1)).abs()
    jump = float(apart[0].mean()) * 255
    seam = replace(seam, jump=jump, jump_left=jump)
    close = bool((apart.amax(1) <= torch.clamp(usual * _STANDS_OUT, min=_NO_JUMP)).all())
    if seam.kind == "cut" or close or not match:
        return seam
    gain = (deviation0 / deviation1.clamp(min=1e-4)).clamp(1 / _MOST_GAIN, _MOST_GAIN)
    gain = torch.where(
        torch.minimum(deviation0, deviation1) < 1e-3, 1.0, gain
    )  # flat: nothing to tell a gain by
    offset = mean0 - gain * mean1
    corrected = torch.stack([corrected_colours(f, gain, offset).mean((0, 1)) for f in head[:shared]]).mean(0)
    left = float((mean0 - corrected).abs().mean()) * 255
    return replace(seam, gain=tuple(gain.tolist()), offset=tuple(offset.tolist()), jump_left=left)


def corrected_colours(frame: Tensor, gain: Tensor, offset: Tensor, weight: float = 1.0) -> Tensor:
    """Returns `frame` (H,W,C) as floats, its channels times gain plus offset, both (C,), by `weight`: within 0..1, or
    as far beyond as the frame's own."""
    frame = to_float(frame)
    gain, offset = gain.to(frame), offset.to(frame)
    low, high = (float(x) for x in torch.aminmax(frame))
    return (frame * (1 + weight * (gain - 1)) + weight * offset).clamp_(min(low, 0), max(high, 1))


def _statistics(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over some frames, in float64."""
    pixels = torch.stack([_subsampled(frame, 512) for frame in frames]).double().flatten(0, 2)
    return pixels.mean(0), pixels.std(0)


def _usual_steps(tail: Sequence[Tensor], head: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(2,C): how mean and deviation change per frame at the ends of both clips; (2,): how much that varies."""
    parts = [tail[-_AROUND:], head[:_AROUND]]
    levels = [torch.stack([torch.stack(_statistics([frame])) for frame in part]) for part in parts]
    steps = [level.diff(dim=0) for level in levels]
    near = [step[end] for step, end in zip(steps, (slice(-1, None), slice(0, 1)), strict=True)]
    changes = torch.cat([step.diff(dim=0) for step in steps])
    usual = changes.abs().amax((0, 2)) if len(changes) else torch.zeros(2).double()
    ends = torch.cat(near)
    return (ends.mean(0) if len(ends) else torch.zeros_like(levels[0][0])), usual


def _subsampled(frame: Tensor, side: int) -> Tensor:
    step = max(1, max(frame.shape[:2]) // side)
    return to_float(frame[::step, ::step])


def _signatures(frames: Sequence[Tensor]) -> Tensor:
    """(K,P): frames small and grey, of mean 0 and norm 1; a flat frame is zeros."""
    pictures = []
    for frame in frames:
        cell = max(1, max(frame.shape[:2]) // _SIDE)
        height, width = (side // cell * cell or side for side in frame.shape[:2])
        cells = to_float(frame[:height, :width, :3])
        weights = torch.tensor(LUMA if cells.shape[2] == 3 else [1.0] * cells.shape[2]).to(cells)
        grey = (cells * weights).sum(2)
        rows, columns = (cell if side % cell == 0 else 1 for side in grey.shape)
        small = grey.unflatten(0, (-1, rows)).unflatten(2, (-1, columns)).mean((1, 3)).flatten()
        small = small - small.mean()
        norm = small.norm()
        pictures.append(small / norm if norm > 1e-3 * len(small) ** 0.5 else torch.zeros_like(small))
    return torch.stack(pictures).double()


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """(K,L): how unlike each two frames are, 0 the same, 1 nothing in common."""
    return 1 - one @ other.T


def _steps(before: Tensor, after: Tensor) -> list[float]:
    """How unlike frames of one clip are that are 1, 2, ... apart: the median over both clips."""
    found = []
    for apart in range(1, MOST_BRIDGED + 2):
        pairs = [_distances(part, part).diagonal(apart) for part in (before, after) if len(part) > apart]
        if not pairs:
            break
        found.append(float(torch.cat(pairs).median()))
    return found


def _overlap(before: Tensor, after: Tensor) -> int:
    """How many of the last frames are the first of the next clip; 0 if none are."""
    between, steps = _distances(before, after), _steps(before, after)
    k = len(before)
    costs = [float(between[range(k - n, k), range(n)].mean()) for n in range(1, min(k, len(after)) + 1)]
    best = min(costs)
    count = next(n for n, cost in enumerate(costs, 1) if cost <= max(best, _SAME))
    step = steps[0] if steps else 0.0
    if best <= max(_SAME, _ALIKE * step):
        return count
    # An overlap whose frames were displaced: nearer than the ends are, and not further than some steps.
    displaced = count > 1 and best < _DISTINCT * min(costs[0], costs[-1] if count < len(costs) else 1.0)
    return count if displaced and len(steps) > 2 and best < steps[2] else 0


def _missing(before: Tensor, after: Tensor) -> int:
    """New frames that a gap wants: the ends are as unlike as frames beside them so many steps apart, less one."""
    apart = float(_distances(before[-1:], after[:1]))
    ends = before.flip(0), after
    most = min(MOST_BRIDGED + 1, max(map(len, ends)) - 1)
    steps = [
        sum(float(_distances(end[:1], end[k : k + 1])) for end in ends if len(end) > k)
        / sum(len(end) > k for end in ends)
        for k in range(1, most + 1)
    ]
    if not steps or apart <= steps[0]:
        return 0
    return min(range(len(steps)), key=lambda i: abs(steps[i] - apart))
