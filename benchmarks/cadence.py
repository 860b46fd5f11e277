"""Steps of rendered motion of known speed, in videos of every cadence, once new frames have been made.

    python benchmarks/cadence.py [--repeats hold retime auto careful] [--only WORD] [--csv FILE] [--tree ANOTHER]

Each clip is rendered (tests/support/moving_clips.py), written, interpolated by `rife.video.interpolate_video` and read
again: a disc's centre of mass tells how far it moves from frame to frame. Printed are the mean step in pixels, the
standard deviation of the steps over their mean (where there are edits, of the worst scene), and how far the disc is
from where even motion would have it, at most. The frames that hold the last drawing, and those after an edit, are left
out. Where the version at hand knows an option not, a dash. "careful" is *auto* with `--ensemble --timestep-method
recursive`.

Three more numbers say what makes steps uneven but for the times at which drawings are put: the network between the same
drawings, written at their own constant rate and brought to the result's ("twin"); the drawings as they are in the file
("file"), which no frame between them mends; and the true frames at the result's rate out of the same encoder ("true").
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
TREE = sys.argv[sys.argv.index("--tree") + 1] if "--tree" in sys.argv else str(ROOT)
sys.path[:0] = [TREE, str(ROOT / "tests" / "support")]

import moving_clips as rendered

import rife
from rife.video import Encoding, interpolate_video

NTSC = Fraction(60000, 1001)
LOSSLESS = Encoding("ffv1", pix_fmt="bgr0")


class Case(NamedTuple):
    """A file, and how it is interpolated."""

    name: str
    frames: np.ndarray
    rate: Fraction
    written: dict
    asked: dict
    cuts: tuple[int, ...] = ()
    drawings: tuple[int, ...] = ()  # of each frame, where there is one pattern
    pace: Fraction = Fraction(1)  # drawings a frame


def cases() -> Iterator[Case]:
    """Clips of every cadence; the picture behind the disc moves by a pixel a drawing."""
    rates = {"in 60": NTSC, "in 30": NTSC / 2, "in 25": Fraction(25), "in 50": Fraction(50)}
    for name, pattern in rendered.PATTERNS.items():
        rate = next((rate for word, rate in rates.items() if word in name), Fraction(24))
        count = 78 if len(pattern) > 5 else 44
        for coded, written in CODED.items():
            drawings = rendered.shown(pattern, count, 1)
            frames = clip(drawings, step=2.4 * sum(pattern) / len(pattern))
            pace = Fraction(len(pattern), sum(pattern))
            yield Case(f"{name}, {coded}", frames, rate, written, {}, (), tuple(drawings), pace)
    for name, drawings in broken().items():
        yield Case(name, clip(drawings), NTSC, CODED["lossless"], {})
    edits = np.concatenate([scene(i, drawings) for i, drawings in enumerate(EDITS)])
    yield Case("patterns that change at edits", edits, NTSC / 2, CODED["lossless"], {}, (30, 60))
    film = clip([float(i) for i in range(32)], 3)
    for top_first in (True, False):
        order = "top" if top_first else "bottom"
        asked = {"deinterlace": "auto"}
        woven = rendered.telecined(film, top_first)
        yield Case(f"combed film, {order} field first", woven, NTSC / 2, COMBED, asked)
    fields = clip([i / 2 for i in range(60)], 3)
    yield Case("interlaced 25", rendered.woven(fields), Fraction(25), COMBED, {"deinterlace": "auto"})
    yield Case("soft telecine", film, NTSC * 2 / 5, SOFT, {"rate": NTSC})
    yield Case("soft telecine with a field more", film, NTSC * 2 / 5, {**SOFT, "broken": 15}, {"rate": NTSC})
    pan = np.stack([rendered.picture(i, i // 2, step=4, pan=0.47, texture=0, dither=i) for i in range(40)])
    yield Case("soft pan behind a disc on twos (the pan)", pan, Fraction(24), CODED["lossless"], {})


CODED = {
    "lossless": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "H.264": {"codec": "libx264", "pix_fmt": "yuv444p", "options": {"crf": "20"}},
}
COMBED = {"codec": "ffv1", "pix_fmt": "yuv444p"}
SOFT = {**CODED["lossless"], "soft": True}
EDITS = [
    rendered.shown([1, 1, 1, 2], 30), rendered.shown([2], 30, 1), rendered.shown([1, 1, 1, 2], 30, 2),
]  # fmt: skip


def scene(number: int, drawings: list[int]) -> np.ndarray:
    """One of scenes that look different."""
    frames = rendered.clip(
        drawings, step=3, pan=1, width=320, soft=60 - 40 * number, texture=12 + 60 * number
    )
    return frames[:, ::-1] if number == 1 else frames


def clip(drawings, step: float = 6.0) -> np.ndarray:
    """Drawings whose disc moves by so many pixels each, 1.2 to 1.5 from one new frame to the next."""
    return rendered.clip(drawings, step=step, pan=1, width=320)


def broken() -> dict[str, list[int]]:
    """2:3 pulldown with a frame lost, a frame more, another phase from the middle on, a drawing missing."""
    whole = rendered.shown([3, 2], 60)
    return {
        "2:3 pulldown, a repeat lost": whole[:26] + whole[27:],
        "2:3 pulldown, a frame more": [*whole[:26], whole[25], *whole[26:]],
        "2:3 pulldown, another phase": whole[:25] + [d + 1 for d in rendered.shown([3, 2], 60, 22)[:35]],
        "2:3 pulldown, a drawing missing": [d if d != 10 else 9 for d in whole],
    }


def written(case: Case, folder: Path) -> Path:
    """The case's file."""
    options = dict(case.written)
    path = folder / "clip.mkv"
    if options.pop("soft", False):
        ticks, broken = rendered.pulldown_times(len(case.frames)), options.pop("broken", None)
        ticks = [tick + (broken is not None and i > broken) for i, tick in enumerate(ticks)]
        return rendered.write(path, case.frames, times=ticks, time_base=1 / NTSC, rate=NTSC / 2, **options)
    return rendered.write(path, case.frames, case.rate, **options)


def judged(places: np.ndarray, edits: list[int]) -> tuple[float, float, float]:
    """Mean step, unevenness, the greatest distance from even motion; edits: places that begin anew."""
    steps, off = [], 0.0
    for part in np.split(places, edits):
        moving = np.flatnonzero(np.abs(np.diff(part)) > 0.05)
        part = part[: moving[-1] + 1] if len(moving) else part  # what follows holds the last drawing
        if len(part) < 4:
            continue
        at = np.arange(len(part))
        off = max(off, float(np.abs(part - np.polyval(np.polyfit(at, part, 1), at)).max()))
        steps.append(np.diff(part))
    worst = max(rendered.unevenness(part) for part in steps)  # of scenes, which have paces of their own
    return float(np.concatenate(steps).mean()), worst, off


def run(case: Case, model, repeats: str) -> tuple[float, float, float] | None:
    how = {"repeats": repeats, **case.asked}
    if repeats == "careful":
        model, how = model.by_timesteps("recursive"), {**how, "repeats": "auto", "ensemble": True}
    with tempfile.TemporaryDirectory() as folder:
        source, target = written(case, Path(folder)), Path(folder) / "made.mkv"
        try:
            interpolate_video(model, source, target, 2, encoding=LOSSLESS, **how)
        except (ValueError, TypeError, KeyError):
            return None  # an option that this version does not have
        frames = rendered.read(target)
    if case.name.endswith("(the pan)"):
        moved = np.cumsum(rendered.steps([rendered.pan_at(f) for f in frames], rendered.WAVE))
        return judged(moved, [])
    return judged(np.array([rendered.disc_at(f) for f in frames]), [2 * cut for cut in case.cuts])


def without_repeats(case: Case, model) -> tuple[float, float, float] | None:
    """How uneven the network's motion is, the drawings, the true frames at twice the rate through the same encoder."""
    if not case.drawings:
        return None
    starts = rendered.starts_of(case.drawings)
    drawings = case.drawings[-1]
    times = np.linspace(0, drawings, int(2 * len(case.frames) * drawings / (drawings + 1)))
    step = 2.4 * (len(case.frames) - 1) / drawings
    true = case._replace(frames=clip(times.tolist(), step), rate=2 * case.rate)
    with tempfile.TemporaryDirectory() as folder:
        file = rendered.read(written(case, Path(folder)))
        drawn = np.stack([file[i] for i in starts[1:]])
        twin = Path(folder) / "twin.mkv"
        constant = rendered.write(Path(folder) / "drawn.mkv", drawn, case.rate * case.pace)
        interpolate_video(model, constant, twin, rate=2 * case.rate, encoding=LOSSLESS)
        clips = rendered.read(twin), drawn, rendered.read(written(true, Path(folder)))
    return tuple(judged(np.array(list(map(rendered.disc_at, frames))), [])[1] for frames in clips)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", nargs="+", default=["hold", "retime", "auto", "careful"])
    parser.add_argument("--only", default="")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--tree", help="whose rife is measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = rife.load_model(device="cpu").eval()
    what = [f"{word} {what}" for word in args.repeats for what in ("step px", "std/mean", "off px")]
    rows = [["clip", *what, "twin std/mean", "file std/mean", "true std/mean"]]
    print(
        "{:44s}{}{:>8s}{:>8s}{:>8s}".format(
            "clip", "".join(f"{word:>26s}" for word in args.repeats), "twin", "file", "true"
        )
    )
    for case in cases():
        if args.only not in case.name:
            continue
        found = [run(case, model, word) for word in args.repeats]
        cells = [[f"{x:.3f}" for x in three] if three else ["-"] * 3 for three in found]
        of_others = [f"{x:.3f}" for x in without_repeats(case, model) or ()] or ["", "", ""]
        rows.append([case.name, *(cell for three in cells for cell in three), *of_others])
        shown = "".join("{:>10s}{:>8s}{:>8s}".format(*three) for three in cells)
        print(f"{case.name:44s}{shown}{{:>8s}}{{:>8s}}{{:>8s}}".format(*of_others), flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
