"""Rendered motion against its own flow, and the choice of real triplets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rife.evaluation.metrics import psnr
from rife.ops.warp import warp
from rife.training.samples import concatenated
from rife.training.synthetic import RenderedMotion, noise_textures


def scenes(seed: int = 3, size: int = 64, **options) -> RenderedMotion:
    return RenderedMotion(size, size, seed, textures(), **options)


def textures() -> torch.Tensor:
    return noise_textures(4, 96, torch.Generator().manual_seed(1))


def test_a_batch_has_the_promised_shapes_and_ranges():
    sample = RenderedMotion(48, 64, 0, textures()).sample(2)
    for image in (sample.img0, sample.img1, sample.gt):
        assert image.shape == (2, 3, 48, 64) and image.dtype == torch.float32
        assert 0 <= image.min() and image.max() <= 1
    assert sample.flow.shape == (2, 4, 48, 64)
    assert sample.timestep.shape == (2,) and ((0 < sample.timestep) & (sample.timestep < 1)).all()


def test_a_seed_decides_everything():
    first, again, other = (scenes(seed).sample(2) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.img0, other.img0)


@pytest.mark.parametrize("timestep", [0.2, 0.5, 0.8])
def test_the_flow_fetches_the_frame_at_its_time_from_both_ends(timestep):
    """Without objects nothing is hidden: only the border, where things come into view, is left out.

    Smooth textures, so that sampling twice costs nothing.
    """
    smooth = F.interpolate(textures()[:, :, ::8, ::8], scale_factor=12, mode="bicubic").clamp(0, 1)
    sample = RenderedMotion(96, 96, 3, smooth, objects=0, max_motion=12.0).sample(24, timestep)
    inner = (..., slice(16, -16), slice(16, -16))
    gt = sample.gt[inner]
    for image, flow in ((sample.img0, sample.flow[:, :2]), (sample.img1, sample.flow[:, 2:])):
        right, wrong = warp(image, flow)[inner], warp(image, -flow)[inner]
        # Some scenes change their brightness with time, which no flow tells.
        right, wrong = (x * (gt.mean((1, 2, 3), True) / x.mean((1, 2, 3), True)) for x in (right, wrong))
        assert psnr(right, gt) > max(38, psnr(wrong, gt) + 6)


def test_the_flow_of_objects_is_theirs_not_the_backgrounds():
    """Warped by the true flow, a scene of objects is nearer to the truth than the average of its ends."""
    sample = scenes(size=96, max_motion=12.0, objects=3, fades=0.0).sample(24, 0.5)
    warped = torch.stack((warp(sample.img0, sample.flow[:, :2]), warp(sample.img1, sample.flow[:, 2:])))
    # Of what only one end shows, that end is taken.
    best = (warped - sample.gt).abs().amin(0)
    average = ((sample.img0 + sample.img1) / 2 - sample.gt).abs()
    assert best.mean() < 0.5 * average.mean()


@pytest.mark.parametrize("end", [0, 1])
def test_at_either_end_the_truth_is_that_frame_and_the_flow_to_it_is_zero(end):
    sample = scenes().sample(3, float(end))
    errors = [(sample.gt - image).abs().mean((1, 2, 3)) for image in (sample.img0, sample.img1)]
    assert errors[end].max() < 0.02  # noise, which only the given frames have
    assert (errors[1 - end] > 2 * errors[end]).all()
    assert sample.flow[:, 2 * end : 2 * end + 2].abs().max() < 1e-3


def test_motion_stays_below_its_limit_and_reaches_for_it():
    sample = scenes(max_motion=8.0).sample(64, 0.5)
    moved = (sample.flow[:, :2] - sample.flow[:, 2:]).norm(dim=1)
    # Objects add their own motion to the background's, and what turns is fastest at its rim.
    assert 6.0 < moved.max() < 2 * 8.0
    assert moved.mean() < 4.0


def test_scenes_at_rest_have_no_flow_and_their_middle_is_the_average():
    """Whatever fades or flickers there; the noise of the two frames is what averaging halves."""
    sample = scenes(rest=1.0).sample(6, 0.5)
    assert sample.flow.abs().max() < 1e-4
    assert not torch.equal(sample.img0, sample.img1)
    assert psnr((sample.img0 + sample.img1) / 2, sample.gt) > 34
    assert scenes(rest=0.0).sample(6).flow.abs().max() > 1


def test_stored_bytes_serve_as_textures():
    pool = (textures() * 255).round().byte()
    bytes_, floats = (RenderedMotion(32, 32, 3, x).sample(1, 0.5) for x in (pool, pool.float() / 255))
    torch.testing.assert_close(bytes_.gt, floats.gt)


def test_a_clip_is_one_scene_at_even_times():
    maker = {"max_motion": 6.0, "objects": 2}
    coarse, fine = scenes(**maker).clip(3), scenes(**maker).clip(3, timesteps=2)
    assert coarse.shape == (3, 3, 64, 64) and fine.shape == (5, 3, 64, 64)
    torch.testing.assert_close(fine[::2], coarse)


def test_textures_are_in_range_and_differ():
    made = textures()
    assert made.shape == (4, 3, 96, 96) and 0 <= made.min() and made.max() <= 1
    assert made.std((1, 2, 3)).min() > 0.01
    assert not torch.equal(made[0], made[1])


def test_scenes_made_again_share_nothing_but_the_textures():
    maker = scenes()
    first = maker.again(1, 32, 48, 4.0).sample(1)
    maker.sample(3)
    again = maker.again(1, 32, 48, 4.0).sample(1)
    assert first.gt.shape == (1, 3, 32, 48)
    assert torch.equal(first.gt, again.gt) and not torch.equal(
        first.gt, maker.again(2, 32, 48, 4.0).sample(1).gt
    )
    assert maker.height == 64


def test_a_batch_of_several_examples():
    parts = [scenes(seed).sample(1) for seed in (1, 2)]
    batch = concatenated(parts)
    assert torch.equal(batch.flow[1], parts[1].flow[0]) and batch.timestep.shape == (2,)
    assert concatenated([part._replace(flow=None) for part in parts]).flow is None
