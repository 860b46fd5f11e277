"""Ours against what else a CPU user would run the same checkpoint in: OpenVINO and onnxruntime, fed by `rife export`.

    OMP_NUM_THREADS=1 python benchmarks/other_runtimes.py FRAME FRAME ... [--size 832x512] [--models FILE ...]
        [--threads 1] [--runs 3] [--csv FILE]

Frames of one clip, resized (area); every two neighbours get the frame between them, end to end: from (N,H,W,3) in 0..1
to the same, padding and cropping included. All take turns. Per new frame: the least seconds of the processor (with one
thread nearly the clock's on a quiet machine), and of the clock; how many times ours in float32; the mean, the 99.9th
percentile and the largest difference to that, in 255ths. OpenVINO gets the clip's size, its kernels are made for it;
"default" is the precision that it chooses, "auto" the one that we do. Wants `pip install openvino onnx onnxruntime`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
import torch.nn.functional as F
from measure import ROOT, machine
from precision import errors
from precision import read as read_frame

sys.path[:0] = [str(ROOT)]
import rife
from rife.model.onnx_export import export_onnx

HEADER = "checkpoint runtime precision cpu_s wall_s times_ours mean p99.9 largest".split()
Run = Callable[[], torch.Tensor]  # -> the new frames (N-1,H,W,3)


def ours(model: rife.Model, frames: torch.Tensor) -> Run:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return rife.interpolate(model, frames)[1::2]

    return run


def theirs(infer: Callable[[dict[str, np.ndarray]], np.ndarray], frames: torch.Tensor, multiple: int) -> Run:
    """`infer` takes img0, img1 and timestep of the exported network, and gives its frame."""

    def run() -> torch.Tensor:
        height, width = frames.shape[1:3]
        planes = F.pad(
            frames.permute(0, 3, 1, 2), (0, -width % multiple, 0, -height % multiple), mode="reflect"
        ).numpy()
        time_of = np.full(1, 0.5, np.float32)
        made = [
            infer({"img0": planes[i : i + 1], "img1": planes[i + 1 : i + 2], "timestep": time_of})
            for i in range(len(planes) - 1)
        ]
        return torch.from_numpy(np.concatenate(made)).permute(0, 2, 3, 1)[:, :height, :width].contiguous()

    return run


def in_onnxruntime(path: Path, threads: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {one.name for one in session.get_inputs()}
    return lambda inputs: session.run(None, {k: v for k, v in inputs.items() if k in names})[0]


def in_openvino(
    path: Path, threads: int, shape: tuple[int, int], precision: str | None
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    core = openvino.Core()
    network = core.read_model(str(path))
    shapes = {"img0": [1, 3, *shape], "img1": [1, 3, *shape], "timestep": [1]}
    names = {one.any_name for one in network.inputs}
    network.reshape({name: shapes[name] for name in names})
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        options["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(network, "CPU", options)
    print(f"OpenVINO computes in {compiled.get_property('INFERENCE_PRECISION_HINT')}", file=sys.stderr)
    return lambda inputs: compiled({k: v for k, v in inputs.items() if k in names})[0]


def runs_of(source: str, frames: torch.Tensor, threads: int, folder: Path) -> dict[tuple[str, str], Run]:
    """What takes turns, by runtime and precision; ours in float32 first."""
    weights = None if source == "bundled" else source
    model = rife.load_model(weights, device="cpu")
    path = export_onnx(model, folder / "network.onnx").path
    multiple = model.net.pad_multiple()
    shape = tuple(side + -side % multiple for side in frames.shape[1:3])
    return {
        ("ours", "fp32"): ours(model, frames),
        ("ours", "auto"): ours(rife.load_model(weights, device="cpu", dtype="auto"), frames),
        ("ours", "bf16"): ours(rife.load_model(weights, device="cpu", dtype="bf16"), frames),
        ("OpenVINO", "fp32"): theirs(in_openvino(path, threads, shape, "f32"), frames, multiple),
        ("OpenVINO", "default"): theirs(in_openvino(path, threads, shape, None), frames, multiple),
        ("onnxruntime", "fp32"): theirs(in_onnxruntime(path, threads), frames, multiple),
    }


def measured(name: str, methods: dict[tuple[str, str], Run], runs: int) -> list[list[str]]:
    """A row for each runtime."""
    made = {key: run() for key, run in methods.items()}  # kernels are made
    least = {key: [float("inf")] * 2 for key in methods}
    for _ in range(runs):
        for key, run in methods.items():
            start = time.process_time(), time.perf_counter()
            run()
            took = time.process_time() - start[0], time.perf_counter() - start[1]
            least[key] = [min(pair) for pair in zip(least[key], took, strict=True)]
    exact = made["ours", "fp32"]
    rows = []
    for key, (cpu, wall) in least.items():
        off = [f"{x:.3f}" for x in errors([made[key]], [exact])]
        each = [f"{seconds / len(exact):.3f}" for seconds in (cpu, wall)]
        rows.append([name, *key, *each, f"{cpu / least['ours', 'fp32'][0]:.2f}", *off])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs="+", metavar="FRAME")
    parser.add_argument("--size", default="832x512", help="WIDTHxHEIGHT")
    parser.add_argument("--models", nargs="+", default=["bundled"], help='files, or "bundled"')
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    width, height = map(int, args.size.split("x"))
    frames = (
        torch.cat([read_frame(path, (height, width)) for path in args.frames])
        .permute(0, 2, 3, 1)
        .contiguous()
    )
    print(
        f"{machine(torch.device('cpu'))}, OpenVINO {openvino.__version__}, onnxruntime {onnxruntime.__version__}, "
        f"{len(frames)} frames of {args.size}"
    )
    rows = [HEADER]
    for source in args.models:
        with tempfile.TemporaryDirectory() as folder:
            methods = runs_of(source, frames, args.threads, Path(folder))
            rows += measured(Path(source).stem, methods, args.runs)
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
