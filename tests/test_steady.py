"""Even sharpness: all frames of a steady plan have the detail of the given ones, in memory and in streams."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from video_files import Fader, rendered

from rife.engine import interpolate, interpolate_stream
from rife.engine.steady import even_detail
from rife.timeline import Clock, plan


class Soft(Fader):
    """Makes frames that are the softer the nearer they are to the middle, of the first frame."""

    def inference(self, img0, img1, *, timestep, **_):
        t = timestep.to(img0).view(-1, 1, 1, 1)
        return torch.lerp(img0, F.avg_pool2d(img0, 3, 1, 1, count_include_pad=False), 0.6 * t * (1 - t))


def detail(frames):
    images = frames.permute(0, 3, 1, 2)
    return (images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)).abs().mean((1, 2, 3))


def alternation(frames, film):
    """How far the sharpest and the softest frame are apart, in percent, of a clip of one texture."""
    values = detail(frames) / detail(film).mean()
    return 100 * float(values.max() - values.min())


@pytest.fixture(scope="module")
def texture():
    torch.manual_seed(0)
    picture = F.avg_pool2d(torch.rand(1, 3, 100, 124), 3, 1)[0].permute(1, 2, 0)
    return torch.stack([picture.roll((0, 2 * i), (0, 1)) for i in range(7)])


@pytest.mark.parametrize("asked", [{"rate": 60}, {"multiplier": 3}, {"rate": Fraction(30), "loop": True}])
def test_frames_at_every_distance_are_equally_sharp(texture, asked):
    steps = plan(Clock(len(texture), 24), steady=True, cuts={4}, **asked)
    made = interpolate(Soft(), texture, plan=steps)
    plain = interpolate(Soft(), texture, plan=plan(Clock(len(texture), 24), cuts={4}, **asked))
    assert alternation(plain, texture) > 4 and alternation(made, texture) < 1
    streamed = interpolate_stream(
        Soft(), texture, plan_for=lambda n: plan(Clock(n, 24), steady=True, cuts={4}, **asked)
    )
    if "loop" not in asked:  # which a stream without an end knows as something else
        assert all(torch.equal(a, b) for a, b in zip(streamed, made, strict=True))


def test_what_stands_still_and_what_is_as_sharp_stays_bit_for_bit():
    film = rendered(1, 2).permute(0, 3, 1, 2)
    still = film[:1]
    assert torch.equal(even_detail(still, still, still, torch.tensor([0.3])), still)
    sharper = still + 0.2 * (still - F.avg_pool2d(still, 3, 1, 1, count_include_pad=False))
    assert torch.equal(even_detail(sharper, still, still, torch.tensor([0.5])), sharper)


def test_a_frame_does_not_depend_on_its_batch_nor_do_its_maps():
    torch.manual_seed(1)
    frames = torch.rand(3, 2, 4, 40, 56)
    made, first, second = frames[0], frames[1, :, :3], frames[2, :, :3]
    times = torch.tensor([0.25, 0.75])
    whole = even_detail(made, first, second, times)
    alone = [even_detail(*(x[i : i + 1] for x in (made, first, second, times)))[0] for i in range(2)]
    assert torch.equal(whole, torch.stack(alone)) and torch.equal(whole[:, 3], made[:, 3])
