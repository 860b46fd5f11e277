"""What the speed benchmarks share: the core of this checkout, ComfyUI in this process, clips, memory, the roofline."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent


def load_core():
    """The core of this checkout as `rife`, without its root on sys.path (nodes/ would hide ComfyUI's nodes.py)."""
    return _load("rife", ROOT / "rife")


def load_pack() -> str:
    """The name under which this checkout is loaded as ComfyUI loads a pack: under any name, from a file."""
    return _load("rife_pack", ROOT).__name__


def _load(name: str, folder: Path):
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_comfyui(cpu: bool) -> None:
    """Makes ComfyUI's modules, of the folder in COMFYUI_PATH, importable in this process, without a server."""
    sys.path.insert(0, os.path.expanduser(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu


def tame_weights(rife, release: str = "4.26") -> dict[str, torch.Tensor]:
    """Random weights whose flows stay within a few pixels, so that rounding does not decide the picture."""
    torch.manual_seed(0)
    state_dict = rife.networks.ifnet.IFNet(rife.RELEASES[release]).state_dict()
    for key, value in state_dict.items():
        if "lastconv" in key:
            value.mul_(0.3)
    return state_dict


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    """A moving pattern, (N,H,W,3) in 0..1."""
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
    out = torch.empty(frames, height, width, 3)
    for i, frame in enumerate(out):
        for c in range(3):
            waves = torch.sin((x - 3 * i) * 0.05 * (c + 1)) * torch.cos((y + 2 * i) * 0.07)
            torch.add(waves * 0.4, 0.5, out=frame[..., c])
    return out


def machine(device: torch.device) -> str:
    """One line: processor or card, cores, PyTorch."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    card = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{card}, torch {torch.__version__}"
    )


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable, device: torch.device) -> float:
    """Wall time of one run."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def give_back_freed_memory() -> None:
    """What one network's frames took is else found free by the next one's. Does nothing where there is no glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_host_mb(run: Callable) -> float:
    """By how much the process grows at most during a run, in MB; NaN where the system does not tell (Linux does)."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        clear.write_text("5")  # the high-water mark starts anew
    except OSError:
        run()
        return math.nan

    def read(name: str) -> float:
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))
            / 1024
        )

    before = read("VmRSS")
    kept = run()  # what it gives is part of the peak
    peak = read("VmHWM") - before
    del kept
    return peak


class _Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, views left out."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            given, _ = torch.utils._pytree.tree_flatten((args, kwargs, result))
            self.bytes += sum(x.numel() * x.element_size() for x in given if isinstance(x, torch.Tensor))
        return result


def work(rife, config, height: int, width: int, dtype: torch.dtype) -> tuple[float, float]:
    """(FLOP of the convolutions, bytes that our operations move) for one new frame, its frame's features included."""
    side = config.pad
    height, width = (-(-s // side) * side for s in (height, width))
    with torch.device("meta"), torch.no_grad():
        network = rife.networks.ifnet.IFNet(config).to(dtype)
        frame = torch.empty(1, 3, height, width)
        flops, traffic = FlopCounterMode(display=False), _Traffic()
        with traffic, flops:
            network.predict_from(network.source(frame), network.source(frame), torch.empty(1))
            both = flops.get_total_flops(), traffic.bytes
        flops, traffic = FlopCounterMode(display=False), _Traffic()
        with traffic, flops:
            network.source(frame)  # once per frame, not twice per pair
        return both[0] - flops.get_total_flops(), both[1] - traffic.bytes


def limits(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """(FLOP/s of a large matrix product, bytes/s of a large copy) of this device now, the best of several."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.rand(side, side, device=device, dtype=dtype)
    big = torch.empty((1 << 30 if device.type == "cuda" else 1 << 27), dtype=torch.uint8, device=device)
    other = torch.empty_like(big)
    product = min(seconds(lambda: a @ a, device) for _ in range(8))
    copy = min(seconds(lambda: other.copy_(big), device) for _ in range(8))
    return 2 * side**3 / product, 2 * big.numel() / copy
