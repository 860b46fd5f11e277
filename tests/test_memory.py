"""Memory of the device: what is free, whether it ran out, what fitted."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from alive import peak
from our_networks import OUR_NETWORKS
from torch import nn

from rife.model import device_memory as memory
from rife.model.device_memory import BatchSizes, free_memory, is_out_of_memory, largest_fitting_batch
from rife.model.model import Model
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE

GB = 1 << 30
SAID = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: out of memory",
    "HIP out of memory. Tried to allocate 2 GiB",
    "XPU out of memory. Tried to allocate 2 GiB",
    "MPS backend out of memory (MPS allocated: 5 GB, other allocations: 1 GB, max allowed: 6 GB).",
    "Invalid buffer size: 9.00 GB",
    "Could not allocate tensor with 377487360 bytes. There is not enough GPU video memory available!",
    "UR backend failed. UR backend returns:39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
]


@pytest.mark.parametrize("text", SAID)
def test_every_back_end_is_understood_when_it_runs_out_of_memory(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))


def test_exceptions_made_for_it_need_no_words():
    assert is_out_of_memory(torch.OutOfMemoryError("")) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("could not create a primitive"))


def test_what_pytorch_holds_unused_is_free_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * GB, 8 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GB)
    assert free_memory(torch.device("cuda", 0)) == 6 * GB


def test_free_memory_of_the_other_devices_where_they_tell(monkeypatch):
    device = torch.device("xpu", 0)
    xpu = SimpleNamespace(
        mem_get_info=lambda d: (3 * GB, 8 * GB), memory_reserved=lambda d: 0, memory_allocated=lambda d: 0
    )
    monkeypatch.setattr(torch, "xpu", xpu)
    assert free_memory(device) == 3 * GB

    def unknown(device):
        raise RuntimeError("The device does not support querying the available free memory.")

    xpu.mem_get_info = unknown
    assert free_memory(device) is None
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * GB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 4 * GB)
    assert free_memory(torch.device("mps")) == 6 * GB
    assert free_memory(torch.device("cpu")) is None and free_memory(torch.device("meta")) is None


def test_what_fitted_is_where_the_next_clip_begins():
    limits = BatchSizes()
    assert limits.begin("1080p", 8, 4 * GB) == 8
    assert limits.lower("1080p", 8, 4 * GB) == 4
    assert limits.lower("1080p", 4, 4 * GB) == 2
    assert limits.begin("1080p", 8, 4 * GB) == 2 and limits.begin("1080p", 1, 4 * GB) == 1
    assert limits.begin("1080p", 8, 3 * GB) == 2  # less is only found out by failing
    assert limits.begin("480p", 8, 4 * GB) == 8


def test_a_clip_that_has_more_free_memory_tries_more_and_comes_back_to_what_fitted():
    limits = BatchSizes()
    limits.lower("1080p", 8, 4 * GB)
    assert limits.begin("1080p", 8, 5 * GB) == 5
    assert limits.lower("1080p", 5, 5 * GB) == 4  # not half of five
    assert limits.begin("1080p", 8, 5 * GB) == 4
    assert limits.begin("1080p", 8, 10 * GB) == 8


def test_where_no_device_tells_what_is_free_every_tenth_clip_tries_more():
    limits = BatchSizes()
    limits.lower("1080p", 8, None)
    assert [limits.begin("1080p", 32, None) for _ in range(10)] == [4] * 9 + [8]
    assert limits.lower("1080p", 8, None) == 4


def test_models_of_one_network_and_copies_of_it_share_what_they_learnt():
    network = nn.Conv2d(1, 1, 1)
    one, other = SimpleNamespace(net=network), SimpleNamespace(net=network)
    assert BatchSizes.of(one.net) is BatchSizes.of(other.net)
    assert BatchSizes.of(copy.deepcopy(network)) is BatchSizes.of(one.net)
    assert set(network.state_dict()) == {"weight", "bias"}


def test_without_pinned_memory_it_goes_on_with_plain_memory_and_says_so_once(monkeypatch, caplog):
    plain = torch.empty

    def empty(*args, pin_memory=False, **kwargs):
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return plain(*args, **kwargs)

    memory._warn_once.cache_clear()
    monkeypatch.setattr(torch, "empty", empty)
    with caplog.at_level(logging.WARNING):
        assert memory.pinned((2, 3), torch.float16).shape == (2, 3)
        assert memory.pinned((2, 3), torch.float16).dtype == torch.float16
    (line,) = caplog.messages
    assert "pinned memory" in line and "device memory" not in line


# What large motion changes cannot be known where nothing is computed.
NETWORKS = {name: replace(config, adaptive="") for name, config in RELEASES.items()}
NETWORKS |= OUR_NETWORKS
OPTIONS = [
    {"batch": 4}, {"scale": 0.5}, {"scale": 2}, {"ensemble": True}, {"channels": 4, "TTA": True},
]  # fmt: skip
ONE_OF_EACH_KIND = ["bundled", "4.26", "4.17", "4.6", "3.6", "RIFE", "1.4-2F1.5C"]
SIZES = {"1080p": (1080, 1920), "4K": (2160, 3840)}


def on_meta(version: str, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        if version in LEGACY_RELEASES:
            return LegacyRIFE(LEGACY_RELEASES[version]).to(dtype)
        return IFNet(NETWORKS[version]).to(dtype)


def estimate_of_counted(version: str, size: str, dtype: torch.dtype, **options) -> float:
    network = on_meta(version, dtype)
    estimate = Model.from_network(network).memory_estimate(*SIZES[size], **options)
    return estimate / peak(network, *SIZES[size], **options)


@pytest.mark.parametrize(
    ("version", "size"),
    [(version, "1080p") for version in (*NETWORKS, *LEGACY_RELEASES)]
    + [(version, "4K") for version in (*ONE_OF_EACH_KIND, "4.26.heavy", "4.25.lite", "RIFE_2R", "2.4")],
)
def test_every_version_needs_no_more_memory_than_it_says_and_not_much_less(version, size):
    assert 1 <= estimate_of_counted(version, size, torch.float16) < 1.6
    if version in ("bundled", "recipe", "4.26", "3.6", "RIFE", "2.4"):
        assert 1 <= estimate_of_counted(version, size, torch.float32) < 1.6


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("version", ONE_OF_EACH_KIND)
def test_what_options_cost_is_in_the_estimate(version, options):
    assert 1 <= estimate_of_counted(version, "4K", torch.float16, **options) < 1.6


def test_what_is_accelerated_makes_whole_flows_and_is_estimated_so():
    model = Model.from_network(on_meta("4.26", torch.float16))
    plain, masked = (model.memory_estimate(*SIZES["4K"], channels=n) for n in (3, 4))
    accelerated = model.accelerate("compile").memory_estimate(*SIZES["4K"])
    assert plain < accelerated < masked
    assert accelerated == model.memory_estimate(*SIZES["4K"])


def test_the_estimate_for_comfyuis_own_node_is_that_of_one_frame():
    for version in ("4.26", "1.8"):
        network = on_meta(version, torch.float16)
        own = network.memory_used_forward((49, 1088, 1920, 3), torch.float16)
        assert own == Model.from_network(network).memory_estimate(1088, 1920)


def test_the_largest_batch_that_fits():
    assert largest_fitting_batch(8, 100, lambda batch: 20 * batch + 10) == 4
    assert (
        largest_fitting_batch(3, 100, lambda batch: batch) == 3
        and largest_fitting_batch(3, 0, lambda batch: batch) == 1
    )
