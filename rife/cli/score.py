"""Runs `rife score`: checkpoints, scales and options against each other, averaging and classical flow, in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ..atomic_write import write_text
from ..evaluation.baselines import BASELINES, average, has_opencv, motion_size
from ..evaluation.benchmarks import PROTOCOLS, Protocol
from ..evaluation.charts import chart_svg
from ..evaluation.checkpoint_names import checkpoint_names
from ..evaluation.clip_samples import TASKS, Gallery, clip_samples
from ..evaluation.scoring import (
    AVERAGE,
    Method,
    Network,
    Row,
    Sample,
    held_out_metrics,
    lpips,
    score,
    write_csv,
    write_rows,
)
from ..evaluation.tables import aligned, held_out_table, protocol_table, worst_frames
from ..model import SCALES, InferenceOptions, load_model
from ..timeline.numbers import shortened, whole_number
from .options import add_device_option
from .values import MOST_FRAMES, number, whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = run.__doc__
    parser.set_defaults(run=run)
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
    models.add_argument("--scale", type=number(0, 1000), nargs="+", default=[1.0], choices=SCALES)
    models.add_argument("--tta", action="store_true", help="also with test-time augmentation")
    models.add_argument("--ensemble", action="store_true", help="also with the time-reversed pass")
    models.add_argument(
        "--baselines", nargs="+", default=[], choices=[*BASELINES], help="also warping by OpenCV's flow"
    )
    add_device_option(models)
    clips = parser.add_argument_group("clips")
    clips.add_argument(
        "--tasks", type=_task, nargs="+", default=TASKS, metavar="FACTOR[:STRIDE]",
        help="2 makes every second frame, 4 three of four; 2:2 does so with every second frame of the clip "
        "(default: 2 2:2 4 8)",
    )  # fmt: skip
    clips.add_argument(
        "--true-frames", type=whole(0, MOST_FRAMES), default=12,
        help="frames to score per clip and task, spread over it; 0 for all (default: %(default)s)",
    )  # fmt: skip
    clips.add_argument("--max-frames", type=whole(1, MOST_FRAMES), help="of each clip (default: all)")
    clips.add_argument(
        "--max-width",
        type=whole(1, MOST_FRAMES),
        help="wider clips are reduced by a whole factor (default: as they are)",
    )
    parser.add_argument(
        "--lpips", action="store_true", help="also LPIPS, by the package lpips (it fetches weights)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for frames.csv, summary.csv, psnr.svg and error pictures"
    )


_LONGEST_TASK = 1000  # largest factor, largest stride


def _task(text: str) -> tuple[int, int]:
    factor, _, stride = text.partition(":")
    try:
        task = whole_number(factor, _LONGEST_TASK), whole_number(stride or "1", _LONGEST_TASK)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if task[0] < 2 or task[1] < 1:
        raise argparse.ArgumentTypeError(f"{shortened(text)}: the factor is 2 or more, the stride 1 or more")
    return task


def run(args: argparse.Namespace) -> None:
    """Measures how close made frames come to true ones: on clips from which frames are held out, or on a benchmark."""
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


def _check(args: argparse.Namespace) -> None:
    """What cannot be scored is refused before any work is done."""
    if args.protocol and len(args.data) > 1:
        raise ValueError(f"--protocol scores one folder, {len(args.data)} were given. Run it once for each.")
    for path in args.data:
        if not path.exists():
            raise FileNotFoundError(f"There is nothing at {path}. Give a video file or a folder of pictures.")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.baselines and not has_opencv():
        raise ValueError(
            f"The baselines {' and '.join(args.baselines)} need OpenCV, which is not installed. "
            "pip install opencv-python-headless, or leave them out."
        )


def _methods(args: argparse.Namespace) -> dict[str, Method]:
    methods: dict[str, Method] = {AVERAGE: average}
    models = [load_model(path, device=args.device) for path in args.model]
    names = checkpoint_names(
        args.model, ["/".join(model.config.versions) for model in models], {AVERAGE, *BASELINES}
    )
    options = [InferenceOptions()]
    options += [InferenceOptions(tta=True)] if args.tta else []
    options += [InferenceOptions(ensemble=True)] if args.ensemble else []
    for name, model in zip(names, models, strict=True):
        for scale in args.scale:
            for chosen in options:
                at = "" if scale == 1 else f"@{scale:g}"
                averaged = "+TTA" * chosen.tta + "+ensemble" * chosen.ensemble
                methods[f"{name}{at}{averaged}"] = Network(model, scale, chosen.tta, chosen.ensemble)
    return methods | {name: BASELINES[name] for name in args.baselines}


def _samples(args: argparse.Namespace) -> Iterator[Sample]:
    if args.protocol:
        yield from PROTOCOLS[args.protocol].samples(args.data[0])
        return
    options = {"true_frames": args.true_frames, "max_frames": args.max_frames, "max_width": args.max_width}
    for path in args.data:
        yield from clip_samples(path, args.tasks, **options, note=partial(tqdm.write))


def _compare(protocol: Protocol, rows: Sequence[Row]) -> None:
    found = len({(row.group, row.name) for row in rows})
    if found != protocol.count:
        print(f"Not comparable: {protocol.title} has {protocol.count} pairs, {found} were found.")
    elif protocol.published:
        print(f"Published: {protocol.published}")


def _write(folder: Path, rows: Sequence[Row], table: Sequence[Sequence[str]], gallery: Gallery) -> None:
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
