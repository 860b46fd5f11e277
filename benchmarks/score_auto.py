"""What *scale auto* is worth: real windows at every scale, what auto would choose, and what is best, by checkpoint.

    python benchmarks/score_auto.py CLIP ... --models flownet.pkl ... [--csv benchmarks/auto_scale.csv]

A window is two frames of a clip, `--strides` apart, whose middle frame is known. `motion` is what auto goes by
(`rife.timeline.scenes`): of the two frames, in pixels. Each row has PSNR at scale 1, 0.5 and 0.25. Printed: for each
checkpoint the gain over scale 1 of auto in the mean, at worst and at best, and that of the best scale.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from clip_windows import models_of, windows

from rife.evaluation.metrics import psnr
from rife.evaluation.scoring import EQUAL_DB
from rife.timeline.scenes import choose_scale, find_scenes

SCALES = (1.0, 0.5, 0.25)
HEADER = ("checkpoint", "clip", "stride", "frame", "motion", *(f"dB_{s:g}" for s in SCALES), "auto")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--windows", type=int, default=2, help="of each clip and stride")
    parser.add_argument("--max-width", type=int, default=640)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    models = models_of(args.models)
    rows = []
    for path in args.clips:
        for stride, index, three in windows(path, args.strides, args.windows, args.max_width, (-1, 0, 1)):
            found = find_scenes(torch.stack(three)[::2])
            motion = found.evidence[0].motion if found.evidence[0] else 0.0
            img0, truth, img1 = (x.permute(2, 0, 1)[None].float() / 255 for x in three)
            for name, model in models.items():
                with torch.inference_mode():
                    scores = [
                        # A frame that is met exactly counts as in `rife score`: differences of infinities are none.
                        min(EQUAL_DB, float(psnr(model.inference(img0, img1, scale=s), truth)))
                        for s in SCALES
                    ]
                chosen, _ = choose_scale(found, *truth.shape[2:], model.config.reach)
                rows.append(
                    (name, path.stem, stride, index, round(motion, 1), *(round(x, 3) for x in scores), chosen)
                )
        print(f"{path.stem}: {len(rows)} rows", file=sys.stderr)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
    print(f"{'checkpoint':12}{'windows':>8}{'auto mean':>11}{'worst':>8}{'best':>8}{'best scale, mean':>18}")
    for name in models:
        mine = [row for row in rows if row[0] == name]
        gains = [row[5 + SCALES.index(row[8])] - row[5] for row in mine]
        best = [max(row[5:8]) - row[5] for row in mine]
        print(
            f"{name:12}{len(mine):8}{sum(gains) / len(mine):11.2f}{min(gains):8.2f}{max(gains):8.2f}"
            f"{sum(best) / len(mine):18.2f}"
        )


if __name__ == "__main__":
    main()
