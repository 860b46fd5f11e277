"""The laws of time: true count, exact times, nothing shown twice unless asked for."""

from __future__ import annotations

import random
from fractions import Fraction as F

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rife.timeline.clock import Clock, exact_rate
from rife.timeline.curve import Curve
from rife.timeline.plans import AT_CUTS, LONGEST_DRAWING, Step, plan

RATES = [
    F(8),
    F(12),
    F(16),
    F(24),
    F(25),
    F(30),
    F(24000, 1001),
    F(30000, 1001),
    F(60000, 1001),
    F(7, 3),
    F(60),
]


def random_plan(rng: random.Random):
    """A plan of any kind, with what was asked."""
    n = rng.randint(1, 6)
    if rng.random() < 0.3:
        times = [F(rng.randint(0, 5), 7)]
        while len(times) < n:
            times.append(times[-1] + F(rng.randint(1, 9), rng.choice([24, 25, 1000])))
        clock = Clock(n, times=times, end=rng.choice([None, times[-1] + F(1, 30)]))
    else:
        clock = Clock(n, rng.choice(RATES))
    asked = {"loop": rng.random() < 0.3, "keep_duration": rng.random() < 0.3}
    kind = rng.choice(["multiplier", "timesteps", "rate", "times"])
    if kind == "multiplier":
        asked["multiplier"] = rng.randint(1, 5)
    elif kind == "timesteps":
        asked["timesteps"] = sorted({F(rng.randint(1, 9), 10) for _ in range(rng.randint(1, 3))})
    elif kind == "rate":
        asked["rate"] = rng.choice(RATES)
        asked["speed"] = rng.choice([1, 1, F(1, 4), F(2, 3), 2])
    else:
        tail = asked["loop"] or asked["keep_duration"]
        length = clock.duration if tail else clock.at(n - 1) - clock.at(0)
        parts = [F(rng.randint(0, 12), 13) for _ in range(rng.randint(1, 12))]
        asked["times"] = [clock.at(0) + length * part for part in parts]
    asked["cuts"] = {i for i in range(n) if rng.random() < 0.15}
    asked["at_cuts"] = rng.choice(AT_CUTS)
    asked["repeats"] = {i for i in range(n) if rng.random() < 0.3} - asked["cuts"]
    asked["at_repeats"] = rng.choice(["hold", "retime"])
    return clock, asked, plan(clock, **asked)


def test_ten_thousand_random_plans_keep_the_laws():
    rng = random.Random(5)
    kinds = set()
    for _ in range(10_000):
        clock, asked, steps = random_plan(rng)
        listed = list(steps)
        context = (clock, asked, listed)
        assert len(listed) == len(steps) == expected_count(clock, asked), context
        for k, step in enumerate(listed):
            check_step(clock, asked, step, context)
            check_time(clock, asked, steps, k, step, context)
        if "times" not in asked:
            for a, b in zip(listed, listed[1:], strict=False):
                held = {"cut", "static", "tail"}
                assert a[:3] != b[:3] or a.kind in held or b.kind in held, context
        kinds |= {step.kind for step in listed}
    assert kinds == {"source", "new", "blend", "cut", "static", "tail"}


def expected_count(clock, asked):
    n, tail = clock.count, asked["loop"] or asked["keep_duration"]
    if "times" in asked:
        return len(asked["times"])
    if "rate" not in asked:
        m = asked["multiplier"] if "multiplier" in asked else len(asked["timesteps"]) + 1
        return n * m if tail else (n - 1) * m + 1
    step = F(asked["speed"]) / asked["rate"]
    k = 0  # counted, not computed
    end = clock.at(n) if tail else clock.at(n - 1)
    while clock.at(0) + k * step < end or (not tail and clock.at(0) + k * step == end):
        k += 1
    return k


def check_step(clock, asked, step, context):
    n = clock.count
    assert 0 <= step.left < n and 0 <= step.right < n and 0 <= step.time < 1, context
    assert (step.time == 0) == (step.left == step.right or step.kind not in ("new", "blend")), context
    if step.time == 0:
        assert step.left == step.right, context
    if step.kind == "new":
        assert step.right not in asked["cuts"], context
        if asked["at_repeats"] == "hold":
            assert step.right == step.left + 1 or (asked["loop"] and (step.left, step.right) == (n - 1, 0)), (
                context
            )
            assert step.right not in asked["repeats"], context
    if step.right < step.left:
        assert asked["loop"], context


def check_time(clock, asked, steps, k, step, context):
    error = steps.shown(step) - steps.time(k)
    if step.kind in ("source", "new", "blend"):
        # In a loop a drawing may have begun before the first frame.
        assert error == 0 or (asked["loop"] and error % clock.duration == 0), context
    if "rate" in asked:
        assert steps.time(k) == clock.at(0) + k * F(asked["speed"]) / asked["rate"], context
    if "times" in asked:
        assert steps.time(k) == asked["times"][k], context


@given(
    n=st.integers(2, 30),
    rate=st.fractions(F(1), F(120), max_denominator=1001),
    target=st.fractions(F(1), F(240), max_denominator=1001),
    loop=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_output_time_within_the_clip_is_there_and_no_other(n, rate, target, loop):
    steps = plan(Clock(n, rate), rate=target, loop=loop)
    last = (len(steps) - 1) / target
    if loop:
        assert last < n / rate <= last + 1 / target
    else:
        assert last <= (n - 1) / rate < last + 1 / target
    for k in (0, len(steps) // 2, len(steps) - 1):
        position = k / target * rate
        index = position.numerator // position.denominator
        assert (steps[k].left, steps[k].time) == (index, position - index)


@given(n=st.integers(1, 40), m=st.integers(1, 9), keep=st.booleans(), loop=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_multiplier_is_a_rate_that_many_times_as_high(n, m, keep, loop):
    clock = Clock(n, F(24000, 1001))
    by_multiplier = plan(clock, multiplier=m, keep_duration=keep, loop=loop)
    by_rate = plan(clock, rate=clock.rate * m, keep_duration=keep, loop=loop)
    assert list(by_multiplier) == list(by_rate) and by_multiplier.rate == by_rate.rate
    assert len(by_multiplier) == (n * m if keep or loop else (n - 1) * m + 1)
    assert all(by_multiplier[i * m] == Step(i, i, 0, "source") for i in range(n))


@given(st.integers(1, 12), st.integers(1, 5), st.sampled_from(RATES))
@settings(max_examples=100, deadline=None)
def test_an_open_plan_begins_as_every_closed_one(n, m, target):
    """What a stream is given before its length is known stays true."""
    for request in ({"multiplier": m}, {"rate": target}):
        open_steps = iter(plan(Clock(None, F(16)), loop=True, **request))
        for step in plan(Clock(n, F(16)), **request):
            assert next(open_steps) == step


def test_ten_hours_of_film_at_5994_do_not_drift():
    source, target = F(24000, 1001), F(60000, 1001)
    n = int(10 * 3600 * source)
    steps = plan(Clock(n, source), rate=target)
    assert len(steps) == (n - 1) * 5 // 2 + 1
    for k in (0, 1, 5, 1_000_005, len(steps) - 2, len(steps) - 1):
        assert steps.shown(steps[k]) == k / target
    # Every fifth output is a source frame to the very end.
    assert steps[1_000_005] == Step(400_002, 400_002, F(0), "source")
    assert steps[1_000_006] == Step(400_002, 400_003, F(2, 5), "new")
    kept = plan(Clock(n, source), rate=target, keep_duration=True)
    assert 0 <= len(kept) / target - n / source < 1 / target


@pytest.mark.parametrize(
    "source, target, n, count", [(16, 24, 81, 121), (8, 16, 49, 97), (30, "60000/1001", 31, 60)]
)
def test_rates_that_users_ask_for(source, target, n, count):
    steps = plan(Clock(n, F(source)), rate=target)
    assert len(steps) == count and steps.rate == exact_rate(target)


def test_sixteen_to_twentyfour_passes_every_second_frame_through():
    steps = plan(Clock(5, F(16)), rate=24)
    third = F(1, 3)
    assert [(s.left, s.time) for s in steps] == [
        (0, 0), (0, 2 * third), (1, third), (2, 0), (2, 2 * third), (3, third), (4, 0),
    ]  # fmt: skip


def test_a_loop_leads_back_to_the_first_frame():
    steps = list(plan(Clock(3, F(8)), multiplier=2, loop=True))
    assert steps[-1] == Step(2, 0, F(1, 2), "new") and len(steps) == 6
    # Exact times, also where the loop is no whole number of output frames: the last step is the short one.
    odd = list(plan(Clock(3, F(16)), rate=24, loop=True))
    assert len(odd) == 5 and odd[-1] == Step(2, 0, F(2, 3), "new")


def test_keeping_the_duration_holds_the_last_frame():
    steps = list(plan(Clock(3, F(8)), multiplier=3, keep_duration=True))
    assert len(steps) == 9
    assert [s.kind for s in steps[-3:]] == ["source", "tail", "tail"] and steps[-1].left == 2


def test_slow_motion_that_keeps_the_rate():
    slow = plan(Clock(5, F(24)), rate=24, speed=F(1, 4))
    assert list(slow) == list(plan(Clock(5, F(24)), multiplier=4)) and slow.rate == 24


def test_uneven_presentation_times_become_even():
    clock = Clock(4, times=[F(0), F(1, 10), F(3, 10), F(4, 10)])
    steps = list(plan(clock, rate=10))
    assert [(s.left, s.time) for s in steps] == [(0, 0), (1, 0), (1, F(1, 2)), (2, 0), (3, 0)]
    assert clock.duration == F(1, 2)


@pytest.mark.parametrize(
    "at_cuts, shown",
    [("hold", [0, 0, 0, 0, 1]), ("nearest", [0, 0, 1, 1, 1]), ("blend", [0, 0, 0, 0, 1])],
)
def test_nothing_is_interpolated_across_a_cut(at_cuts, shown):
    steps = list(plan(Clock(2, F(24)), multiplier=4, cuts=[1], at_cuts=at_cuts))
    assert [s.left for s in steps] == shown
    assert {s.kind for s in steps[1:-1]} == {"blend" if at_cuts == "blend" else "cut"}


def test_a_repeated_frame_is_held():
    steps = list(plan(Clock(3, F(24)), multiplier=2, repeats={1}))
    assert steps == [
        Step(0, 0, F(0), "source"), Step(0, 0, F(0), "static"), Step(1, 1, F(0), "source"),
        Step(1, 2, F(1, 2), "new"), Step(2, 2, F(0), "source"),
    ]  # fmt: skip


def test_animation_on_twos_moves_at_exact_times():
    """Drawings at 0, 2 and 4: in between, every frame is new, those on which the drawing was repeated too."""
    steps = list(plan(Clock(5, F(24)), multiplier=2, repeats={1, 3}, at_repeats="retime"))
    quarter = F(1, 4)
    assert [(s.left, s.right, s.time) for s in steps] == [
        (0, 0, 0), (0, 2, quarter), (0, 2, 2 * quarter), (0, 2, 3 * quarter),
        (2, 2, 0), (2, 4, quarter), (2, 4, 2 * quarter), (2, 4, 3 * quarter), (4, 4, 0),
    ]  # fmt: skip


def test_a_still_is_not_stretched_into_slow_motion():
    n = LONGEST_DRAWING + 2
    steps = list(plan(Clock(n, F(24)), multiplier=2, repeats=set(range(1, n - 1)), at_repeats="retime"))
    assert {s.kind for s in steps[:-2]} == {"source", "static"}
    assert steps[-2] == Step(n - 2, n - 1, F(1, 2), "new")


def test_a_loop_whose_last_frame_is_its_first_again_does_not_stand_still():
    steps = list(plan(Clock(4, F(8)), multiplier=1, loop=True, repeats={0}, at_repeats="retime"))
    assert [s[:3] for s in steps] == [(3, 1, F(1, 2)), (1, 1, 0), (2, 2, 0), (3, 3, 0)]


def test_a_curve_ramps_freezes_and_reverses():
    curve = Curve([(0, 0), ("1/2", "1/2"), (1, "1/2"), (2, 0)], 4)
    assert [curve[k] for k in range(len(curve))] == [
        0,
        F(1, 4),
        F(1, 2),
        F(1, 2),
        F(1, 2),
        F(3, 8),
        F(1, 4),
        F(1, 8),
        0,
    ]
    steps = list(plan(Clock(2, F(2)), times=curve, rate=4))
    assert len(steps) == len(curve) and steps[1] == Step(0, 1, F(1, 2), "new") and steps[2].left == 1


@pytest.mark.parametrize(
    "value, expected",
    [(23.976, F(24000, 1001)), ("29.97", F(30000, 1001)), (59.94006, F(60000, 1001)), (24.0, F(24)), (25, F(25)),
     ("24000/1001", F(24000, 1001)), (12.5, F(25, 2)), (119.88, F(120000, 1001)), (F(2997, 100), F(2997, 100)),
     (8.0, F(8)), (1000, F(1000)), (0.5, F(1, 2))],
)  # fmt: skip
def test_rates_are_read_as_they_are_meant(value, expected):
    assert exact_rate(value) == expected


@pytest.mark.parametrize(
    "bad",
    [lambda: exact_rate("fast"), lambda: exact_rate(0), lambda: exact_rate(float("nan")),
     lambda: Clock(0, F(24)), lambda: Clock(2), lambda: Clock(2, times=[F(1), F(1)]), lambda: Clock(3, times=[F(1)]),
     lambda: Clock(1, times=[F(1)], end=F(1)),
     lambda: plan(Clock(3, F(24)), multiplier=2, rate=30), lambda: plan(Clock(3, F(24)), multiplier=0),
     lambda: plan(Clock(3, F(24)), timesteps=[0.5, 0.5]), lambda: plan(Clock(3, F(24)), times=[]),
     lambda: plan(Clock(3, F(24)), times=[F(1)]), lambda: plan(Clock(3, F(24)), times=[F(1, 8)], loop=True),
     lambda: plan(Clock(None, F(24)), times=[F(0)]),
     lambda: plan(Clock(3, F(24)), rate=24, speed=0), lambda: plan(Clock(3, F(24)), at_cuts="morph"),
     lambda: Curve([(0, 0)], 24), lambda: Curve([(1, 0), (0, 1)], 24)],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused_with_a_way_out(bad):
    with pytest.raises(ValueError) as error:
        bad()
    assert str(error.value).rstrip().endswith(".")


def test_a_plan_holds_no_list():
    steps = plan(Clock(10**12, F(24)), rate=F(60000, 1001), loop=True)
    assert len(steps) > 2 * 10**12 and steps[len(steps) - 1].right == 0
    with pytest.raises(IndexError):
        steps[len(steps)]
