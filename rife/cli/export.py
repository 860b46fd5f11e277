"""Runs the command `rife export`: a checkpoint as ONNX, for runtimes that are not PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model import SCALES, load_model
from ..model.onnx_export import OPSET, TOLERANCE, export_onnx
from .options import add_variant_option
from .values import number, whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("output", type=Path, help=".onnx; replaced if it exists")
    parser.add_argument(
        "--model", type=Path, metavar="CKPT", help="any RIFE checkpoint (default: the bundled one)"
    )
    add_variant_option(parser)
    parser.add_argument(
        "--scale",
        type=number(0, 1000),
        default=1.0,
        choices=SCALES,
        help="flow resolution; 0.5 for 4K (default: 1)",
    )
    parser.add_argument(
        "--opset",
        type=whole(0, 1000),
        default=OPSET,
        metavar="N",
        help="of ONNX, 16 to 20 (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if args.output.suffix.lower() != ".onnx":
        raise ValueError(
            f"the output is {args.output}, expected a name that ends in .onnx. Give such a name."
        )
    model = load_model(args.model, variant=args.variant, device="cpu")
    exported = export_onnx(model, args.output, scale=args.scale, opset=args.opset)
    print(
        f"{args.output}: RIFE {exported.metadata['rife.version']}, opset {args.opset}, "
        f"{args.output.stat().st_size / 2**20:.1f} MiB; onnxruntime's frames are within {exported.difference:.1e} of "
        f"PyTorch's ({TOLERANCE:g} would be refused)"
    )
    for name, value in exported.metadata.items():
        if name not in ("rife.version", "rife.config"):
            print(f"  {name}: {value}")
