"""Runs the command `rife demo`: a rendered clip, interpolated and compared with its true frames."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from ..engine import interpolate
from ..evaluation.metrics import psnr
from ..training.synthetic import RenderedMotion
from ..video.job import VideoWriter, to_bytes, write_png
from .options import add_model_options, load


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("rife_demo"), help="folder for the results (default: %(default)s)"
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders, interpolates, measures; prints what came out and writes a video and a picture."""
    model = load(args)
    args.out.mkdir(parents=True, exist_ok=True)
    scene = RenderedMotion(288, 512, seed=4, max_motion=14.0, objects=5)
    truth = rearrange(scene.clip(13, timesteps=2), "n c h w -> n h w c")
    truth = (truth * 255).round() / 255
    keys = truth[::2]

    start = time.perf_counter()
    ours = interpolate(model, keys, 2)
    seconds = time.perf_counter() - start
    average = (keys[1:] + keys[:-1]) / 2

    rows = list(zip(ours[1::2], average, truth[1::2], strict=True))
    made_dB, averaged_dB = (sum(psnr(row[k], row[2]) for row in rows) / len(rows) for k in (0, 1))
    _demo_video(args.out / "demo.mp4", keys, ours)
    picture = torch.cat([keys[6], average[6], ours[13], truth[13]], 1)
    write_png(args.out / "before_after.png", to_bytes(picture))
    print(f"{len(keys)} -> {len(ours)} frames of 512x288 in {seconds:.1f} s on {model.run_device}")
    print(f"PSNR against the true frames: RIFE {made_dB:.2f} dB, frame averaging {averaged_dB:.2f} dB")
    print(f"{args.out / 'demo.mp4'}: left the {len(keys)} frames it was given, right what came out")
    print(f"{args.out / 'before_after.png'}: given frame | average | RIFE | truth")


def _demo_video(path: Path, keys: torch.Tensor, ours: torch.Tensor) -> None:
    """Before and after side by side, forward and backward so that it loops."""
    height, width = keys.shape[1:3]
    sides = [np.concatenate((to_bytes(keys[i // 2]), to_bytes(frame)), 1) for i, frame in enumerate(ours)]
    with VideoWriter(path, Fraction(24), 2 * width, height) as writer:
        for frame in (*sides, *sides[-2:0:-1]) * 3:
            writer.write(frame)
