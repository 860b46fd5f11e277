"""What TTA and ensemble gain and cost: PSNR at t = 0.5 and seconds per frame, with and without them.

    python benchmarks/score_options.py CLIP_OR_FOLDER_OF_FRAMES ... [--model CKPT] [--csv FILE]

Triplets as in score_checkpoint.py, rendered ones included. Seconds are medians of one run, to be compared with each
other.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

from score_checkpoint import load

import rife
from rife.evaluation.metrics import psnr
from rife.training.datasets import real_triplets, rendered_triplets

OPTIONS = {
    "plain": {},
    "TTA": {"TTA": True},
    "ensemble": {"ensemble": True},
    "both": {"TTA": True, "ensemble": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--triplets", type=int, default=8, help="per clip")
    parser.add_argument("--max-width", type=int, default=640)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    model = rife.load_model(args.model)
    sets = {"rendered, up to 16 px": rendered_triplets(16, args.triplets)}
    sets |= {path.stem: real_triplets(load(path, args.max_width), 1, args.triplets) for path in args.clips}
    rows = [("set", "option", "dB", "gain_dB", "seconds_per_frame")]
    for name, triplets in sets.items():
        plain = 0.0
        for option, arguments in OPTIONS.items():
            found, seconds = [], []
            for triplet in triplets:
                img0, gt, img1 = (x[None].float() / 255 for x in triplet)
                start = time.perf_counter()
                image = model.inference(img0, img1, **arguments).cpu()
                seconds.append(time.perf_counter() - start)
                found.append(psnr(image, gt))
            mean = statistics.mean(found)
            plain = mean if option == "plain" else plain
            rows.append(
                (name, option, f"{mean:.2f}", f"{mean - plain:+.2f}", f"{statistics.median(seconds):.3f}")
            )
            print("{:28s} {:9s} {:>6} dB  {:>6}  {:>6} s".format(*rows[-1]), flush=True)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
