"""Ours against ComfyUI's own FrameInterpolate: same 4.26-shaped weights, same clip, taking turns in one run.

Run by hand with ComfyUI's Python, ComfyUI's folder in COMFYUI_PATH:

    COMFYUI_PATH=~/comfy/ComfyUI ~/comfy/ComfyUI/.venv/bin/python benchmarks/compare_native.py --frames 5

Prints the machine, seconds per run, the ratio of medians and the largest difference of the outputs. The weights are
random but tame (flows of a few pixels), since the released ones may not be on the machine; --model takes a file.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def load_core():
    """The core of this checkout as `rife`, without its root on sys.path (nodes/ would hide ComfyUI's nodes.py)."""
    folder = ROOT / "rife"
    spec = importlib.util.spec_from_file_location(
        "rife", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["rife"] = module
    spec.loader.exec_module(module)
    return module


def load_comfyui(cpu: bool):
    """ComfyUI's modules, in this process, without a server."""
    sys.path.insert(0, os.path.expanduser(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    import comfy.model_patcher
    import comfy_extras.nodes_frame_interpolation as native

    return comfy.model_patcher, native


def tame_weights(rife, release: str = "4.26") -> dict[str, torch.Tensor]:
    """Random weights whose flows stay within a few pixels, so that rounding does not decide the picture."""
    torch.manual_seed(0)
    network = sys.modules["rife.ifnet"].IFNet(rife.RELEASES[release])
    state_dict = network.state_dict()
    for key, value in state_dict.items():
        if "lastconv" in key:
            value.mul_(0.3)
    return state_dict


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    """A moving pattern, (N,H,W,3) in 0..1."""
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
    rows = []
    for i in range(frames):
        waves = [torch.sin((x - 3 * i) * 0.05 * (c + 1)) * torch.cos((y + 2 * i) * 0.07) for c in range(3)]
        rows.append(torch.stack(waves, 2) * 0.4 + 0.5)
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--multiplier", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", default=not torch.cuda.is_available())
    args = parser.parse_args()

    rife = load_core()
    model_patcher, native = load_comfyui(args.cpu)
    device = torch.device("cpu" if args.cpu else "cuda")
    frames = clip(args.frames, args.height, args.width)
    with torch.inference_mode(False):
        weights = tame_weights(rife)
        ours = rife.load_model(weights, device=device)
        theirs = native.FrameInterpolationModelLoader._detect_and_load(dict(weights)).eval()
        patcher = model_patcher.CoreModelPatcher(
            theirs, load_device=device, offload_device=torch.device("cpu")
        )

    def run_ours():
        return rife.interpolate(ours, frames, args.multiplier)

    def run_native():
        return native.FrameInterpolate.execute(patcher, frames, args.multiplier)[0]

    seconds = {"ours": [], "native": []}
    with torch.inference_mode():
        a, b = run_ours(), run_native()
        for _ in range(args.runs):
            for name, run in (("ours", run_ours), ("native", run_native)):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, {device}"
    )
    print(
        f"{args.frames} frames {args.width}x{args.height}, multiplier {args.multiplier}, float32, 4.26-shaped"
    )
    for name, values in seconds.items():
        print(
            f"{name:7s} median {statistics.median(values):.2f} s  min {min(values):.2f}  max {max(values):.2f}"
        )
    ratio = statistics.median(seconds["native"]) / statistics.median(seconds["ours"])
    print(f"native / ours: {ratio:.2f}   largest difference {float((a - b).abs().max()) * 255:.3f}/255")


if __name__ == "__main__":
    main()
