"""All sizes, precisions and accelerations of one device in one command, and the profile of the fastest.

    python benchmarks/gpu.py --csv gpu.csv --profile profile.txt
    python benchmarks/gpu.py --device cpu --sizes 128x64 --frames 3 --precisions fp32,bf16 --runs 1   # does it run?

4.26-shaped weights, random and tame, or, with --bundled, the bundled checkpoint, whose solver is ten times as many
operations as its network. End to end is frames on the host to frames on the host, with `rife.interpolate`.
`of_peak` is the share of the device's limit (the slower of convolutions at the rate of a large matrix product, and all
operations' bytes at the rate of a large copy, both measured here) that end to end reaches; `of_wire` the share of the
time that bringing the finished frames to the host takes at the rate of a pinned copy.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import logging
import sys
from pathlib import Path

import torch
from measure import clip, limits, load_core, machine, peak_host_mb, seconds, tame_weights, work

SIZES = {"720x480": 49, "832x480": 81, "1920x1080": 49, "3840x2160": 9}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COLUMNS = (
    "size frames multiplier precision acceleration seconds_first seconds_min new_frames_per_second peak_device_mb "
    "peak_host_mb off_by_255ths of_peak of_wire machine"
).split()


def measure(rife, model, frames, multiplier, runs) -> tuple[dict, torch.Tensor]:
    """A row, without what it takes a reference or the limits to say, and the result."""
    device = model.run_device
    run = lambda: rife.interpolate(model, frames, multiplier)  # noqa: E731
    first = seconds(run, device)
    times = [seconds(run, device) for _ in range(runs)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    host = peak_host_mb(run)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0
    new = (len(frames) - 1) * (multiplier - 1)
    row = {
        "frames": len(frames),
        "multiplier": multiplier,
        "seconds_first": first,
        "seconds_min": min(times),
        "new_frames_per_second": new / min(times),
        "peak_device_mb": peak,
        "peak_host_mb": host,
    }
    return row, run()


def wire(device: torch.device) -> float:
    """Bytes/s from the device into pinned host memory."""
    if device.type != "cuda":
        return float("inf")
    big = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    pinned = torch.empty(big.shape, dtype=torch.uint8, pin_memory=True)
    return big.numel() / min(seconds(lambda: pinned.copy_(big, non_blocking=True), device) for _ in range(5))


def shares(rife, row: dict, config, size: tuple[int, int], dtype, device, frame_bytes: int) -> dict:
    """How near the limits of the device the row is."""
    flops, traffic = work(rife, config, *size, dtype)
    most_flops, most_bytes = limits(device, dtype)
    per_frame = 1 / row["new_frames_per_second"]
    bound = max(flops / most_flops, traffic / most_bytes)
    return {"of_peak": bound / per_frame, "of_wire": frame_bytes / wire(device) / per_frame}


def profile(rife, model, frames, multiplier) -> str:
    """The table of the operations that take the time."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if model.run_device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
        key = "self_cuda_time_total"
    with torch.profiler.profile(activities=kinds, record_shapes=True) as found:
        rife.interpolate(model, frames, multiplier)
    return found.key_averages(group_by_input_shape=True).table(sort_by=key, row_limit=40)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bundled", action="store_true", help="the bundled checkpoint's weights")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--frames", type=int, help="of the clip; default by size")
    parser.add_argument("--multipliers", default="2,4")
    parser.add_argument("--precisions", default=",".join(DTYPES))
    parser.add_argument("--accelerations", default="off,compile,cuda graphs,triton")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", help="file to write the rows to; default: the screen")
    parser.add_argument("--profile", help="file to write the profile of the fastest of the first size to")
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO)  # what did not work, and whether Triton's kernel was kept
    rife = load_core()
    device, weights = torch.device(args.device), None if args.bundled else tame_weights(rife)
    out = csv.DictWriter(Path(args.csv).open("w", newline="") if args.csv else sys.stdout, COLUMNS)
    out.writeheader()
    best = None
    for size, multiplier in itertools.product(args.sizes.split(","), map(int, args.multipliers.split(","))):
        width, height = map(int, size.split("x"))
        frames = clip(args.frames or SIZES.get(size, 17), height, width)
        frame_bytes = frames[0].numel() * 4
        reference = None
        for precision, how in itertools.product(args.precisions.split(","), args.accelerations.split(",")):
            model = rife.load_model(weights, device=device, dtype=precision).accelerate(how)
            with torch.inference_mode():
                row, result = measure(rife, model, frames, multiplier, args.runs)
                reference = result if reference is None else reference
                row["off_by_255ths"] = float((result - reference).abs().max()) * 255
                row |= shares(
                    rife, row, model.config, (height, width), DTYPES[precision], device, frame_bytes
                )
            if best is None or (size == best[1]["size"] and row["seconds_min"] < best[1]["seconds_min"]):
                best = model, {"size": size, **row}, frames, multiplier
            row = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            out.writerow(
                {"size": size, "precision": precision, "acceleration": how, **row, "machine": machine(device)}
            )
    if args.profile:
        model, _, frames, multiplier = best
        with torch.inference_mode():
            Path(args.profile).write_text(profile(rife, model, frames, multiplier))


if __name__ == "__main__":
    main()
