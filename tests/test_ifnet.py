"""The low-resolution pass is the network as published, which resamples everything to full size and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from alive import peak
from moving_clips import clip
from our_networks import OUR_NETWORKS

import rife
from rife.evaluation.metrics import psnr
from rife.networks import ending, ifnet, variational_flow
from rife.networks.adaptive import AdaptiveIFNet, build_network
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.networks.linear_motion import flow_along
from rife.networks.multiscale import (
    AtScale,
    ForwardState,
    WarpGrids,
    _central_indices,
    _rescaled,
    _upsampling_matrix,
    blend,
    swap,
)
from rife.networks.prediction import Prediction, time_tensor
from rife.ops import row_strips
from rife.ops.warp import resize, warp
from rife.training.bundled import BUNDLED_CONFIG


def published(net: IFNet, img0, img1, timestep, scales, reverse=False) -> Prediction:
    """The forward pass in the form of the official code, for networks without adaptive pyramid or refinement."""
    cfg = net.config
    f0, f1 = net.encode_frame(img0), net.encode_frame(img1)
    src0, src1 = torch.cat((img0, f0), 1), torch.cat((img1, f1), 1)
    t = time_tensor(timestep, img0).expand(-1, 1, *img0.shape[2:])
    mask, flow = net._initial(t)
    feat = None
    warped0, warped1 = src0, src1
    for block, scale in zip(net.blocks, scales, strict=True):

        def run(a, b, raw, t, mask, flow, block=block, scale=scale, feat=feat):
            mask_feat = mask if feat is None else torch.cat((mask, feat), 1)
            inputs = block.inputs((a, b), raw if cfg.raw_inputs else (), t, mask_feat, flow)
            inputs = {
                name: resize(x, 1 / scale) / (scale if name == "flow" else 1) for name, x in inputs.items()
            }
            out = block(block.begin(inputs), scale)
            found = resize(out.mask_feat, out.scale)
            return (
                resize(out.flow, out.scale),
                found[:, :1],
                found[:, 1:] if cfg.feat_channels else None,
            )

        delta, new_mask, new_feat = run(warped0, warped1, (src0, src1), t, mask, flow)
        if reverse:
            back = run(
                warped1,
                warped0,
                (src1, src0),
                1 - t,
                None if mask is None else -mask,
                None if flow is None else swap(flow),
            )
            delta, new_mask = (delta + swap(back[0])) / 2, (new_mask - back[1]) / 2
        feat = new_feat
        flow = delta if flow is None else flow + delta
        mask = mask + new_mask if cfg.mask_add and mask is not None else new_mask
        warped0, warped1 = warp(src0, flow[:, :2]), warp(src1, flow[:, 2:4])
    return Prediction(blend(warped0[:, :3], warped1[:, :3], mask), flow, torch.sigmoid(mask))


@pytest.mark.parametrize(
    "name, scales",
    [
        ("3.5", None),
        ("4.6", None),
        ("4.12.lite", (16, 8, 4, 2)),
        ("4.22.lite", (8, 4, 4, 1)),
        ("4.22.lite", (4, 2, 1, 0.5)),
        ("4.22.lite", (2, 1, 0.5, 0.25)),
        ("4.25.lite", None),
        ("4.25", (4, 4, 2, 2, 1)),
    ],
)
@torch.no_grad()
def test_low_resolution_pass_equals_the_published_form(name, scales):
    net = build_network(RELEASES[name]).eval()
    for key, value in net.state_dict().items():
        if "lastconv" in key:
            value.mul_(0.3)
    scales = scales or net.config.scales
    img0, img1 = torch.rand(2, 1, 3, 128, 256)
    reverse = net.config.ensemble != "no"
    ours = net.predict(img0, img1, 0.3, scales, reverse)
    theirs = published(net, img0, img1, 0.3, scales, reverse)
    assert theirs.flow.abs().max() > 0.1
    torch.testing.assert_close(ours.flow, theirs.flow, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(ours.image, theirs.image, atol=1e-4, rtol=0)


def test_sparse_upsampling_is_upsampling_at_the_pixels_that_are_read():
    x = torch.rand(1, 1, 4, 8)
    rows, cols = _central_indices(64, 8, x.device), _central_indices(128, 8, x.device)
    sparse = _upsampling_matrix(4, 16, rows) @ x @ _upsampling_matrix(8, 16, cols).T
    full = resize(x, 16)
    torch.testing.assert_close(sparse, full[:, :, rows][:, :, :, cols])
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(sparse, 2), resize(full, 1 / 8))


@pytest.mark.parametrize("name", ["4.0", "3.8"])
@torch.no_grad()
def test_large_motion_doubles_the_pyramid_and_small_does_not(name):
    net = build_network(RELEASES[name]).eval()
    img0, img1 = torch.rand(2, 3, 3, 128, 128)
    args = ForwardState(img0, img1, time_tensor(0.5, img0), True), net.config.scales, False
    for factor, expected in ((0.0, False), (1e6, True)):
        for block in (net.block0, net.block1):
            last = block.lastconv if name == "4.0" else block.conv1[2]
            last.weight.mul_(factor) if factor else last.weight.mul_(1e-3)
        assert net._doubles(*args).tolist() == [expected] * 3


@pytest.mark.parametrize("name", ["4.0", "3.8"])
@torch.no_grad()
def test_adaptive_pyramid_does_not_depend_on_the_batch(name, monkeypatch):
    """Bright samples count as far-moving here: in a mixed batch each gets the pyramid it would get alone."""
    monkeypatch.setattr(
        AdaptiveIFNet, "_doubles", lambda self, state, *_: state.src0[:, :3].mean((1, 2, 3)) > 0.4
    )
    net = build_network(RELEASES[name]).eval()
    img0, img1 = torch.rand(2, 4, 3, 128, 128)
    img0[::2] *= 0.5
    timestep = torch.tensor([0.2, 0.4, 0.6, 0.8])
    together = net.predict(img0, img1, timestep)
    alone = [net.predict(img0[i : i + 1], img1[i : i + 1], timestep[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together.image, torch.cat([p.image for p in alone]), atol=1e-4, rtol=0)
    plain = net._run(ForwardState(img0, img1, time_tensor(timestep, img0), True), net.config.scales, False)
    assert (together.image - plain.image).abs().amax((1, 2, 3)).gt(1e-4).tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_the_duck_type_of_comfyuis_own_node():
    net = build_network(RELEASES["4.22.lite"]).eval()
    img0, img1 = torch.rand(2, 1, 3, 64, 64)
    cache = {"img0": net.extract_features(img0), "img1": net.extract_features(img1)}
    timestep = torch.full((1, 1, 64, 64), 0.25)
    with torch.no_grad():
        torch.testing.assert_close(
            net(img0, img1, timestep, cache=cache), net.predict(img0, img1, 0.25).image
        )
    assert net.pad_align == 32
    assert net.get_dtype() == torch.float32
    assert net.memory_used_forward((1, 64, 64, 3), torch.float16) > 64 * 64 * 3 * 2


def test_a_network_without_timestep_says_so():
    net = build_network(RELEASES["3.5"]).eval()
    img = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="only knows the middle"):
        net(img, img, timestep=0.25)


NETWORKS = RELEASES | OUR_NETWORKS


@pytest.mark.parametrize("version", ["4.26", "4.6", "4.17", "4.0", "recipe"])
@pytest.mark.parametrize("strip", [64 * 2, 64 * 6, 64 * 22, 64 * 40])
@torch.no_grad()
def test_strips_leave_no_seam(version, strip, monkeypatch):
    """Large frames begin their finest block strip by strip; here small ones do, in strips of 2 to 40 rows."""
    torch.manual_seed(0)
    net = build_network(NETWORKS[version]).eval()
    img0, img1 = torch.rand(2, 3, 128, 64), torch.rand(2, 3, 128, 64)
    whole = net.predict(img0, img1, 0.3)
    monkeypatch.setattr(row_strips, "STRIP_PIXELS", strip)
    calls = []
    begin = ifnet.begin_in_strips
    monkeypatch.setattr(ifnet, "begin_in_strips", lambda *a: calls.append(1) or begin(*a))
    in_strips = net.predict(img0, img1, 0.3)
    assert calls
    torch.testing.assert_close(in_strips.image, whole.image, atol=2e-5, rtol=0)
    torch.testing.assert_close(in_strips.flow, whole.flow, atol=2e-4, rtol=0)


@pytest.mark.parametrize("version", ["4.26", "4.6", "4.17", "4.22.lite", "recipe", "bundled"])
@pytest.mark.parametrize("strip", [64 * 4, 64 * 12, 64 * 44])
@pytest.mark.parametrize("timestep", [0.3, torch.rand(2, 1, 128, 64)])
@torch.no_grad()
def test_frames_that_are_made_in_strips_are_those_of_the_whole(version, strip, timestep, monkeypatch):
    torch.manual_seed(0)
    net = build_network(NETWORKS[version]).eval()
    img0, img1 = torch.rand(2, 3, 128, 64), torch.rand(2, 3, 128, 64)
    img1[:, :, 70:] = img0[:, :, 70:]  # where nothing moves
    sources = net.source(img0), net.source(img1)
    whole = net.predict_from(*sources, timestep).image
    assert torch.equal(net.image_from(*sources, timestep, net.config.scales), whole)
    monkeypatch.setattr(row_strips, "STRIP_PIXELS", strip)
    monkeypatch.setattr(ifnet, "whole_ending", None)  # is not needed
    in_strips = net.image_from(*sources, timestep, net.config.scales)
    torch.testing.assert_close(in_strips, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("scales", [(4, 1), (16, 4)])
@torch.no_grad()
def test_strips_at_other_scales_are_the_whole_of_a_network_that_ends_at_half_of_the_size(scales, monkeypatch):
    torch.manual_seed(0)
    net = build_network(NETWORKS["bundled"]).eval()
    sources = net.source(torch.rand(2, 3, 128, 64)), net.source(torch.rand(2, 3, 128, 64))
    timestep = torch.rand(2, 1, 128, 64)
    whole = net.predict_from(*sources, timestep, scales).image
    monkeypatch.setattr(row_strips, "STRIP_PIXELS", 64 * 12)
    monkeypatch.setattr(ifnet, "whole_ending", None)  # is not needed
    torch.testing.assert_close(net.image_from(*sources, timestep, scales), whole, atol=2e-5, rtol=0)


@torch.no_grad()
def test_what_is_refined_is_made_as_a_whole(monkeypatch):
    torch.manual_seed(0)
    net = build_network(replace(RELEASES["RIFE_m"], variational=True, teacher=False)).eval()
    img0, img1 = torch.rand(2, 1, 3, 128, 64)
    whole = net.predict_from(img0, img1, 0.5, (8, 4, 2)).image
    monkeypatch.setattr(row_strips, "STRIP_PIXELS", 64 * 12)
    torch.testing.assert_close(net.image_from(img0, img1, 0.5, (8, 4, 2)), whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("version", ["4.25", "4.6", "RIFE_m", "recipe", "bundled"])
@pytest.mark.parametrize("scale", [0.5, 1, 2, 4])
@torch.no_grad()
def test_the_solver_ends_at_half_of_the_size_that_is_asked_for(version, scale, monkeypatch):
    # How it gets there takes a second of small operations.
    monkeypatch.setattr(variational_flow, "_LEVELS", ((1, 1),))
    monkeypatch.setattr(variational_flow, "_FIXED_POINT_ITERATIONS", 1)
    monkeypatch.setattr(variational_flow, "_SOR_SWEEPS", 1)
    with torch.device("meta"):
        net = IFNet(replace(NETWORKS[version], variational=True, refine="", teacher=False)).eval()
        asked = []
        solve = ifnet.motion_flow
        monkeypatch.setattr(ifnet, "motion_flow", lambda *a: asked.append(a[4]) or solve(*a))
        img = torch.empty(1, 3, 128, 128)
        net.predict(img, img, 0.5, [s / scale for s in net.config.scales])
    assert asked == [max(1, 2 / scale)]


@torch.no_grad()
def test_the_solvers_terms_in_strips_are_those_of_the_whole(monkeypatch):
    torch.manual_seed(0)
    frames, t = torch.rand(4, 3, 40, 32), torch.rand(2, 1, 40, 32)
    level = variational_flow.PyramidLevel(frames, t, WarpGrids.of(frames))
    v = torch.randn(2, 2, 40, 32)
    whole = variational_flow._data_terms(level, v)
    for rows in (1, 7, 18):
        monkeypatch.setattr(variational_flow, "_STRIP_PIXELS", 32 * rows)
        torch.testing.assert_close(variational_flow._data_terms(level, v), whole, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("version", ["4.26", "4.6", "4.17", "recipe", "bundled"])
def test_8k_fits_into_8_gb_and_4k_into_2(version):
    with torch.device("meta"):
        network = build_network(NETWORKS[version]).half()
    if version in ("4.17", "bundled"):  # of released ones, which take the most
        assert peak(network, 4352, 7680) < 6.5e9
    assert peak(network, 2176, 3840) < 1.6e9


@pytest.mark.parametrize("timestep", [0.25, 0.5])
def test_what_no_flow_explains_is_dissolved(timestep):
    torch.manual_seed(1)
    net = IFNet(replace(BUNDLED_CONFIG, channels=(32, 24, 16, 16))).eval()
    img0, img1 = torch.rand(2, 1, 3, 64, 96)
    fade = torch.lerp(img0, img1, timestep)
    with torch.no_grad():
        plain = net.predict(img0, img1, timestep)
        net.add_dissolve()
        begun = net.predict(img0, img1, timestep)
        share = torch.sigmoid(torch.tensor(-3.0))
        torch.testing.assert_close(begun.image, torch.lerp(plain.image, fade, share))
        torch.testing.assert_close(begun.flow, plain.flow)
        torch.testing.assert_close(begun.mask, plain.mask)
        net.block3.lastconv[0].bias[24:28] = 30
        torch.testing.assert_close(net.predict(img0, img1, timestep).image, fade)
        net.add_dissolve()  # is there already
        torch.testing.assert_close(net.predict(img0, img1, timestep).image, fade)


@pytest.mark.parametrize(
    "scale, target", [(2, 2), (4, 4), (16, 16), (2, 4), (2, 8), (4, 2), (8, 2), (0.5, 2), (1, 4), (4, 1)]
)
def test_the_detour_through_full_size_is_left_out(scale, target):
    x = torch.randn(2, 3, int(64 / scale), int(96 / scale))
    by_detour = resize(resize(x, scale), 1 / target)
    torch.testing.assert_close(_rescaled(AtScale(x, scale), target), by_detour, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("timestep", [0.25, 0.5])
def test_what_counts_is_decided_where_it_was_found(timestep, monkeypatch):
    """At half the size with the bundled network; at full size the frame is the same but for a little at edges of
    motion. A time for each pixel changes nothing."""
    model = rife.load_model(device="cpu")
    frames = torch.from_numpy(clip([0.0, 1.0], step=7, pan=2, width=192)).permute(0, 3, 1, 2).float() / 255
    frames = F.pad(frames, (0, -frames.shape[3] % 64, 0, -frames.shape[2] % 64), mode="replicate")
    with torch.no_grad():
        found = model.net.predict(*frames.split(1), timestep)
        by_pixel = model.net.predict(*frames.split(1), torch.full((1, 1, *frames.shape[2:]), timestep))
        monkeypatch.setattr(ending, "coarse_ending", lambda *_: None)
        other = model.net.predict(*frames.split(1), timestep)
    torch.testing.assert_close(by_pixel.image, found.image, atol=1e-5, rtol=0)
    assert found.flow.shape == other.flow.shape and found.mask.shape == other.mask.shape
    assert psnr(found.image, other.image) > 45
    assert (found.flow - other.flow).abs().mean() < 0.05


def test_a_time_for_each_row_is_one_for_each_pixel():
    torch.manual_seed(0)
    net = build_network(NETWORKS["bundled"]).eval()
    img0, img1, rows = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96), torch.rand(1, 1, 64, 1)
    with torch.no_grad():
        by_row = net.predict(img0, img1, rows).image
        assert torch.equal(by_row, net.predict(img0, img1, rows.expand(1, 1, 64, 96)).image)


@pytest.mark.parametrize("timestep", [0.2, 0.5])
def test_frames_that_are_reduced_first_are_those_that_are_warped_first(timestep):
    """Of a smooth picture they are the same, of any they would be at another time, or another way round, far apart."""
    frames = F.interpolate(torch.rand(2, 3, 6, 8), scale_factor=16, mode="bicubic")
    img0, img1 = frames.split(1)
    motion = torch.full((1, 2, 48, 64), 3.0)
    state = ForwardState(img0, img1, torch.full((1, 1, 1, 1), timestep), False)
    state.replace_flow(flow_along(motion, state.timestep), 2)
    reduced = state.sources_at(2)
    warped = (resize(x, 0.5) for x in state.warped())
    for one, other in zip(reduced, warped, strict=True):
        torch.testing.assert_close(one[..., 4:-4, 4:-4], other[..., 4:-4, 4:-4], atol=0.01, rtol=0)


@pytest.mark.parametrize("scale", [0.25, 0.5])
def test_a_pan_at_less_than_half_size_stays_what_it_was(scale):
    """Frames that were reduced to an eighth before they were warped had lost 8 dB of it, and 1 dB where what counts was
    decided there."""
    noise = torch.fft.rfft2(torch.randn(1, 3, 320, 480, generator=torch.Generator().manual_seed(1)))
    radius = (torch.fft.fftfreq(320)[:, None] ** 2 + torch.fft.rfftfreq(480)[None] ** 2).sqrt()
    picture = torch.fft.irfft2(noise / radius.clamp_min(1 / 480), s=(320, 480))
    picture = (0.5 + 0.18 * picture / picture.std()).clamp(0, 1)
    first, middle, last = (picture[..., 16 + d // 2 : 272 + d // 2, 16 + d : 400 + d] for d in (0, 4, 8))
    made = rife.load_model(device="cpu").inference(first, last, scale)
    assert psnr(made, middle) > {0.25: 35.0, 0.5: 40.5}[scale]
