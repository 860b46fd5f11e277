"""Networks as ONNX, run in onnxruntime. Skipped, loudly, where the extra `onnx` is not installed."""

from __future__ import annotations

import builtins
import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from rife import load_model
from rife.cli import main
from rife.model import Model, onnx_export
from rife.networks import variational_flow
from rife.networks.adaptive import AdaptiveIFNet, build_network
from rife.networks.config import RELEASES
from rife.ops import red_black_sor as board


@pytest.fixture
def runtime():
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        warnings.warn(f"ONNX is not tested: no {' and '.join(missing)}", stacklevel=1)
        pytest.skip(f'no {" and ".join(missing)}: pip install -e ".[onnx]"')
    import onnxruntime

    return onnxruntime


def small(version: str) -> Model:
    """A narrow network of a release's kind, untrained, whose flows are of several pixels."""
    torch.manual_seed(0)
    config = RELEASES[version]
    network = build_network(replace(config, family="custom", channels=(16,) * len(config.channels))).eval()
    with torch.no_grad():
        for block in network.blocks:
            heads = [block.lastconv] if hasattr(block, "lastconv") else [block.conv1, block.conv2]
            for layer in (one for head in heads for one in head.modules() if hasattr(one, "weight")):
                layer.weight.mul_(8)
    return Model.from_network(network)


def test_a_file_gives_the_networks_frames_at_any_size_batch_and_time(runtime, tmp_path, monkeypatch):
    model = small("4.25")
    made = onnx_export.export_onnx(model, tmp_path / "a.onnx")
    assert made.difference < 1e-4
    session = runtime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    multiple = int(told["rife.pad_multiple"])
    assert told["rife.version"] == "custom" and "reflect" in told["rife.padding"]
    assert [one.name for one in session.get_inputs()] == ["img0", "img1", "timestep"]
    img0, img1 = torch.rand(2, 4, 3, multiple, 2 * multiple)
    times = torch.tensor([0.1, 0.35, 0.5, 0.9])
    (frames,) = session.run(None, {"img0": img0.numpy(), "img1": img1.numpy(), "timestep": times.numpy()})
    assert np.abs(frames - model.inference(img0, img1, timestep=times).numpy()).max() < 1e-3
    # What differs gets no file.
    written = made.path.read_bytes()
    monkeypatch.setattr(onnx_export, "_traced", lambda *_: written)
    monkeypatch.setattr(onnx_export, "_expected", lambda whole, inputs: inputs[0])
    with pytest.raises(RuntimeError, match="differ from PyTorch's by"):
        onnx_export.export_onnx(model, tmp_path / "b.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_what_cannot_be_is_said_before_any_work(capsys, tmp_path, monkeypatch):
    assert main(["export", str(tmp_path / "a.pth")]) == 1
    assert "ends in .onnx" in capsys.readouterr().err
    real = builtins.__import__

    def without(name, *args, **keywords):
        if name == "onnx":
            raise ImportError("No module named 'onnx'", name="onnx")
        return real(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["export", str(tmp_path / "a.onnx")]) == 1
    assert 'pip install "rife-interpolation[onnx]"' in capsys.readouterr().err


def test_the_solver_is_the_same_in_operations_that_exporters_know():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 8, 12)
    assert torch.equal(board._traced_pack(image), board.pack(image))
    assert torch.equal(board._traced_unpack(board.pack(image)), image)
    weights = board.coupling(torch.rand(2, 1, 8, 11), torch.rand(2, 1, 7, 12))
    equations = board.pack(torch.rand(2, 5, 8, 12) + torch.tensor([2.0, 2, 0, 0, 0]).view(5, 1, 1))
    start = torch.nn.functional.pad(board.pack(torch.rand(2, 2, 8, 12)), (1, 1, 1, 1))
    plain = board.sor(start, equations, weights, 3)
    own, mixed, free = equations[:, :2] + weights.total, equations[:, 2:3], equations[:, 3:]
    determinant = own[:, :1] * own[:, 1:] - mixed * mixed
    traced = board._traced_sor(start, free, weights, own.flip(1) / determinant, mixed / determinant, 3)
    inside = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(traced[inside], plain[inside], atol=1e-5)


def test_the_bundled_checkpoint_can_be_traced(monkeypatch):
    """With less of its solver, of which there are four levels; `rife export` holds the whole, in a minute."""
    monkeypatch.setattr(variational_flow, "_LEVELS", ((8, 1), (4, 1), (2, 1), (1, 1)))
    monkeypatch.setattr(variational_flow, "_FIXED_POINT_ITERATIONS", 1)
    monkeypatch.setattr(variational_flow, "_SOR_SWEEPS", 1)
    check_trace(load_model(device="cpu"))


def check_trace(model: Model) -> None:
    """Another size and batch than the traced one."""
    whole = onnx_export._FrameModule(model.net.requires_grad_(False), 1.0)
    with onnx_export._quiet(), torch.no_grad():
        traced = torch.jit.trace(lambda *x: whole(*x), whole.sample(1, 1, 1), check_trace=False)
        inputs = whole.sample(4, 2, 3)
        assert (traced(*inputs) - onnx_export._expected(whole, inputs)).abs().max() < 1e-4


@pytest.mark.parametrize("version", ["3.6", "4.6"])
def test_networks_without_times_and_without_features_can_be_traced(version):
    check_trace(small(version))


@pytest.mark.parametrize("version", ["3.8", "4.0"])
def test_each_sample_gets_the_pyramid_that_its_motion_wants(version, monkeypatch):
    """Both are made where a network is traced, and one is taken."""
    seen = []

    def moves_far(self, state, *_):
        seen.append(state.src1[:, 0, 12, 12] > 0.5)
        return seen[-1]

    monkeypatch.setattr(AdaptiveIFNet, "_doubles", moves_far)
    check_trace(small(version))
    assert len(seen[-1]) == 4 and len(seen[-1].unique()) == 2
