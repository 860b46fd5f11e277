"""A gap in which nothing was written is a held picture, not a slow morph."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import rife
from rife.timeline.clock import Clock
from rife.timeline.parts import Timing
from rife.timeline.report import report
from rife.timeline.request import AtRate, PerPair
from rife.video import Clip, interpolate_video
from rife.video.job import Job
from tests.support.moving_clips import disc_at, picture, read, write

RATE = Fraction(30)


def times(pause: int) -> list[Fraction]:
    """Twenty frames at 30 a second, of which the tenth is shown for `pause` frames."""
    return [Fraction(i + (pause - 1) * (i > 9), 30) for i in range(20)]


def timed(pause: int, request, longest_gap=None):
    return Timing(request, longest_gap=longest_gap).plan(Clock(20, times=times(pause)))


@pytest.mark.parametrize("pause", [8, 90])
def test_a_pause_is_held_and_then_moves_as_the_constant_twin_does(pause):
    found = timed(pause, AtRate(2 * RATE))
    held = [step for step in found if step.kind == "static"]
    assert len(held) == 2 * (pause - 1) and {step.left for step in held} == {9}
    (moved,) = [step for step in found if step.left == 9 and step.kind == "new"]
    assert moved.time == Fraction(1, 2)
    facts = report(found)
    assert facts["timing_error_s"] == 0 and facts["held_for_s"] < pause / 30


def test_new_frames_of_a_pair_lie_where_it_moves():
    found = timed(90, PerPair.multiplied(4))
    assert len(found) == 77
    assert [found.time(k) for k in range(36, 41)] == [
        Fraction(9, 30), *(Fraction(98, 30) + Fraction(j, 120) for j in (1, 2, 3)), Fraction(99, 30),
    ]  # fmt: skip
    assert [found[k].time for k in range(37, 40)] == [Fraction(j, 4) for j in (1, 2, 3)]


@pytest.mark.parametrize(
    "longest_gap, paused", [(None, True), (Fraction(2), True), (Fraction(4), False), (Fraction(0), False)]
)
def test_the_limit_is_a_choice(longest_gap, paused):
    found = timed(90, AtRate(RATE), longest_gap)
    assert found.clock.pauses == ([9] if paused else [])
    assert any(step.kind == "new" for step in found if step.left == 9) is not paused


@pytest.mark.parametrize("times, end", [
    ([i / 25 for i in range(20)] + [3 + i / 25 for i in range(20)], None),
    ([i / 25 for i in range(8)], 1),
])  # fmt: skip
def test_slow_motion_has_the_rate_of_what_moves(times, end):
    """With the mean one, which what is held pulls down, given frames were left out."""
    clock = Clock(len(times), times=[Fraction(time).limit_denominator(25) for time in times], end=end)
    found = Timing(AtRate(speed=Fraction(1, 2))).plan(clock)
    assert clock.moving_rate == 25 > clock.mean_rate
    assert {step.left for step in found if step.kind == "source"} == {*range(len(times))}


def test_what_is_held_nowhere_has_the_mean_rate():
    for clock in (
        Clock(5, rate=Fraction(25)),
        Clock(1, times=[Fraction(0)], end=Fraction(1), longest_gap=Fraction(1, 100)),
        Clock(5, times=[Fraction(i, 25) for i in (0, 1, 2, 4, 5)]),
    ):
        assert clock.moving_rate == clock.mean_rate


def test_a_frame_that_was_lost_and_a_clip_of_slow_pictures_have_no_pause():
    assert timed(4, AtRate(RATE)).clock.pauses == []
    slow = Clock(6, times=[Fraction(0), Fraction(1), Fraction(5, 2), Fraction(3), Fraction(4), Fraction(5)])
    assert Timing().plan(slow).clock.pauses == []


def test_a_recording_is_as_its_constant_twin(tmp_path):
    frames = np.stack([picture(i, step=3) for i in range(20)])
    ticks = [round(time * 1000) for time in times(20)]
    source = write(tmp_path / "vfr.mkv", frames, RATE, times=ticks, time_base=Fraction(1, 1000))
    assert Clip(source).rate is None
    twin = write(tmp_path / "twin.mkv", frames[[*range(10), *[9] * 19, *range(10, 20)]], RATE)
    model = rife.load_model(device="cpu")
    made = []
    for path in (source, twin):
        interpolate_video(model, path, tmp_path / "made.mkv", rate=60)
        made.append([disc_at(frame) for frame in read(tmp_path / "made.mkv")])
    assert np.abs(np.array(made[0]) - np.array(made[1])).max() < 0.3
    job = Job(Clip(source), Timing())
    assert job.plan.clock.pauses == [9]
