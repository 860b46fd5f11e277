"""Which checkpoint? All files side by side: fidelity, detail and what eyes see, by content and by size of motion.

    python benchmarks/score_released.py --models A.pkl B.pkl ... --ucf101 FOLDER --middlebury FOLDER --clips FILE ... \\
        --csv benchmarks/released.csv --pictures docs/pictures

The bundled checkpoint and plain averaging are always there. Figures of each frame against the true one: PSNR in dB;
FLIP (`rife.evaluation.flip`, 0 is the same), a perceptual difference that needs no weights; detail, the energy of
what is finer than a Gaussian of one pixel as a share of the true frame's (100% is as sharp); LPIPS with --lpips, whose
package fetches weights. Means over each set, and over the motion between the given frames (`rife.timeline.scenes`).
--pictures: of each set, the frame where the checkpoints differ most, side by side.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.checkpoint.load import read_checkpoint
from rife.evaluation.baselines import average
from rife.evaluation.benchmarks import PROTOCOLS
from rife.evaluation.clip_samples import clip_samples
from rife.evaluation.flip import flip
from rife.evaluation.metrics import lpips_metric, psnr
from rife.evaluation.scoring import Network, Sample, motion_class, score
from rife.evaluation.tables import aligned
from rife.timeline.scenes import find_scenes
from rife.video.job import to_bytes, write_png

AVERAGE = "average"


def detail(made: torch.Tensor, true: torch.Tensor, *_: torch.Tensor) -> float:
    """Energy of what is finer than a Gaussian of one pixel, in percent of the true frame's."""
    fine = [x - _blurred(x) for x in (made, true)]
    return float(100 * (fine[0].square().mean() / fine[1].square().mean().clamp_min(1e-9)).sqrt())


def _blurred(x: torch.Tensor) -> torch.Tensor:
    row = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2)
    kernel = torch.outer(row, row)[None, None] / row.sum() ** 2
    padded = torch.nn.functional.pad(x[:, None], (3, 3, 3, 3), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel)[:, 0]


def motion_of(img0: torch.Tensor, img1: torch.Tensor) -> float:
    """Pixels that 9 of 10 parts of a picture move at most, as the nodes measure it."""
    evidence = find_scenes(torch.stack((img0, img1)).permute(0, 2, 3, 1)).evidence[0]
    return evidence.motion if evidence else 0.0


def samples(args: argparse.Namespace) -> Iterator[Sample]:
    """All that is asked for, every `--every`-th of the benchmarks."""
    for name, folder in (("ucf101", args.ucf101), ("middlebury", args.middlebury)):
        if folder:
            yield from itertools.islice(PROTOCOLS[name].samples(folder), 0, None, args.every)
    for path in args.clips:
        yield from clip_samples(path, args.tasks, true_frames=args.true_frames, max_width=args.max_width)


class Pictures:
    """Of each set, what all made of the frame where they differ most."""

    def __init__(self, last: str) -> None:
        self.last = last
        self._made: dict[str, torch.Tensor] = {}
        self.kept: dict[str, tuple[float, dict[str, torch.Tensor]]] = {}

    def __call__(self, sample: Sample, method: str, frames: torch.Tensor, _rows: list) -> None:
        """For `score`'s on_frames; the last method closes a frame."""
        if method == AVERAGE:  # the first of each sample
            self._made = {}
        self._made[method] = frames[0]
        if method == self.last:
            networks = torch.stack([x for name, x in self._made.items() if name != AVERAGE])
            apart = float((networks - networks.mean(0)).abs().mean())
            if apart > self.kept.get(sample.set, (0.0, {}))[0]:
                self.kept[sample.set] = apart, {**self._made, "truth": sample.truth[0].float() / 255}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (_, made) in self.kept.items():
            picture = torch.cat([x.permute(1, 2, 0) for x in made.values()], 1)
            write_png(folder / f"which_{name.lower().replace(' ', '_')}.png", to_bytes(picture))
            print(f"{name}: {', '.join(made)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--ucf101", type=Path)
    parser.add_argument("--middlebury", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the benchmarks' frames (default: all)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--tasks", nargs="+", default=["2", "2:2", "4"], help="as of rife score")
    parser.add_argument("--true-frames", type=int, default=6, help="of each clip and task")
    parser.add_argument("--max-width", type=int, default=640)
    parser.add_argument("--lpips", action="store_true")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    args.tasks = [tuple(int(x) for x in (*task.split(":"), "1")[:2]) for task in args.tasks]

    methods = {AVERAGE: average, "bundled": Network(rife.load_model())}
    for path in args.models:
        found = read_checkpoint(path)
        methods[found.versions] = Network(rife.Model.from_network(found.network))
    metrics = {"psnr": lambda a, b, *_: psnr(a, b), "flip": lambda a, b, *_: flip(a, b), "detail": detail}
    if args.lpips and (distance := lpips_metric()):
        metrics["lpips"] = lambda a, b, *_: distance(a, b)
    pictures = Pictures(list(methods)[-1])
    rows = []
    for row in score(samples(args), methods, metrics, motion_of, pictures if args.pictures else None):
        rows.append(row)
        if len(rows) % (50 * len(methods)) == 0:
            print(f"{len(rows) // len(methods)} frames", file=sys.stderr)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("set", "task", "name", "time", "method", "motion", *metrics))
            for row in rows:
                figures = (f"{row.figures[name]:.4f}" for name in metrics)
                writer.writerow(
                    (row.set, row.task, row.name, row.time, row.method, f"{row.motion:.1f}", *figures)
                )
    groups = defaultdict(list)
    for row in rows:
        groups[f"{row.set} {row.task}".strip()].append(row)
        groups[f"motion {motion_class(row.motion)}"].append(row)
    for name in metrics:
        table = [(name, *methods)]
        for group, mine in groups.items():
            means = (mean(r.figures[name] for r in mine if r.method == method) for method in methods)
            table.append((f"{group} ({len(mine) // len(methods)})", *(f"{x:.3f}" for x in means)))
        print(aligned(table) if isinstance(aligned(table), str) else "\\n".join(aligned(table)), end="\n\n")
    if args.pictures:
        pictures.save(args.pictures)


if __name__ == "__main__":
    main()
