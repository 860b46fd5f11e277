"""Motion blur against the truth: a shutter of 180 degrees on moving objects, against the mean light of 64 sub-frames.

    python benchmarks/score_shutter.py [--model CKPT] [--angle A]

A textured disc moves over a texture by 8, 20 and 40 pixels a frame. PSNR, in dB, of the frame as it is, and of what the
shutter makes of five frames, for the middle one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rife
from rife.engine.chunks import part_frames
from rife.evaluation.metrics import psnr
from rife.ops.transfer import SRGB
from rife.timeline import Clock
from rife.timeline.parts import Timing, part_of
from rife.timeline.request import PerPair
from rife.training.synthetic import RenderedMotion

HEIGHT, WIDTH, RADIUS, FRAMES, TRUE = 256, 448, 56, 5, 64


def scene(seed: int, pixels: float, time: float) -> Tensor:
    """(H,W,3) at a time in frames; the disc is in the middle at the middle frame."""
    back = RenderedMotion(HEIGHT, WIDTH, seed=seed, max_motion=0.0, objects=0).clip(1)[0]
    face = RenderedMotion(HEIGHT, WIDTH, seed=seed + 100, max_motion=0.0, objects=0).clip(1)[0]
    shift = (time - FRAMES // 2) * pixels
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    cover = (RADIUS - ((x - WIDTH / 2 - shift) ** 2 + (y - HEIGHT / 2) ** 2).sqrt() + 0.5).clamp(0, 1)
    grid = torch.stack((((x - shift) / WIDTH * 2 - 1), y / HEIGHT * 2 - 1), -1)[None]
    moved = F.grid_sample(face[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0]
    return torch.lerp(back, moved.clamp(0, 1), cover).permute(1, 2, 0)


def true_blur(seed: int, pixels: float, angle: float) -> Tensor:
    """The mean light while the shutter is open around the middle frame."""
    offsets = ((torch.arange(TRUE) + 0.5) / TRUE - 0.5) * angle / 360
    light = sum(SRGB.to_linear(scene(seed, pixels, FRAMES // 2 + float(t))) for t in offsets) / TRUE
    return SRGB.from_linear(light)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--angle", type=float, default=180.0)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    model, timing = rife.load_model(args.model), Timing(PerPair.multiplied(1), shutter=args.angle)
    print(f"{args.angle:g} degrees: px per frame, dB as it is, dB with the shutter")
    for pixels in (8, 20, 40):
        rows = []
        for seed in range(args.seeds):
            frames = [scene(seed, pixels, i) for i in range(FRAMES)]
            clock = Clock(FRAMES, 24)
            part = part_of(timing.plan(clock), 0, FRAMES)
            made = list(part_frames(model, frames, timing, lambda _, clock=clock: clock, FRAMES, part))
            truth = true_blur(seed, pixels, args.angle)
            rows.append((float(psnr(frames[FRAMES // 2], truth)), float(psnr(made[FRAMES // 2], truth))))
        plain, blurred = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        print(f"  {pixels:3d}   {plain:5.1f}   {blurred:5.1f}", flush=True)


if __name__ == "__main__":
    main()
