"""Devices that are not here: what they lack is refused, what makes them wait is counted."""

from __future__ import annotations

import devices
import golden_recipe as golden
import pytest
import torch
from our_networks import OUR_NETWORKS
from torch import nn

import rife
from rife.evaluation import metrics
from rife.networks import multiscale as pyramid
from rife.networks.adaptive import build_network
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE
from rife.ops import conv as fused
from rife.ops import grid_sample as sampling
from rife.ops import warp
from rife.timeline.clock import Clock
from rife.timeline.plans import plan
from rife.timeline.scenes import find_scenes

# These look at the motion, by the official rule, before they choose their pyramid: values must come back.
LOOK = ("3.8", "4.0", "4.1", "elexor")


def network(name: str) -> nn.Module:
    """With any weights, on the default device."""
    if name in LEGACY_RELEASES:
        return LegacyRIFE(LEGACY_RELEASES[name]).eval()
    return build_network((OUR_NETWORKS | rife.RELEASES)[name]).eval()


def on_meta(name: str, dtype: torch.dtype = torch.float16) -> rife.Model:
    """The model on a device that computes nothing, but whose operations, shapes and strides are those of a GPU."""
    with torch.device("meta"):
        return rife.Model.from_network(network(name).to(dtype))


def one_pass(model: rife.Model, ensemble: bool = False, **options) -> None:
    """What the engine does with three frames of colours and alpha."""
    frames = torch.empty(3, 80, 112, 4, device="meta")
    sources = model.encode(frames.permute(0, 3, 1, 2), name=None, **options).split(1)
    pairs = torch.cat(sources[:2]), torch.cat(sources[1:])
    model.between(*pairs, (4, 80, 112), ensemble=ensemble, **options)


NETWORKS = [
    *OUR_NETWORKS,
    "4.26",
    "4.17",
    "4.6",
    "3.5",
    "RIFE",
    "RIFE_2R",
    "1.4-2F",
    "1.8",
    "2.4",
    "3.1",
    "arXiv-RIFE",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_host_waits_for_nothing_while_frames_are_made(name, monkeypatch):
    """One wait per pass, and a GPU is idle while the next pass is prepared; CUDA graphs cannot be captured at all."""
    assert not network(name).config.__dict__.get("adaptive")
    model = on_meta(name)
    devices.forbid_host_tensors(monkeypatch)
    for _ in range(2):
        with devices.HostWaits() as waits:
            one_pass(model)
        assert not waits.found


@pytest.mark.parametrize("name", LOOK)
def test_only_networks_that_choose_by_the_motion_look_at_it(name):
    assert rife.RELEASES[name].adaptive
    with devices.HostWaits() as waits, pytest.raises((RuntimeError, NotImplementedError)):
        one_pass(on_meta(name))
    assert waits.found


def test_grids_are_made_once_for_all_passes_of_a_size(monkeypatch):
    made = []
    monkeypatch.setattr(
        pyramid, "sampling_grid", lambda *size: made.append(size) or warp.sampling_grid(*size)
    )
    for name in (*OUR_NETWORKS, "RIFE_2R", "2.4"):
        model = on_meta(name)
        one_pass(model)
        assert len(set(made)) == len(made) > 1
        made.clear()
        one_pass(model)
        assert not made


@pytest.fixture
def small_device(monkeypatch):
    """This machine, or the meta device, as one about which nothing is known beforehand."""
    monkeypatch.setattr(sampling, "_COMPLETE", ())
    sampling._samples.cache_clear()
    yield devices.SmallDevice
    sampling._samples.cache_clear()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_device_runs_every_network(name, small_device):
    """On the path of accelerators. A network of three files failed in half precision beside alpha on any of them."""
    model = on_meta(name)
    with small_device():
        one_pass(model)
        one_pass(model, ensemble=True, TTA=True, scale=0.5)


def moved() -> tuple[torch.Tensor, torch.Tensor]:
    return golden.frame(70, 100, 0, 1), golden.frame(70, 100, 1, 1)


def on_cpu(name: str) -> rife.Model:
    if name == "bundled":
        return rife.load_model(device="cpu")
    torch.manual_seed(0)
    net = network(name)
    for key, value in net.state_dict().items():
        if "lastconv" in key:
            value.mul_(0.1)  # flow of some pixels
    return rife.Model.from_network(net)


@pytest.mark.parametrize("name", ["bundled", "4.26", "4.17", "3.8", "RIFE", "2.4", "1.8"])
@pytest.mark.parametrize("onednn", [True, False])
def test_a_small_device_makes_the_same_frames(name, onednn, small_device, monkeypatch):
    """As on MPS and DirectML; without oneDNN as on every accelerator and on ARM. Bicubic was bilinear there."""
    model = on_cpu(name)
    expected = model.inference(*moved())
    sampling._samples.cache_clear()
    monkeypatch.setattr(fused, "_ONEDNN", fused.onednn_dtypes() if onednn else frozenset())
    with small_device():
        plain = model.inference(*moved())
    torch.testing.assert_close(plain, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["4.26", "4.17", "3.8", "RIFE"])
def test_a_small_device_refuses_what_other_devices_do(name):
    model = on_cpu(name)
    with pytest.raises(RuntimeError, match="only bilinear"), devices.SmallDevice():
        model.inference(*moved())


@pytest.mark.parametrize("size", [(96, 160), (97, 163), (180, 320)])
def test_a_small_device_finds_cuts_and_interpolates(size, small_device):
    """The default node failed on MPS at 720x480, 1280x720, 1920x1080 and most other sizes."""
    one, other = (golden.frame(*size, d, 1)[0].permute(1, 2, 0) for d in (0, 5))
    clip = torch.stack([one.roll(i, 1) for i in range(5)] + [other.flip(0).roll(i, 0) for i in range(4)])
    model = on_cpu("bundled")

    def made() -> torch.Tensor:
        scenes = find_scenes(clip)
        assert scenes.cuts == {5}
        steps = plan(Clock(len(clip), 1), multiplier=2, cuts=scenes.cuts, repeats=scenes.repeats)
        return rife.interpolate(model, clip, plan=steps)

    expected = made()
    sampling._samples.cache_clear()
    with small_device():
        torch.testing.assert_close(made(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.interpolation_error])
def test_frames_are_scored_where_float64_is(metric):
    """RIFE Train Step scores its frame on the model's device; MPS has no float64."""
    image = torch.empty(3, 16, 16, device="meta")
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        metric(image, image)


def test_flow_stays_float32_in_training_with_half_precision():
    """Autocast made it bfloat16 on its way to the next block: off by a quarter of a pixel from 64 px on."""
    grids = pyramid.WarpGrids(128, 192, torch.device("cpu"))
    found = pyramid.AtScale(torch.randn(1, 4, 8, 12) * 40, 16)
    expected = grids.central_flow(found, 4)
    with torch.autocast("cpu", torch.bfloat16):
        flow = grids.central_flow(found, 4)
    assert flow.dtype == torch.float32 and torch.equal(flow, expected)


@pytest.mark.parametrize("name", ["RIFE", "4.26"])
def test_a_small_device_learns(name, small_device):
    """MPS had no gradient of grid_sample: training ended with an error at the first step."""
    img0, img1 = (golden.frame(64, 64, d, 1) for d in (0, 1))
    imgs, gt = torch.cat((img0, img1), 1), golden.frame(64, 64, 0.5, 1)
    models = []
    for mode in (torch.no_grad, small_device):
        sampling._samples.cache_clear()
        model = on_cpu(name)
        with mode():
            for _ in range(2):
                _, info = model.update(imgs, gt, 1e-4)
        models.append((float(info["loss_l1"]), model.net.state_dict()))
    assert models[0][0] == pytest.approx(models[1][0], rel=1e-3)
    for key, value in models[0][1].items():
        torch.testing.assert_close(models[1][1][key], value, atol=1e-3, rtol=0)
