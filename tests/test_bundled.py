"""The bundled network's recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import rife
from rife.networks import ending
from rife.networks.ifnet import IFNet
from rife.timeline.scenes import Scenes
from rife.training.bundled import BUNDLED_CONFIG, Curriculum, lean_config, made_lean, match_init
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


def test_the_lean_network_is_what_its_two_blocks_were(monkeypatch):
    monkeypatch.setattr(ending, "with_borders", lambda mask, one: mask)
    torch.manual_seed(0)
    full = IFNet(replace(BUNDLED_CONFIG, variational=True)).eval()
    lean = made_lean(full)
    assert lean.config == lean_config(BUNDLED_CONFIG) and lean.config.channels == (96, 64)
    img0, img1 = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        for old, new in ((full.block0, lean.block0), (full.block2, lean.block1)):
            # Features of zero, in their places among the old block's inputs.
            given = {
                name: torch.rand(1, sum(n for _, n in parts), 16, 16) for name, parts in new.columns.items()
            }
            seen = {
                name: torch.cat((x, x.new_zeros(1, 4, 16, 16)), 1) if name in ("src0", "src1") else x
                for name, x in given.items()
            }
            begun = old.begin(seen), new.begin(given)
            torch.testing.assert_close(begun[1], begun[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(new(begun[1], 2).flow, old(begun[0], 2).flow, atol=1e-4, rtol=1e-4)
        for t in (0.25, 0.5):  # at first the mask is that of the cross-fade
            torch.testing.assert_close(lean.predict(img0, img1, t).mask, torch.full((1, 1, 64, 64), 1 - t))


def test_only_a_network_with_the_solver_can_be_made_lean():
    with pytest.raises(ValueError, match="variational False, cannot be made lean.*--add variational"):
        made_lean(IFNet(BUNDLED_CONFIG))


def test_the_lean_network_is_saved_and_found_again(tmp_path):
    lean = made_lean(IFNet(replace(BUNDLED_CONFIG, variational=True)))
    path = rife.save_checkpoint(rife.Model.from_network(lean), tmp_path / "lean")
    again = rife.load_model(path, device="cpu")
    assert again.config == lean.config
    frames = torch.rand(2, 3, 64, 96)
    for scale in (0.5, 1, 2, 4):
        assert again.inference(frames[:1], frames[1:], scale=scale, timestep=0.3).shape == (1, 3, 64, 96)
