"""Planar or channels last, as the device is faster."""

from __future__ import annotations

import types

import pytest
import torch

from rife.ops import memory_format as layouts
from rife.ops.memory_format import memory_format


@pytest.fixture
def gpu(monkeypatch):
    """The CPU as a GPU `_faster` is asked about, with a clock that a convolution moves: `gpu.cost(x, weight)`."""
    clock = types.SimpleNamespace(now=0.0, cost=lambda x, weight: 1.0, synchronised=0, calls=[])

    def convolve(x, weight, padding):
        clock.calls.append((x.shape, x.dtype, x.is_contiguous(memory_format=torch.channels_last)))
        assert x.is_contiguous() == weight.is_contiguous()
        clock.now += clock.cost(x, weight)

    def wait(device):
        clock.synchronised += 1

    monkeypatch.setattr(torch, "get_device_module", lambda device: types.SimpleNamespace(synchronize=wait))
    monkeypatch.setattr(layouts, "F", types.SimpleNamespace(conv2d=convolve))
    monkeypatch.setattr(layouts, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    layouts._faster.cache_clear()
    yield clock
    layouts._faster.cache_clear()


def faster(dtype=torch.float32) -> torch.memory_format:
    return layouts._faster(torch.device("cpu"), dtype)


@pytest.mark.parametrize("last, expected", [(0.5, torch.channels_last), (2.0, torch.contiguous_format)])
def test_the_faster_layout_is_taken(gpu, last, expected):
    """It was channels last on every CUDA device, also in float32 on cards that are slower so, and on Radeons."""
    gpu.cost = lambda x, weight: 1.0 if x.is_contiguous() else last
    assert faster() == expected


def test_the_first_run_which_loads_kernels_does_not_count(gpu):
    seen = set()

    def cost(x, weight):
        key = x.shape, x.is_contiguous()
        first, _ = key not in seen, seen.add(key)
        return 100.0 if first and not x.is_contiguous() else 1.0 if x.is_contiguous() else 0.5

    gpu.cost = cost
    assert faster() == torch.channels_last
    assert gpu.synchronised >= 2 * len(gpu.calls) / layouts._CALLS


def test_it_is_measured_once_for_each_precision(gpu):
    faster(), faster()
    once = len(gpu.calls)
    faster(torch.float16)
    assert len(gpu.calls) == 2 * once
    assert {dtype for _, dtype, _ in gpu.calls} == {torch.float32, torch.float16}


@pytest.mark.parametrize(
    "device, expected",
    [("cpu", torch.channels_last), ("mps", torch.contiguous_format), ("meta", torch.contiguous_format)],
)
def test_where_it_is_known_nothing_is_measured(gpu, device, expected):
    assert memory_format(torch.device(device), torch.float16) == expected
    assert not gpu.calls


def test_it_takes_a_moment():
    """The real clock and convolutions, on the CPU in the place of a GPU."""
    assert layouts._seconds(torch.device("cpu"), torch.float32, torch.channels_last, 8, 16, 16) < 0.1
