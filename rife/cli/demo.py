"""Runs the command `rife demo`: a rendered clip and a real one, interpolated and compared with their true frames."""

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
from ..model import Model
from ..training.synthetic import RenderedMotion
from ..video.job import VideoWriter, read_frames, to_bytes, write_png
from .options import add_model_options, load

REAL = Path(__file__).with_name("demo_clip.mp4")  # no frame of it was learned from; NOTICE says whose it is


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("rife_demo"), help="folder for the results (default: %(default)s)"
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Interpolates, measures; prints what came out and writes a video and a picture of each clip."""
    model = load(args)
    args.out.mkdir(parents=True, exist_ok=True)
    scene = RenderedMotion(288, 512, seed=4, max_motion=14.0, objects=5)
    rendered = rearrange(scene.clip(13, timesteps=2), "n c h w -> n h w c")
    real = torch.from_numpy(np.stack(list(read_frames(REAL)))).float() / 255
    _shown(model, "rendered motion", (rendered * 255).round() / 255, args.out, "demo.mp4", "before_after.png")
    _shown(model, "Big Buck Bunny", real, args.out, "real_clip.mp4", "real_clip.png")


def _shown(model: Model, name: str, truth: torch.Tensor, out: Path, video: str, picture: str) -> None:
    """Every second frame of `truth` (N,H,W,C) interpolated, and what was made held against those left out."""
    keys = truth[::2]
    start = time.perf_counter()
    ours = interpolate(model, keys, 2)
    seconds = time.perf_counter() - start
    average = (keys[1:] + keys[:-1]) / 2

    rows = list(zip(ours[1::2], average, truth[1::2], strict=True))
    made_dB, averaged_dB = (sum(psnr(row[k], row[2]) for row in rows) / len(rows) for k in (0, 1))
    middle = len(keys) // 2
    _demo_video(out / video, keys, ours)
    after = 2 * middle + 1
    four = torch.cat([keys[middle], average[middle], ours[after], truth[after]], 1)
    write_png(out / picture, to_bytes(four))
    height, width = keys.shape[1:3]
    print(
        f"{name}: {len(keys)} -> {len(ours)} frames of {width}x{height} in {seconds:.1f} s on {model.place}"
    )
    print(f"PSNR against the true frames: RIFE {made_dB:.2f} dB, frame averaging {averaged_dB:.2f} dB")
    print(f"{out / video}: left the {len(keys)} frames it was given, right what came out")
    print(f"{out / picture}: given frame | average | RIFE | truth")


def _demo_video(path: Path, keys: torch.Tensor, ours: torch.Tensor) -> None:
    """Before and after side by side, forward and backward so that it loops."""
    height, width = keys.shape[1:3]
    sides = [np.concatenate((to_bytes(keys[i // 2]), to_bytes(frame)), 1) for i, frame in enumerate(ours)]
    with VideoWriter(path, Fraction(24), 2 * width, height) as writer:
        for frame in (*sides, *sides[-2:0:-1]) * 3:
            writer.write(frame)
