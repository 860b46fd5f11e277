"""How far half precision is from float32, and what it takes: of checkpoints, on pairs of frames.

    python benchmarks/precision.py FRAME0 FRAME1 [FRAME0 FRAME1 ...] [--size WIDTHxHEIGHT] [--models CKPT ...]
        [--device cuda] [--precisions auto bf16 fp16]

Without --models: the bundled checkpoint and 4.26-shaped random weights, which are tame (flows of a few pixels);
"bundled" names it among others. The frames are resized (area). Differences are over all pixels and colours of all
pairs: the mean, the 99.9th percentile and the largest, in 255ths. Seconds of the processor for a pass, in the mean of
the pairs, best of --runs; on a GPU of the clock.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import load_core, machine, seconds, tame_weights

rife = load_core()
read_picture = importlib.import_module("rife.video.frames").read_picture
DTYPES = {"fp32": torch.float32, "auto": "auto", "bf16": torch.bfloat16, "fp16": torch.float16}


def read(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """(1,3,H,W) in 0..1."""
    frame = read_picture(path).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(frame, size, mode="area")


def errors(made: list[torch.Tensor], exact: list[torch.Tensor]) -> tuple[float, float, float]:
    """Mean, 99.9th percentile and largest difference, in 255ths."""
    off = torch.cat([(a.float() - b).abs().flatten() for a, b in zip(made, exact, strict=True)]).cpu() * 255
    return float(off.mean()), float(off.kthvalue(math.ceil(0.999 * off.numel())).values), float(off.max())


def took(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the processor on a CPU, which other work on the machine disturbs least; of the clock elsewhere."""
    if device.type != "cpu":
        return seconds(run, device)
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs="+", metavar="FRAME")
    parser.add_argument("--size", default="512x384")
    parser.add_argument("--models", nargs="+", help="default: bundled, and random weights")
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["bf16", "fp16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    if len(args.frames) % 2:
        parser.error(f"{len(args.frames)} frames were given, expected pairs. Give two for each pair.")
    device = torch.device(args.device)
    width, height = map(int, args.size.split("x"))
    frames = [read(path, (height, width)).to(device) for path in args.frames]
    pairs = list(zip(frames[::2], frames[1::2], strict=True))
    print(machine(device), f"{torch.get_num_threads()} threads, {len(pairs)} pairs of {args.size}", sep=", ")
    weights = {name: None if name == "bundled" else name for name in args.models or ["bundled"]}
    if not args.models:
        weights["4.26-shaped, random"] = tame_weights(rife)
    print(
        "| checkpoint | precision | seconds | mean | 99.9th percentile | largest |\n|---|---|---|---|---|---|"
    )
    for name, source in weights.items():
        exact = None
        for precision in ("fp32", *args.precisions):
            model = rife.load_model(source, device=device, dtype=DTYPES[precision])

            def run(model: rife.Model = model) -> list[torch.Tensor]:
                return [model.inference(*pair) for pair in pairs]

            with torch.inference_mode():
                made = run()
                time_of_one = min(took(run, device) for _ in range(args.runs)) / len(pairs)
            exact = exact or made
            off = " | ".join(f"{x:.3f}" for x in errors(made, exact)) if precision != "fp32" else "| |"
            print(f"| {name} | {precision} | {time_of_one:.3f} | {off} |", flush=True)


if __name__ == "__main__":
    main()
