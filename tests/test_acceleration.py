"""Compiled and captured passes: same pictures, one shape per clip, and a plain way on where they do not work."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace

import pytest
import torch

import rife
from rife.model import acceleration
from rife.model.acceleration import Accelerated
from rife.networks import variational_flow as variational
from rife.networks.adaptive import build_network
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE


@pytest.fixture
def model():
    return rife.load_model(device="cpu")


def clip(n: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 32, 48, 3).repeat(n, 1, 1, 1).roll(1, 2) * torch.linspace(0.5, 1, n).view(
        -1, 1, 1, 1
    )


def accelerated(model, how, **options):
    model._passes.accelerated = Accelerated(model.net, how, **options)
    return model


def counting_backend(counts):
    def backend(graph, inputs):
        counts.append(len(inputs))
        return graph.forward

    return backend


@pytest.mark.parametrize("variational_too", [False, True])
def test_compiled_for_one_shape_whatever_the_clip(model, variational_too, monkeypatch):
    model.net.config = replace(model.net.config, variational=variational_too)
    # Shorter to compile, and to run in pieces.
    monkeypatch.setattr(variational, "_SOR_SWEEPS", 1)
    monkeypatch.setattr(variational, "_LEVELS", ((2, 1), (1, 1)))
    counts: list[int] = []
    compiled = 0
    expected = {n: rife.interpolate(model, clip(n), 3, batch_size=4) for n in (5, 8)}
    accelerated(model, "compile", backend=counting_backend(counts))
    torch._dynamo.reset()
    with torch.inference_mode():
        for n, frames in expected.items():
            torch.testing.assert_close(
                rife.interpolate(model, clip(n), 3, batch_size=4), frames, atol=1e-6, rtol=0
            )
            compiled = compiled or len(counts)
    assert len(counts) == compiled  # not anew for another length
    # Nor in pieces; of the solver, three functions for each of its levels at most.
    assert 1 < compiled <= 1 + 3 * 2 if variational_too else compiled == 1


def test_turned_frames_that_are_padded_do_not_make_it_anew(model, monkeypatch):
    """Their padding is at another side, so they have grids of their own: in turns with the others nothing was fast."""
    made = []
    monkeypatch.setattr(
        Accelerated, "_make", lambda self, inputs, options: made.append(1) or plainly(self, options)
    )
    accelerated(model, "compile", backend=counting_backend([]))
    frames = torch.rand(2, 1, 3, 30, 44)
    plain = rife.load_model(device="cpu").inference(*frames, TTA=True)
    for _ in range(4):
        torch.testing.assert_close(model.inference(*frames, TTA=True), plain, atol=1e-6, rtol=0)
    assert len(made) == 2


def plainly(accelerated: Accelerated, options: tuple):
    return lambda *inputs: acceleration._run(accelerated._network, *inputs, *options)


@pytest.mark.parametrize("how", ["compile", "cuda graphs", "triton"])
def test_where_it_does_not_work_a_warning_and_the_plain_way(model, how, caplog):
    def no_compiler(graph, inputs):
        raise RuntimeError("Cannot find a working triton installation")

    if how == "triton":  # which has nothing to do in the bundled network
        torch.manual_seed(0)
        model = rife.Model.from_network(build_network(rife.RELEASES["4.26"]).eval())
    expected = rife.interpolate(model, clip(4))
    accelerated(model, how, backend=no_compiler)
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(rife.interpolate(model, clip(4)), expected)
    assert sum(f"No {how} on this machine" in r.message for r in caplog.records) == 1


def test_triton_has_nothing_to_do_in_the_bundled_network(model, caplog):
    """Its second block gets frames that are reduced before they are warped; two equal ways were timed."""
    assert model.accelerate("triton").acceleration == "off" and "other inputs" in caplog.text


def test_a_network_that_looks_at_the_motion_stays_plain(caplog):
    net = build_network(rife.RELEASES["4.0"])
    model = rife.Model.from_network(net).accelerate("compile")
    assert "looks at the motion" in caplog.text
    # So its passes need not be of one shape.
    assert not model.static_shapes and model.acceleration == "off"


@pytest.mark.parametrize("how", ["compile", "cuda graphs", "triton"])
def test_a_three_network_rife_can_be_accelerated_or_says_why_not(how, caplog):
    """It stopped with: 'LegacyConfig' object has no attribute 'adaptive'."""
    network = LegacyRIFE(LEGACY_RELEASES["3.1"])
    assert Accelerated(network, how).works == (how != "triton")
    assert ("other inputs than those of 4.x" in caplog.text) == (how == "triton")


@pytest.mark.parametrize("version", ["RIFE", "RIFE_m", "3.6"])
def test_the_kernel_is_not_for_networks_with_other_inputs(version, caplog):
    assert not Accelerated(build_network(rife.RELEASES[version]), "triton").works
    assert "No triton" in caplog.text


def taking(milliseconds: float, picture: torch.Tensor):
    return lambda *_: time.sleep(milliseconds / 1000) or (picture,)


def test_the_faster_of_two_passes_wins_and_the_log_says_by_how_much(caplog):
    frames, picture = (torch.rand(1, 3, 32, 48),), torch.rand(1, 3, 32, 48)
    with caplog.at_level(logging.INFO):
        assert acceleration._faster(taking(0, picture), taking(30, picture), frames, torch.float32)
        assert not acceleration._faster(taking(30, picture), taking(0, picture), frames, torch.float32)
    won, lost = (record.getMessage() for record in caplog.records)
    assert "48x32" in won and "Going on with it" in won and "Going on without it" in lost


@pytest.mark.parametrize("off", [0.005, torch.nan])
def test_a_faster_pass_with_another_picture_does_not_win(off):
    frames, picture = (torch.rand(1, 3, 32, 48),), torch.rand(1, 3, 32, 48)
    with pytest.raises(RuntimeError, match="picture is off by"):
        acceleration._faster(taking(0, picture + off), taking(9, picture), frames, torch.float32)
    assert off != off or acceleration._faster(
        taking(0, picture + off), taking(30, picture), frames, torch.bfloat16
    )


def test_unknown_words_are_refused(model):
    with pytest.raises(ValueError, match="expected one of off, compile, cuda graphs, triton"):
        model.accelerate("warp 9")
    assert not model.accelerate("off").static_shapes and model.accelerate("compile").static_shapes


def passes(model, monkeypatch, fit: int) -> list[int]:
    """The sizes of the passes that are made from now on, where so many new frames would fit into one."""
    sizes: list[int] = []

    def between(self, a, *more, **how):
        sizes.append(len(a))
        return a[:, :3, :32, :48]

    monkeypatch.setattr(rife.engine.batches, "batch_for", lambda *_: fit)
    monkeypatch.setattr(rife.Model, "between", between)
    return sizes


def test_a_clip_that_fits_into_one_pass_is_accelerated_too(model, monkeypatch):
    sizes = passes(model, monkeypatch, 24)
    rife.interpolate(model, clip(10))
    rife.interpolate(model.accelerate("compile"), clip(10))
    assert sizes == [9, 2, 2, 2, 2, 2]


def test_passes_are_of_one_shape_whatever_the_length_and_nearly_whatever_fits(model, monkeypatch):
    model.accelerate("cuda graphs")
    for fit in (8, 11, 15):
        sizes = passes(model, monkeypatch, fit)
        for n in (33, 49, 50, 81):
            rife.interpolate(model, clip(n))
        assert set(sizes) == {8}


def test_memory_that_ran_out_is_no_reason_to_do_without(model):
    def full(graph, inputs):
        raise RuntimeError("MPS backend out of memory")

    accelerated(model, "compile", backend=full)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="Not enough memory for one new frame"):
        rife.interpolate(model, clip(4))


def test_another_precision_stays_accelerated(model):
    assert model.accelerate("compile").with_precision("bf16").static_shapes
    assert not model.accelerate("off").with_precision("bf16").static_shapes


class FakeCuda:
    """As much of torch.cuda as a capture needs: a graph runs again what ran last, into the same outputs."""

    Stream = current_stream = staticmethod(lambda: FakeCuda())
    stream = graph = device = staticmethod(lambda _: contextlib.nullcontext())
    empty_cache = staticmethod(lambda: None)

    def wait_stream(self, other):
        pass

    class CUDAGraph:
        def replay(self):
            for out, new in zip(FakeCuda.outputs, FakeCuda.again(), strict=True):
                out.copy_(new)


def test_a_captured_pass_reads_new_frames_and_gives_what_is_not_overwritten(monkeypatch):
    monkeypatch.setattr(acceleration, "cuda", FakeCuda)

    def function(x, y):
        FakeCuda.again, FakeCuda.outputs = lambda: (x * 2 + y,), (x * 2 + y,)
        return FakeCuda.outputs

    replay = acceleration.capture(function, (torch.ones(2), torch.zeros(2)))
    first = replay(torch.full((2,), 3.0), torch.ones(2))
    second = replay(torch.full((2,), 5.0), torch.ones(2))
    assert first[0].tolist() == [7, 7] and second[0].tolist() == [11, 11]
