"""Makes motion blur as a shutter does: each frame is the mean light of frames made while the shutter is open.

The shutter is open around the time that a frame shows, for angle/360 of the time to the next; no sample lies outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice

import torch
from torch import Tensor

from ..model.views import unweighed, weighed
from ..ops.transfer import SRGB, Transfer
from ..timeline.clock import ZERO
from ..timeline.lazy import LazySequence
from ..timeline.plans import Plan, Step
from ..timeline.scenes import Scenes
from .batches import to_float

SLOTS = 16  # steps of a blurred frame; where fewer samples do, several slots show the same one, which is made once
_FAST = 12.0  # pixels while the shutter is open, from which on all slots are samples
_SLOW = 0.5  # up to which a quarter of them are
_NO_CHANGE = 1.5 / 255  # of the most changed cell: nothing that is seen moves

Motion = Callable[[int], "float | None"]


def motion_of(scenes: Scenes) -> Motion:
    """Returns what tells the pixels that a clip moves from frame i to the next, as far as `scenes` knows; thumbnails
    see no small motion."""

    def moved(i: int) -> float | None:
        evidence = scenes.evidence[i] if 0 <= i < len(scenes.evidence) else None
        if evidence is None or (evidence.motion == 0 and evidence.change > _NO_CHANGE):
            return None
        return evidence.motion

    return moved


class ShutterPlan(LazySequence[Step]):
    """Lists `SLOTS` steps for each output frame of a plan: its samples while the shutter is open, evenly spread.

    motion: pixels that the clip moves from source frame i to the next, or None where nobody knows; more of it gets more
    samples.
    """

    def __init__(self, plan: Plan, angle: float, motion: Motion | None = None):
        self.plan, self.options, self.clock = plan, plan.options, plan.clock
        self.rate = plan.rate
        self.known_length = None if plan.known_length is None else plan.known_length * SLOTS
        self._open = Fraction(angle).limit_denominator(3600) / 360
        self._motion = motion

    def __len__(self) -> int:
        if self.known_length is None:
            raise TypeError("an open plan has no length: the source's number of frames is not known")
        return self.known_length

    def item(self, j: int) -> Step:
        """Returns step j: a sample of output frame j // SLOTS, or a picture that is held. Raises IndexError where there
        is none."""
        if j < 0 or (self.known_length is not None and j >= self.known_length):
            raise IndexError(f"step {j} of {self.known_length}")
        center = self.plan[j // SLOTS]
        if center.kind in ("cut", "static", "blend", "tail"):
            return center  # a picture that is held is held sharp
        index, t = self._sample(j, self._samples(j // SLOTS))
        return self.plan.step_at(*self._within_scene(index, t, center.left))

    def position(self, j: int) -> int:
        """Returns the last source frame at or before the step's time, however many samples there are, for a stream to
        read."""
        return max(self._sample(j, samples)[0] for samples in (SLOTS // 4, SLOTS // 2, SLOTS))

    def _samples(self, k: int) -> int:
        place = self.plan.position(k)
        moved = self._motion(place) if self._motion else None
        if moved is None:
            return SLOTS // 2
        moved *= float(self._open * self._interval(k) / (self.clock.at(place + 1) - self.clock.at(place)))
        return SLOTS if moved > _FAST else SLOTS // 4 if moved <= _SLOW else SLOTS // 2

    def _interval(self, k: int) -> Fraction:
        """From output frame k's time to the next one's, on the source's clock."""
        after = k if self.plan.known_length is not None and k + 1 >= self.plan.known_length and k else k + 1
        return max(ZERO, self.plan.time(after) - self.plan.time(after - 1))

    def _sample(self, j: int, samples: int) -> tuple[int, Fraction]:
        k, slot = divmod(j, SLOTS)
        place = slot * samples // SLOTS
        time = self.plan.time(k) + (
            Fraction(2 * place + 1, 2 * samples) - Fraction(1, 2)
        ) * self._open * self._interval(k)
        first, count = self.clock.at(0), self.clock.count
        time = max(time, first)  # nothing was before the first frame
        if count is not None and not self.plan.options.loop:
            time = min(time, self.clock.at(count - 1))
        index, t = self.clock.place(time)
        if count is not None and index >= count:
            return (index - count, t) if self.plan.options.loop else (count - 1, ZERO)
        return index, t

    def _within_scene(self, index: int, t: Fraction, center: int) -> tuple[int, Fraction]:
        """A sample of an earlier scene than the frame's own shows the scene's first frame instead."""
        for first in range(center, index, -1):
            if first in self.options.cuts:
                return first, ZERO
        return index, t


def averaged(
    samples: Iterable[Tensor], transfer: Transfer = SRGB, opacity: bool | None = None
) -> Iterator[Tensor]:
    """Yields each `SLOTS` frames (H,W,C) as one, the mean of their light, which may lie beyond 0..1. One picture alone
    stays as it is.

    opacity: whether the fourth channel is that of the colours, which then count as much as they are seen; without it,
    whether there are four.
    """
    samples = iter(samples)
    while group := list(islice(samples, SLOTS)):
        different = [frame for i, frame in enumerate(group) if not i or frame is not group[i - 1]]
        if len(different) < 4 and all(torch.equal(different[0], other) for other in different[1:]):
            yield different[0]
            continue
        seen = different[0].shape[-1] == 4 if opacity is None else opacity
        total = None
        for frame in different:
            count = sum(frame is other for other in group)
            light = _light(frame, transfer, seen).mul_(count)
            total = light if total is None else total.add_(light)
        assert total is not None
        yield _values(total.div_(len(group)), transfer, seen)


def _light(frame: Tensor, transfer: Transfer, opacity: bool) -> Tensor:
    values = to_float(frame).float()
    within = values[..., :3].clamp(0, 1)
    # A transfer is for 0..1; what lies beyond is counted as it is.
    colours = transfer.to_linear(within) + (values[..., :3] - within)
    if opacity:
        colours = weighed(colours, values[..., 3:4])
    return torch.cat((colours, values[..., 3:]), -1)


def _values(light: Tensor, transfer: Transfer, opacity: bool) -> Tensor:
    colours = unweighed(light[..., :3], light[..., 3:4]) if opacity else light[..., :3]
    within = colours.clamp(0, 1)
    return torch.cat((transfer.from_linear(within).clamp_(0, 1) + (colours - within), light[..., 3:]), -1)
