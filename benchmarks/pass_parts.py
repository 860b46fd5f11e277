"""Where a pass of a checkpoint spends its time, and how many operations it launches.

    python benchmarks/pass_parts.py [CKPT ...] [--size WIDTHxHEIGHT] [--threads N] [--runs R] [--precision auto|fp32]

Without a checkpoint, the bundled one. Times are of a CPU, in ms, medians of the runs. Operations are counted on
PyTorch's meta device with float16 weights, views left out: what a GPU would launch, or more than one each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from alive import run
from measure import machine

import rife
from rife.networks import ifnet
from rife.networks.ifnet import IFNet
from rife.networks.multiscale import WarpGrids
from rife.ops.freed_memory import keep_freed_memory


class Operations(TorchDispatchMode):
    """Counts operations that make something: a view is of the memory of what it was given."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = run(operation, args, kwargs or {})
        self.count += not operation.is_view
        return made


class Parts:
    """Notes by how much a number, such as the clock, has grown in each part of a pass."""

    def __init__(self, now: Callable[[], float]):
        self._now, self.of = now, defaultdict(float)

    def noted(self, name: Callable[..., str], function: Callable) -> Callable:
        def inner(*args: Any, **options: Any) -> Any:
            start = self._now()
            result = function(*args, **options)
            self.of[name(*args)] += self._now() - start
            return result

        return inner

    def watch(self) -> ExitStack:
        """Puts the notes around the blocks, the solver and what makes the frame, until it is closed."""
        stack = ExitStack()
        for owner, function, name in (
            (IFNet, "_block", lambda _, block, state, scale, *__: f"block at scale {scale:g}"),
            (IFNet, "_frame", lambda *_: "last warp and blending"),
            (ifnet, "whole_ending", lambda *_: "flow, mask and borders"),
            (ifnet, "motion_flow", lambda *_: "solver"),
        ):
            noted = self.noted(name, getattr(owner, function))
            stack.enter_context(mock.patch.object(owner, function, noted))
        return stack


def parts_of(network: IFNet, image: torch.Tensor, now: Callable[[], float]) -> dict[str, float]:
    """What each part of one pass takes by `now`, encoding one frame included; "pass" is all but that."""
    start, parts = now(), Parts(now)
    source = network.source(image)
    encode, grids = now() - start, WarpGrids.of(source)
    scales = network.config.scales
    network.image_from(source, source.roll(3, -1), 0.5, scales, grids=grids)  # makes the grids
    with parts.watch():
        start = now()
        network.image_from(source, source.roll(3, -1), 0.5, scales, grids=grids)
        whole = now() - start
    return {"encoding a frame": encode, **parts.of, "pass": whole}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--size", default="720x480", help="WIDTHxHEIGHT, padded to multiples of 64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `rife.model` does
    width, height = (-(-int(side) // 64) * 64 for side in args.size.split("x"))
    image = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(image, (height, width), mode="bicubic").clamp_(0, 1)
    print(machine(torch.device("cpu")))
    for path in args.checkpoints or [None]:
        network = rife.load_model(path, device="cpu", dtype=args.precision).net
        with torch.inference_mode():
            runs = [parts_of(network, image, lambda: 1e3 * time.perf_counter()) for _ in range(args.runs)]
        with torch.device("meta"):
            on_meta = IFNet(network.config).half()
        with torch.no_grad(), Operations() as operations:
            launched = parts_of(on_meta, image.to("meta"), lambda: operations.count)
        print(
            f"{path.name if path else 'bundled'}, {width}x{height}, {args.precision}, {args.threads} thread(s)"
        )
        for name in runs[0]:
            taken = statistics.median(run[name] for run in runs)
            print(f"{name:24s} {taken:7.1f} ms {launched[name]:7.0f} operations")


if __name__ == "__main__":
    main()
