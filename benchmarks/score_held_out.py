"""The bundled checkpoint on held-out clips at 2x, 4x and 8x, against averaging and classical flow in the same run.

    python benchmarks/score_held_out.py CLIP_OR_FOLDER_OF_FRAMES ... [--model CKPT ...] [--csv FILE] [--pictures FOLDER]

Needs OpenCV (pip install opencv-python-headless). Writes means per clip and per motion size; prints the worst pairs.
Besides, what must not be damaged: stills, and fades in which nothing moves, made from frames of the same clips.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
from einops import rearrange

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.baselines import BASELINES, average, motion_size
from rife.clips import clip_frames
from rife.scenes import find_scenes
from rife.scoring import (
    HELD_OUT_METRICS,
    METRICS,
    Network,
    Row,
    Sample,
    held_out,
    mean,
    means,
    motion_class,
    score,
    shown,
    usable_starts,
    write_csv,
    write_rows,
)

TASKS = ((2, 1), (2, 2), (4, 1), (8, 1))  # factor, stride


def clip_samples(path: Path, max_width: int, true_frames: int) -> Iterator[Sample]:
    """Held-out samples of one clip at every task."""
    frames = list(clip_frames(path, 400, max_width))
    scenes = find_scenes(frames)
    height, width = frames[0].shape[:2]
    print(f"{path.stem} {width}x{height}: {len(frames)} frames, cuts {sorted(scenes.cuts)}, "
          f"{len(scenes.repeats)} repeated frames left out", flush=True)  # fmt: skip
    for factor, stride in TASKS:
        starts = usable_starts(scenes, len(frames), factor, stride, true_frames)
        name = f"{path.stem}, {factor}x stride {stride}"
        yield from held_out(frames, name, factor, stride, starts)


def fade_samples(path: Path, max_width: int) -> Iterator[Sample]:
    """Stills and fades of one clip: cross-fades between its first and a late frame, and fades to black, by steps."""
    frames = list(clip_frames(path, 400, max_width))
    first, other = (rearrange(frames[i], "h w c -> c h w").float() for i in (0, len(frames) * 3 // 4))
    times = tuple(Fraction(k, 4) for k in (1, 2, 3))
    for kind, end in (("cross-fade", other), ("fade to black", torch.zeros_like(first))):
        for step in (0, 8, 4, 2, 1) if kind == "cross-fade" else (8, 4, 2):
            last = torch.lerp(first, end, 1 / step) if step else first
            truth = torch.stack([torch.lerp(first, last, float(t)) for t in times])
            name = f"{kind}, 1/{step} of it" if step else "still"
            yield Sample(
                name, path.stem, first.byte(), last.round().byte(), times, truth.round().byte(), path.stem
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, nargs="*", default=[None])
    parser.add_argument(
        "--true-frames", type=int, default=12, help="per clip and task (default: %(default)s)"
    )
    parser.add_argument("--max-width", type=int, default=1024)
    parser.add_argument("--csv", type=Path, help="means per clip, motion size, fade")
    parser.add_argument("--frames-csv", type=Path, help="every frame")
    args = parser.parse_args()

    names = ["rife" if path is None else path.stem for path in args.model]
    methods = dict(zip(names, (Network(rife.load_model(path)) for path in args.model), strict=True))
    methods |= {"average": average, **BASELINES}
    metrics = {name: METRICS[name] for name in HELD_OUT_METRICS}
    start = time.perf_counter()
    rows: list[Row] = []
    fades: list[Row] = []
    for path in args.clips:
        rows += score(clip_samples(path, args.max_width, args.true_frames), methods, metrics, motion_size)
        fades += score(
            fade_samples(path, 480), methods, {k: METRICS[k] for k in ("psnr", "ie")} | {"worst": worst}
        )
    table = tables(rows, fades, list(methods))
    for line in table:
        print("{:40s} {:12s} {:12s} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}".format(*map(str, line)))
    print_worst(rows, names[0])
    print(
        f"{time.perf_counter() - start:.0f} s, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )
    if args.csv:
        write_csv(args.csv, table[0], table[1:])
    if args.frames_csv:
        write_rows(args.frames_csv, rows)


def worst(made, true, *_) -> float:
    """The largest difference, in 8-bit levels."""
    return 255 * float((made - true).abs().max())


def task_of(row: Row) -> str:
    return row.set.split(", ")[1]


def tables(rows: list[Row], fades: list[Row], methods: list[str]) -> list[tuple]:
    """Header and lines: every clip at every task, their mean, every motion size, every fade."""
    lines = [("set", "task", "method", "frames", *HELD_OUT_METRICS, "gain_dB")]
    per_clip = means(rows, lambda row: row.set)
    tasks = list(dict.fromkeys(map(task_of, rows)))
    for task in tasks:
        sets = [s for s in dict.fromkeys(row.set for row in rows) if s.endswith(task)]
        for name in sets:
            lines += _lines(name.split(", ")[0], task, methods, lambda m, name=name: per_clip[name, m])
        over = {m: _mean_of([per_clip[name, m] for name in sets]) for m in methods}
        lines += _lines("mean of clips", task, methods, over.__getitem__)
    per_size = means(rows, lambda row: f"{task_of(row)[:2]} {motion_class(row.motion)}")
    for name in sorted({key for key, _ in per_size}, key=lambda name: (name[:2], _lower(name))):
        lines += _lines(name[3:], f"{name[:2]} by motion", methods, lambda m, name=name: per_size[name, m])
    per_fade = means(fades, lambda row: row.set)
    for (name, method), found in per_fade.items():
        largest = max(row.figures["worst"] for row in fades if (row.set, row.method) == (name, method))
        lines.append((name, "largest error " + shown(largest, 2), method, found["frames"], shown(found["psnr"], 2),
                      "", shown(found["ie"], 3), "", ""))  # fmt: skip
    return lines


def _lower(name: str) -> int:
    return next(int(word) for word in name[3:].split() if word.isdigit())


def _mean_of(figures: list[dict]) -> dict:
    return {key: mean(f[key] for f in figures) for key in figures[0]} | {
        "frames": sum(f["frames"] for f in figures)
    }


def _lines(name: str, task: str, methods: list[str], figures_of) -> Iterator[tuple]:
    base = figures_of("average")["psnr"]
    for method in methods:
        found = figures_of(method)
        digits = {"psnr": 2, "ssim": 4, "ie": 3, "moving_ie": 3}
        yield (name, task, method, found["frames"], *(shown(found[k], digits[k]) for k in HELD_OUT_METRICS),
               f"{found['psnr'] - base:+.2f}")  # fmt: skip


def print_worst(rows: list[Row], ours: str, count: int = 12) -> None:
    """The frames where the network loses most against averaging, and against the best of the others."""
    by_frame: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        by_frame.setdefault((row.set, row.name, row.time), {})[row.method] = row
    for against in ("average", "dis"):
        gains = sorted(((m[ours].figures["psnr"] - m[against].figures["psnr"], m[ours]) for m in by_frame.values()),
                       key=lambda pair: pair[0])  # fmt: skip
        lost = sum(gain < 0 for gain, _ in gains)
        print(f"\n{ours} is below {against} on {lost} of {len(gains)} frames; the worst:")
        for gain, row in gains[:count]:
            print(f"  {gain:+6.2f} dB  {row.set}, frames {row.name} at {row.time}: {row.figures['psnr']:.2f} dB, "
                  f"motion {row.motion:.1f} px")  # fmt: skip


if __name__ == "__main__":
    main()
