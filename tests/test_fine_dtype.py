"""What follows the bundled network's solver in bfloat16 where "auto" has it so, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch

import rife
from rife.model import devices
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


def test_training_and_networks_without_the_solver_know_nothing_of_it():
    model = rife.load_model(device="cpu")
    other = copy.deepcopy(model.net)
    model.net.fine_dtype = torch.bfloat16
    assert {block.dtype for block in model.net.blocks} == {torch.float32}  # gradients are wanted here
    with torch.no_grad():
        # The first block's flow is what the solver goes by.
        assert [block.dtype for block in model.net.blocks] == [torch.float32, torch.bfloat16]
    other.config = other.config.__class__(**{**vars(other.config), "variational": False})
    other.fine_dtype = torch.bfloat16
    assert other.fine_dtype is None


def test_a_legacy_network_is_left_alone():
    network = rife.Model(arbitrary=True).net
    assert devices.with_fine_dtype(network, torch.bfloat16) is network
    assert rife.Model().place == str(devices.default_device())
