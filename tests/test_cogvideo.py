"""What CogVideo's demo decides, beside a plain transcription of how it does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rife.ops.ssim import ssim
from rife.timeline.clock import Clock
from rife.timeline.cogvideo import _small, cogvideo_scenes
from rife.timeline.plans import plan


def gradient(n: int, step: float, h: int = 90, w: int = 130) -> torch.Tensor:
    """A smooth wave (n,h,w,3) that moves `step` px a frame."""
    x = torch.arange(w) + step * torch.arange(n)[:, None]
    return (torch.sin(x / 40) / 2 + 0.5)[:, None, :, None].expand(n, h, w, 3).contiguous()


def by_hand(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two (H,W,C): padded with black to multiples of 32, shrunk to 32x32, the window place by place."""
    pictures = []
    for frame in (a, b):
        padded = torch.zeros(-(-a.shape[0] // 32) * 32, -(-a.shape[1] // 32) * 32, 3)
        padded[: a.shape[0], : a.shape[1]] = frame
        small = F.interpolate(padded.permute(2, 0, 1)[None], (32, 32), mode="bilinear", align_corners=False)
        pictures.append(F.pad(small[None], (5,) * 6, mode="replicate")[0, 0].double())
    line = torch.exp(-(torch.arange(-5.0, 6).double() ** 2) / 4.5)
    weight = line[:, None, None] * line[:, None] * line
    weight = weight / weight.sum()
    total = 0.0
    for c in range(3):
        for y in range(32):
            for x in range(32):
                p, q = (picture[c : c + 11, y : y + 11, x : x + 11] for picture in pictures)
                mp, mq = (weight * p).sum(), (weight * q).sum()
                vp, vq = (weight * p * p).sum() - mp**2, (weight * q * q).sum() - mq**2
                both = (weight * p * q).sum() - mp * mq
                total += float(
                    (2 * mp * mq + 1e-4) * (2 * both + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
                )
    return total / (3 * 32 * 32)


def test_the_similarity_is_that_of_padded_small_pictures():
    a, b = torch.rand(70, 50, 3, generator=torch.Generator().manual_seed(1)), gradient(1, 0, 70, 50)[0]
    for first, second in ((a, b), (b, a * 0.3 + b * 0.7)):
        found = float(ssim(_small(first), _small(second)))
        assert abs(found - by_hand(first, second)) < 1e-4


def test_slow_smooth_motion_is_static_and_textured_motion_a_cut():
    assert cogvideo_scenes(gradient(6, 2.0)).repeats == {1, 2, 3, 4, 5}
    noise = torch.rand(90, 260, 3, generator=torch.Generator().manual_seed(2))
    noise = F.interpolate(noise.permute(2, 0, 1)[None], scale_factor=8.0)[0].permute(1, 2, 0)
    panned = torch.stack([noise[:360, 24 * i : 24 * i + 640] for i in range(5)])
    assert cogvideo_scenes(panned).cuts == {1, 2, 3, 4}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_frame_is_looked_at(channels):
    frames = gradient(4, 60.0)[..., :1].expand(-1, -1, -1, channels)
    one, bytes_ = cogvideo_scenes(frames), cogvideo_scenes((frames * 255).round().byte())
    assert (one.cuts, one.repeats) == (bytes_.cuts, bytes_.repeats)


def test_49_frames_become_97_or_the_98_of_the_demo_at_16_fps():
    scenes = cogvideo_scenes(gradient(49, 40.0))
    found = {"cuts": scenes.cuts, "repeats": scenes.repeats}
    assert len(plan(Clock(49, 8), multiplier=2, **found)) == 97
    steps = plan(Clock(49, 8), multiplier=2, keep_duration=True, **found)
    assert len(steps) == 98 and steps.rate == 16 and steps[97].kind == "tail"
