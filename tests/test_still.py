"""Where two frames are equal, nothing moves; where they are not, the network decides."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import rife
from rife.networks.ifnet import IFNet
from rife.networks.static_regions import damp_static, motion_of_cells, weight_of_cells
from rife.training.bundled import BUNDLED_CONFIG
from tests.support.moving_clips import WAVE, pan_at, picture, steps, unevenness


def network(still_radius: int) -> IFNet:
    """Random weights whose flow is of some pixels everywhere."""
    torch.manual_seed(3)
    config = replace(BUNDLED_CONFIG, channels=(32, 24, 16, 16), still_radius=still_radius)
    return IFNet(config).eval()


def frames(height: int = 64, width: int = 256) -> torch.Tensor:
    return torch.rand(1, 3, height, width)


@pytest.mark.parametrize("timestep", [0.25, 0.5])
def test_a_still_gives_that_still(timestep):
    frame = frames()
    model = rife.Model.from_network(network(still_radius=64))
    assert (model.inference(frame, frame, timestep=timestep) - frame).abs().max() < 1e-4
    loose = rife.Model.from_network(network(still_radius=0))
    assert (loose.inference(frame, frame, timestep=timestep) - frame).abs().max() > 0.01


def test_noise_of_half_a_level_is_averaged():
    frame = frames() * 0.9
    noisy = frame + 0.4 / 255
    out = rife.Model.from_network(network(64)).inference(frame, noisy, timestep=0.25)
    torch.testing.assert_close(out, torch.lerp(frame, noisy, 0.25), atol=1e-4, rtol=0)


def test_what_changes_is_left_to_the_network_with_all_around_it():
    img0 = frames()
    img1 = img0.clone()
    img1[..., :8, :8] = 1 - img1[..., :8, :8]
    change = weight_of_cells(motion_of_cells(img0, img1, radius=64))
    assert change[..., :64].min() == 1 and change[..., 96:].max() == 0
    held = rife.Model.from_network(network(64)).inference(img0, img1)
    assert (held[..., :64] - (img0 + img1)[..., :64] / 2).abs().max() > 0.01
    torch.testing.assert_close(held[..., 96:], img0[..., 96:], atol=1e-4, rtol=0)


def test_a_quarter_of_a_pixel_is_no_motion_and_a_pixel_is_all_of_it():
    ends = torch.tensor([0.2, 0.625, 1.0, 3.0])
    flow = torch.zeros(1, 4, 1, 4)
    flow[0, 0], flow[0, 2] = -ends / 2, ends / 2
    mask = torch.full((1, 1, 1, 4), 2.0)
    moved, weight = damp_static(flow, mask, torch.ones_like(mask), torch.tensor(0.25).view(1, 1, 1, 1))
    torch.testing.assert_close(moved[0, 2, 0] / (ends / 2), torch.tensor([0.0, 0.5, 1.0, 1.0]))
    assert weight[0, 0, 0, 0].sigmoid() == pytest.approx(0.75) and (weight[0, 0, 0, 2:] == 2).all()
    # The mask's choice moves what the flow has not aligned, so it counts less than that.
    fade = math.log(3)
    assert float(weight[0, 0, 0, 1]) == pytest.approx(fade + (2 - fade) * 0.25)


def test_a_slow_pan_moves_evenly():
    """By less than a pixel a frame, of which motion counts in part."""
    shown = [picture(i, 0, step=0, pan=0.4, texture=0, dither=i) for i in range(9)]
    frames = torch.from_numpy(np.stack(shown)).float() / 255
    out = rife.interpolate(rife.load_model(device="cpu"), frames, 2)
    places = [pan_at((frame * 255).round().byte().numpy()) for frame in out]
    assert unevenness(steps(places, WAVE)) < 0.02


def test_released_networks_are_not_touched():
    assert all(config.still_radius == 0 for config in rife.RELEASES.values())
