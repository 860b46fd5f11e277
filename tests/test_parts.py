"""Parts of a plan, computed apart, are the frames of the whole; the host of chunks is tested with the nodes."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import pytest
import torch
from video_files import Fader, rendered

from rife.engine.chunks import part_frames
from rife.timeline.clock import Clock
from rife.timeline.curve import Curve
from rife.timeline.parts import Timing, check_forward, part_of
from rife.timeline.request import AtRate, AtTimes, PerPair


@cache
def clip() -> torch.Tensor:
    """Three scenes, one of them on twos, with a flash."""
    twos = rendered(2, 10).repeat_interleave(2, 0)
    flash = rendered(3, 16)
    flash[8] = (flash[8] + 0.4).clamp(0, 1)
    return torch.cat([rendered(1, 14), twos, flash])


def frames_of(frames, timing, clock, after, until):
    part = part_of(timing.plan(clock), after, until)
    needed = ([frames[0]] if part.keeps_first else []) + list(frames[part.start : part.stop])
    return list(part_frames(Fader(), needed, timing, lambda n: clock, len(frames), part))


@pytest.mark.parametrize(
    "timing",
    [Timing(), Timing(PerPair.multiplied(3), loop=True), Timing(keep_duration=True, at_cuts="blend"),
     Timing(AtRate(Fraction(60000, 1001))), Timing(AtRate(10)), Timing(AtRate(speed=Fraction(1, 3))),
     Timing(at_repeats="retime"), Timing(loop=True, at_repeats="retime"), Timing(at_cuts="off", at_repeats="off"),
     Timing(cut_frames=frozenset({5, 20})), Timing(AtTimes(Curve([(0, 0), (1, 1), (2, Fraction(3, 2))], 30), 30))],
    ids=str,
)  # fmt: skip
def test_parts_are_the_whole_wherever_they_are_cut(timing):
    frames = clip()
    clock = Clock(len(frames), Fraction(24))
    whole = frames_of(frames, timing, clock, 0, len(frames))
    for bounds in ([0, 13, 14, 15, 30, 50], [0, 22, 50], [0, 34, 35, 42, 50]):
        parts = []
        for a, b in zip(bounds, bounds[1:], strict=False):
            parts += frames_of(frames, timing, clock, a, b)
        assert len(parts) == len(whole) == len(timing.plan(clock))
        assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))


def test_a_clip_that_ends_too_early_ends_the_last_part_early():
    frames, timing = rendered(1, 20), Timing(keep_duration=True)
    clock_of = lambda n: Clock(n, Fraction(24))  # noqa: E731
    part = part_of(timing.plan(clock_of(25)), 0, 25)
    assert len(list(part_frames(Fader(), frames, timing, clock_of, 25, part))) == 40


def test_a_plan_that_goes_backward_is_refused():
    rising, falling = (Curve([(0, 0), (1, end)], 10) for end in (1, Fraction(1, 2)))
    check_forward(Timing(AtTimes(rising)).plan(Clock(30, 24)))
    back = Curve([(0, 1), (1, 0)], 10)
    check_forward(Timing(AtTimes(falling)).plan(Clock(30, 24)))
    with pytest.raises(ValueError, match="backward"):
        check_forward(Timing(AtTimes(back)).plan(Clock(30, 24)))
