"""Times of 1/4 and 3/4 of real windows: one pass with the network's timestep against the middle of the middle.

    python benchmarks/score_timesteps.py CLIP ... --models flownet.pkl ... [--csv benchmarks/timesteps.csv]

A window is two frames four strides apart, of which the true frames at 1/4 and 3/4 are known. By checkpoint and clip:
PSNR of both ways (`Model.by_timesteps`), and the motion between the two frames in pixels (`rife.timeline.scenes`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from clip_windows import models_of, windows

from rife.evaluation.metrics import psnr
from rife.timeline.scenes import find_scenes

HEADER = ("checkpoint", "clip", "stride", "frame", "motion", "direct", "recursive")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--windows", type=int, default=3, help="of each clip and stride")
    parser.add_argument("--max-width", type=int, default=640)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    models = models_of(args.models)
    rows = []
    for path in args.clips:
        for stride, first, frames in windows(path, args.strides, args.windows, args.max_width, (0, 1, 3, 4)):
            evidence = find_scenes(torch.stack((frames[0], frames[3]))).evidence[0]
            motion = evidence.motion if evidence else 0.0
            img0, *truths, img1 = (x.permute(2, 0, 1)[None].float() / 255 for x in frames)
            for name, model in models.items():
                scores = [
                    mean(
                        float(psnr(model.by_timesteps(way).inference(img0, img1, timestep=t), truth))
                        for t, truth in zip((0.25, 0.75), truths, strict=True)
                    )
                    for way in ("direct", "recursive")
                ]
                rows.append(
                    (name, path.stem, stride, first, round(motion, 1), *(round(x, 3) for x in scores))
                )
        print(f"{path.stem}: {len(rows)} rows", file=sys.stderr)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
    print(f"{'checkpoint':12}{'clip':36}{'motion px':>10}{'direct':>9}{'recursive':>11}{'gain':>7}")
    for name in models:
        for clip in [*(path.stem for path in args.clips), "all"]:
            mine = [row for row in rows if row[0] == name and clip in (row[1], "all")]
            motion, direct, recursive = (mean(row[i] for row in mine) for i in (4, 5, 6))
            gain = recursive - direct
            print(f"{name:12}{clip:36}{motion:10.1f}{direct:9.2f}{recursive:11.2f}{gain:7.2f}")


if __name__ == "__main__":
    main()
