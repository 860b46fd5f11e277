"""Knows the device's memory: what is needed and free, whether it ran out, what fitted; and pinned host memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# What back ends say that have no exception of their own for it, or raise another one now and then.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, MPS, XPU
    "invalid buffer size",  # MPS, more than one buffer may have
    "not enough gpu video memory",  # DirectML
    "error_out_of_device_memory",  # XPU: UR_RESULT_..., PI_...
    "error_out_of_host_memory",
    "error_out_of_resources",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "not enough memory: you tried to allocate",  # the CPU, on Windows
    "can't allocate memory",  # and elsewhere
)
_CLIPS_PER_TRIAL = 10  # where the device does not tell what is free


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether `error` means that memory ran out, of any kind of device or of the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return any(words in text for words in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that a run on `device` may still take, those that PyTorch holds without using them included.

    None where nobody tells: on the CPU, DirectML, and XPUs whose driver does not know.
    """
    try:
        if device.type in ("cuda", "xpu"):
            backend = getattr(torch, device.type)
            held = backend.memory_reserved(device) - backend.memory_allocated(device)
            return backend.mem_get_info(device)[0] + held
        if device.type == "mps":
            return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    except (AttributeError, RuntimeError) as error:
        log.debug("%s does not tell its free memory: %s", device, error)
    return None


def largest_fitting_batch(wanted: int, budget: float, estimate: Callable[[int], int]) -> int:
    """Returns the largest batch up to `wanted` whose `estimate` is within `budget` bytes; at least 1."""
    return next((batch for batch in range(wanted, 1, -1) if estimate(batch) <= budget), 1)


class KnownBatch(NamedTuple):
    """Holds what fitted once a larger batch did not."""

    batch: int
    free: int | None  # bytes when that clip began
    clips: int = 0  # since then


class BatchSizes:
    """Learns how many new frames fit into one pass, by running out of memory: for each kind of pass.

    What fitted is a lower bound: memory that another model held then may be free now. So a later clip begins with that
    many times its free memory over the free memory of then; where nobody tells what is free, every tenth clip
    tries twice as many. If that fails, it is at once back at what fitted.
    """

    def __init__(self) -> None:
        self._fitted: dict[Hashable, KnownBatch] = {}

    @classmethod
    def of(cls, network: Any) -> BatchSizes:
        """Returns those of a network, which all models around it share, and copies of the network, too."""
        if not hasattr(network, "_batch_sizes"):
            network._batch_sizes = cls()
        return network._batch_sizes

    def __deepcopy__(self, memo: dict) -> BatchSizes:
        return self  # a copy in another precision has a kind of its own, and shares the rest

    def begin(self, kind: Hashable, wanted: int, free: int | None) -> int:
        """Returns how many new frames a pass may have in a clip that begins with `free` bytes."""
        known = self._fitted.get(kind)
        if known is None:
            return wanted
        known = self._fitted[kind] = known._replace(clips=known.clips + 1)
        batch = known.batch
        if free and known.free:
            batch = max(batch, batch * free // known.free)
        elif known.clips % _CLIPS_PER_TRIAL == 0:
            batch *= 2
        return min(wanted, batch)

    def lower(self, kind: Hashable, failed: int, free: int | None) -> int:
        """Returns how many new frames a pass may have now that `failed` were too many, in a clip that began with `free`
        bytes."""
        known = self._fitted.get(kind)
        batch = known.batch if known is not None and known.batch < failed else failed // 2
        self._fitted[kind] = KnownBatch(batch, free)
        return batch


def pinned(shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocates a tensor of `shape` in host memory that the device copies from and to by itself; plain memory, with a
    warning, where there is none."""
    try:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        _warn_once((str(error).splitlines() or [type(error).__name__])[0])
        return torch.empty(tuple(shape), dtype=dtype)


@cache
def _warn_once(cause: str) -> None:
    log.warning(
        "No pinned memory (%s). Copies between host and device are slower. A limit of the system (ulimit -l, WSL) may "
        "be raised.",
        cause,
    )
