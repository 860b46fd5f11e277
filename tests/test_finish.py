"""Steady plans, shutters and kept regions, beneath nodes and commands."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from video_files import Fader, make_of, rendered

from rife.engine.chunks import part_frames
from rife.engine.keep import OverlayFinder
from rife.engine.shutter import SLOTS, ShutterPlan, averaged
from rife.ops.transfer import BT709, LINEAR, SRGB, TRANSFERS
from rife.timeline import Clock, plan
from rife.timeline.parts import Timing, part_of
from rife.timeline.request import AtRate, PerPair
from rife.video.codecs import Encoding
from rife.video.job import Job, read_frames, render, to_bytes
from rife.video.reader import Clip


def made(frames, timing, rate=24, **options):
    clock = Clock(len(frames), rate)
    part = part_of(timing.plan(clock), 0, len(frames), timing.margin(timing.plan(clock)))
    return torch.stack(
        list(part_frames(Fader(), list(frames), timing, lambda _: clock, len(frames), part, **options))
    )


@pytest.mark.parametrize(
    ("asked", "first", "step"),
    [({"multiplier": 2}, "1/4", "1/2"), ({"multiplier": 3}, "1/6", "1/3"), ({"rate": 60}, "1/10", "2/5"),
     ({"rate": 12}, "0", "2")],
)  # fmt: skip
def test_a_steady_plan_is_half_a_step_late(asked, first, step):
    clock = Clock(6, 24)
    steady, usual = plan(clock, **asked, steady=True), plan(clock, **asked)
    assert len(steady) == len(usual)
    times = [steady.time(k) * 24 for k in range(4)]
    assert times == [Fraction(first) + k * Fraction(step) for k in range(4)]
    assert [steady.due(k) for k in range(4)] == [usual.time(k) for k in range(4)]


def test_a_steady_loop_leads_back_and_a_curve_is_refused():
    steady = plan(Clock(4, 24), multiplier=2, loop=True, steady=True)
    assert [(s.left, s.right, s.time) for s in steady][-2:] == [
        (3, 0, Fraction(1, 4)),
        (3, 0, Fraction(3, 4)),
    ]
    with pytest.raises(ValueError, match="steady"):
        plan(Clock(4, 24), times=[Fraction(0)], steady=True)


def test_a_clip_of_any_times_is_shown_when_it_was():
    times = [Fraction(n, 100) for n in (0, 4, 12, 16)]
    steady = plan(Clock(4, times=times), multiplier=2, steady=True)
    assert [steady.due(k) for k in range(6)] == [Fraction(n, 100) for n in (0, 2, 4, 8, 12, 14)]
    assert [steady.time(k) for k in range(3)] == [Fraction(1, 100), Fraction(3, 100), Fraction(6, 100)]


@pytest.mark.parametrize("transfer", [*TRANSFERS.values(), SRGB], ids=[*map(str, TRANSFERS), "sRGB"])
def test_light_and_back_is_what_it_was(transfer):
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(transfer.from_linear(transfer.to_linear(values)), values, atol=1e-5)
    light = transfer.to_linear(values)
    assert (light.diff() >= 0).all() and float(transfer.to_linear(torch.tensor(1.0))) == pytest.approx(
        1, abs=1e-3
    )


def test_light_of_half_grey():
    half = torch.tensor(0.5)
    assert float(SRGB.to_linear(half)) == pytest.approx(0.21404, abs=1e-4)
    assert float(BT709.to_linear(half)) == pytest.approx(0.25959, abs=1e-4)
    assert float(LINEAR.to_linear(half)) == 0.5


def test_samples_lie_within_the_shutter_and_the_scene():
    clip = plan(Clock(10, 60), rate=24, cuts={5})
    shutter = ShutterPlan(clip, 180)
    assert len(shutter) == len(clip) * SLOTS
    for k in range(len(clip)):
        steps = [shutter[j] for j in range(k * SLOTS, (k + 1) * SLOTS)]
        times = [float((s.left + s.time) / 60) for s in steps]
        assert max(abs(t - float(clip.time(k))) for t in times) <= 0.25 / 24
        scenes = {s.left >= 5 for s in steps} | {s.right >= 5 for s in steps}
        assert len(scenes) == 1, k


def test_one_picture_alone_stays_as_it_is():
    frame = torch.rand(4, 4, 3)
    assert next(averaged([frame] * SLOTS)) is frame


def test_a_shutter_keeps_light_above_one_and_below_nothing():
    bright = torch.tensor([[[12.0, -3.0, 0.5]]])
    samples = [bright * (1 + i / 100) for i in range(SLOTS)]
    (mean,) = averaged(iter(samples), LINEAR)
    assert torch.allclose(mean, torch.stack(samples).mean(0), rtol=1e-5)
    (same,) = averaged(iter([bright.clone() + (i % 2) * 1e-7 for i in range(SLOTS)]), SRGB)
    assert torch.allclose(same, bright, rtol=1e-5)


@pytest.mark.parametrize("opacity", [True, False])
def test_a_shutter_counts_colours_as_much_as_they_are_seen(opacity):
    red, hidden = torch.tensor([[[1.0, 0, 0, 1]]]), torch.tensor([[[0, 1.0, 0, 0]]])
    samples = [(hidden if i % 2 else red).clone() for i in range(SLOTS)]
    (mean,) = averaged(iter(samples), LINEAR, opacity)
    wanted = [1.0, 0, 0, 0.5] if opacity else [0.5, 0.5, 0, 0.5]
    assert torch.allclose(mean.flatten(), torch.tensor(wanted), atol=1e-5)


def test_a_shutter_without_motion_changes_nothing():
    still = rendered(1, 1).expand(6, -1, -1, -1)
    assert torch.equal(made(still, Timing(PerPair.multiplied(1), shutter=180)), still)


@pytest.mark.parametrize("angle", [-1, 361, float("nan")])
def test_an_angle_that_no_shutter_has_is_refused(angle):
    with pytest.raises(ValueError, match="0 .no motion blur. to 360"):
        Timing(shutter=angle)


def test_sixty_to_twentyfour_with_a_shutter_streams(tmp_path):
    frames = rendered(1, 40)
    source = make_of(tmp_path / "in.mkv", frames, rate=Fraction(60))
    job = Job(Clip(source), Timing(AtRate(24), shutter=180), Encoding("ffv1"))
    with job.writer(tmp_path / "out.mkv") as writer:
        render(Fader(), job, job.part(), writer)
    out = list(read_frames(tmp_path / "out.mkv"))
    assert len(out) == len(job.plan) == 16
    # By hand: the mean light of samples evenly spread around 5 * 2.5 = frame 12.5, 1.25 frames wide.
    places = [12.5 + ((i + 0.5) / 8 - 0.5) * 1.25 for i in range(8)]
    bytes_ = torch.stack([torch.from_numpy(to_bytes(frame)) for frame in frames]).float() / 255
    samples = [torch.lerp(bytes_[int(p)], bytes_[int(p) + 1], p % 1) for p in places]
    wanted = BT709.from_linear(torch.stack([BT709.to_linear(s) for s in samples]).mean(0))
    assert np.abs(out[5].astype(int) - to_bytes(wanted).astype(int)).max() <= 3


def overlaid(frames):
    """With a caption that stands still; and where it is."""
    height, width = frames.shape[1:3]
    caption = torch.zeros(height, width)
    caption[-16:-8, 8:60] = (torch.arange(52) % 6 < 3).float()
    return frames * (1 - caption[..., None]) + 0.95 * caption[..., None], caption > 0


def test_overlays_are_found_and_nothing_else():
    film, caption = overlaid(rendered(1, 20))
    finder = OverlayFinder()
    for frame in film:
        finder.push(frame)
    found = finder.mask(8)
    assert found[caption].mean() > 0.95
    # Where the scene itself stands still it may be taken for one: that changes nothing that is seen.
    plain, kept = (made(film, Timing(at_cuts="off", at_repeats="off"), keep=keep) for keep in (None, "auto"))
    away = torch.nn.functional.max_pool2d(caption[None].float(), 21, 1, 10)[0] == 0
    assert (kept - plain)[:, away].abs().mean() < 0.001


def test_a_kept_caption_is_the_given_one():
    film, caption = overlaid(rendered(1, 20))

    class Smear(Fader):
        def inference(self, img0, img1, **options):
            return super().inference(img0, img1, **options).roll(3, 3)

    def smeared(**options):
        clock, timing = Clock(len(film), 24), Timing(at_cuts="off", at_repeats="off")
        part = part_of(timing.plan(clock), 0, len(film))
        return torch.stack(
            list(part_frames(Smear(), list(film), timing, lambda _: clock, 20, part, **options))
        )

    plain, kept = smeared(), smeared(keep="auto")
    assert (plain[15][caption] - film[7][caption]).abs().mean() > 0.05
    assert torch.equal(kept[15][caption], film[7][caption].to(kept)) or (
        (kept[15][caption] - film[8][caption]).abs().max() < 1e-6
    )
    assert torch.equal(kept[::2], film)


def test_keep_wants_auto_or_a_mask():
    with pytest.raises(ValueError, match="expected off, auto or a mask"):
        made(rendered(1, 4), Timing(), keep="logo")
