"""Which frame shows a pixel: from where one motion takes all of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import rife
from rife.networks import ifnet, strips
from rife.networks.ifnet import IFNet
from rife.networks.linear_motion import flow_along
from rife.networks.multiscale import WarpGrids
from rife.networks.variational_flow import PyramidLevel
from rife.networks.visibility import visibility_logit
from rife.ops.splat import splat
from rife.ops.warp import resize, warp
from rife.ops.window import window_mean, window_sum
from rife.training.bundled import BUNDLED_CONFIG, lean_config


def test_what_is_splatted_lands_where_the_flow_points():
    x = torch.rand(2, 1, 9, 11)
    flow = torch.randn(2, 2, 9, 11) * 4
    found = splat(x, flow)
    expected = torch.zeros(2, 1, 13, 15, dtype=torch.float64)
    for b, y0, x0 in torch.cartesian_prod(*map(torch.arange, (2, 9, 11))).tolist():
        right, down = x0 + flow[b, 0, y0, x0].double(), y0 + flow[b, 1, y0, x0].double()
        for row in range(13):
            for column in range(15):
                share = (1 - (row - 2 - down).abs()).clamp(0) * (1 - (column - 2 - right).abs()).clamp(0)
                expected[b, 0, row, column] += share * x[b, 0, y0, x0]
    torch.testing.assert_close(found, expected[..., 2:-2, 2:-2].float(), atol=1e-4, rtol=0)


def test_what_leaves_the_picture_is_lost_and_no_number_stops_nothing():
    x = torch.ones(1, 1, 4, 4)
    flow = torch.zeros(1, 2, 4, 4)
    flow[0, 0, 0] = torch.tensor([float("nan"), float("inf"), -1e30, 1e30])
    flow[0, 1, 1] = torch.tensor([-2.0, 3.0, -1e9, float("-inf")])
    assert splat(x, flow)[0, 0].tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    assert splat(x, torch.full_like(flow, 0.5))[0, 0, 0, 0] == 0.25


@pytest.mark.parametrize("side", [3, 7])
def test_windows_are_those_of_pooling(side):
    x = torch.rand(2, 3, 9, 12)
    reach = side // 2
    torch.testing.assert_close(window_sum(x, side), F.avg_pool2d(x, side, 1, reach) * side**2)
    around = F.pad(x, (reach,) * 4, mode="replicate")
    torch.testing.assert_close(window_mean(x, side), F.avg_pool2d(around, side, 1))


def scene(t: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A square that moves by 8 px over a ground at rest: both frames, the motion at time t, and the frame then."""
    random = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    ground, thing = (0.4 + 0.25 * F.interpolate(random, scale_factor=4, mode="bicubic")).split(1)

    def at(left: int) -> torch.Tensor:
        frame = ground.clone()
        frame[..., 20:44, left : left + 24] = thing[..., :24, :24]
        return frame

    motion = torch.zeros(1, 2, 64, 96)
    left = 24 + round(8 * t)
    motion[:, 0, 20:44, left : left + 24] = 8
    return at(24), at(32), motion, at(left)


def logit(img0: torch.Tensor, img1: torch.Tensor, motion: torch.Tensor, t: float) -> torch.Tensor:
    time = torch.full((1, 1, 1, 1), t)
    return visibility_logit(warp(img0, -t * motion), warp(img1, (1 - t) * motion), motion, time)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.75])
def test_the_ground_is_shown_by_the_frame_that_does_not_hide_it(t):
    img0, img1, motion, _ = scene(t)
    found = logit(img0, img1, motion, t)[0, 0]
    left = 24 + round(8 * t)
    ahead, behind = found[24:40, left + 24 : 56].mean(), found[24:40, 24:left].mean()
    assert ahead > 0.3 and behind < -0.3
    assert found[28:36, left + 4 : left + 20].abs().max() < 1e-3  # the square itself
    assert found[:, :16].abs().max() < 1e-3 and found[:12].abs().max() < 1e-3
    backward = logit(img1, img0, -motion, 1 - t)[0, 0]
    torch.testing.assert_close(backward, -found, atol=1e-3, rtol=0)


def test_stills_fades_and_cuts_hide_nothing():
    frame, other = torch.rand(2, 1, 3, 64, 64) * 0.9
    jitter = torch.randn(1, 2, 64, 64) * 0.3
    still = torch.zeros_like(jitter)
    assert logit(frame, frame, still, 0.5).abs().max() == 0
    assert logit(frame, frame * 0.5, still, 0.5).abs().max() == 0
    assert logit(frame, other, jitter, 0.5).abs().max() < 0.1  # unlike everywhere
    assert logit(torch.zeros_like(frame), torch.zeros_like(frame), jitter, 0.5).abs().max() == 0


def test_the_solver_counts_little_what_one_frame_hides():
    img0, img1, motion, _ = scene(0.5)
    level = PyramidLevel(torch.cat((img0, img1)), torch.full((1, 1, 1, 1), 0.5), WarpGrids.of(img0))
    level.look(motion)
    seen = level.seen[0, 0]
    assert seen[24:40, 53:55].max() < 0.1 and seen[24:40, 25:27].max() < 0.1
    assert seen[:16].min() > 0.95 and seen[24:40, 32:48].min() > 0.95


def lean(visibility: bool = True) -> IFNet:
    torch.manual_seed(0)
    config = replace(lean_config(BUNDLED_CONFIG), channels=(32, 16), still_radius=0)
    net = IFNet(config).eval()
    if visibility:
        net.add_visibility()
    return net


def test_it_only_adds_to_the_mask_until_the_block_is_trained(monkeypatch):
    img0, img1, motion, _ = scene(0.5)
    known = flow_along(resize(motion, 0.5), torch.full((1, 1, 1, 1), 0.5))
    monkeypatch.setattr(ifnet, "motion_flow", lambda *_: known)
    plain, seeing = lean(False), lean()
    plain.blocks[1].ignore("mask_feat", 1)
    with torch.no_grad():
        without, found = (net.predict(img0, img1, 0.5) for net in (plain, seeing))
    torch.testing.assert_close(found.flow, without.flow)
    added = torch.logit(found.mask) - torch.logit(without.mask)
    assert added[0, 0, 24:40, 53:55].mean() > 0.2 and added[0, 0, 24:40, 25:27].mean() < -0.2
    assert added[..., :16].abs().max() < 0.1
    assert set(seeing.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize("scale", [0.5, 1, 2, 4])
def test_frames_are_the_same_whole_and_in_strips_at_any_flow_scale(scale, monkeypatch):
    img0, img1, *_ = scene(0.5)
    model = rife.Model.from_network(lean())
    whole = model.inference(img0, img1, scale=scale, timestep=0.3)
    large = {"is_large": lambda *_: True, "strip_pixels": lambda *_: 16 * img0.shape[3]}
    for name, function in large.items():
        monkeypatch.setattr(strips, name, function)
    ended = []
    monkeypatch.setattr(strips, "blend", lambda *x, made=strips.blend: ended.append(1) or made(*x))
    torch.testing.assert_close(
        model.inference(img0, img1, scale=scale, timestep=0.3), whole, atol=1e-5, rtol=0
    )
    assert bool(ended) == (scale <= 2)


def test_samples_of_a_batch_do_not_mix():
    img0, img1, *_ = scene(0.5)
    pair = torch.cat((img0, img1)), torch.cat((img1, img0.flip(3)))
    net = lean()
    with torch.no_grad():
        together = net.predict(*pair, torch.tensor([0.3, 0.6])).image
        for i, t in enumerate((0.3, 0.6)):
            alone = net.predict(pair[0][i : i + 1], pair[1][i : i + 1], t).image
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=0)


def test_it_is_saved_and_kept_from_networks_that_cannot_have_it(tmp_path):
    path = rife.save_checkpoint(rife.Model.from_network(lean()), tmp_path / "seeing")
    assert rife.load_model(path, device="cpu").config.visibility
    old = IFNet(rife.RELEASES["4.6"])
    with pytest.raises(ValueError, match="mask_add True.*cannot be given the visibility"):
        old.add_visibility()
    config = json.dumps({**old.config.to_dict(), "visibility": True})
    edited = tmp_path / "edited.safetensors"
    save_file(old.state_dict(), edited, {"rife_config": config})
    with pytest.raises(rife.UnknownCheckpointError, match="visibility"):
        rife.load_model(edited, device="cpu")
    assert len(load_file(path)) == len(lean().state_dict())
