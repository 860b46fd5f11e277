"""What a network makes of the times 0 and 1 and of sides that need padding, where what is right is known.

    python benchmarks/ends_and_sides.py FRAME0 FRAME1 [FRAME0 FRAME1 ...] [--size WIDTHxHEIGHT] [--models CKPT ...]
        [--csv benchmarks/ends_and_sides.csv]

Without --models: the bundled checkpoint, which "bundled" names among others. The frames are resized (area) to a size
that no network pads. Differences over all pixels and colours of all pairs, in 255ths: the mean, the 99.9th percentile
and the largest.

- t = 0 and 1, asked of the network, against the frame that is there. The engine never asks: it hands out the frame.
- Odd sizes: the middle of a part of the pictures, cut off at the right and below, against the same pixels of the middle
  of the whole pictures, which knows what was cut off. Mirrored is how `Model` pads; repeated and black are padded by
  hand. "Inside" leaves out the last 64 columns and lines of the part.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import load_core, machine
from precision import errors, read
from torch import Tensor

rife = load_core()
write_csv = importlib.import_module("rife.evaluation.scoring").write_csv
Pair = tuple[Tensor, Tensor]
CUTS = (1, 37)  # pixels that are missing at the right and below
INSIDE = (..., slice(-64), slice(-64))
HEADER = ("checkpoint", "what", "mean", "99.9th percentile", "largest")


def asked(model: rife.Model, pair: Pair, t: float) -> Tensor:
    """What the network makes of a time that `Model.inference` takes from the frames."""
    sources = (model.encode(frame) for frame in pair)
    with torch.inference_mode():
        return model.net.image_from(*sources, torch.tensor([t]), model.config.scales).clamp(0, 1)


def padded(model: rife.Model, pair: Pair, mode: str) -> Tensor:
    """The middle of frames that were padded by hand; mode as in F.pad."""
    height, width = pair[0].shape[-2:]
    multiple = model.net.pad_multiple()
    grown = (F.pad(x, (0, -width % multiple, 0, -height % multiple), mode=mode) for x in pair)
    return model.inference(*grown)[..., :height, :width]


def found(model: rife.Model, pairs: list[Pair]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """What was made, and how far it is from what is right, as `errors` gives it."""
    if model.config.timestep:
        for t in (0, 1):
            yield f"t = {t}", errors([asked(model, pair, t) for pair in pairs], [pair[t] for pair in pairs])
    ways = {"mirrored": model.inference} | {
        name: partial(lambda a, b, mode: padded(model, (a, b), mode), mode=mode)
        for name, mode in (("repeated", "replicate"), ("black", "constant"))
    }
    whole = [model.inference(*pair) for pair in pairs]
    for cut in CUTS:
        part = (..., slice(-cut), slice(-cut))
        right = [frame[part] for frame in whole]
        for name, way in ways.items():
            made = [way(a[part], b[part]) for a, b in pairs]
            yield f"{cut} px {name}", errors(made, right)
            yield f"{cut} px {name}, inside", errors([x[INSIDE] for x in made], [x[INSIDE] for x in right])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs="+", metavar="FRAME")
    parser.add_argument("--size", default="896x384")
    parser.add_argument("--models", nargs="+", default=["bundled"])
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if len(args.frames) % 2:
        parser.error(f"{len(args.frames)} frames were given, expected pairs. Give two for each pair.")
    width, height = map(int, args.size.split("x"))
    frames = [read(path, (height, width)) for path in args.frames]
    pairs = list(zip(frames[::2], frames[1::2], strict=True))
    print(machine(torch.device("cpu")), f"{len(pairs)} pairs of {args.size}", sep=", ")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    rows = []
    for name in args.models:
        model = rife.load_model(None if name == "bundled" else name)
        multiple = model.net.pad_multiple()
        if width % multiple or height % multiple:
            parser.error(f"--size is {args.size}, {name} pads to multiples of {multiple}. Give such a size.")
        for what, off in found(model, pairs):
            rows.append((Path(name).stem, what, *(f"{x:.3f}" for x in off)))
            print(f"| {' | '.join(rows[-1])} |", flush=True)
    if args.csv:
        write_csv(args.csv, HEADER, rows)


if __name__ == "__main__":
    main()
