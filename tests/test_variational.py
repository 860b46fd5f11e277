"""Flow without weights: exact where the motion is known, whatever the time, the size and the device can do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import rife
from rife.networks import variational_flow as variational
from rife.networks.ifnet import IFNet
from rife.networks.multiscale import BlockOutput, ForwardState, WarpGrids
from rife.networks.variational_flow import motion_flow
from rife.ops.warp import resize
from rife.training.bundled import BUNDLED_CONFIG
from rife.training.synthetic import RenderedMotion, noise_textures


def moved(
    shift: tuple[float, float], height: int = 128, width: int = 192, fine: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A texture, and the same after it moved by `shift` pixels (x, y). fine: nothing in it is larger than 15 pixels."""
    texture = noise_textures(1, 512, torch.Generator().manual_seed(4))
    if fine:
        texture = texture - F.avg_pool2d(texture, 15, 1, 7) + 0.5
    y, x = torch.meshgrid(torch.arange(height * 1.0), torch.arange(width * 1.0), indexing="ij")

    def seen(dx: float, dy: float) -> torch.Tensor:
        grid = torch.stack((x + 128 - dx, y + 128 - dy), 2)[None] * (2 / 511) - 1
        return F.grid_sample(texture, grid, mode="bicubic", align_corners=True).clamp(0, 1)

    return seen(0, 0), seen(*shift)


def hint(motion: tuple[float, float], like: torch.Tensor, t: float = 0.5) -> torch.Tensor:
    """The coarse flow of this motion."""
    v = torch.tensor(motion).view(1, 2, 1, 1).expand(1, 2, like.shape[2] // 8, like.shape[3] // 8)
    return torch.cat((-t * v, (1 - t) * v), 1)


def at(t: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), t)


@pytest.mark.parametrize("t", [0.25, 0.5])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3), (3.3, -1.7), (-9.5, 6.25)])
def test_finds_motion_to_a_fraction_of_a_pixel(shift, t):
    img0, img1 = moved(shift)
    flow = motion_flow(img0, img1, at(t), hint((0.0, 0.0), img0))
    assert flow.shape == (1, 4, 64, 96)
    true = torch.tensor((*(-t * s for s in shift), *((1 - t) * s for s in shift))).view(1, 4, 1, 1)
    error = (flow - true)[..., 10:-10, 10:-10].abs()
    assert error.mean() < 0.06 and error.max() < 0.2


def test_follows_a_hint_that_matches_and_no_other():
    img0, img1 = moved((52.0, 12.0), fine=True)
    inside = (slice(None), slice(None), slice(16, -16), slice(32, -32))
    lost = motion_flow(img0, img1, at(0.5), hint((0.0, 0.0), img0))[inside]
    led = motion_flow(img0, img1, at(0.5), hint((50.0, 10.0), img0))[inside]
    true = torch.tensor((-26.0, -6.0, 26.0, 6.0)).view(1, 4, 1, 1)
    assert (led - true).abs().mean() < 0.2 < 5 < (lost - true).abs().mean()

    img0, img1 = moved((3.0, 1.0))
    plain = motion_flow(img0, img1, at(0.5), hint((0.0, 0.0), img0))
    misled = motion_flow(img0, img1, at(0.5), hint((-40.0, 30.0), img0))
    assert (plain - misled).abs().mean() < 0.05


def test_a_moving_thing_leaves_its_background_at_rest():
    back, _ = moved((0.0, 0.0))
    thing, gone = moved((6.0, 0.0))
    img0, img1 = back.clone(), back.clone()
    img0[..., 40:88, 60:120] = thing[..., 40:88, 60:120].flip(1)
    img1[..., 40:88, 66:126] = gone[..., 40:88, 66:126].flip(1)
    flow = motion_flow(img0, img1, at(0.5), hint((0.0, 0.0), img0))
    assert (flow[0, 2, 26:38, 36:56] - 3).abs().mean() < 0.2
    assert flow[..., 28:36, :20].abs().max() < 0.2 and flow[..., 28:36, -20:].abs().max() < 0.2


def test_a_fade_is_no_motion():
    img0, img1 = moved((2.0, 0.0))
    for gain in (0.5, 0.9):
        still = motion_flow(img0, gain * img0, at(0.5), hint((0.0, 0.0), img0))
        assert still.abs().max() < 1e-3
        flow = motion_flow(gain * img0, img1, at(0.5), hint((0.0, 0.0), img0))
        assert (flow[0, 2, 10:-10, 10:-10] - 1).abs().max() < 0.1


def test_nothing_to_see_is_no_motion():
    flat = torch.full((1, 3, 64, 64), 0.5)
    for other in (flat, flat * 0.5, torch.ones_like(flat)):
        flow = motion_flow(flat, other, at(0.5), hint((0.0, 0.0), flat))
        assert flow.abs().max() < 1e-3


def test_frames_of_one_pixel_at_the_coarsest_level():
    img0, img1 = torch.rand(2, 1, 3, 16, 48)
    assert motion_flow(img0, img1, at(0.5), hint((0.0, 0.0), img0)).isfinite().all()
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert motion_flow(flat, flat, at(0.5), hint((0.0, 0.0), flat)).abs().max() == 0


def test_samples_of_a_batch_do_not_mix_and_time_may_be_a_map():
    pairs = [moved((2.0, 1.0)), moved((-5.0, 3.0))]
    img0, img1 = (torch.cat(x) for x in zip(*pairs, strict=True))
    times = torch.tensor((0.25, 0.75)).view(2, 1, 1, 1)
    hints = torch.cat([hint((0.0, 0.0), img0)] * 2)
    together = motion_flow(img0, img1, times, hints)
    for i, (a, b) in enumerate(pairs):
        torch.testing.assert_close(
            together[i : i + 1], motion_flow(a, b, times[i : i + 1], hints[:1]), atol=1e-3, rtol=0
        )
    mapped = motion_flow(img0, img1, times.expand(2, 1, *img0.shape[2:]), hints)
    torch.testing.assert_close(mapped, together, atol=1e-3, rtol=0)


def network(variational: bool) -> IFNet:
    torch.manual_seed(3)
    return IFNet(replace(BUNDLED_CONFIG, channels=(32, 24, 16, 16), variational=variational))


def quiet(net: IFNet) -> IFNet:
    """All blocks find no flow and weigh both frames alike."""
    for block in net.blocks:
        for parameter in block.lastconv.parameters():
            torch.nn.init.zeros_(parameter)
    return net.eval()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_network_builds_on_it_at_any_flow_scale(scale):
    img0, img1 = moved((4.0, -2.0), 125, 190)
    middle = moved((2.0, -1.0), 125, 190)[1]
    inside = (slice(None), slice(None), slice(16, -16), slice(16, -16))

    def error(variational: bool) -> float:
        model = rife.Model.from_network(quiet(network(variational)))
        return float((model.inference(img0, img1, scale=scale) - middle)[inside].abs().mean())

    assert error(True) < 0.1 * error(False)


@pytest.mark.parametrize("mask_add", [False, True])
def test_mask_and_features_before_it_are_kept(mask_add):
    img0, img1 = moved((4.0, -2.0), 64, 96)
    runs = []
    for restarts in (False, True):
        run = ForwardState(img0, img1, at(0.5), mask_add)
        for scale in (8, 4):
            torch.manual_seed(scale)
            flow, mask_feat = (
                torch.randn(1, 4, 64 // scale, 96 // scale),
                torch.randn(1, 9, 64 // scale, 96 // scale),
            )
            run.add(BlockOutput(flow, mask_feat, scale))
            if restarts and scale == 8:
                run.replace_flow(resize(flow, 4), 2)
        runs.append(run)
    plain, restarted = runs
    for scale in (1, 2, 4):
        torch.testing.assert_close(restarted.mask_feat_at(scale), plain.mask_feat_at(scale))
        assert restarted.flow_at(scale).shape == plain.flow_at(scale).shape
    # Only the way from 1/8 to 1/2 and on differs from that from 1/8 directly.
    assert (restarted.full_flow() - plain.full_flow()).abs().mean() < 0.2


def test_blocks_after_it_learn_and_the_first_one_from_known_flow():
    scenes = RenderedMotion(64, 64, 0, max_motion=8.0).sample(2, 0.5)
    net = network(True).train()
    found = net.predict(scenes.img0, scenes.img1, 0.5, keep_stages=True)
    assert len(found.flows) == len(found.merged) == 4
    (found.image - scenes.gt).abs().mean().backward(retain_graph=True)
    assert net.block3.lastconv[0].weight.grad.abs().max() > 0
    net.zero_grad()
    rife.losses.functional.flow_loss(found.flows, scenes.flow).backward()
    assert net.block0.lastconv[0].weight.grad.abs().max() > 0


def test_released_networks_are_not_touched():
    assert not any(getattr(config, "variational", False) for config in rife.RELEASES.values())


def test_motion_spreads_to_where_it_fits_better():
    """A square on a still ground, whose motion begins smeared over its edge on one side."""
    img0, _ = moved((0.0, 0.0), 48, 48)
    square, _ = moved((9.0, 5.0), 48, 48, fine=True)
    img1 = img0.clone()
    img0, img1 = img0.clone(), img1
    img0[..., 16:32, 14:30] = square[..., 16:32, 14:30]
    img1[..., 16:32, 18:34] = square[..., 16:32, 14:30]
    level = variational.PyramidLevel(torch.cat((img0, img1)), at(0.5), WarpGrids.of(img0))
    true = torch.zeros(1, 2, 48, 48)
    true[:, 0, 16:32, 16:32] = 4
    smeared = true.clone()
    smeared[:, 0, 16:32, 16:19] = 0  # within its left edge it stands still
    spread = variational.spread_motion(level, smeared)
    assert (spread - true)[0, 0, 18:30, 17:31].abs().max() == 0
    assert (smeared - true)[0, 0, 18:30, 17:31].abs().max() == 4
    still = torch.zeros_like(true)
    assert torch.equal(variational.spread_motion(level, still), still)  # there is nothing to spread


def test_motion_does_not_spread_where_nothing_fits_or_little_is_gained():
    frames = 0.3 * torch.rand(2, 3, 32, 32) + torch.tensor((0.0, 0.7)).view(2, 1, 1, 1)
    noise = variational.PyramidLevel(frames, at(0.5), WarpGrids.of(frames))
    v = torch.randn(1, 2, 32, 32)
    assert torch.equal(variational.spread_motion(noise, v), v)
    flat = 0.5 + 1e-4 * torch.rand(2, 3, 32, 32)
    assert torch.equal(
        variational.spread_motion(variational.PyramidLevel(flat, at(0.5), WarpGrids.of(flat)), v), v
    )
