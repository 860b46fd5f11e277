"""The bundled checkpoint on held-out clips, as `rife score` does, and on what must not be damaged: stills and fades.

    python benchmarks/score_held_out.py CLIP_OR_FOLDER_OF_FRAMES ... [--model CKPT] [--csv FILE] [--pictures FOLDER]

Against averaging and OpenCV's flow in the same run (pip install opencv-python-headless pillow). Stills and fades are
made of frames of the same clips; there the cross-fade is the truth. `--pictures` writes the best and the worst as JPEG.
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
from rife.evaluation.baselines import BASELINES, average, motion_size
from rife.evaluation.clip_samples import Gallery, clip_samples
from rife.evaluation.scoring import (
    METRICS,
    Network,
    Row,
    Sample,
    held_out_metrics,
    means,
    score,
    shown,
    write_csv,
    write_rows,
)
from rife.evaluation.tables import aligned, held_out_table, worst_frames
from rife.video.frames import clip_frames
from rife.video.job import to_bytes


def fade_samples(path: Path, max_width: int) -> Iterator[Sample]:
    """Stills and steps of fades of one clip: cross-fades between its first and a late frame, fades to black."""
    frames = list(clip_frames(path, 400, max_width))
    first, other = (rearrange(frames[i], "h w c -> c h w").float() for i in (0, len(frames) * 3 // 4))
    times = tuple(Fraction(k, 4) for k in (1, 2, 3))
    yield Sample(
        path.stem, "0", first.byte(), first.byte(), times, first.byte().expand(3, -1, -1, -1), "still"
    )
    for kind, end in (("cross-fade", other), ("fade to black", torch.zeros_like(first))):
        for step in (16, 8, 4, 2):
            last = torch.lerp(first, end, 1 / step).round()
            truth = torch.stack([torch.lerp(first, last, float(t)) for t in times])
            yield Sample(
                path.stem, "0", first.byte(), last.byte(), times, truth.round().byte(), f"{kind}, 1/{step}"
            )


def largest_error(made, true, *_) -> float:
    """In 8-bit levels, without rounding."""
    return 255 * float((made - true).abs().max())


def fade_lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Mean over the clips, and the largest error of all as the last column."""
    yield ("set", "task", "method", "frames", "psnr", "ie", "largest")
    for (task, method), found in means(rows, lambda row: row.task).items():
        largest = max(row.figures["largest"] for row in rows if (row.task, row.method) == (task, method))
        yield ("all clips", task, method, str(found["frames"]), shown(found["psnr"], 2), shown(found["ie"], 3),
               shown(largest, 2))  # fmt: skip


def save_pictures(gallery: Gallery, folder: Path, width: int = 960) -> None:
    """The best and the worst frame of all against averaging, as JPEG of at most `width` pixels."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for which, choose in (("best", max), ("worst", min)):
        found = [value for (*_, kind), value in gallery.kept.items() if kind == which]
        gain, row, picture = choose(found, key=lambda value: value[0])
        image = Image.fromarray(to_bytes(picture))
        image.thumbnail((width, width), Image.Resampling.LANCZOS)
        path = folder / f"{which}.jpg"
        image.save(path, quality=85)
        print(f"{path}: {row.set} {row.task}, frames {row.name} at {row.time}, {gain:+.2f} dB over averaging")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--true-frames", type=int, default=12, help="per clip and task (default: %(default)s)"
    )
    parser.add_argument("--max-width", type=int, default=1024)
    parser.add_argument("--csv", type=Path, help="the tables")
    parser.add_argument("--frames-csv", type=Path, help="every frame")
    parser.add_argument("--pictures", type=Path, help="folder for the best and worst")
    args = parser.parse_args()

    start = time.perf_counter()
    methods = {"average": average, "rife": Network(rife.load_model(args.model)), **BASELINES}
    metrics = held_out_metrics()
    fade_metrics = {"psnr": METRICS["psnr"], "ie": METRICS["ie"], "largest": largest_error}
    gallery = Gallery("rife")
    rows: list[Row] = []
    fades: list[Row] = []
    for path in args.clips:
        samples = clip_samples(
            path, true_frames=args.true_frames, max_frames=400, max_width=args.max_width, note=print
        )
        found = list(score(samples, methods, metrics, motion_size, gallery))
        fades += score(fade_samples(path, 480), methods, fade_metrics)
        rows += found
        print(aligned(held_out_table(found)))
        sys.stdout.flush()
    table, fade_table = held_out_table(rows), list(fade_lines(fades))
    for lines in (table, fade_table):
        print(f"\n{aligned(lines)}")
    for other in ("average", "dis"):
        print(f"\n{worst_frames(rows, 'rife', other, 12)}")
    print(
        f"{time.perf_counter() - start:.0f} s, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )
    if args.csv:
        write_csv(args.csv, table[0], table[1:])
        write_csv(args.csv.with_name(f"{args.csv.stem}_fades.csv"), fade_table[0], fade_table[1:])
    if args.frames_csv:
        write_rows(args.frames_csv, rows)
    if args.pictures:
        save_pictures(gallery, args.pictures)


if __name__ == "__main__":
    main()
