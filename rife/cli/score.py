"""`rife score`: checkpoints, scales and options against each other, averaging and classical flow, in one run."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from ..atomic_write import write_text
from ..evaluation.baselines import BASELINES, average, has_opencv, motion_size
from ..evaluation.benchmarks import PROTOCOLS
from ..evaluation.charts import chart_svg, heat_map
from ..evaluation.scoring import (
    AVERAGE,
    Method,
    Network,
    Row,
    Sample,
    held_out,
    held_out_metrics,
    lpips,
    score,
    usable_starts,
    write_csv,
    write_rows,
)
from ..evaluation.tables import aligned, held_out_table, protocol_table, worst_frames
from ..model import SCALES, load_model
from ..timeline.scenes import SceneFinder
from ..video.frames import clip_frames
from ..video.images import write_png
from ..video.job import to_bytes

TASKS = ((2, 1), (2, 2), (4, 1), (8, 1))  # factor, stride
_BRIGHT_ERROR = 32 / 255  # what a heat map shows brightest


def clip_samples(
    path: Path,
    tasks: Sequence[tuple[int, int]] = TASKS,
    true_frames: int = 12,
    max_frames: int | None = None,
    max_width: int | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[Sample]:
    """Held-out samples of one clip at every (factor, stride). It is read once per task, a window at a time."""

    def frames() -> Iterator[Tensor]:
        return clip_frames(path, max_frames, max_width)

    finder, count, size = SceneFinder(), 0, ()
    for frame in frames():
        finder.push(frame)
        count, size = count + 1, frame.shape
    finder.finish()
    if not count:
        raise ValueError(f"{path} has no frames that can be decoded. It is empty or damaged.")
    if note:
        note(
            f"{path.stem}: {count} frames of {size[1]}x{size[0]}; windows with the cuts "
            f"{sorted(finder.cuts) or '(none)'} or one of {len(finder.repeats)} repeated frames are left out"
        )
    for factor, stride in tasks:
        starts = usable_starts(finder.scenes, count, factor, stride, true_frames)
        yield from held_out(frames(), path.stem, factor, stride, starts)


class Gallery:
    """Keeps, of every set and task, the frames on which one method does best and worst against averaging."""

    def __init__(self, method: str):
        self.method = method
        self._averaged: list[Row] = []
        self.kept: dict[tuple[str, str, str], tuple[float, Row, Tensor]] = {}

    def __call__(self, sample: Sample, method: str, frames: Tensor, rows: list[Row]) -> None:
        """`on_frames` of `rife.scoring.score`; averaging comes before the method."""
        if method == AVERAGE:
            self._averaged = rows
        if method != self.method:
            return
        for k, (row, base) in enumerate(zip(rows, self._averaged, strict=True)):
            gain = row.figures["psnr"] - base.figures["psnr"]
            for which, sign in (("worst", 1), ("best", -1)):
                key = row.set, row.task, which
                if math.isfinite(gain) and (key not in self.kept or sign * gain < sign * self.kept[key][0]):
                    self.kept[key] = gain, row, error_picture(sample, k, frames[k])

    def save(self, folder: Path) -> None:
        """One PNG each."""
        folder.mkdir(parents=True, exist_ok=True)
        for (name, task, which), (_, row, picture) in self.kept.items():
            stem = f"{name} {task} {which} {row.name} at {row.time}".replace("/", "of").replace(" ", "_")
            write_png(folder / f"{stem}.png", to_bytes(picture))


def error_picture(sample: Sample, k: int, made: Tensor) -> Tensor:
    """(2H,2W,3) in 0..1: above the truth and what was made of it, below the heat maps of averaging and of this."""
    img0, img1, true = (x.float() / 255 for x in (sample.img0, sample.img1, sample.truth[k]))
    averaged = average(img0, img1, [float(sample.times[k])])[0]
    heat = [heat_map((x - true).abs().mean(0), _BRIGHT_ERROR) for x in (averaged, made.to(true))]
    pictures = [rearrange(x.to(true), "c h w -> h w c") for x in (true, made)]
    return torch.cat((torch.cat(pictures, 1), torch.cat(heat, 1)), 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rife score",
        description="How close made frames come to true ones: on clips from which frames are held out, or on a "
        "published benchmark.",
    )
    parser.add_argument(
        "data",
        type=Path,
        nargs="+",
        help="video files, folders of pictures; with --protocol, the set's folder",
    )
    parser.add_argument("--protocol", choices=[*PROTOCOLS], help="a published benchmark in its own layout")
    models = parser.add_argument_group("what is scored: every checkpoint at every scale, averaging always")
    models.add_argument(
        "--model",
        type=Path,
        nargs="+",
        default=[None],
        metavar="CKPT",
        help="default: the bundled checkpoint",
    )
    models.add_argument("--scale", type=float, nargs="+", default=[1.0], choices=SCALES)
    models.add_argument("--tta", action="store_true", help="also with test-time augmentation")
    models.add_argument("--ensemble", action="store_true", help="also with the time-reversed pass")
    models.add_argument(
        "--baselines", nargs="+", default=[], choices=[*BASELINES], help="also warping by OpenCV's flow"
    )
    models.add_argument("--device", help="cpu, cuda, cuda:1, mps, xpu (default: this machine's accelerator)")
    clips = parser.add_argument_group("clips")
    clips.add_argument(
        "--tasks", type=_task, nargs="+", default=TASKS, metavar="FACTOR[:STRIDE]",
        help="2 makes every second frame, 4 three of four; 2:2 does so with every second frame of the clip "
        "(default: 2 2:2 4 8)",
    )  # fmt: skip
    clips.add_argument(
        "--true-frames", type=int, default=12,
        help="frames to score per clip and task, spread over it; 0 for all (default: %(default)s)",
    )  # fmt: skip
    clips.add_argument("--max-frames", type=int, help="of each clip (default: all)")
    clips.add_argument(
        "--max-width", type=int, help="wider clips are reduced by a whole factor (default: as they are)"
    )
    parser.add_argument(
        "--lpips", action="store_true", help="also LPIPS, by the package lpips (it fetches weights)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for frames.csv, summary.csv, psnr.svg and error pictures"
    )
    return parser


def _task(text: str) -> tuple[int, int]:
    factor, _, stride = text.partition(":")
    task = int(factor), int(stride or 1)
    if task[0] < 2 or task[1] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: the factor is 2 or more, the stride 1 or more")
    return task


def main(argv: Sequence[str] | None = None) -> int:
    """`rife score`."""
    args = _parser().parse_args(argv)
    _check(args)
    began = time.perf_counter()
    protocol = PROTOCOLS.get(args.protocol)
    methods = _methods(args)
    metrics = protocol.metrics if protocol else held_out_metrics()
    if args.lpips:
        metrics = metrics | lpips()
    if not (protocol or has_opencv()):
        print("Without OpenCV there is no breakdown by motion (pip install opencv-python-headless).")
    # Averaging is the first method, the first checkpoint the second.
    gallery = Gallery([*methods][1])
    samples = tqdm(_samples(args), unit="pair", disable=None, total=protocol.count if protocol else None)
    shown_to = gallery if args.out and "psnr" in metrics else None
    rows = list(score(samples, methods, metrics, motion_size if has_opencv() else None, shown_to))
    if not rows:
        raise ValueError(
            "There was nothing to score: the clips are too short, or all cuts and repeated frames."
        )
    table = protocol_table(rows, protocol.of_groups) if protocol else held_out_table(rows)
    print(aligned(table))
    if protocol:
        _compare(protocol, rows)
    else:
        for other in (AVERAGE, *args.baselines):
            print(f"\n{worst_frames(rows, gallery.method, other)}")
    threads = torch.get_num_threads()
    print(f"{time.perf_counter() - began:.0f} s, torch {torch.__version__}, {threads} CPU thread(s)")
    if args.out:
        _write(args.out, rows, table, gallery)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What cannot be scored is refused before any work is done."""
    if args.protocol and len(args.data) > 1:
        raise ValueError(f"--protocol scores one folder, {len(args.data)} were given. Run it once for each.")
    for path in args.data:
        if not path.exists():
            raise FileNotFoundError(f"There is nothing at {path}. Give a video file or a folder of pictures.")
    if args.baselines and not has_opencv():
        raise ValueError(
            f"The baselines {' and '.join(args.baselines)} need OpenCV, which is not installed. "
            "pip install opencv-python-headless, or leave them out."
        )


def _methods(args: argparse.Namespace) -> dict[str, Method]:
    methods: dict[str, Method] = {AVERAGE: average}
    for path in args.model:
        model = load_model(path, device=args.device)
        stem = "bundled" if path is None else path.stem
        for scale in args.scale:
            name = stem if scale == 1 else f"{stem}@{scale:g}"
            kinds = {"": {}, "+TTA": {"tta": True}, "+ensemble": {"ensemble": True}}
            for suffix, options in kinds.items():
                if not options or getattr(args, next(iter(options))):
                    if name + suffix in methods:
                        raise ValueError(
                            f"Two checkpoints are called {stem}. Rename one, or tables mix them up."
                        )
                    methods[name + suffix] = Network(model, scale, **options)
    return methods | {name: BASELINES[name] for name in args.baselines}


def _samples(args: argparse.Namespace) -> Iterator[Sample]:
    if args.protocol:
        yield from PROTOCOLS[args.protocol].samples(args.data[0])
        return
    options = {"true_frames": args.true_frames, "max_frames": args.max_frames, "max_width": args.max_width}
    for path in args.data:
        yield from clip_samples(path, args.tasks, **options, note=partial(tqdm.write))


def _compare(protocol, rows: Sequence[Row]) -> None:
    found = len({(row.group, row.name) for row in rows})
    if found != protocol.count:
        print(f"Not comparable: {protocol.title} has {protocol.count} pairs, {found} were found.")
    elif protocol.published:
        print(f"Published: {protocol.published}")


def _write(folder: Path, rows: Sequence[Row], table, gallery: Gallery) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "frames.csv", rows)
    write_csv(folder / "summary.csv", table[0], table[1:])
    decibels = next((key for key in rows[0].figures if key.startswith("psnr")), "ie")
    series: dict[str, list[float]] = {}
    for row in rows:
        series.setdefault(row.method, []).append(row.figures[decibels])
    title = f"{decibels} of each true frame"
    write_text(
        folder / f"{decibels}.svg", chart_svg(title, series, "8-bit levels" if decibels == "ie" else "dB")
    )
    gallery.save(folder / "pictures")
    print(f"{folder}: frames.csv, summary.csv, {decibels}.svg, {len(gallery.kept)} error pictures")
