"""What "auto" has in bfloat16 on CPUs that multiply it: trunks behind the solver, the last ones of released 4.x."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import rife
from rife.model import devices
from rife.networks.adaptive import build_network
from rife.networks.config import RELEASES
from rife.networks.ifblock import ResConv
from rife.ops.conv import onednn_dtypes
from tests.support.moving_clips import clip

CPU = torch.device("cpu")


@pytest.fixture
def pair() -> torch.Tensor:
    drawings = clip([0.0, 1.0], step=7, pan=2, width=192)
    return torch.from_numpy(drawings).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(params=[True, False])
def able(request, monkeypatch):
    """On a CPU that multiplies bfloat16, and on another."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    return request.param


def test_auto_takes_it_where_the_cpu_does_and_says_so(able):
    model = rife.load_model(device="cpu", dtype="auto")
    assert model.net.fine_dtype == (torch.bfloat16 if able and torch.backends.mkldnn.is_available() else None)
    assert model.place == ("cpu, partly in bfloat16" if model.net.fine_dtype else "cpu")
    assert {weight.dtype for weight in model.net.parameters()} == {torch.float32}
    assert devices.fine_dtype(torch.device("meta")) is None


def test_who_asks_for_float32_gets_it(able, pair):
    exact = rife.load_model(device="cpu")
    auto = rife.load_model(device="cpu", dtype="auto")
    assert exact.net.fine_dtype is None and rife.load_model(device="cpu", dtype="fp32").net.fine_dtype is None
    assert auto.with_precision("auto") is auto
    named = auto.with_precision("fp32")
    assert named.net.fine_dtype is None and (named is auto) == (auto.net.fine_dtype is None)
    assert torch.equal(named.inference(*pair.split(1)), exact.inference(*pair.split(1)))


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_the_frame_is_the_same_but_for_a_level(pair, t):
    model = rife.load_model(device="cpu")
    exact = model.inference(*pair.split(1), timestep=t)
    model.net.fine_dtype = torch.bfloat16
    off = (model.inference(*pair.split(1), timestep=t) - exact).abs() * 255
    assert 0 < off.max() < 2 and off.flatten().sort().values[int(0.999 * off.numel())] < 1


def test_in_training_there_is_none_of_it():
    model = rife.load_model(device="cpu")
    model.net.fine_dtype = torch.bfloat16
    assert {block.trunk_dtype for block in model.net.blocks} == {torch.float32}  # gradients are wanted here
    with torch.no_grad():
        # The first block's flow is what the solver goes by.
        assert [block.trunk_dtype for block in model.net.blocks] == [torch.float32, torch.bfloat16]
        assert {block.dtype for block in model.net.blocks} == {torch.float32}


@pytest.mark.parametrize(
    "version, last",
    [("4.26", 2), ("4.25.heavy", 2), ("4.6", 1), ("4.17", 1), ("4.25.lite", 1), ("4.0", 0), ("RIFE", 0)],
)
def test_released_networks_have_it_in_their_last_blocks(version, last):
    with torch.device("meta"):
        network = build_network(RELEASES[version])
    network.fine_dtype = torch.bfloat16
    fine = [block.fine_dtype is not None for block in network.blocks]
    assert fine == [False] * (len(fine) - last) + [True] * last


@pytest.mark.parametrize("version", ["4.26", "4.6"])
def test_frames_and_flow_stay_float32(version, pair):
    """With the first two convolutions in bfloat16 as well, a last block of 4.6 was off by three times as much."""
    torch.manual_seed(0)
    model = rife.Model.from_network(build_network(RELEASES[version]).eval())
    exact = model.inference(*pair.split(1))
    model.net.fine_dtype = torch.bfloat16
    seen = []
    last = model.net.blocks[-1]
    for module in (last.conv0[1], last.convblock):
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    off = (model.inference(*pair.split(1)) - exact).abs() * 255
    assert seen == [torch.float32, torch.bfloat16] and 0 < off.max() < 4


def test_the_residual_is_added_before_the_sum_is_rounded():
    """And not folded into the weights, where 1 + weight would be rounded."""
    if torch.bfloat16 not in onednn_dtypes():
        pytest.skip("this CPU does not multiply bfloat16, and *auto* takes none")
    torch.manual_seed(0)
    layer = ResConv(32)
    x = torch.randn(1, 32, 24, 24).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        layer.conv.weight *= 4
        weight, bias = (y.bfloat16().float() for y in (layer.conv.weight, layer.conv.bias))
        exact = F.conv2d(x.float(), weight, bias, 1, 1) + x.float()
        rounded = layer(x).float()
    positive = exact > 0.01  # negative values are rounded once more, by the slope
    off = ((rounded - exact).abs() / exact)[positive]
    assert off.max() < 1.05 * 2**-8  # half of a step of eight bits


def test_a_legacy_network_is_left_alone():
    network = rife.Model(arbitrary=True).net
    assert devices.with_fine_dtype(network, torch.bfloat16) is network
    assert rife.Model().place == str(devices.default_device())
