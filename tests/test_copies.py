"""Copies between host and device, the overlapped ones on a pretended CUDA (`streams.py`)."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
from streams import DEVICE, pretended

import rife
import rife.engine.batches
from rife.engine import Interpolator
from rife.engine import transfers as copies
from rife.timeline.clock import Clock
from rife.timeline.plans import plan


class Fader(Interpolator):
    """A cross-fade on the device; its result is what `OverlappedTransfer.save` reads, without another copy."""

    run_device = DEVICE
    run_dtype = torch.float32

    def __init__(self):
        self.passes = 0

    def encode(self, images, *, scale, TTA, name):
        return images * 1

    def between(self, img0, img1, shape, *, scale, TTA, timestep, ensemble):
        self.passes += 1
        a, b = (x.permute(0, 2, 3, 1) for x in (img0, img1))
        return torch.lerp(a, b, timestep.view(-1, 1, 1, 1).to(a.dtype)).contiguous().permute(0, 3, 1, 2)


def overlapped(monkeypatch, greedy: bool = False):
    """Enters a pretended CUDA in which every frame takes some pieces, most of them used again."""
    monkeypatch.setattr(copies, "_PIECE", 256)
    monkeypatch.setattr(
        rife.engine.batches, "transfer_between", lambda device, result: copies.OverlappedTransfer(DEVICE)
    )
    return pretended(monkeypatch, copies, greedy)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_overlapped_copies_bring_the_same_frames(monkeypatch, greedy, batch_size, dtype):
    frames, steps, seen = torch.rand(7, 8, 10, 3).to(dtype), plan(Clock(7, 16), rate=40, cuts={3}), []
    expected = rife.interpolate(Fader(), frames, plan=steps)
    with overlapped(monkeypatch, greedy):
        out = rife.interpolate(
            Fader(), frames, plan=steps, batch_size=batch_size, on_progress=lambda *a: seen.append(a[:2])
        )
    assert torch.equal(out, expected)
    total = sum(step.kind == "new" for step in steps)
    assert seen[0] == (0, total) and seen[-1] == (total, total) and seen == sorted(seen)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
@pytest.mark.parametrize("of_bytes", [False, True])
def test_a_stream_overlaps_and_brings_the_same_frames(monkeypatch, greedy, batch_size, of_bytes):
    frames = torch.rand(7, 8, 10, 3)
    frames = (frames * 255).byte() if of_bytes else frames

    def plan_for(count):
        return plan(Clock(count, 16), rate=40, cuts={3}, at_cuts="blend", loop=True)

    expected = list(rife.interpolate_stream(Fader(), iter(frames), plan_for=plan_for))
    with overlapped(monkeypatch, greedy):
        out = list(rife.interpolate_stream(Fader(), iter(frames), plan_for=plan_for, batch_size=batch_size))
    assert len(out) == len(expected)
    for ours, theirs in zip(out, expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_a_stream_computes_a_batch_while_that_before_is_taken(monkeypatch):
    frames, model = torch.rand(9, 8, 10, 3), Fader()
    with overlapped(monkeypatch):
        stream = rife.interpolate_stream(model, iter(frames), batch_size=2)
        passes = [(next(stream), model.passes)[1] for _ in range(9)]
    # A given frame; two new ones with that between; then two of both, each time: the next pass is always under way.
    assert passes == [1, 2, 2, 2, 3, 3, 3, 3, 4]


def test_what_was_made_before_a_source_broke_is_given_first(monkeypatch):
    frames, got = torch.rand(9, 8, 10, 3), []

    def source():
        yield from frames[:6]
        raise OSError("damaged")

    expected = rife.interpolate(Fader(), frames)
    with overlapped(monkeypatch), pytest.raises(OSError, match="damaged"):
        for frame in rife.interpolate_stream(Fader(), source(), batch_size=2):
            got.append(frame.clone())
    assert torch.equal(torch.stack(got), expected[:8])


def test_masks_land_in_a_result_of_their_own(monkeypatch):
    frames, masks = torch.rand(5, 8, 10, 3), torch.rand(5, 8, 10)
    outs = [torch.empty(9, 8, 10) for _ in range(2)]
    expected = rife.interpolate(Fader(), frames, masks=masks, out_masks=outs[0])
    with overlapped(monkeypatch):
        out = rife.interpolate(Fader(), frames, masks=masks, out_masks=outs[1], batch_size=3)
    assert torch.equal(out, expected) and torch.equal(*outs)


ORDERS = r"\S+\.(wait_stream|record_stream)\(.*\)|(uploaded|piece\.arrived)\.synchronize\(\)"
ORDERINGS = [line for line in inspect.getsource(copies).splitlines() if re.fullmatch(ORDERS, line.strip())]


def test_every_line_that_orders_streams_is_known():
    assert len(ORDERINGS) == 6


@pytest.mark.parametrize("line", ORDERINGS, ids=str.strip)
def test_without_any_of_the_lines_that_order_streams_frames_are_wrong(monkeypatch, line):
    source = inspect.getsource(copies.OverlappedTransfer)
    assert source.count(line) == 1
    monkeypatch.setattr(copies, "OverlappedTransfer", copies.OverlappedTransfer)
    exec(source.replace(line, re.match(" +", line)[0] + "pass"), copies.__dict__)  # noqa: S102
    frames = torch.rand(12, 8, 10, 3)
    expected = rife.interpolate(Fader(), frames)
    right = []
    for greedy in (False, True):
        with overlapped(monkeypatch, greedy):
            right.append(torch.equal(rife.interpolate(Fader(), frames, batch_size=3), expected))
    assert not all(right)


def test_pinned_memory_is_bounded_whatever_the_batch(monkeypatch):
    made, frames = [], torch.rand(30, 64, 64, 3)
    expected = rife.interpolate(Fader(), frames)
    with overlapped(monkeypatch):
        monkeypatch.setattr(copies, "_PIECE", 4096)
        plain = copies.pinned
        monkeypatch.setattr(
            copies, "pinned", lambda shape, dtype: made.append(shape[0]) or plain(shape, dtype)
        )
        out = rife.interpolate(Fader(), frames, batch_size=20)
    assert torch.equal(out, expected)
    assert set(made) == {4096} and len(made) <= copies._DOWNLOAD_PIECES + copies._UPLOAD_PIECES
    assert (copies._DOWNLOAD_PIECES + copies._UPLOAD_PIECES) * (16 << 20) < 256e6


def test_plain_copies_wherever_it_is_not_from_cuda_to_the_host():
    cpu = torch.device("cpu")
    for device in ("cpu", "mps", "xpu", "privateuseone"):
        assert type(copies.transfer_between(torch.device(device), cpu)) is copies.Transfer
    assert type(copies.transfer_between(torch.device("cuda"), torch.device("cuda"))) is copies.Transfer
