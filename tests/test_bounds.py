"""No request, however odd, takes more than a moment: numbers, lists and lengths have limits."""

from __future__ import annotations

import time
from fractions import Fraction as F

import pytest

from rife.timeline.clock import Clock, exact_rate
from rife.timeline.curve import Curve
from rife.timeline.lazy import LONGEST
from rife.timeline.numbers import LONGEST_LIST, exact_number, whole_number, words_of
from rife.timeline.parts import Timing, check_forward
from rife.timeline.plans import PlanOptions, plan
from rife.timeline.request import AtTimes, PerPair
from rife.timeline.text import parse_cuts, parse_timesteps
from rife.video.job import LONGEST_VIDEO


@pytest.fixture(autouse=True)
def in_a_moment():
    began = time.process_time()
    yield
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text, value",
    [("0.5", F(1, 2)), ("1/3", F(1, 3)), (" 24000/1001 ", F(24000, 1001)), ("1e-3", F(1, 1000)), ("-2.5E2", F(-250)),
     (".5", F(1, 2)), ("5.", F(5)), ("+7", F(7)), ("1e15", F(10**15)), (0.25, F(1, 4)), (3, F(3))],
)  # fmt: skip
def test_numbers_are_read_exactly(text, value):
    assert exact_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "1e100", "1e-100", "1E+123", "1/0", "1//2", "1/2/3", "1.5/2", "0x10", "1_000", "\u0663", "\u00b2", "1,5",
     "nan", "inf", "1" * 41, "0." + "3" * 40, "1e1e1", "--1", "1 2", float("nan"), float("inf"), None, [], "1e٣"],
)  # fmt: skip
def test_what_is_no_number_or_too_long_for_one_is_refused_in_a_few_words(text):
    """Fraction computed powers of ten of any size, and took digits of all scripts."""
    with pytest.raises(ValueError) as error:
        exact_number(text)
    assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match="frame rate"):
        exact_rate(text)


@pytest.mark.parametrize("value", ["1e7", "1e-7", 10**7, "10000001", 1e300, "1e99"])
def test_a_frame_rate_is_one_that_something_could_have(value):
    with pytest.raises(ValueError, match="expected 1e-06 to 1,000,000"):
        exact_rate(value)


def test_lists_have_a_limit_that_the_message_names():
    assert words_of("1, 2;3\n4", 4) == ["1", "2", "3", "4"] and words_of(" , ;", 4) == []
    with pytest.raises(ValueError, match="5 entries, at most 4"):
        words_of("1 2 3 4 5", 4)
    with pytest.raises(ValueError, match="characters, at most 4,000,000"):
        words_of(" " * (LONGEST_LIST + 1), 4)
    cuts = words_of(", ".join(str(2_000_000 + 3 * i) for i in range(100_000)), 200_000)
    assert len(cuts) == 100_000, "of ten hours"
    with pytest.raises(ValueError, match="no whole number from 0 to 9"):
        whole_number("10", 9)


def test_the_longest_real_graph_is_allowed():
    """Ten hours at 60 frames per second with 100,000 cuts, and 1,000 timesteps between each two of ten minutes."""
    frames = 36_000 * 60
    cuts = parse_cuts(", ".join(str(21 * i + 5) for i in range(100_000)), frames)
    assert len(cuts) == 100_000
    film = Timing(PerPair.multiplied(2), cut_frames=frozenset(cuts)).plan(Clock(frames, 60))
    assert len(film) == 2 * frames - 1 < LONGEST_VIDEO and film.position(len(film) - 1) == frames - 1
    times = parse_timesteps(", ".join(f"{i}/1001" for i in range(1, 1001)))
    slow = Timing(PerPair(times)).plan(Clock(600 * 60, 60))
    assert len(slow) == (600 * 60 - 1) * 1001 + 1 < LONGEST_VIDEO


def test_lengths_are_known_without_a_step_being_walked():
    ten_hours = Clock(36000 * 60, 60)
    assert len(plan(ten_hours, multiplier=1_000_000)) == (36000 * 60 - 1) * 10**6 + 1
    assert len(plan(ten_hours, rate=1000, speed=F(1, 100))) == 3_599_998_334
    day = Curve([(0, 0), (1, 1), (86401, 1), (86402, 2)], 1000)
    assert len(plan(ten_hours, times=day, rate=1000)) == 86402001
    check_forward(Timing(AtTimes(day)).plan(ten_hours))
    with pytest.raises(ValueError, match="backward"):
        check_forward(Timing(AtTimes(Curve([(0, 5), (86400, 5), (86401, 4)], 1000))).plan(ten_hours))
    with pytest.raises(ValueError, match="asks for second 2e"):
        plan(Clock(100, 24), times=Curve([(0, 0), (10**6, 20_000_000)], 1000))


@pytest.mark.parametrize(
    "asked",
    [{"multiplier": 10**6 + 1}, {"multiplier": 10**30}, {"multiplier": float("nan")}, {"multiplier": float("inf")},
     {"multiplier": 2.5}, {"timesteps": [F(i, 20_000) for i in range(1, 10_002)]}, {"rate": 24, "speed": float("nan")},
     {"rate": 24, "speed": F(1, 10**7)}, {"rate": 24, "speed": 10**7},
     {"times": range(3), "rate": float("inf")}],
)  # fmt: skip
def test_what_nobody_asks_for_is_refused(asked):
    with pytest.raises(ValueError) as error:
        plan(Clock(10, 24), **asked)
    assert "expected" in str(error.value) and len(str(error.value)) < 400


def test_a_result_that_is_longer_than_anything_is_refused():
    with pytest.raises(ValueError, match=f"expected {LONGEST:,} at most"):
        plan(Clock(10**12, 24), multiplier=10_000)
    with pytest.raises(ValueError, match="at most"):
        Curve([(0, 0), ("1e30", 1)], 1000)


def test_a_thousand_odd_timesteps_have_a_denominator_that_does_not_grow_with_them():
    times = sorted({F(1, 10**39 - i) for i in range(9000)})
    assert PerPair(times).denominator < 10**80
    assert PerPair([F(1, 6), F(1, 4)]).denominator == 12 and PerPair.multiplied(10**6).denominator == 10**6


def test_walking_a_plan_looks_for_cancel():
    class Cancel(Exception):
        pass

    seen = 0

    def check():
        nonlocal seen
        seen += 1
        if seen > 3:
            raise Cancel

    steps = Timing(PerPair.multiplied(1000), check=check).plan(Clock(10**6, 24))
    assert isinstance(steps.options, PlanOptions)
    walked = 0
    with pytest.raises(Cancel):
        for _ in steps:
            walked += 1
    assert 1000 < walked < 10_000
