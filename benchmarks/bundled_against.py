"""Seconds per new frame of the bundled checkpoint: this checkout's, in float32 and in *auto*, and another checkout's.

    python benchmarks/bundled_against.py OTHER_CHECKOUT CLIP [--sizes 720x480 1920x1080] [--threads 1 2] [--runs 3]

Frames of the clip's middle, cut to the size, at twice the rate and in memory, each time in a process of its own; all
take turns. Printed are the medians, and how many times as fast as the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from measure import machine

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import sys, time
tree, clip, size, threads, precision = sys.argv[1:]
sys.path.insert(0, tree)
import av
import torch
import rife
torch.set_num_threads(int(threads))
width, height = map(int, size.split("x"))
model = rife.load_model(device="cpu", dtype=None if precision == "float32" else precision)
count = 9 if width * height < 1e6 else 3
with av.open(clip) as container:
    start = container.streams.video[0].frames // 2
    decoded = container.decode(video=0)
    shown = [f.to_ndarray(format="rgb24") for i, f in zip(range(start + count), decoded) if i >= start]
frames = torch.stack([torch.from_numpy(f[:height, :width]).float() / 255 for f in shown])
rife.interpolate(model, frames[:2], 2)
begun = time.perf_counter()
rife.interpolate(model, frames, 2)
print((time.perf_counter() - begun) / (count - 1))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["720x480"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    print(machine(torch.device("cpu")))
    print(
        "| size | threads | other, float32 | this, float32 | this, *auto* | times as fast |\n|---|---|---|---|---|---|"
    )
    for size in args.sizes:
        for threads in args.threads:
            sides = (args.other, "float32"), (str(ROOT), "float32"), (str(ROOT), "auto")
            took: list[list[float]] = [[], [], []]
            for _ in range(args.runs):
                for seconds, (tree, precision) in zip(took, sides, strict=True):
                    words = [
                        sys.executable,
                        "-P",
                        "-c",
                        RUN,
                        tree,
                        str(args.clip),
                        size,
                        str(threads),
                        precision,
                    ]
                    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                    seconds.append(float(said.splitlines()[-1]))
            other, exact, auto = map(median, took)
            print(
                f"| {size} | {threads} | {other:.3f} s | {exact:.3f} s | {auto:.3f} s | {other / auto:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
