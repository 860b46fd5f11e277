"""Whether RIFE's own evidence tells cuts: what both frames look like once each is moved to the middle.

    python benchmarks/score_cuts_by_rife.py CLIP ... [--model CKPT] [--frames 300] [--every 3] [--csv FILE]

The edits of score_cuts.py. Per pair, the network's flows and mask at t = 0.5 on pictures of 192 points width give
`residual`, the mean difference of both warped frames; `share`, the same as a part of their difference unwarped; and
`mask`, how far the mask is from 1/2. Each gets the thresholds that serve it best on these very edits (value, and
multiple of the median of the three pairs on each side), so what is shown is the most that it can reach;
rife.timeline.scenes has the thresholds that it always has. "confirmed": cuts of rife.timeline.scenes that this
evidence does not contradict.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from score_cuts import cases

import rife
from rife.model.inputs import pad_to
from rife.ops.warp import warp
from rife.timeline.scenes import find_scenes

WIDTH = 192
VALUES = [i / 40 for i in range(1, 40)]
TIMES = [0.0, 1.25, 1.5, 2.0, 3.0, 4.0]
JUMPS = "jumps in one scene"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--width", type=int, default=480, help="of the edits")
    parser.add_argument("--frames", type=int, default=300, help="of each clip, at most")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=int, default=1, help="of the clips with hard cuts, one in so many")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = rife.load_model(args.model, device="cpu")
    seen, seconds, pairs = [], 0.0, 0
    for i, case in enumerate(cases(args)):
        if case.kind == JUMPS or (case.kind == "hard cuts" and i % args.every):
            continue
        ours = find_scenes(case.frames).cuts
        start = time.perf_counter()
        values = [evidence(model, a, b) for a, b in itertools.pairwise(case.frames)]
        seconds += time.perf_counter() - start
        pairs += len(values)
        seen.append((case, ours, values))
    rows = [("method", "value", "times", "cuts", "found", "false", "precision", "recall"),
            ("rife.timeline.scenes", "", "", *score([(case.cuts, ours) for case, ours, _ in seen]))]  # fmt: skip
    for i, name in enumerate(("residual", "share", "mask")):
        rows.append((f"RIFE {name}", *best(seen, i, confirm=False)))
        rows.append((f"rife.timeline.scenes confirmed by {name}", *best(seen, i, confirm=True)))
    for row in rows:
        print(f"{row[0]:34s}", *(f"{v:>10.3f}" if isinstance(v, float) else f"{v:>10}" for v in row[1:]))
    print(f"{pairs} pairs, {1000 * seconds / pairs:.1f} ms of RIFE per pair on one core")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(
                [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in rows]
            )


@torch.no_grad()
def evidence(model, a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, float]:
    """residual, share and mask of two frames (H,W,3)."""
    a, b = (small(x) for x in (a, b))
    prediction = model.net.predict(a, b, 0.5)
    moved = warp(a, prediction.flow[:, :2]), warp(b, prediction.flow[:, 2:4])
    residual = float((moved[0] - moved[1]).abs().mean())
    share = residual / (float((a - b).abs().mean()) + 0.01)
    return residual, share, float((2 * prediction.mask - 1).abs().mean())


def small(frame: torch.Tensor) -> torch.Tensor:
    image = frame.permute(2, 0, 1)[None].float() / (1 if frame.is_floating_point() else 255)
    size = (round(image.shape[2] * WIDTH / image.shape[3]), WIDTH)
    return pad_to(F.interpolate(image, size=size, mode="area"), 64)


def score(found: list[tuple[set[int], set[int]]]) -> tuple[int, int, int, float, float]:
    """cuts, found, false, precision, recall of pairs (true, found)."""
    true = sum(len(a) for a, _ in found)
    hit, false = sum(len(a & b) for a, b in found), sum(len(b - a) for a, b in found)
    return true, hit, false, hit / max(1, hit + false), hit / max(1, true)


def best(seen: list, index: int, confirm: bool) -> tuple:
    """The threshold and multiple with the best F1, and what they reach."""
    series = [[value[index] for value in values] for _, _, values in seen]
    usual = [[median_around(row, i) for i in range(len(row))] for row in series]
    answers = []
    for value, times in itertools.product(VALUES, TIMES):
        found = []
        for (case, ours, _), row, around in zip(seen, series, usual, strict=True):
            cuts = {
                i + 1
                for i, (x, u) in enumerate(zip(row, around, strict=True))
                if x >= value and x >= times * u
            }
            found.append((case.cuts, ours & cuts if confirm else cuts))
        answers.append((value, times, *score(found)))
    return max(answers, key=lambda a: 2 * a[5] * a[6] / max(1e-9, a[5] + a[6]))


def median_around(row: list[float], i: int) -> float:
    around = row[max(0, i - 3) : i] + row[i + 1 : i + 4]
    return statistics.median_low(around) if around else float("inf")


if __name__ == "__main__":
    main()
