"""How much the sharpness of a result pulses from frame to frame, as it is and with `steady`.

    python benchmarks/score_steady.py CLIP ... [--model CKPT] [--frames N] [--max-width W]

Fine detail is the mean of what a 3x3 blur takes away. The pulse is how far the phases of the pattern are apart on the
whole (at twice the rate: given and made frames), as a share of the mean.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rife
from rife.timeline import Clock, plan
from rife.video.frames import clip_frames

RATES = {"2x": ({"multiplier": 2}, 2), "3x": ({"multiplier": 3}, 3), "24 to 60": ({"rate": 60}, 5)}


def detail(frames: Tensor) -> Tensor:
    """(N,H,W,C) -> (N,): the mean of what a blur takes away."""
    images = frames.permute(0, 3, 1, 2)
    return (images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)).abs().mean((1, 2, 3))


def pulse(frames: Tensor, phases: int) -> float:
    """How far the means of the phases are apart, in percent; the clip's ends are left out."""
    # Against the mean of a whole pattern around each frame, so that what the clip does itself is no pulse.
    values = detail(frames)
    around = values.unfold(0, 2 * phases + 1, 1).mean(1)
    relative = values[phases:-phases] / around - 1
    means = [relative[phase::phases].mean() for phase in range(phases)]
    return 100 * float(max(means) - min(means))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--max-width", type=int, default=640)
    args = parser.parse_args()
    model = rife.load_model(args.model)
    rows = []
    for path in args.clips:
        frames = (
            torch.stack(list(islice(clip_frames(path, max_width=args.max_width), args.frames))).float() / 255
        )
        for name, (asked, phases) in RATES.items():
            pulses = []
            for steady in (False, True):
                made = rife.interpolate(
                    model, frames, plan=plan(Clock(len(frames), 24), steady=steady, **asked)
                )
                pulses.append(pulse(made[: len(made) - phases], phases))
            rows.append((name, *pulses))
            print(f"{path.stem:40s} {name:9s} {pulses[0]:5.1f} % -> {pulses[1]:4.1f} %", flush=True)
    for name in RATES:
        own = [row[1:] for row in rows if row[0] == name]
        before, after = (sum(column) / len(own) for column in zip(*own, strict=True))
        print(f"mean of {len(own):3d} {'':29s} {name:9s} {before:5.1f} % -> {after:4.1f} %")


if __name__ == "__main__":
    main()
