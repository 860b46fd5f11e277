"""Makes clips that follow each other one: twins dropped, overlaps morphed, gaps bridged, colours matched.

    film = rife.join(model, [first, second, third]).frames

An overlap is not cross-faded: its frames are made by flow, at rising times from the one clip to the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..timeline.clock import Clock
from ..timeline.numbers import shortened
from ..timeline.plans import Step
from .batches import Interpolator, to_float
from .in_memory import interpolate
from .seams import LONGEST, Seam, corrected_colours, find_seam, match_colours

_NO_DIFFERENCE = 1.5 / 255  # of frames that need no morph


class Joined(NamedTuple):
    """Holds the frames (M,H,W,C), the seam in front of each clip but the first, and where each clip's first
    frame is."""

    frames: Tensor
    seams: list[Seam]
    starts: list[int]


class SeamSteps(list[Step]):
    """Lists the steps of the new frames of a seam, as `rife.interpolate` takes a plan."""

    steady = False

    def __init__(self, steps: Iterable[Step], frames: int):
        super().__init__(steps)
        self.clock = Clock(frames, Fraction(1))


# Makes the frames of such a plan: `rife.interpolate` with a model, or what a node does in its place.
Make = Callable[[Tensor, SeamSteps], Tensor]


@dataclass(frozen=True)
class Joining:
    """Says what is asked of a join.

    overlap: frames that two clips have in common, None to find them. match: the later clip's colours are brought to the
    earlier one's at the seam, and fade to its own over `fade` frames. bridge: new frames for a gap, None to choose.
    Raises ValueError for numbers of frames out of their range.
    """

    overlap: int | None = None
    match: bool = True
    fade: int = 16
    bridge: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("overlap", 0, 1000), ("fade", 0, 100_000), ("bridge", 0, 1000)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(
                    f"{name} is {shortened(value)}, expected {low} to {high} frames. Choose one of these."
                )

    @property
    def window(self) -> int:
        """Counts the frames on each side of a seam that are held."""
        return max(LONGEST, self.overlap or 0)

    def weight(self, k: int) -> float:
        """Says how much of the correction, 0..1, frame k after the seam gets: all at first, falling smoothly to
        none."""
        x = min(1.0, (k + 0.5) / self.fade) if self.fade else 1.0
        return 1 - x * x * (3 - 2 * x)


def join(
    model: Interpolator,
    clips: Sequence[Tensor],
    *,
    overlap: int | None = None,
    match: bool = True,
    fade: int = 16,
    bridge: int | None = None,
    **options: Any,
) -> Joined:
    """Joins clips (N,H,W,C) in 0..1 that follow each other to one clip, and tells what was found at each seam.

    overlap, match, fade, bridge: see `Joining`. options: scale, TTA, ensemble, batch_size, precision ... of
    `rife.interpolate`. Frames away from the seams are those of the clips, bit for bit. Raises ValueError.
    """
    return join_images(partial(interpolate, model, **options), clips, Joining(overlap, match, fade, bridge))


def join_images(
    make: Callable[..., Tensor],
    clips: Sequence[Tensor],
    asked: Joining,
    empty: Callable[[tuple[int, ...]], Tensor] | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Joined:
    """Does what `join` does, with clips (N,H,W,C); `make(frames, plan=steps)` renders, `empty(shape)` gives the
    result's memory."""
    check_sizes([tuple(clip.shape[1:]) for clip in clips])
    found = find_seams(clips, asked)
    total = sum(map(len, clips)) + sum(seam.bridge - seam.overlap for seam in found)
    first = clips[0]
    result = first.new_empty((total, *first.shape[1:])) if empty is None else empty((total, *first.shape[1:]))
    known, seams = iter(found), list[Seam]()
    stream = join_stream(make, clips, asked, seams.append, lambda tail, head: next(known))
    for k, frame in enumerate(stream):
        result[k].copy_(frame)
        if on_frame:
            on_frame(k + 1, total)
    starts = [0]
    for clip, seam in zip(clips, seams, strict=False):
        starts.append(starts[-1] + len(clip) - seam.overlap + seam.bridge)
    return Joined(result, seams, starts)


def find_seams(clips: Sequence[Tensor], asked: Joining) -> list[Seam]:
    """Finds the seams of clips (N,H,W,C); an overlap never takes frames that the seam before has taken."""
    seams: list[Seam] = []
    for before, after in zip(clips, clips[1:], strict=False):
        taken = seams[-1].overlap if seams else 0
        tail = list(before[taken:][-asked.window :])
        seams.append(
            find_seam(tail or [before[-1]], list(after[: asked.window]), asked.overlap, asked.bridge)
        )
    return seams


def check_sizes(shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ValueError unless there are two clips or more whose frames are of one size."""
    if len(shapes) < 2:
        raise ValueError(
            f"there is {len(shapes)} clip, expected two or more. Give all that are to be joined."
        )
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"clip {i + 1} has frames of {shape} (H,W,C) and the first of {shapes[0]}, expected one size. Resize "
                "them first."
            )


def join_stream(
    make: Callable[..., Tensor],
    clips: Iterable[Iterable[Tensor]],
    asked: Joining,
    on_seam: Callable[[Seam], None] | None = None,
    decide: Callable[[Sequence[Tensor], Sequence[Tensor]], Seam] | None = None,
) -> Iterator[Tensor]:
    """Yields the frames (H,W,C) of a join, one after the other; holds some dozens of each clip, however long they are.

    make(frames, plan=steps) renders the new frames; on_seam is told of each seam when it has been found. Frames may be
    uint8; those near a seam are float then. Raises ValueError.
    """
    tail: deque[Tensor] = deque()
    for number, clip in enumerate(clips):
        frames = iter(clip)
        if number:
            head = list(islice(frames, asked.window))
            before = list(tail)
            _check_own(before, head, number)
            seam = decide(before, head) if decide else find_seam(before, head, asked.overlap, asked.bridge)
            seam = match_colours(seam, before, head, asked.match)
            if on_seam:
                on_seam(seam)
            fitted = _matched(chain(head, frames), seam, asked)
            yield from before[: len(before) - seam.overlap]
            yield from _between(make, before, fitted, seam)
            tail.clear()
            frames = fitted
        for frame in frames:
            tail.append(frame)
            if len(tail) > asked.window:
                yield tail.popleft()
    yield from tail


def _check_own(tail: Sequence[Tensor], head: Sequence[Tensor], number: int) -> None:
    for frames, clip in ((tail, number), (head, number + 1)):
        if not frames:
            raise ValueError(f"clip {clip} has no frames but those of the clip before it. Leave it out.")


def _matched(frames: Iterable[Tensor], seam: Seam, asked: Joining) -> Iterator[Tensor]:
    """The frames of a clip with its colours brought to those before the seam, fading to its own after it."""
    if not seam.gain:
        yield from frames
        return
    gain, offset = torch.tensor(seam.gain), torch.tensor(seam.offset)
    for k, frame in enumerate(frames):
        weight = 1.0 if k < seam.overlap else asked.weight(k - seam.overlap)
        yield corrected_colours(frame, gain, offset, weight) if weight else frame


def _between(
    make: Callable[..., Tensor], before: list[Tensor], after: Iterator[Tensor], seam: Seam
) -> Iterator[Tensor]:
    """The frames in place of an overlap, or in a gap. Takes the overlap's, and puts nothing back."""
    if seam.overlap:
        earlier, later = before[-seam.overlap :], list(islice(after, seam.overlap))
        yield from _morphed(make, earlier, later)
    elif seam.bridge:
        first = next(after)
        pair = _batch([before[-1], first])
        times = [Fraction(i, seam.bridge + 1) for i in range(1, seam.bridge + 1)]
        yield from make(pair, plan=SeamSteps([Step(0, 1, t, "new") for t in times], 2))
        yield first


def _morphed(make: Callable[..., Tensor], earlier: list[Tensor], later: list[Tensor]) -> Iterator[Tensor]:
    """From the one clip's frames to the other's at rising times, some at a time."""
    times = [Fraction(i, len(earlier) + 1) for i in range(1, len(earlier) + 1)]
    for first in range(0, len(earlier), LONGEST // 4):
        part = slice(first, first + LONGEST // 4)
        pairs = [*zip(earlier[part], later[part], times[part], strict=True)]
        if all(_equal_to_the_eye(a, b) for a, b, _ in pairs):
            yield from (a for a, _, _ in pairs)
            continue
        steps = [Step(2 * i, 2 * i + 1, t, "new") for i, (_, _, t) in enumerate(pairs)]
        frames = _batch([frame for a, b, _ in pairs for frame in (a, b)])
        yield from make(frames, plan=SeamSteps(steps, len(frames)))


def _equal_to_the_eye(one: Tensor, other: Tensor) -> bool:
    return bool((to_float(one) - to_float(other)).abs().amax() <= _NO_DIFFERENCE)


def _batch(frames: Sequence[Tensor]) -> Tensor:
    return torch.stack([to_float(frame) for frame in frames])
