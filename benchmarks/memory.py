"""Host memory of one long run beyond its input and its output, which is to stay below 0.5 GB whatever the length.

    python benchmarks/memory.py --frames 49 --size 720x480
    python benchmarks/memory.py --frames 1000 --size 256x192
    python benchmarks/memory.py --frames 49 --size 720x480 --mask

The bundled checkpoint; prints what the process grew by at its peak, less the output. Linux only.
"""

from __future__ import annotations

import argparse

import torch
from measure import clip, give_back_freed_memory, load_core, machine, peak_host_mb


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--size", default="720x480", help="WIDTHxHEIGHT")
    parser.add_argument("--multiplier", type=int, default=2)
    parser.add_argument(
        "--mask", action="store_true", help="with a mask per frame, as RIFE Interpolate takes them"
    )
    parser.add_argument("--device", help="default: the accelerator of this machine, or the CPU")
    args = parser.parse_args()

    rife = load_core()
    model = rife.load_model(device=args.device)
    width, height = map(int, args.size.split("x"))
    frames = clip(args.frames, height, width)
    masks = frames[..., 0].contiguous() if args.mask else None
    made = (args.frames - 1) * args.multiplier + 1

    def run() -> None:
        out_masks = torch.empty(made, height, width) if args.mask else None
        rife.interpolate(model, frames, args.multiplier, masks=masks, out_masks=out_masks)

    with torch.inference_mode():
        rife.interpolate(model, frames[:2, :256, :256], args.multiplier)  # libraries load their kernels
        give_back_freed_memory()
        peak = peak_host_mb(run)
    one = frames[0].numel() * 4 / 2**20 * (4 / 3 if args.mask else 1)
    print(machine(model.run_device))
    print(
        f"{args.frames} frames {args.size} -> {made}: input {args.frames * one:.0f} MB, output {made * one:.0f} MB, "
        f"peak {peak - made * one:.0f} MB beyond both"
    )


if __name__ == "__main__":
    main()
