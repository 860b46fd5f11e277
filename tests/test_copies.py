"""Copies between host and device, the overlapped ones on a pretended CUDA."""

from __future__ import annotations

import contextlib

import pytest
import torch

import rife
from rife import copies


class FakeCuda:
    """Streams that keep a log; a copy to pinned memory is done when its event is waited for."""

    log: list[str] = []

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            FakeCuda.log.append("wait")

    class Event:
        def record(self, stream):
            FakeCuda.log.append("sent")

        def synchronize(self):
            FakeCuda.log.append("landed")

    current_stream = Stream
    stream = staticmethod(lambda _: contextlib.nullcontext())


@pytest.fixture
def cuda(monkeypatch):
    FakeCuda.log = []
    monkeypatch.setattr(copies, "cuda", FakeCuda)
    monkeypatch.setattr(copies, "_pinned", lambda shape, dtype: torch.empty(tuple(shape), dtype=dtype))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    return copies.Overlapped(torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_overlapped_copies_bring_the_same_frames(cuda, monkeypatch, dtype, batch_size):
    model, frames = rife.load_model(device="cpu"), torch.rand(4, 32, 40, 3).to(dtype)
    expected = rife.interpolate(model, frames, 3, batch_size=batch_size)
    seen = []
    monkeypatch.setattr(rife.engine, "copies", lambda device, result: cuda)
    out = rife.interpolate(model, frames, 3, batch_size=batch_size, on_progress=lambda *a: seen.append(a[:2]))
    assert torch.equal(out, expected)
    assert seen[-1] == (6, 6) and seen == sorted(seen)


def test_a_batch_is_waited_for_after_the_next_one_was_sent(cuda):
    out = torch.zeros(3, 2, 2, 3)
    for i in range(3):
        cuda.save(torch.full((1, 3, 2, 2), i + 1.0), [[out[i]]])
        assert cuda.landed == i
    cuda.finish()
    assert [x for x in FakeCuda.log if x != "wait"] == ["sent", "sent", "landed", "sent", "landed", "landed"]
    assert out[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_plain_copies_wherever_it_is_not_from_cuda_to_the_host():
    cpu = torch.device("cpu")
    for device in ("cpu", "mps", "xpu", "privateuseone"):
        assert type(copies.copies(torch.device(device), cpu)) is copies.Copies
    assert type(copies.copies(torch.device("cuda"), torch.device("cuda"))) is copies.Copies
