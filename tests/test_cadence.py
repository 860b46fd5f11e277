"""Film and drawings in videos of other rates: the pattern is found, and uniform motion comes out uniform."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import torch

import rife
from rife.timeline.cadence import find_cadence
from rife.timeline.clock import Clock
from rife.timeline.plans import Plan, plan
from rife.timeline.report import report
from rife.timeline.scenes import find_scenes
from rife.video import Clip
from tests.support.moving_clips import PATTERNS, clip, disc_at, picture, shown, steps, unevenness, write

RATE = Fraction(60000, 1001)


def repeats_of(drawings: list[int]) -> set[int]:
    return {i for i in range(1, len(drawings)) if drawings[i] == drawings[i - 1]}


def planned(drawings: list[int], at_repeats: str = "retime", **options) -> Plan:
    options = {"multiplier": 2, "repeats": repeats_of(drawings), **options}
    return plan(Clock(len(drawings), RATE), at_repeats=at_repeats, **options)


def seen(steps_of: Plan, drawings: list[int]) -> np.ndarray:
    """The drawing, or what is between two, that each output frame shows."""
    at = [drawings[s.left] + s.time * (drawings[s.right] - drawings[s.left]) for s in steps_of]
    return np.array(at, float)


def moving(places: np.ndarray) -> np.ndarray:
    """Without the end, which holds the last drawing."""
    return places[: np.flatnonzero(np.diff(places) > 1e-9)[-1] + 1]


@pytest.mark.parametrize("at_repeats", ["retime", "auto"])
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_is_found_and_comes_out_even(name, offset, at_repeats):
    pattern = PATTERNS[name]
    drawings = shown(pattern, 120, offset)
    cadence = find_cadence(repeats_of(drawings), (), 120)
    (stretch,) = cadence.stretches
    assert stretch.pattern.per_drawing == Fraction(sum(pattern), len(pattern)) and cadence.share > 0.95
    places = moving(seen(planned(drawings, at_repeats), drawings))
    assert len(places) > 190 and unevenness(steps(places)) < 1e-6


@pytest.mark.parametrize(
    "lost, more", [([26], []), ([25], []), ([], [26]), ([], [25]), ([40], [80]), ([30, 31], [])]
)
def test_a_broken_pattern_comes_out_even(lost, more):
    drawings = [d for i, d in enumerate(shown([3, 2], 160)) for _ in range(1 - (i in lost) + (i in more))]
    places = moving(seen(planned(drawings), drawings))
    assert unevenness(steps(places)) < 0.02


def test_a_drawing_that_is_missing_is_moved_across():
    drawings = [d if d != 12 else 11 for d in shown([3, 2], 100)]
    assert unevenness(steps(moving(seen(planned(drawings), drawings)))) < 1e-6


def test_a_frame_taken_for_a_repeat_or_for_none_does_not_break_a_pattern():
    drawings, dice = shown([3, 2], 200), random.Random(0)
    repeats = repeats_of(drawings) ^ {i for i in range(1, 200) if dice.random() < 0.04}
    (stretch,) = find_cadence(repeats, (), 200).stretches
    assert stretch.pattern.per_drawing == Fraction(5, 2) and (stretch.first, stretch.after) == (0, 200)


def test_patterns_that_change_at_edits_are_each_undone_and_nothing_moves_across():
    parts = [shown([3, 2], 50), shown([2], 40, 1), shown([1, 1, 1, 2], 60, 2)]
    drawings = [100 * i + d for i, part in enumerate(parts) for d in part]
    cuts = {50, 90}
    found = planned(drawings, cuts=cuts, rate=2 * RATE, multiplier=None)
    assert [s.pattern.per_drawing for s in found.options.cadence.stretches] == [
        Fraction(5, 2), Fraction(2), Fraction(5, 4),
    ]  # fmt: skip
    places = seen(found, drawings)
    for part in np.split(places, [100, 180]):
        assert unevenness(steps(moving(part))) < 1e-6
    assert all(s.left // 50 == s.right // 50 for s in found if s.left < 50)


@pytest.mark.parametrize(
    "drawings",
    [
        list(range(60)),
        [i for i, times in enumerate([2, 3, 1, 2, 4, 2, 1, 3, 1, 1, 2, 4, 1, 2, 2, 3]) for _ in range(times)],
        sorted([*range(60), 10, 31, 47]),
        [0] * 40,
        shown([1] * 23 + [2], 40),
    ],
    ids=["none", "irregular", "some", "a still", "too short"],
)
def test_what_is_no_pattern_is_left_alone(drawings):
    assert find_cadence(repeats_of(drawings), (), len(drawings)).stretches == ()
    assert list(planned(drawings, "auto")) == list(planned(drawings, "hold"))


def test_a_still_within_a_pattern_is_held_and_moves_on_at_the_pace_of_all_else():
    first = shown([3, 2], 60)
    drawings = [*first, *[first[-1]] * 25, *(first[-1] + 1 + d for d in first)]
    found = steps(seen(planned(drawings), drawings))
    assert set(np.round(found, 9)) == {0, 0.2}
    assert (found == 0).sum() == pytest.approx(50, abs=6)


def test_a_loop_goes_on_across_its_end():
    drawings = shown([3, 2], 100)
    places = seen(planned(drawings, loop=True), drawings)
    assert len(places) == 200 and unevenness(steps(places[:194])) < 1e-6
    last = list(planned(drawings, loop=True))[-1]
    assert (last.kind, last.right) == ("new", 0)


def test_given_frames_at_their_times_are_passed_and_the_report_tells_the_pattern():
    drawings = shown([3, 2], 100)
    found = planned(drawings, rate=RATE * 2 / 5, multiplier=None)
    assert {step.kind for step in found} == {"source"}
    facts = report(planned(drawings))
    assert facts["cadence"] == [{"frames": [0, 100], "pattern": "3:2 pulldown", "drawings_per_s": 23.976}]
    assert facts["timing_error_s"] == 0 and report(found)["timing_error_s"] == 0


def test_two_hours_take_seconds():
    drawings = shown([3, 2], 20_000)
    (stretch,) = find_cadence(repeats_of(drawings), (), 20_000).stretches
    assert stretch.after == 20_000


@pytest.mark.parametrize("name", ["2:3 pulldown, film in 60", "each fourth frame twice, film in 30"])
def test_a_disc_of_known_speed_moves_evenly(name):
    """Frames of a network, not of arithmetic."""
    pattern = PATTERNS[name]
    pace = Fraction(sum(pattern), len(pattern))
    frames = clip(shown(pattern, 30, 1), noise=0.7, step=float(3 * pace), pan=1, width=240)
    found = find_scenes(torch.from_numpy(frames))
    asked = plan(
        Clock(30, RATE), multiplier=2, cuts=found.cuts, repeats=found.repeats, at_repeats="auto"
    )  # fmt: skip
    made = rife.interpolate(rife.load_model(device="cpu"), torch.from_numpy(frames).float() / 255, plan=asked)
    places = [disc_at(frame.numpy() * 255) for frame in made]
    places = places[: -int(2 * pace) - 1]
    assert unevenness(steps(places)) < 0.02
    assert np.mean(steps(places)) == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("base", [Fraction(1, 1000), Fraction(1, 90000)])
def test_soft_telecine_that_video_and_an_edit_break_is_even(tmp_path, base):
    """Frames that the file shows for three and two fields, for two each as video, and for two and three."""
    turns = [3, 2] * 12 + [3, 3, 2] + [3, 2] * 12 + [2] * 20 + [3, 2] * 10
    starts = [0, *np.cumsum(turns).tolist()]
    ticks = [round(start / RATE / base) for start in starts]
    frames = np.stack([picture(0)] * len(starts))
    video = Clip(write(tmp_path / "soft.mkv", frames, RATE / 2, times=ticks, time_base=base))
    assert video.rate is None and "soft telecine" in video.flagged_cadence
    film = Fraction(5, 2) / RATE
    steps_of = np.diff([float(time) for time in video.clock.times])
    assert steps_of[:48] == pytest.approx(float(film), rel=0.02)
    assert steps_of[54:68] == pytest.approx(float(2 / RATE), abs=0.0012)
    assert np.abs(np.array([float(t) for t in video.times]) * float(RATE) - starts).max() < 2
