"""What each released checkpoint costs: seconds, host memory and a device's memory of a new frame, side by side.

    OMP_NUM_THREADS=1 python benchmarks/released_speed.py [--sizes 720x480 1920x1080] [--frames 5] [--multiplier 2]
        [--runs 3] [--models FILE ...] [--csv FILE]

Without --models: every file of tests/support/released.py, which pip brings (190 MB, once), and the bundled checkpoint.
All take turns, one clip a run, so that what else the machine does meets all alike. Per new frame: the least seconds of
the processor (with one thread nearly those of the clock on a quiet machine), and how many times the bundled one's; MB
that the process grows by at its peak, less the frames that come out; MB alive on a device in float16, counted on
PyTorch's meta device as tests/support/alive.py does. Load and check: seconds until the file is a network.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from measure import ROOT, clip, give_back_freed_memory, machine, peak_host_mb

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from alive import peak
from score_released import released_files

import rife
from rife.checkpoint.build import empty_network
from rife.checkpoint.load import read_checkpoint
from rife.networks.config import IFNetConfig

HEADER = "checkpoint size parameters load_s cpu_s times_bundled host_mb device_fp16_mb".split()


def device_mb(model: rife.Model, height: int, width: int) -> float:
    """MB alive at the peak of one new frame in float16, without weights.

    Of the plain pyramid for networks that look at the motion before they choose theirs.
    """
    config = model.net.config
    network = empty_network(replace(config, adaptive="") if isinstance(config, IFNetConfig) else config)
    return peak(network.half(), height, width) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", help="default: all released files")
    parser.add_argument("--sizes", nargs="+", default=["720x480", "1920x1080"])
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--multiplier", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    models, load_seconds = {"bundled": rife.load_model()}, {"bundled": 0.0}
    for path in args.models or released_files():
        start = time.process_time()
        found = read_checkpoint(path)
        models[found.versions] = rife.Model.from_network(found.network)
        load_seconds[found.versions] = time.process_time() - start
    print(machine(torch.device("cpu")))
    rows = [HEADER]
    with torch.inference_mode():
        for size in args.sizes:
            rows += measured(models, load_seconds, size, args)
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def measured(
    models: dict[str, rife.Model], load_seconds: dict[str, float], size: str, args: argparse.Namespace
) -> list[list[str]]:
    """A row for each model at one size."""
    width, height = map(int, size.split("x"))
    frames = clip(args.frames, height, width)
    new, made = (args.frames - 1) * (args.multiplier - 1), (args.frames - 1) * args.multiplier + 1
    least, host = dict.fromkeys(models, float("inf")), {}
    for run in range(args.runs + 1):  # the first one loads kernels, and tells the memory
        for name, model in models.items():
            start = time.process_time()
            if run == 0:
                give_back_freed_memory()
                grown = peak_host_mb(lambda model=model: rife.interpolate(model, frames, args.multiplier))
                host[name] = grown - made * frames[0].numel() * 4 / 2**20
                continue
            rife.interpolate(model, frames, args.multiplier)
            least[name] = min(least[name], (time.process_time() - start) / new)
    return [
        [
            name,
            size,
            f"{sum(p.numel() for p in model.net.parameters()) / 1e6:.1f} M",
            f"{load_seconds[name]:.1f}",
            f"{least[name]:.3f}",
            f"{least[name] / least['bundled']:.2f}",
            f"{host[name]:.0f}",
            f"{device_mb(model, height, width):.0f}",
        ]
        for name, model in models.items()
    ]


if __name__ == "__main__":
    main()
