"""What a gap between two frames is taken for, against what it was: evidence for the default of --longest-gap.

    python benchmarks/pauses.py CLIP ... [--places 3] [--width 480]

Frames of a clip in motion are taken out, so that one lasts for several. Were they lost, the true frames are there to
compare with: PSNR of new frames all the way ("moved"), and of the frame before, held until the last of them ("held").
Was nothing written since nothing moved, the frame before is the truth: held then is right, and the PSNR of the next
frame of the clip reached slowly says what a morph costs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.evaluation import psnr
from rife.timeline.scenes import find_scenes
from rife.video.frames import clip_frames

GAPS = (2, 3, 4, 5, 6, 8, 12)


def shots(path: Path, width: int, places: int) -> list[torch.Tensor]:
    """(13,H,W,3) in 0..1 of the parts that move most, without cuts and repeats."""
    frames = torch.stack(list(clip_frames(path, 300, width)))
    scenes = find_scenes(frames)
    span = max(GAPS) + 1
    found = []
    for first in range(0, len(frames) - span, span):
        inside = range(first + 1, first + span)
        if not (scenes.cuts | scenes.repeats) & set(inside):
            motion = sum(e.motion for e in scenes.evidence[first : first + span - 1] if e)
            found.append((motion, first))
    best = sorted(found, reverse=True)[:places]
    return [frames[first : first + span].float() / 255 for _, first in best]


def mean_psnr(made: torch.Tensor, true: torch.Tensor) -> float:
    return sum(float(psnr(a[None], b[None])) for a, b in zip(made, true, strict=True)) / len(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--places", type=int, default=3)
    parser.add_argument("--width", type=int, default=480)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = rife.load_model(device="cpu").eval()
    table = {gap: [] for gap in GAPS}
    for path in args.clips:
        for shot in shots(path, args.width, args.places):
            for gap in GAPS:
                true = shot[1:gap]
                moved = rife.interpolate(model, shot[[0, gap]], gap)[1:-1]
                slow = rife.interpolate(model, shot[:2].contiguous(), gap)[1:-1]
                still = shot[:1].expand(gap - 1, -1, -1, -1)
                lost = mean_psnr(moved, true), mean_psnr(still, true)
                table[gap].append((*lost, lost[0] - lost[1], mean_psnr(slow, still)))
    print("frames a gap lasts, lost: moved dB, held dB, gain of moving; pause: dB of a morph")
    for gap, rows in table.items():
        print(f"{gap:4d}" + "".join(f"{sum(x) / len(x):10.2f}" for x in zip(*rows, strict=True)), len(rows))


if __name__ == "__main__":
    main()
