"""Frames between frames far apart: by way of the middle, which is made once."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import rife
from rife.engine import Interpolator
from rife.engine.stream import interpolate_stream
from rife.timeline.clock import Clock
from rife.timeline.plans import plan
from tests.support.moving_clips import clip, disc_at, shown, steps, unevenness


class Fader(Interpolator):
    """A cross-fade that writes down which pass was asked for: values of both frames, and the time."""

    run_device = torch.device("cpu")
    run_dtype = torch.float32
    middle_first = True

    def __init__(self, fits: int = 1000):
        self.fits, self.passes = fits, []

    def memory_estimate(self, height, width, batch=1, **options):
        return batch

    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        if len(img0) > self.fits:
            raise torch.OutOfMemoryError("pretended")
        firsts = (float(x) for x in torch.stack((img0[:, 0, 0, 0], img1[:, 0, 0, 0]), 1).flatten())
        self.passes += zip(firsts, firsts, timestep.tolist(), strict=True)
        return torch.lerp(img0, img1, timestep.view(-1, 1, 1, 1).to(img0))


def held(times: int, drawings: int = 4, channels: int = 3) -> torch.Tensor:
    """Drawing i, of the value i/8, for so many frames."""
    values = torch.arange(drawings).repeat_interleave(times) / 8
    return values.view(-1, 1, 1, 1).expand(-1, 4, 5, channels).clone()


def retimed(frames: torch.Tensor, times: int, multiplier: int = 2):
    repeats = [i for i in range(len(frames)) if i % times]
    return plan(Clock(len(frames), Fraction(24)), multiplier=multiplier, repeats=repeats, at_repeats="retime")


@pytest.mark.parametrize("times, passes", [(1, 1), (2, 3), (3, 5), (4, 7)])
def test_one_pass_a_frame_and_the_middle_comes_first_from_threes_on(times, passes):
    model, frames = Fader(), held(times)
    out = rife.interpolate(model, frames, plan=retimed(frames, times), batch_size=1)
    expected = torch.arange(3 * times * 2 + 1) / 16 / times
    torch.testing.assert_close(out[: len(expected), 0, 0, 0], expected)
    assert len(model.passes) == 3 * passes
    reach = {round(abs(b - a) * 8, 6) for a, b, t in model.passes if t != 0.5}
    assert reach == ({0.5} if times > 2 else {1.0} if times > 1 else set())


def test_a_middle_that_nobody_asked_for_is_one_pass_more():
    model, frames = Fader(), held(3)
    out = rife.interpolate(model, frames, plan=retimed(frames, 3, 1), batch_size=1)
    torch.testing.assert_close(out[:10, 0, 0, 0], torch.arange(10) / 24)
    assert len(model.passes) == 9 and [t for *_, t in model.passes[:3]] == pytest.approx(
        [1 / 2, 2 / 3, 1 / 3]
    )


@pytest.mark.parametrize("times", [3, 4])
@pytest.mark.parametrize("fits", [1, 2, 3, 5, 100])
def test_frames_do_not_depend_on_the_batch_nor_on_streaming(times, fits):
    frames = torch.rand(4, 6, 7, 3).repeat_interleave(times, 0)
    whole = rife.interpolate(Fader(), frames, plan=retimed(frames, times), batch_size=1)
    assert torch.equal(
        rife.interpolate(Fader(fits), frames, plan=retimed(frames, times), batch_size=8), whole
    )
    streamed = interpolate_stream(
        Fader(fits), list(frames), plan_for=lambda count: retimed(frames, times), batch_size=3
    )
    assert torch.equal(torch.stack(list(streamed)), whole)


def test_passes_of_one_shape_stay_of_one_shape():
    class OneShape(Fader):
        static_shapes = True

        def inference(self, img0, img1, **options):
            self.sizes = {*getattr(self, "sizes", ()), len(img0)}
            return super().inference(img0, img1, **options)

    model, frames = OneShape(), torch.rand(4, 6, 7, 3).repeat_interleave(4, 0)
    out = rife.interpolate(model, frames, plan=retimed(frames, 4), batch_size=4)
    assert model.sizes == {4}
    assert torch.equal(out, rife.interpolate(Fader(), frames, plan=retimed(frames, 4), batch_size=1))


def test_light_above_one_and_opacity_go_the_same_way():
    model = rife.Model(arbitrary=True).eval()
    frames = torch.rand(2, 32, 32, 4).repeat_interleave(4, 0)
    frames[4:, ..., :3] *= 3
    out = rife.interpolate(model, frames, plan=retimed(frames, 4))
    assert out.shape == (15, 32, 32, 4) and out.isfinite().all() and out[..., :3].max() > 1.5
    batched = rife.interpolate(model, frames, plan=retimed(frames, 4), batch_size=3)
    torch.testing.assert_close(batched, out, atol=1e-3, rtol=0)


def test_a_disc_on_fours_moves_evenly():
    """2.5 % directly, 1.6 by way of the middle."""
    drawings = shown([4], 16)
    frames = torch.from_numpy(clip(drawings, step=10, pan=1, width=256)).float() / 255
    out = rife.interpolate(rife.load_model(), frames, plan=retimed(frames, 4))[:25]
    places = [disc_at(frame) for frame in (out * 255).round().byte().numpy()]
    assert unevenness(steps(places)) < 0.02
