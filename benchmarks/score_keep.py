"""Overlays that stand still over motion: PSNR inside of them and elsewhere, without `keep`, with a mask, and found.

    python benchmarks/score_keep.py [--model CKPT] [--seeds N]

A logo and a striped caption over rendered scenes whose in-between frames are known.
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
from rife.timeline import Clock
from rife.timeline.parts import Timing, part_of
from rife.training.synthetic import RenderedMotion

HEIGHT, WIDTH, FRAMES = 160, 256, 12


def film(seed: int) -> tuple[Tensor, Tensor]:
    """(2N,H,W,3), every second frame to be made, and the overlays' mask (H,W)."""
    scene = RenderedMotion(HEIGHT, WIDTH, seed=seed, max_motion=8.0, objects=4).clip(FRAMES, timesteps=2)
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[12:36, 200:244] = 1
    mask[130:142, 60:190] = (torch.arange(130) % 9 < 5).float()
    cover = mask[..., None]
    return scene.permute(0, 2, 3, 1) * (1 - cover) + torch.tensor([0.9, 0.9, 0.85]) * cover, mask


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    model, timing = rife.load_model(args.model), Timing(at_cuts="off", at_repeats="off")
    print("dB inside the overlays, and elsewhere: without keep, with a mask, found")
    for seed in range(args.seeds):
        frames, mask = film(seed)
        keys = list(frames[::2])
        clock = Clock(len(keys), 24)
        part = part_of(timing.plan(clock), 0, len(keys))
        inside = mask > 0
        outside = F.max_pool2d(mask[None, None], 21, 1, 10)[0, 0] == 0
        figures = []
        for keep in (None, mask, "auto"):
            made = torch.stack(
                list(
                    part_frames(model, keys, timing, lambda _, clock=clock: clock, len(keys), part, keep=keep)
                )
            )
            new, truth = made[1::2], frames[1 : len(made) : 2]
            figures += [min(99.9, float(psnr(new[:, where], truth[:, where]))) for where in (inside, outside)]
        print(
            f"scene {seed}   "
            + "   ".join(f"{a:5.1f} {b:5.2f}" for a, b in zip(figures[::2], figures[1::2], strict=True))
        )


if __name__ == "__main__":
    main()
