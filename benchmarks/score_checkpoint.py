"""A checkpoint against frame averaging: PSNR at t = 0.5 on rendered motion it never saw and on held-out clips.

    python benchmarks/score_checkpoint.py CLIP_OR_FOLDER_OF_FRAMES ... [--model CKPT] [--csv FILE]

Clips are reduced by whole factors to at most --max-width; the middle frame of triplets at strides 1 and 2 is made
from its neighbours and compared after rounding to 8 bit. Triplets across cuts are left out.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.evaluation.metrics import psnr
from rife.training.datasets import load_clip, real_triplets, rendered_triplets
from rife.video.job import read_frames


def load(path: Path, max_width: int) -> torch.Tensor:
    """(N,H,W,3) uint8 of a video file or of a folder of pictures."""
    if path.is_file():
        return load_clip(path, max_width=max_width)
    return torch.stack([torch.from_numpy(next(read_frames(file))) for file in sorted(path.glob("*.png"))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--triplets", type=int, default=12, help="per clip and stride")
    parser.add_argument("--max-width", type=int, default=960)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    model = rife.load_model(args.model)
    sets = {f"rendered, up to {m} px": rendered_triplets(m, args.triplets) for m in (4, 8, 16, 24)}
    for path in args.clips:
        clip = load(path, args.max_width)
        size = f"{clip.shape[2]}x{clip.shape[1]}"
        sets |= {f"{path.stem} {size}, stride {s}": real_triplets(clip, s, args.triplets) for s in (1, 2)}
    rows = [("set", "triplets", "rife_dB", "average_dB", "gain_dB", "worst_gain_dB")]
    start = time.perf_counter()
    for name, triplets in sets.items():
        if not triplets:
            continue
        pairs = []
        for triplet in triplets:
            img0, gt, img1 = (x[None].float() / 255 for x in triplet)
            pairs.append((psnr(model.inference(img0, img1).cpu(), gt), psnr((img0 + img1) / 2, gt)))
        ours, average = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        worst = min(a - b for a, b in pairs)
        rows.append((name, len(pairs), *(f"{x:.2f}" for x in (ours, average, ours - average, worst))))
        print(
            "{:42s} {:>3} triplets  RIFE {:>6} dB  average {:>6} dB  gain {:>6}  worst {:>6}".format(
                *rows[-1]
            )
        )
    print(f"{time.perf_counter() - start:.0f} s on {model.run_device}, torch {torch.__version__}")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
