"""Runs the commands about checkpoints: `rife info`, `rife convert`, `rife download`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..checkpoint.catalog import DOWNLOADS, download, find
from ..checkpoint.digest import file_sha256
from ..checkpoint.load import Checkpoint, read_checkpoint
from ..checkpoint.save import convert
from ..model import BUNDLED_CHECKPOINT, PRECISIONS
from ..networks.ifnet import IFNet
from .options import add_variant_option


def add_info_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `rife info`."""
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", default=BUNDLED_CHECKPOINT, help="default: the bundled one"
    )
    add_variant_option(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_info)


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `rife convert`."""
    parser.add_argument("input", type=Path, help="file, or folder with flownet.pkl")
    parser.add_argument("output", type=Path, help=".safetensors; replaced if it exists")
    choices = [name for name, dtype in PRECISIONS.items() if dtype]
    parser.add_argument("--dtype", choices=choices, help="of the weights (default: as they are)")
    add_variant_option(parser, "what it is, where tensors cannot tell; the result says it")
    parser.set_defaults(run=_convert)


def add_download_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `rife download`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="such as 4.25 (default: list all)")
    parser.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where the file goes (default: here)"
    )
    parser.set_defaults(run=_download)


def _info(args: argparse.Namespace) -> None:
    found = read_checkpoint(args.checkpoint, args.variant)
    config = found.network.config
    facts: dict[str, Any] = {
        "file": str(args.checkpoint),
        "family": config.family,
        "versions": list(config.versions),
        "release": f"{found.release}, by its sha256" if found.release else _untold(config.versions),
        "parameters": sum(p.numel() for p in found.network.parameters()),
        "timestep": "any" if config.timestep else "0.5, and j/2^k by recursion",
        "ensemble": "by finished frames" if config.ensemble == "no" else config.ensemble,
        "scales": list(config.scales),
        "padding": config.pad,
        "channels": list(getattr(config, "channels", ())),
        "teacher": _teacher(found),
        "left out": list(found.left_out),
        "stored as": str(found.stored_dtype).removeprefix("torch."),
        "decided by": found.decided_by,
    }
    if args.checkpoint.is_file():
        facts["bytes"] = args.checkpoint.stat().st_size
        facts["sha256"] = file_sha256(args.checkpoint)
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        print(f"{name:11s} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _untold(versions: Sequence[str]) -> str:
    if not versions:
        return "none, of own training"
    if len(versions) == 1:
        return versions[0]
    return f"{' or '.join(versions)}: only a known sha256 tells releases of one architecture apart"


def _teacher(found: Checkpoint) -> str | bool:
    """Whether there is a teacher, which counts in training only."""
    network = found.network
    apart = isinstance(network, IFNet) and bool(network.training_part("block_tea"))
    return "apart, for training with recipe 4.25" if apart else getattr(network.config, "teacher", False)


def _convert(args: argparse.Namespace) -> None:
    path = convert(args.input, args.output, args.dtype and PRECISIONS[args.dtype], args.variant)
    written = read_checkpoint(path)
    versions = ", ".join(written.network.config.versions) or "own training"
    dtype = str(written.stored_dtype).removeprefix("torch.")
    print(f"{path}: RIFE {versions}, {dtype}, {path.stat().st_size / 1e6:.1f} MB")


def _download(args: argparse.Namespace) -> None:
    if args.name is None:
        _list_downloads(args.to)
        return
    entry = find(args.name)
    # On stderr, so that the path can be used by a script.
    with tqdm(total=entry.size, unit="B", unit_scale=True, desc=entry.file, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path = download(entry, args.to, on_progress=show)
    print(path)


def _list_downloads(folder: Path) -> None:
    """name, version, size, licence, whether the file is in `folder`, note."""
    row = "{:17s} {:10s} {:>9s}  {:7s}  {:7s}  {}".format
    print(row("name", "version", "size", "licence", "on disk", "").rstrip())
    for entry in DOWNLOADS.values():
        path = folder / entry.file
        size = path.stat().st_size if path.exists() else entry.size
        shown = f"{size / 1e6:.1f} MB" if size else "-"
        here = "yes" if path.exists() else "no"
        print(row(entry.name, entry.version, shown, entry.licence, here, entry.note).rstrip())
