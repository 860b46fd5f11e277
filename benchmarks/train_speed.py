"""Training steps per second, and the share of the device's peak that they are.

    python benchmarks/train_speed.py [--device cuda] [--precision bf16] [--peak 989] [--csv FILE]

Forward, losses, backward and optimiser on frames that are already on the device: what `Model.update` takes, without the
making of data. Floating-point operations are PyTorch's own count (convolutions, forward and backward). --peak: of the
device in TFLOPS, for the precision asked for. CPU seconds are printed because a busy machine has few to give.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.model.devices import named_dtype
from rife.networks.ifnet import IFNet
from rife.ops.memory_format import memory_format
from rife.training.bundled import BUNDLED_CONFIG

NETWORKS = {"bundled": BUNDLED_CONFIG} | {name: rife.RELEASES[name] for name in ("RIFE", "RIFE_m", "4.25")}
COLUMNS = (
    "network",
    "device",
    "precision",
    "batch",
    "crop",
    "steps_per_s",
    "cpu_s_per_step",
    "tflop_per_step",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--peak", type=float, help="TFLOPS")
    for name, default in (("batch", 8), ("crop", 128), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    rows = [COLUMNS]
    for name in args.networks:
        rows.append(measure(name, args))
        print(dict(zip(COLUMNS, rows[-1], strict=True)), flush=True)
        if args.peak:
            print(f"  {float(rows[-1][5]) * float(rows[-1][7]) / args.peak:.1%} of {args.peak:g} TFLOPS")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def measure(name: str, args: argparse.Namespace) -> tuple:
    """A row of `COLUMNS`."""
    device = torch.device(args.device)
    form = memory_format(device, named_dtype(args.precision))
    network = IFNet(NETWORKS[name]).to(device, memory_format=form)
    model = rife.Model.from_network(network)
    imgs, gt = (torch.rand(args.batch, c, args.crop, args.crop, device=device) for c in (6, 3))
    options = {"precision": args.precision, "max_grad_norm": 1.0}
    with FlopCounterMode(display=False) as counter:
        model.update(imgs, gt, 1e-5, **options)
    model.update(imgs, gt, 1e-5, **options)
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(args.steps):
        model.update(imgs, gt, 1e-5, **options)
    _wait(device)
    wall, cpu = (
        (now - then) / args.steps for now, then in ((time.perf_counter(), wall), (time.process_time(), cpu))
    )
    tflop = counter.get_total_flops() / 1e12
    sizes = args.batch, args.crop
    return name, args.device, args.precision, *sizes, f"{1 / wall:.2f}", f"{cpu:.2f}", f"{tflop:.3f}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
