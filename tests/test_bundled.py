"""The bundled network's recipe."""

from __future__ import annotations

import torch

from rife.networks.ifnet import IFNet
from rife.timeline.scenes import Scenes
from rife.training.bundled import BUNDLED_CONFIG, Curriculum, match_init
from rife.training.datasets import RealFrames, shots
from rife.training.synthetic import RenderedMotion


def test_the_matching_filters_see_no_difference_between_equal_frames():
    """Two filters per offset, with opposite signs; equal flat frames give zero, a difference its size."""
    network = IFNet(BUNDLED_CONFIG)
    match_init(network, gain=3.0)
    for block in network.blocks:
        layer = block.conv0[0][0]
        x = torch.zeros(1, layer.in_channels, 5, 5)
        x[:, :6] = 0.4
        assert layer(x)[0, :2, 1:2, 1:2].abs().max() < 1e-6
        x[:, 3:6] = 0.1
        torch.testing.assert_close(layer(x)[0, :2, 1, 1], torch.tensor((0.9, -0.9)))


def test_motion_and_size_grow_and_real_frames_join():
    clip = torch.randint(0, 255, (6, 64, 64, 3), dtype=torch.uint8)
    real = RealFrames(shots(clip, Scenes()), 64)
    source = Curriculum(RenderedMotion(64, 64, 1), real, 64, max_motion=24.0, small_until=0.3, real_from=0.5)
    early, late = (source.example(7, 0, progress) for progress in (0.0, 0.45))
    assert early.gt.shape == (1, 3, 32, 32) and late.gt.shape == (1, 3, 64, 64)
    assert late.flow.abs().max() > early.flow.abs().max()
    assert source.example(7, 1, 0.4).flow is not None
    assert source.example(7, 1, 0.5).flow is None and source.example(7, 2, 0.5).flow is not None
    assert torch.equal(source.example(7, 0, 0.45).gt, late.gt)
