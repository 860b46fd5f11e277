"""How far a network follows at each scale: PSNR of the middle frame of pans over the first frames of clips.

    python benchmarks/score_scale.py CLIP ... [--model CKPT] [--csv FILE]

A pan of d pixels is two windows of one picture, d apart: its middle is known exactly, and so is the motion. Real clips
have more than one motion in them; they turn where the pans do (`rife.networks.config.IFNetConfig.reach`). More than
60 dB counts as 60.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.evaluation.metrics import psnr
from rife.video.frames import clip_frames

SCALES = (1.0, 0.5, 0.25)
PANS = (8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96)
MARGIN = 96  # of which the middle knows nothing from both sides


def windows(picture: torch.Tensor, pan: int, longest: int) -> list[torch.Tensor]:
    """(1,3,H,W-longest) at the beginning, in the middle and at the end of the pan."""
    width = picture.shape[3] - longest
    return [picture[..., start : start + width] for start in (0, pan // 2, pan)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--max-width", type=int, default=640)
    parser.add_argument("--pans", type=int, nargs="+", default=list(PANS), help="in pixels, up to 192")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    model = rife.load_model(args.model)
    found: dict[tuple[int, float], list[float]] = {}
    for path in args.clips:
        frame = next(itertools.islice(clip_frames(path, max_width=args.max_width), 30, None))
        picture = frame.permute(2, 0, 1)[None].float() / 255
        for pan, scale in itertools.product(args.pans, SCALES):
            first, middle, last = windows(picture, pan, max(args.pans))
            with torch.inference_mode():
                made = model.inference(first, last, scale=scale)
            inside = (..., slice(MARGIN, -MARGIN))
            found.setdefault((pan, scale), []).append(min(60.0, float(psnr(made[inside], middle[inside]))))
    rows = [("pan_px", *(f"dB_at_scale_{scale:g}" for scale in SCALES))]
    rows += [(pan, *(f"{statistics.mean(found[pan, scale]):.2f}" for scale in SCALES)) for pan in args.pans]
    for row in rows:
        print(("{:>8} " + "{:>16} " * len(SCALES)).format(*row))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
