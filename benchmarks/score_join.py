"""What `rife.join` reaches at seams whose truth is known: morphs against cross-fades, jumps of colour, what is found.

    python benchmarks/score_join.py [--clips FOLDER] [--model CKPT]

Rendered scenes, and with --clips videos of a folder: cut in two with an overlap of 8 frames, the second part displaced
by some pixels (the truth moves there evenly) or its channels scaled and shifted by a few percent.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rife
from rife.engine.seams import find_seam
from rife.evaluation.metrics import psnr
from rife.training.synthetic import RenderedMotion
from rife.video import Clip
from rife.video.job import to_tensor

OVERLAP, LENGTH, EDGE = 8, 40, 16
DRIFTS = ((1.03, 0.0), (0.97, 0.01), (1.0, 0.03), (1.08, -0.02))  # gain, offset
SHIFTS = (2, 6, 12)


def scenes(folder: Path | None) -> dict[str, Tensor]:
    """Name -> frames (N,H,W,3)."""
    found = {}
    for seed in range(6):
        scene = RenderedMotion(192, 288, seed=seed, max_motion=6.0, objects=5)
        found[f"rendered {seed}"] = scene.clip(LENGTH).permute(0, 2, 3, 1).contiguous()
    for path in sorted(folder.glob("*.m*")) if folder else ():
        frames = list(islice(map(to_tensor, Clip(path).frames()), LENGTH))
        if len(frames) == LENGTH:
            found[path.stem] = torch.stack(frames).float() / 255
    return found


def displaced(frames: Tensor, pixels: Tensor) -> Tensor:
    """Frames (N,H,W,3) moved right by `pixels` (N,), bicubic, without the edge."""
    height, width = frames.shape[1:3]
    grid = F.affine_grid(
        torch.eye(2, 3).expand(len(frames), -1, -1), [len(frames), 3, height, width], False
    ).clone()
    grid[..., 0] -= (2 * pixels / width).view(-1, 1, 1)
    moved = F.grid_sample(
        frames.permute(0, 3, 1, 2), grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return moved.permute(0, 2, 3, 1)[:, :, EDGE:-EDGE].clamp(0, 1)


def morphs(model, frames: Tensor, shift: float) -> tuple[float, float]:
    """PSNR of the eight frames of an overlap: cross-faded, joined."""
    half = LENGTH // 2
    plain, moved = (
        displaced(frames, torch.zeros(LENGTH)),
        displaced(frames, torch.full((LENGTH,), float(shift))),
    )
    times = torch.arange(1, OVERLAP + 1) / (OVERLAP + 1)
    part = slice(half, half + OVERLAP)
    truth = displaced(frames[part], shift * times)
    weight = times.view(-1, 1, 1, 1)
    faded = torch.lerp(plain[part], moved[part], weight)
    joined = rife.join(model, [plain[: half + OVERLAP], moved[half:]], overlap=OVERLAP, match=False).frames[
        part
    ]
    return tuple(
        sum(psnr(a, b) for a, b in zip(made, truth, strict=True)) / OVERLAP for made in (faded, joined)
    )


def jumps(model, frames: Tensor, gain: float, offset: float) -> tuple[float, float]:
    """The largest step of the mean level, of 255, that is not in the clip itself: side by side, joined."""
    half = LENGTH // 2
    change = torch.tensor([offset, 0.0, -offset])
    second = (frames[half - OVERLAP :] * gain + change + (offset if gain == 1 else 0)).clamp(0, 1)
    joined = rife.join(model, [frames[:half], second], overlap=OVERLAP, fade=16).frames
    plain = torch.cat([frames[:half], second[OVERLAP:]])
    steps = [
        (clip.mean((1, 2)) - frames.mean((1, 2))).diff(dim=0).abs().mean(1) * 255 for clip in (plain, joined)
    ]
    return tuple(float(step.max()) for step in steps)


def kinds(frames: Tensor) -> Counter:
    """What is found at a twin, an overlap, a continuation and gaps, with drift and noise on the second part."""
    found: Counter = Counter()
    half = LENGTH // 2
    for name, begin, wanted in (
        ("twin", half - 1, ("twin", 1, 0)), ("overlap of 8", half - 8, ("overlap", 8, 0)),
        ("none", half, ("meet", 0, 0)), ("1 missing", half + 1, ("gap", 0, 1)), ("2 missing", half + 2, ("gap", 0, 2)),
    ):  # fmt: skip
        second = (frames[begin:] * 0.97 + 0.01 + 0.005 * torch.randn_like(frames[begin:])).clamp(0, 1)
        seam = find_seam(list(frames[:half]), list(second))
        found[name] += (seam.kind, seam.overlap, seam.bridge) == wanted
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, metavar="FOLDER")
    parser.add_argument("--model", type=Path, metavar="CKPT")
    parser.add_argument("--device")
    args = parser.parse_args()
    torch.manual_seed(0)
    model, clips = rife.load_model(args.model, device=args.device), scenes(args.clips)
    print("An overlap of 8 frames, the second clip displaced: PSNR, dB, of a cross-fade and of rife.join")
    for shift in SHIFTS:
        rows = [morphs(model, frames, shift) for frames in clips.values()]
        faded, joined = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        print(f"  {shift:2d} px   {faded:5.1f}   {joined:5.1f}   (worst {min(row[1] for row in rows):.1f})")
    print(
        "Drift of colours: the largest step of the level, of 255, beyond the clip's own, side by side and joined"
    )
    for gain, offset in DRIFTS:
        rows = [jumps(model, frames, gain, offset) for frames in clips.values()]
        plain, joined = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        print(
            f"  x {gain:.2f} {offset:+.2f}   {plain:4.1f}   {joined:4.2f}   (worst {max(row[1] for row in rows):.2f})"
        )
    found = sum((kinds(frames) for frames in clips.values()), Counter())
    print(
        f"Found in {len(clips)} clips with drift and noise: "
        + ", ".join(f"{k} {v}" for k, v in found.items())
    )


if __name__ == "__main__":
    main()
