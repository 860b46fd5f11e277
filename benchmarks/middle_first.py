"""Steps of a disc whose drawings, on threes and fours, are put back to even times: directly, and by way of the middle.

    python benchmarks/middle_first.py [--models flownet.pkl ...] [--csv benchmarks/middle_first.csv]

A disc crosses a picture (tests/support/moving_clips.py) by so many pixels a drawing, each shown for three or four
frames; the frame rate is doubled with `repeats` at *retime*. Printed is the standard deviation of the disc's steps over
their mean, for each checkpoint, with all frames made between two drawings (direct), and as the engine does it, where
the middle is made first (`rife.engine.middles`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from fractions import Fraction
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import moving_clips as rendered
from clip_windows import models_of

import rife
from rife.engine import middles
from rife.timeline.clock import Clock
from rife.timeline.plans import plan

DRAWINGS = 5
FAR = middles._FAR


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--motion", type=float, nargs="+", default=[6, 10, 14, 20], help="px a drawing")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    rows = [["checkpoint", "each drawing shown for", "px a drawing", "direct", "middle first"]]
    for name, model in models_of(args.models).items():
        for held in (3, 4):
            for motion in args.motion:
                found = [unevenness(model, held, motion, far) for far in (held + 1, FAR)]
                rows.append([name, str(held), f"{motion:g}", *(f"{x:.4f}" for x in found)])
                print("{:10s} on {}s {:>4s} px: {} {}".format(*rows[-1]), flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows(rows)


def unevenness(model: rife.Model, held: int, motion: float, far: int) -> float:
    """The steps' standard deviation over their mean where frames that are `far` apart are halved."""
    shown = rendered.shown([held], held * DRAWINGS)
    frames = torch.from_numpy(rendered.clip(shown, step=motion, pan=1, width=320)).float() / 255
    repeats = [i for i in range(1, len(shown)) if shown[i] == shown[i - 1]]
    timing = plan(Clock(len(shown), Fraction(24)), multiplier=2, repeats=repeats, at_repeats="retime")
    middles._FAR = far
    made = rife.interpolate(model, frames, plan=timing)[
        : (DRAWINGS - 1) * held * 2 + 1
    ]  # then the last is held
    return rendered.unevenness(
        rendered.steps([rendered.disc_at(f) for f in (made * 255).round().byte().numpy()])
    )


if __name__ == "__main__":
    main()
