"""How far half precision is from float32, and what it takes, of the bundled checkpoint and of 4.26-shaped weights.

    python benchmarks/precision.py FRAME0 FRAME1 [--size WIDTHxHEIGHT] [--model CKPT] [--device cuda]

The frames are resized (area). The random weights are tame: flows of a few pixels. Seconds are the best of --runs.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import load_core, machine, seconds, tame_weights

rife = load_core()
read_picture = importlib.import_module("rife.video.frames").read_picture
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def read(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """(1,3,H,W) in 0..1."""
    frame = read_picture(path).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(frame, size, mode="area")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs=2)
    parser.add_argument("--size", default="512x384")
    parser.add_argument("--model", type=Path, help="default: the bundled checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    device = torch.device(args.device)
    width, height = map(int, args.size.split("x"))
    pair = [read(path, (height, width)).to(device) for path in args.frames]
    print(machine(device))
    for name, weights in (("checkpoint", args.model), ("4.26-shaped, random", tame_weights(rife))):
        exact = None
        for precision, dtype in DTYPES.items():
            model = rife.load_model(weights, device=device, dtype=dtype)
            with torch.inference_mode():
                made = model.inference(*pair)
                took = min(seconds(lambda m=model: m.inference(*pair), device) for _ in range(args.runs))
            exact = made if exact is None else exact
            off = (made - exact).abs() * 255
            apart = f"{off.max():.3f}/255, {off.mean():.4f} in the mean"
            print(f"{name:20s} {precision}  {took:.3f} s  off float32 by {apart}")


if __name__ == "__main__":
    main()
