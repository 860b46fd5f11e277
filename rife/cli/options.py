"""Holds options that several commands share, and loads the model that they ask for."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model import PRECISIONS, SCALES, Model, load_model
from ..model.acceleration import ACCELERATIONS
from ..model.options import TIMESTEP_METHODS
from ..networks.config import RELEASES
from ..networks.three_networks import LEGACY_RELEASES
from .values import MOST_FRAMES, number, whole

AUTO = "auto"


def add_variant_option(parser: argparse.ArgumentParser, meaning: str = "where tensors cannot tell") -> None:
    """Adds --variant: which release a checkpoint is."""
    versions = [*RELEASES, *LEGACY_RELEASES]
    parser.add_argument("--variant", choices=versions, metavar="VERSION", help=meaning)


def add_device_option(parser: argparse._ActionsContainer) -> None:
    """Adds --device: where the network runs."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, xpu (default: this machine's accelerator)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --variant and --device: what `load` loads."""
    parser.add_argument(
        "--model", type=Path, metavar="CKPT", help="any RIFE checkpoint (default: the bundled one)"
    )
    add_variant_option(parser)
    add_device_option(parser)


def add_crf_option(parser: argparse._ActionsContainer) -> None:
    """Adds --crf: the quality of a video."""
    parser.add_argument(
        "--crf", type=whole(-64, 255), help="quality, lower is better (default: 18 for h264, by the codec)"
    )


def add_network_options(parser: argparse.ArgumentParser, auto: bool = False) -> None:
    """Adds how the network makes frames: --scale, --tta, --ensemble, --precision, --acceleration, --batch-size.

    auto: also --scale auto.
    """
    parser.add_argument(
        "--scale", type=number(0, 1000, AUTO if auto else ""), default=1.0, choices=[*SCALES, AUTO] if auto else SCALES,
        help="flow resolution; 0.5 for 4K" + "; auto: by how far the clip moves, which is looked through first" * auto,
    )  # fmt: skip
    parser.add_argument(
        "--acceleration", choices=ACCELERATIONS, default="off",
        help="compile, cuda graphs or triton (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--timestep-method", choices=TIMESTEP_METHODS, default="direct",
        help="recursive: quarters and eighths as middles of middles (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--tta", action="store_true", help="average with the frames turned by 180 degrees")
    parser.add_argument("--ensemble", action="store_true", help="average with time reversed; twice the time")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="of the network (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        type=whole(1, MOST_FRAMES),
        metavar="B",
        help="new frames per forward pass (default: automatic)",
    )


def load(args: argparse.Namespace, device: str | None = None) -> Model:
    """Loads the model that `add_model_options` asked for, in --precision where the command has it. device: instead of
    --device."""
    precision = getattr(args, "precision", None)
    model = load_model(args.model, variant=args.variant, device=device or args.device, dtype=precision)
    model = model.by_timesteps(getattr(args, "timestep_method", "direct"))
    return model.accelerate(getattr(args, "acceleration", "off"))
