"""Ours, ComfyUI's own FrameInterpolate and Fannovel16's RIFE VFI: same weights, same clip, taking turns in one run.

Run by hand with ComfyUI's Python, ComfyUI's folder in COMFYUI_PATH, and, if it is to be in it, the folder of
https://github.com/Fannovel16/ComfyUI-Frame-Interpolation as --fannovel:

    COMFYUI_PATH=~/comfy/ComfyUI python benchmarks/compare_native.py --frames 17 --runs 5
    ... --size 1920x1080 --frames 5 --multiplier 4 --csv speed.csv --fannovel ~/ComfyUI-Frame-Interpolation

End to end is IMAGE to IMAGE, at what each does by default (float32 on a CPU, on a GPU too with --precision fp32):
"ours" is the core's `interpolate`, "node" RIFE Interpolate in a graph, which also looks for cuts and repeated frames,
"bundled" that node with the bundled checkpoint, whose weights are not those of the others; "auto" says that the
precision is what the loader takes by itself. Network alone is one new
frame from frames that lie on the device, padded, with their features where the network takes them (Fannovel16's does
not). The weights are random but tame (flows of a few pixels), since the released ones may not be on the machine.
Prints the machine, seconds, ratios, memory, the largest difference, and how near the limits of the machine ours is: the
convolutions' FLOP against a large matrix product, the bytes of all operations against a copy.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import (
    clip,
    limits,
    load_comfyui,
    load_pack,
    machine,
    peak_host_mb,
    seconds,
    synchronize,
    tame_weights,
    work,
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Ours:
    """This project."""

    def __init__(self, rife, weights, device, precision):
        self.rife = rife
        self.model = rife.load_model(weights, device=device, dtype=precision)

    def run(self, frames, multiplier):
        return self.rife.interpolate(self.model, frames, multiplier)

    def network(self, img0, img1):
        network = self.model.net
        source0, source1 = network.source(img0), network.source(img1)
        grids = self.rife.networks.multiscale.WarpGrids.of(img0)
        return lambda: network.predict_from(source0, source1, 0.5, grids=grids).image


class Node(Ours):
    """RIFE Interpolate as it is dropped into a graph."""

    def __init__(self, rife, pack: str, weights, device, precision):
        super().__init__(rife, weights, device, precision)
        self.node = importlib.import_module(f"{pack}.nodes.interpolate").RIFEInterpolate
        make_patcher = importlib.import_module(f"{pack}.nodes.model_management").make_patcher
        self.patcher = make_patcher(self.model.net, DTYPES.get(precision, precision))

    def run(self, frames, multiplier):
        return self.node.execute(self.patcher, frames, multiplier).args[0]


class Native:
    """ComfyUI's own node."""

    def __init__(self, weights, device, precision):
        import comfy.model_patcher
        import comfy_extras.nodes_frame_interpolation as nodes

        self.node = nodes.FrameInterpolate
        self.net = nodes.FrameInterpolationModelLoader._detect_and_load(dict(weights)).eval()
        self.net.to(DTYPES[precision])
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            self.net, load_device=device, offload_device=torch.device("cpu")
        )

    def run(self, frames, multiplier):
        return self.node.execute(self.patcher, frames, multiplier)[0]

    def network(self, img0, img1):
        img0, img1 = (x.to(self.net.get_dtype()) for x in (img0, img1))
        cache = {"img0": self.net.extract_features(img0), "img1": self.net.extract_features(img1)}
        t = torch.full((1, 1, *img0.shape[-2:]), 0.5, device=img0.device, dtype=img0.dtype)
        return lambda: self.net(img0, img1, timestep=t, cache=cache)


class Fannovel:
    """RIFE VFI of ComfyUI-Frame-Interpolation."""

    def __init__(self, folder, weights, device, precision):
        sys.path.insert(0, str(Path(folder).expanduser()))
        module = importlib.import_module("vfi_models.rife")
        file = Path(tempfile.mkdtemp()) / "rife426.pth"
        torch.save(weights, file)
        module.load_file_from_github_release = lambda *_: str(file)
        self.node, self.cache = module.RIFE_VFI(), module._model_cache
        self.dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]

    def run(self, frames, multiplier):
        with contextlib.redirect_stdout(io.StringIO()):
            return self.node.vfi("rife426.pth", frames, multiplier=multiplier, dtype=self.dtype)[0]

    def network(self, img0, img1):
        net = next(iter(self.cache.values()))
        img0, img1 = (x.to(DTYPES["fp32" if self.dtype == "float32" else self.dtype]) for x in (img0, img1))
        t = torch.full((1, 1, 1, 1), 0.5, device=img0.device, dtype=img0.dtype)
        return lambda: net(img0, img1, t, [16, 8, 4, 2, 1], True, False)


def candidates(args, rife, pack: str, device) -> dict:
    """Name -> candidate, ours first, all but the bundled one with the same weights."""
    with torch.inference_mode(False):
        weights = tame_weights(rife)
        found = {
            "ours": Ours(rife, weights, device, args.precision),
            "node": Node(rife, pack, weights, device, args.precision),
            "native": Native(weights, device, args.precision),
        }
        if args.fannovel:
            found["fannovel16"] = Fannovel(args.fannovel, weights, device, args.precision)
        found["bundled"] = Node(rife, pack, None, device, args.precision)
        for name, source in (("node auto", weights), ("bundled auto", None)):
            found[name] = Node(rife, pack, source, device, "auto")
    return found


def measure(args, who: dict, frames: torch.Tensor, device: torch.device) -> dict[str, dict[str, float]]:
    """For each candidate: seconds end to end and of the network alone (median, min), memory, difference to native."""
    multiplier = args.multiplier
    made, rows = {}, {}
    for name, candidate in who.items():
        candidate.run(frames[:2], multiplier)  # libraries load their kernels
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        host = peak_host_mb(lambda n=name, c=candidate: made.update({n: c.run(frames, multiplier)}))
        gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0
        rows[name] = {"off_by_255ths": 0.0, "peak_host_mb": host, "peak_device_mb": gpu}
    for name, row in rows.items():
        same = not name.startswith("bundled")
        row["off_by_255ths"] = float((made[name] - made["native"]).abs().max()) * 255 if same else math.nan
    times: dict[str, list[float]] = {name: [] for name in who}
    cpu: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(args.runs):
        for name, candidate in who.items():
            start = time.process_time()
            times[name].append(seconds(lambda c=candidate: c.run(frames, multiplier), device))
            cpu[name].append(time.process_time() - start)
    pad = [(-side) % 64 for side in frames.shape[1:3]]
    pair = torch.nn.functional.pad(frames[:2].permute(0, 3, 1, 2), (0, pad[1], 0, pad[0])).to(device)
    networks = {name: c.network(pair[:1], pair[1:]) for name, c in who.items()}
    alone: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(args.runs * 3):
        for name, network in networks.items():
            alone[name].append(seconds(network, device))
    for name, row in rows.items():
        row |= {"seconds_median": statistics.median(times[name]), "seconds_min": min(times[name])}
        row |= {"cpu_seconds_min": min(cpu[name])}  # on a machine with other work, what one thread took of it
        row |= {"network_median": statistics.median(alone[name]), "network_min": min(alone[name])}
    return rows


def tell(args, rows: dict, rife, device: torch.device) -> None:
    """Prints the table and the roofline."""
    new = (args.frames - 1) * (args.multiplier - 1)
    print(machine(device))
    print(f"{args.frames} frames {args.size}, multiplier {args.multiplier}, {args.precision}, 4.26-shaped")
    for name, row in rows.items():
        print(
            f"{name:12s} median {row['seconds_median']:.2f} s  min {row['seconds_min']:.2f} s  "
            f"{new / row['seconds_min']:.2f} new frames/s  network alone {row['network_min'] * 1e3:.0f} ms  "
            f"host +{row['peak_host_mb']:.0f} MB  device {row['peak_device_mb']:.0f} MB  "
            + ("" if math.isnan(row["off_by_255ths"]) else f"off by {row['off_by_255ths']:.3f}/255")
        )
    ours = rows["ours"]
    for name, row in list(rows.items())[1:]:
        ratios = [
            row[k] / ours[k] for k in ("seconds_median", "seconds_min", "network_min", "cpu_seconds_min")
        ]
        print(
            f"{name} / ours: {ratios[0]:.2f} by medians, {ratios[1]:.2f} by minima; network {ratios[2]:.2f}"
        )
    width, height = map(int, args.size.split("x"))
    flops, traffic = work(rife, rife.RELEASES["4.26"], height, width, DTYPES[args.precision])
    most_flops, most_bytes = limits(device, DTYPES[args.precision])
    for name, amount, most in (("FLOP", flops, most_flops), ("bytes", traffic, most_bytes)):
        bound = amount / most
        alone, whole = bound / ours["network_min"], bound * new / ours["seconds_min"]
        print(
            f"a new frame: {amount / 1e9:.2f} G{name}, {bound * 1e3:.1f} ms at the {most / 1e9:.0f} G{name}/s measured "
            f"now: {alone:.0%} of the network's time, {whole:.0%} of all"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument(
        "--size", default="720x480", help="WIDTHxHEIGHT; 720x480, 832x480, 1920x1080, 3840x2160"
    )
    parser.add_argument("--multiplier", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    parser.add_argument("--fannovel", help="folder of ComfyUI-Frame-Interpolation")
    parser.add_argument("--csv", help="file to add the rows to")
    parser.add_argument("--cpu", action="store_true", default=not torch.cuda.is_available())
    args = parser.parse_args()

    load_comfyui(args.cpu)
    pack = load_pack()
    rife = importlib.import_module(f"{pack}.rife")
    device = torch.device("cpu" if args.cpu else "cuda")
    width, height = map(int, args.size.split("x"))
    frames = clip(args.frames, height, width)
    with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):  # ComfyUI's progress bar
        rows = measure(args, candidates(args, rife, pack, device), frames, device)
        synchronize(device)
    tell(args, rows, rife, device)
    if args.csv:
        write(args, rows, machine(device))


def write(args, rows: dict, where: str) -> None:
    """Adds a row per candidate to the CSV file."""
    new = (args.frames - 1) * (args.multiplier - 1)
    path = Path(args.csv)
    begun = path.exists()
    with path.open("a", newline="") as file:
        out = csv.writer(file)
        if not begun:
            asked = ["candidate", "size", "frames", "multiplier", "precision", "new_frames_per_second"]
            out.writerow([*asked, *next(iter(rows.values())), "runs", "machine"])
        for name, row in rows.items():
            values = [f"{v:.4g}" for v in row.values()]
            rate = f"{new / row['seconds_min']:.3f}"
            out.writerow(
                [
                    name,
                    args.size,
                    args.frames,
                    args.multiplier,
                    args.precision,
                    rate,
                    *values,
                    args.runs,
                    where,
                ]
            )


if __name__ == "__main__":
    main()
