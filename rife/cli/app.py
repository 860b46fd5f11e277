"""The command line: `rife demo`, `rife interpolate`, `rife info`, `rife convert`, `rife download`, `rife train`,
`rife score`."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from ..atomic_write import write_text
from ..checkpoint.catalog import DOWNLOADS, download, find
from ..checkpoint.load import read_checkpoint
from ..checkpoint.save import convert
from ..comfyui_workflow import convert as convert_workflow
from ..engine import interpolate
from ..evaluation.metrics import psnr
from ..model import BUNDLED_CHECKPOINT, Model, load_model
from ..networks.config import RELEASES
from ..networks.three_networks import LEGACY_RELEASES
from ..training.synthetic import RenderedMotion
from ..version import __version__
from ..video.job import VideoWriter, to_bytes, write_png
from . import interpolate as interpolate_command
from . import join as join_command

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# What a user can mend: reported in one line, the rest with its traceback.
_USER_ERRORS = (ValueError, OSError, RuntimeError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, 1 for an error that was reported, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["train"]:
        from .train import main as train

        return _guarded(lambda: train(argv[1:]), debug=False)
    if argv[:1] == ["score"]:
        from .score import main as score

        return _guarded(lambda: score(argv[1:]), debug=False)
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.debug else logging.WARNING, format="%(message)s")
    return _guarded(lambda: args.run(args), args.debug)


def _guarded(run, debug: bool) -> int:
    try:
        return run() or 0
    except KeyboardInterrupt:
        print("interrupted; nothing was left under an unfinished output's name", file=sys.stderr)
        return 130
    except _USER_ERRORS as error:
        if debug:
            raise
        print(f"rife: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rife", description="Frame interpolation with RIFE.")
    parser.add_argument("--version", action="version", version=f"rife {__version__}")
    parser.add_argument("--debug", action="store_true", help="log more, show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="render a clip, interpolate it, compare with the true frames")
    demo.add_argument(
        "--out", type=Path, default=Path("rife_demo"), help="folder for the results (default: %(default)s)"
    )
    _model_options(demo)
    demo.set_defaults(run=_demo)

    video = commands.add_parser("interpolate", help="give a video more frames")
    interpolate_command.add_options(video)
    _model_options(video)
    video.set_defaults(run=_interpolate)

    joined = commands.add_parser("join", help="make one video of clips that follow each other")
    join_command.add_options(joined)
    _model_options(joined)
    joined.set_defaults(run=lambda args: join_command.run(args, partial(_load, args)))

    info = commands.add_parser("info", help="say what a checkpoint is")
    info.add_argument(
        "checkpoint", type=Path, nargs="?", default=BUNDLED_CHECKPOINT, help="default: the bundled one"
    )
    info.add_argument("--variant", choices=[*RELEASES, *LEGACY_RELEASES], metavar="VERSION")
    info.add_argument("--json", action="store_true")
    info.set_defaults(run=_info)

    _convert_options(commands.add_parser("convert", help="write any checkpoint as one safetensors file"))
    _download_options(commands.add_parser("download", help="get a checkpoint; without a name, list them"))
    workflow = commands.add_parser(
        "convert-workflow",
        help="rewrite a ComfyUI workflow with Fannovel16's or ComfyUI's own nodes for ours",
    )
    workflow.add_argument("input", type=Path, help="as saved, or exported for the API")
    workflow.add_argument("output", type=Path)
    workflow.set_defaults(run=_convert_workflow)
    commands.add_parser("train", help="train a network (rife train --help)", add_help=False)
    commands.add_parser(
        "score", help="measure made frames against true ones (rife score --help)", add_help=False
    )
    return parser


def _convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="file, or folder with flownet.pkl")
    parser.add_argument("output", type=Path, help=".safetensors; replaced if it exists")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as they are)")
    parser.add_argument(
        "--variant",
        choices=[*RELEASES, *LEGACY_RELEASES],
        metavar="VERSION",
        help="what it is, where tensors cannot tell; the result says it",
    )
    parser.set_defaults(run=_convert)


def _download_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="such as 4.25 (default: list all)")
    parser.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where the file goes (default: here)"
    )
    parser.set_defaults(run=_download)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, metavar="CKPT", help="any RIFE checkpoint (default: the bundled one)"
    )
    versions = [*RELEASES, *LEGACY_RELEASES]
    parser.add_argument("--variant", choices=versions, metavar="VERSION", help="where tensors cannot tell")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, xpu (default: this machine's accelerator)")


def _load(args: argparse.Namespace, device: str | None, dtype: torch.dtype | None = None) -> Model:
    return load_model(args.model, variant=args.variant, device=device, dtype=dtype)


def _interpolate(args: argparse.Namespace) -> int:
    return interpolate_command.run(args, lambda device, dtype: _load(args, device, dtype))


def _info(args: argparse.Namespace) -> None:
    found = read_checkpoint(args.checkpoint, args.variant)
    config = found.network.config
    facts = {
        "file": str(args.checkpoint),
        "family": config.family,
        "versions": list(config.versions),
        "parameters": sum(p.numel() for p in found.network.parameters()),
        "timestep": "any" if config.timestep else "0.5, and j/2^k by recursion",
        "ensemble": "by finished frames" if config.ensemble == "no" else config.ensemble,
        "scales": list(config.scales),
        "padding": config.pad,
        "channels": list(getattr(config, "channels", ())),
        "teacher": getattr(config, "teacher", False),
        "stored as": str(found.stored_dtype).removeprefix("torch."),
        "decided by": found.decided_by,
    }
    if args.checkpoint.is_file():
        facts["bytes"] = args.checkpoint.stat().st_size
        facts["sha256"] = hashlib.sha256(args.checkpoint.read_bytes()).hexdigest()
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        print(f"{name:11s} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _convert(args: argparse.Namespace) -> None:
    path = convert(args.input, args.output, args.dtype and DTYPES[args.dtype], args.variant)
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


def _convert_workflow(args: argparse.Namespace) -> None:
    try:
        workflow, changes = convert_workflow(json.loads(args.input.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{args.input}: {error}") from error
    if not changes:
        raise ValueError(
            f"{args.input} has no node to convert: none of RIFE VFI or FrameInterpolate is in it."
        )
    write_text(args.output, json.dumps(workflow, indent=2, ensure_ascii=False))
    print("\n".join(changes))
    print(f"{args.output}: cuts and repeated frames are off, as they were; see docs/compatibility.md")


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


def _demo(args: argparse.Namespace) -> None:
    model = _load(args, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    scene = RenderedMotion(288, 512, seed=4, max_motion=14.0, objects=5)
    truth = rearrange(scene.clip(13, timesteps=2), "n c h w -> n h w c")
    truth = (truth * 255).round() / 255
    keys = truth[::2]

    start = time.perf_counter()
    ours = interpolate(model, keys, 2)
    seconds = time.perf_counter() - start
    average = (keys[1:] + keys[:-1]) / 2

    rows = list(zip(ours[1::2], average, truth[1::2], strict=True))
    score = [sum(psnr(frame, true) for frame, true in pairs) / len(rows) for pairs in _columns(rows)]
    _demo_video(args.out / "demo.mp4", keys, ours)
    picture = torch.cat([keys[6], average[6], ours[13], truth[13]], 1)
    write_png(args.out / "before_after.png", to_bytes(picture))
    print(f"{len(keys)} -> {len(ours)} frames of 512x288 in {seconds:.1f} s on {model.run_device}")
    print(f"PSNR against the true frames: RIFE {score[0]:.2f} dB, frame averaging {score[1]:.2f} dB")
    print(f"{args.out / 'demo.mp4'}: left the {len(keys)} frames it was given, right what came out")
    print(f"{args.out / 'before_after.png'}: given frame | average | RIFE | truth")


def _columns(rows):
    return [(ours, true) for ours, _, true in rows], [(average, true) for _, average, true in rows]


def _demo_video(path: Path, keys: torch.Tensor, ours: torch.Tensor) -> None:
    """Before and after side by side, forward and backward so that it loops."""
    height, width = keys.shape[1:3]
    sides = [np.concatenate((to_bytes(keys[i // 2]), to_bytes(frame)), 1) for i, frame in enumerate(ours)]
    with VideoWriter(path, Fraction(24), 2 * width, height) as writer:
        for frame in (*sides, *sides[-2:0:-1]) * 3:
            writer.write(frame)
