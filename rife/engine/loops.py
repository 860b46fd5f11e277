"""Makes clips loops: a last frame that is the first again, and colours that drift from begin to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .seams import Seam, corrected_colours, find_seam, match_colours, moves

_LOOKED_AT = 12  # frames at each end, at most


def ends_of(count: int) -> int:
    """Counts the frames at each end of a clip of `count` that are looked at; none of them at both."""
    return min(_LOOKED_AT, count // 2)


def find_loop(first: Sequence[Tensor], last: Sequence[Tensor], drift: bool = False) -> Seam:
    """Finds the seam from the last frames (H,W,C) of a clip back to its first ones; overlap: how many are there twice.

    A clip that stands still has no twin. drift: with gain and offset of the end's colours, which bring them to the
    begin's.
    """
    seam = find_seam(last, first) if moves(first) or moves(last) else Seam("meet")
    # Across a gap there is too little that both show.
    seam = match_colours(replace(seam, bridge=0), last, first, drift and seam.kind != "gap")
    if not seam.gain:
        return seam
    # Found for the begin, wanted for the end.
    gain = tuple(1 / g for g in seam.gain)
    return replace(seam, gain=gain, offset=tuple(-o * g for o, g in zip(seam.offset, gain, strict=True)))


def without_drift(frames: Iterable[Tensor], seam: Seam, count: int) -> Iterator[Tensor]:
    """Yields `count` frames (H,W,C) with the drift of their colours taken back: none at first, all of it at the end."""
    gain, offset = torch.tensor(seam.gain), torch.tensor(seam.offset)
    for i, frame in enumerate(frames):
        yield corrected_colours(frame, gain, offset, i / count) if i else frame


def as_loop(frames: Tensor, twin: bool = True, drift: bool = False) -> tuple[Tensor, Seam]:
    """Returns a clip (N,H,W,C) that can be repeated without a freeze or a jump, and what was found.

    twin: leaves out frames at the end that are the first ones again. drift: spreads a change of colours from the begin
    to the end over the clip.
    """
    if len(frames) < 3:
        return frames, Seam("meet")
    ends = ends_of(len(frames))
    seam = find_loop(list(frames[:ends]), list(frames[-ends:]), drift)
    if not twin:
        seam = replace(seam, kind="meet", overlap=0)
    kept = frames[: len(frames) - seam.overlap]
    if not seam.gain:
        return kept, seam
    return torch.stack(list(without_drift(kept, seam, len(kept)))).to(frames.dtype), seam
