"""Cuts and repeated frames: ours beside the thresholds of CogVideo's demo, on clips and on edits made from them.

    python benchmarks/score_cuts.py CLIP ... [--csv FILE] [--width 640] [--show]

Known cuts of the clips as they are: `KNOWN` below. The edits: hard cuts between clips, jumps within one, flashes, fades
to black and across, fast pans, a fine texture that moves 16 px a frame, slow motion, animation on twos through H.264.
CogVideo's demo calls a pair a cut where the SSIM of 32x32 pictures is below 0.2, and static above 0.996
(rife/timeline/cogvideo.py).
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from rife.timeline.cogvideo import cogvideo_scenes
from rife.timeline.scenes import find_scenes
from rife.video.job import VideoWriter, read_frames, to_bytes

# Cuts of the clips themselves, found by eye, by name.
KNOWN = {"bbb-1080p60-2s": {21}, "bbb-480p-30s": {285, 378, 553}, "nasa_13013": {240}}  # of its larger stream
SHOT = 12


class Case(NamedTuple):
    """Frames (N,H,W,3) in 0..1 with the frames that begin a scene and those that repeat the one before."""

    kind: str
    frames: torch.Tensor
    cuts: set[int]
    repeats: set[int] | None = set()  # None: not known


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--width", type=int, default=640, help="of the edits; clips are scaled to it")
    parser.add_argument("--frames", type=int, default=720, help="of each clip, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tables = {"ours": {}, "CogVideo demo": {}}
    seconds, pairs = 0.0, 0
    for case in cases(args):
        start = time.perf_counter()
        scenes = find_scenes(case.frames)
        seconds += time.perf_counter() - start
        pairs += len(case.frames) - 1
        found = {"ours": scenes, "CogVideo demo": cogvideo_scenes(case.frames)}
        for name, answer in found.items():
            row = tables[name].setdefault(case.kind, Row())
            row.count(case, answer.cuts, answer.repeats)
        if args.show and (
            scenes.cuts != case.cuts or (case.repeats is not None and scenes.repeats != case.repeats)
        ):
            explain(case, scenes)
    rows = [
        (name, kind, *row) for name, table in tables.items() for kind, row in (*table.items(), total(table))
    ]
    head = ["method", "set", "pairs", "cuts", "found", "missed", "false", "precision", "recall",
            "repeats", "repeats found", "repeats false"]  # fmt: skip
    for row in [head, *rows]:
        print("{:14s} {:26s}{}".format(row[0], row[1], "".join(f"{shown(v):>11s}" for v in row[2:])))
    print(f"{1000 * seconds / pairs:.1f} ms per pair on one core")
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows([head, *([shown(v) for v in row] for row in rows)])


def shown(value) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


class Row:
    """What a method found of one set."""

    def __init__(self):
        self.pairs = self.cuts = self.hit = self.false = self.repeats = self.repeats_hit = (
            self.repeats_false
        ) = 0

    def count(self, case: Case, cuts: set[int], repeats: set[int]) -> None:
        self.pairs += len(case.frames) - 1
        self.cuts += len(case.cuts)
        self.hit += len(cuts & case.cuts)
        self.false += len(cuts - case.cuts)
        if case.repeats is not None:
            self.repeats += len(case.repeats)
            self.repeats_hit += len(repeats & case.repeats)
            self.repeats_false += len(repeats - case.repeats)

    def __iter__(self):
        found = self.hit + self.false
        yield from (self.pairs, self.cuts, self.hit, self.cuts - self.hit, self.false)
        yield self.hit / found if found else None
        yield self.hit / self.cuts if self.cuts else None
        yield from (self.repeats, self.repeats_hit, self.repeats_false)


def total(table: dict[str, Row]) -> tuple[str, Row]:
    """Of everything but the jumps within one scene, which are a matter of opinion."""
    row = Row()
    for kind, part in table.items():
        if kind != "jumps in one scene":
            for name in vars(row):
                setattr(row, name, getattr(row, name) + getattr(part, name))
    return "all but jumps", row


def explain(case: Case, scenes) -> None:
    for i in sorted(scenes.cuts ^ case.cuts):
        near = [f"{e.unexplained:.2f}" for e in scenes.evidence[max(0, i - 4) : i + 3]]
        print(case.kind, "missed" if i in case.cuts else "false", i, "unexplained", *near)
    for i in sorted(scenes.repeats ^ case.repeats)[:6] if case.repeats is not None else ():
        near = [f"{255 * e.change:.2f}" for e in scenes.evidence[max(0, i - 4) : i + 3]]
        print(case.kind, "repeat", "missed" if i in case.repeats else "false", i, "change of 255", *near)


def cases(args: argparse.Namespace) -> Iterator[Case]:
    rng = random.Random(args.seed)
    clips = {path.stem: load(path, args.width, args.frames) for path in args.clips}
    for name, frames in clips.items():
        yield Case("clips as they are", frames, {i for i in KNOWN.get(name, ()) if i < len(frames)}, None)
    whole = {name: frames for name, frames in clips.items() if name not in KNOWN}
    # In the order of `KNOWN`: the dice fall the same way each time.
    whole |= {f"{name}-{i}": part for name in KNOWN if name in clips
              for i, part in enumerate(shots(clips[name], KNOWN[name]))}  # fmt: skip
    yield from cut_up(rng, whole)
    for name, frames in whole.items():
        yield from damaged(rng, name, frames)
    for name, frames in whole.items():
        if "asl" not in name:
            yield from moved(rng, frames)
    yield from textures(args.width)
    yield from timed(whole)


def load(path: Path, width: int, most: int) -> torch.Tensor:
    frames = []
    for frame in read_frames(path, most):
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        if image.shape[3] > width:
            size = (round(image.shape[2] * width / image.shape[3]), width)
            image = F.interpolate(image, size=size, mode="area")
        frames.append((image[0].permute(1, 2, 0) * 255).round().byte())
    return torch.stack(frames)  # bytes: floats only where they are needed


def shots(frames: torch.Tensor, cuts: set[int]) -> list[torch.Tensor]:
    ends = [0, *sorted(i for i in cuts if i < len(frames)), len(frames)]
    return [frames[a:b] for a, b in zip(ends, ends[1:], strict=False) if b - a > 3 * SHOT]


def bright(frames: torch.Tensor) -> bool:
    """Whether there is something to see; the beginning of a fade from black is not."""
    return float(frames.float().std()) > 12


def cut_up(rng: random.Random, clips: dict[str, torch.Tensor]) -> Iterator[Case]:
    """Shots of 3 to 20 frames after each other: of different clips (those of one studio count as one), of one."""
    groups: dict[str, list[torch.Tensor]] = {}
    for name, frames in clips.items():
        groups.setdefault("asl" if "asl" in name else name, []).append(frames)
    for kind, rounds in (("hard cuts", 60), ("jumps in one scene", 12)):
        for _ in range(rounds):
            one = rng.choice([g for g in groups if g == "asl" or len(groups[g][0]) > 200])
            parts, cuts, last = [], set(), None
            size = rng.choice([(360, 640), (480, 640), (352, 480), (270, 480)])
            while len(parts) < 6:
                group = one if kind != "hard cuts" else rng.choice([g for g in groups if g != last])
                frames = rng.choice(groups[group])
                length = rng.randint(3, 20)
                start = rng.randrange(max(1, len(frames) - length))
                part = frames[start : start + length]
                if not bright(part):
                    continue
                parts.append(scaled(part, size))
                last = group
            for part in parts[:-1]:
                cuts.add(len(part) + max(cuts, default=0))
            yield Case(kind, torch.cat(parts), cuts, None)


def scaled(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    images = F.interpolate(
        frames.permute(0, 3, 1, 2).float() / 255, size=size, mode="bilinear", antialias=True
    )
    return images.permute(0, 2, 3, 1).clamp(0, 1)


def damaged(rng: random.Random, name: str, frames: torch.Tensor) -> Iterator[Case]:
    """Flashes and fades in one shot."""
    start = rng.randrange(max(1, len(frames) - 40))
    base = frames[start : start + 40].float() / 255
    if not bright(frames[start : start + 40]):
        return
    flashed = base.clone()
    for at in (8, 20, 30):
        length, gain = rng.randint(1, 2), rng.choice([0.3, 0.6, 0.85])
        flashed[at : at + length] = flashed[at : at + length] * (1 - gain) + gain
    yield Case("flashes", flashed, set(), None)
    lit = base.clone()
    lit[10:12] = (lit[10:12] * 2.2).clamp(max=1)
    lit[24:25] = (lit[24:25] * 3 + 0.1).clamp(max=1)
    yield Case("flashes", lit, set(), None)
    length = rng.choice([6, 10, 16])
    ramp, mix = torch.ones(len(base)), torch.zeros(len(base))
    down_and_up = torch.cat((torch.linspace(1, 0, length), torch.linspace(0, 1, length)))
    ramp[4 : 4 + 2 * length] = down_and_up[: len(base) - 4]
    yield Case("fades to black", base * ramp.view(-1, 1, 1, 1), set(), None)
    other = base.flip(0, 2)
    mix[4 : 4 + length] = torch.linspace(0, 1, length)[: len(base) - 4]
    mix[4 + length :] = 1
    mix = mix.view(-1, 1, 1, 1)
    yield Case("cross-fades", base * (1 - mix) + other * mix, set(), None)


def moved(rng: random.Random, frames: torch.Tensor) -> Iterator[Case]:
    """A window that pans over one frame at various speeds, even, starting and stopping, shaking; and a zoom."""
    still = frames[len(frames) // 2].permute(2, 0, 1)[None].float() / 255
    big = F.interpolate(still, scale_factor=2.0, mode="bicubic").clamp(0, 1)
    height, width = big.shape[2] // 2, big.shape[3] // 2
    for speed in (4, 16, 32, 48):
        count = min(20, (big.shape[3] - width) // speed + 1)
        xs = [speed * i for i in range(count)]
        yield Case("pans", window(big, xs, height, width), set(), set())
    eased = [
        round((big.shape[3] - width) * (1 - torch.cos(torch.tensor(i / 19 * 3.1416)).item()) / 2)
        for i in range(20)
    ]
    yield Case("pans", window(big, eased, height, width), set(), None)
    shaken = [width // 2 + rng.randint(-24, 24) for _ in range(20)]
    yield Case("pans", window(big, shaken, height, width), set(), None)
    zoomed = [F.interpolate(still[..., : int(still.shape[2] * (1 - 0.02 * i)), : int(still.shape[3] * (1 - 0.02 * i))],
                            size=still.shape[2:], mode="bilinear")[0] for i in range(20)]  # fmt: skip
    yield Case("pans", torch.stack(zoomed).permute(0, 2, 3, 1), set(), None)


def window(big: torch.Tensor, xs: list[int], height: int, width: int) -> torch.Tensor:
    return torch.stack([big[0, :, height // 2 : height // 2 + height, x : x + width] for x in xs]).permute(
        0, 2, 3, 1
    )


def textures(width: int) -> Iterator[Case]:
    """Noise of several grains, and stripes, moving 16 px a frame."""
    generator = torch.Generator().manual_seed(3)
    height = width * 9 // 16
    for grain in (1, 2, 4, 8, 16, 32):
        for across, down in ((16, 0), (0, 16), (11, 12)):
            small = torch.rand(1, 3, (height + 400) // grain, (width + 400) // grain, generator=generator)
            big = F.interpolate(small, size=(height + 400, width + 400), mode="bicubic").clamp(0, 1)[0]
            frames = [
                big[:, down * i : down * i + height, across * i : across * i + width] for i in range(20)
            ]
            yield Case("textured 16-px motion", torch.stack(frames).permute(0, 2, 3, 1), set(), set())
    x = torch.arange(width).float()
    for period in (24, 40, 100):
        frames = [
            (((x + 16 * i) / period).sin() / 2 + 0.5).view(1, -1, 1).expand(height, -1, 3) for i in range(20)
        ]
        yield Case("textured 16-px motion", torch.stack(frames), set(), set())


def timed(clips: dict[str, torch.Tensor]) -> Iterator[Case]:
    """Slow motion (no frame repeats), and animation on twos and threes, as it is and through H.264."""
    for name in [n for n in clips if "asl" not in n]:
        frames = clips[name][-24:].float() / 255
        big = frames[0].permute(2, 0, 1)[None]
        slow = []
        for i in range(16):
            theta = torch.tensor([[[1, 0, 2 * 0.25 * i / big.shape[3]], [0, 1, 0]]])
            grid = F.affine_grid(theta, list(big.shape), align_corners=False)
            slow.append(
                F.grid_sample(big, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)
            )
        yield Case("slow motion, 1/4 px", torch.stack(slow), set(), set())
    for name in [n for n in clips if n.startswith(("bbb", "intel-one", "intel-asl-w"))]:
        for times in (2, 3):
            source = clips[name][len(clips[name]) // 3 :][:12].float() / 255
            held = source.repeat_interleave(times, 0)
            repeats = {i for i in range(len(held)) if i % times}
            yield Case("on twos and threes", held, set(), repeats)
            yield Case("on twos, H.264", coded(held), set(), repeats)


def coded(frames: torch.Tensor) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.mp4"
        with VideoWriter(path, Fraction(24), frames.shape[2], frames.shape[1], crf=20) as writer:
            for frame in frames:
                writer.write(to_bytes(frame))
        return torch.stack([torch.from_numpy(frame) for frame in read_frames(path)]).float() / 255


if __name__ == "__main__":
    main()
