"""Compiled and captured passes: same pictures, one shape per clip, and a plain way on where they do not work."""

from __future__ import annotations

import contextlib
import logging

import pytest
import torch

import rife
from rife import acceleration
from rife.acceleration import Accelerated


@pytest.fixture
def model():
    return rife.load_model(device="cpu")


def clip(n: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 32, 48, 3).repeat(n, 1, 1, 1).roll(1, 2) * torch.linspace(0.5, 1, n).view(
        -1, 1, 1, 1
    )


def accelerated(model, how, **options):
    model._accelerated = Accelerated(model.net, how, **options)
    return model


def counting_backend(counts):
    def backend(graph, inputs):
        counts.append(len(inputs))
        return graph.forward

    return backend


@pytest.mark.parametrize("inference", [True, False])
def test_compiled_for_one_shape_whatever_the_clip(model, inference):
    counts: list[int] = []
    expected = {n: rife.interpolate(model, clip(n), 3, batch_size=4) for n in (5, 8)}
    accelerated(model, "compile", backend=counting_backend(counts))
    torch._dynamo.reset()
    with torch.inference_mode(inference):
        for n, frames in expected.items():
            torch.testing.assert_close(
                rife.interpolate(model, clip(n), 3, batch_size=4), frames, atol=1e-6, rtol=0
            )
    assert len(counts) == 1  # not one per length, nor in pieces


@pytest.mark.parametrize("how", ["compile", "cuda graphs"])
def test_where_it_does_not_work_a_warning_and_the_plain_way(model, how, caplog):
    def no_compiler(graph, inputs):
        raise RuntimeError("Cannot find a working triton installation")

    expected = rife.interpolate(model, clip(4))
    accelerated(model, how, backend=no_compiler)
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(rife.interpolate(model, clip(4)), expected)
    assert sum(f"No {how} on this machine" in r.message for r in caplog.records) == 1


def test_a_network_that_looks_at_the_motion_stays_plain(caplog):
    net = rife.ifnet.IFNet(rife.RELEASES["4.0"])
    Accelerated(net, "compile")
    assert "looks at the motion" in caplog.text


def test_unknown_words_are_refused(model):
    with pytest.raises(ValueError, match="expected one of off, compile, cuda graphs"):
        model.accelerate("warp 9")
    assert not model.accelerate("off").static_shapes and model.accelerate("compile").static_shapes


class FakeCuda:
    """As much of torch.cuda as a capture needs: a graph runs again what ran last, into the same outputs."""

    Stream = current_stream = staticmethod(lambda: FakeCuda())
    stream = graph = staticmethod(lambda _: contextlib.nullcontext())

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
