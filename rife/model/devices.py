"""Names devices and precisions: where a network runs, and what it computes in."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..ops.memory_format import memory_format
from ..timeline.numbers import first_line, shortened

# The names of precisions, everywhere: options of commands, combos of nodes, arguments.
PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Those that training knows, in the order in which they are worth trying: it has no "auto".
TRAINING_PRECISIONS = ("fp32", "bf16", "fp16")


def default_device() -> torch.device:
    """Returns the accelerator of this machine (CUDA or ROCm, XPU, MPS, in that order), or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def named_device(name: torch.device | str | None) -> torch.device:
    """Returns the device of a name such as cpu, cuda:1 or mps; None: `default_device`. Raises ValueError for one that
    is not here."""
    if not isinstance(name, str):
        return default_device() if name is None else name
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        if device.type != "cpu":
            torch.empty(1, device=device)
        return device
    except Exception as error:  # each back end has errors of its own for not being there
        raise ValueError(
            f"device is {shortened(name)}, which cannot be used here ({first_line(error)}); expected cpu, cuda, "
            "cuda:1, mps or xpu. Leave it out for this machine's accelerator, or its CPU."
        ) from error


def named_dtype(precision: str) -> torch.dtype | None:
    """Returns the dtype of a name in `PRECISIONS`, None for auto. Raises ValueError for another name."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision is {shortened(precision)}, expected one of {', '.join(PRECISIONS)}. Use one of them."
        )
    return PRECISIONS[precision]


def good_dtype(device: torch.device) -> torch.dtype:
    """Returns what "auto" means on `device`: float16 where it is fast at it, else float32.

    It is on CUDA from compute capability 7 on, ROCm, XPU and MPS. Not bfloat16 on a CPU that has it: 1.2 to 1.6 times
    as fast there, but off by up to 3 of 255 in one value of a thousand, and by 20 to 35 at the worst (docs/speed.md).
    """
    if device.type == "cuda":
        fast = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (7, 0)
        return torch.float16 if fast else torch.float32
    return torch.float16 if device.type in ("xpu", "mps") else torch.float32


def fine_dtype(device: torch.device) -> torch.dtype | None:
    """Returns what "auto" means for the trunks of float32 networks' last blocks (`IFNet.fine_dtype`), whose flow is
    nearly found before them: bfloat16 on CPUs that multiply it (AVX-512-BF16, AMX), else None.

    Everything else stays float32. All pixels of the bundled network are within 1.2 of 255 then and 99.9 % of each frame
    within 0.5; of the real 4.6 and 4.26, at scale 1, within 4.4, and 99.9 % within 0.9 (docs/speed.md).
    """
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch before 2.6 has neither
    found = device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in asked)
    return torch.bfloat16 if found and torch.backends.mkldnn.is_available() else None


def with_fine_dtype(network: Any, dtype: torch.dtype | None) -> nn.Module:
    """Returns `network` itself, whose last blocks compute in `dtype` from now on, where it is one that can; None: all
    in the dtype of its weights."""
    if hasattr(network, "fine_dtype"):
        network.fine_dtype = dtype
    return network


def placed(network: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """Returns `network` itself, moved to `device` and cast to `dtype` (None: as it is), in the layout that is fastest
    there."""
    kept = next(network.parameters()).dtype if dtype is None else dtype
    # A keyword that the stubs of nn.Module.to know only together with a tensor.
    return network.to(device, dtype, memory_format=memory_format(device, kept))  # type: ignore[call-overload]
