"""The report's numbers, counted and measured again from the frames alone."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch

from rife.engine import Interpolator, interpolate
from rife.timeline.clock import Clock
from rife.timeline.plans import Clips, plan
from rife.timeline.report import report
from rife.timeline.scenes import Scenes, find_scenes

SOURCE, TARGET = 24, 60


class CrossFade(Interpolator):
    """A model whose result tells its time."""

    run_device, run_dtype = torch.device("cpu"), torch.float32

    def inference(self, img0, img1, *, timestep, **_):
        return torch.lerp(img0, img1, timestep.view(-1, 1, 1, 1))

    def memory_estimate(self, height, width, batch=1, **options):
        return 0


def pan(seed: int, pixels: int, n: int = 8, h: int = 96, w: int = 160) -> torch.Tensor:
    """A texture of 8-px grains (n,h,w,3) that moves so many pixels a frame."""
    grains = torch.rand(h // 8, (w + 8 * pixels * n) // 8, 3, generator=torch.Generator().manual_seed(seed))
    wide = grains.repeat_interleave(8, 0).repeat_interleave(8, 1)
    return torch.stack([wide[:, pixels * i : pixels * i + w] for i in range(n)])


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """5 px a frame, at frame 8 another scene of 2 px a frame, in which frame 12 repeats frame 11."""
    frames = torch.cat((pan(1, 5), pan(2, 2)))
    frames[12:] = frames[11:-1].clone()
    return frames


def test_counts_times_and_motion_are_those_of_the_frames(clip):
    scenes = find_scenes(clip)
    steps = plan(Clock(len(clip), SOURCE), rate=TARGET, cuts=scenes.cuts, repeats=scenes.repeats)
    out, facts = interpolate(CrossFade(), clip, plan=steps), report(steps, scenes)
    seen = {"passed": 0, "held": 0, "new": 0}
    times: dict[tuple[int, int], list[float]] = {}
    held_for = 0.0
    for k, image in enumerate(out):
        position = Fraction(k * SOURCE, TARGET)
        index, rest = floor(position), position - floor(position)
        if torch.equal(image, clip[index]):
            seen["held" if rest else "passed"] += 1
            held_for = max(held_for, float(rest / SOURCE))
            continue
        seen["new"] += 1
        way = clip[index + 1] - clip[index]
        measured = float(((image - clip[index]) * way).sum() / (way * way).sum())
        assert abs(measured - rest) < 1e-4
        times.setdefault((index, index + 1), []).append(measured)
    assert {name: facts[name] for name in seen} == seen and facts["blended"] == 0
    assert (facts["frames_in"], facts["frames_out"]) == (len(clip), len(out)) == (16, 38)
    assert facts["cuts"] == [8] and facts["repeats"] == [12]
    assert facts["timing_error_s"] == 0 and facts["held_for_s"] == pytest.approx(held_for)
    assert {7: "cut", 11: "static"} == {
        pair["frames"][0]: pair["kind"] for pair in facts["pairs"] if pair["kind"] != "new"
    }
    for pair in facts["pairs"]:
        told = [float(Fraction(t)) for t in pair["timesteps"]]
        assert told == pytest.approx(times.get(tuple(pair["frames"]), []), abs=1e-4)
        if pair["kind"] == "new":
            assert abs(pair["motion_px"] - (5 if pair["frames"][0] < 8 else 2)) < 1.5
            assert pair["unexplained"] < 0.2


def test_a_fade_over_the_cut_is_counted_as_one(clip):
    steps = plan(Clock(16, SOURCE), multiplier=4, cuts={8}, at_cuts="blend")
    out, facts = interpolate(CrossFade(), clip, plan=steps), report(steps)
    torch.testing.assert_close(out[30], (clip[7] + clip[8]) / 2)
    assert (facts["blended"], facts["new"], facts["held"]) == (3, 42, 0)


def test_clips_are_told_by_the_numbers_of_the_batch(clip):
    parts = [find_scenes(clip[:8]), find_scenes(clip[8:])]
    plans = [plan(Clock(8, SOURCE), multiplier=2, loop=True, repeats=part.repeats) for part in parts]
    steps, scenes = Clips(plans), Scenes.joined(parts, 8)
    out, facts = interpolate(CrossFade(), clip, plan=steps), report(steps, scenes)
    assert len(out) == len(steps) == facts["frames_out"] == 32 and facts["clips"] == 2
    assert scenes.evidence[7] is None and len(scenes.evidence) == 15 and facts["repeats"] == [12]
    torch.testing.assert_close(out[15], (clip[7] + clip[0]) / 2)
    torch.testing.assert_close(out[31], (clip[15] + clip[8]) / 2)
    pairs = {tuple(pair["frames"]): pair for pair in facts["pairs"]}
    assert (7, 8) not in pairs and pairs[7, 0]["kind"] == pairs[15, 8]["kind"] == "new"
    assert abs(pairs[8, 9]["motion_px"] - 2) < 1.5
    with pytest.raises(IndexError):
        steps[32]
