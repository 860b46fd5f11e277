"""Runs `rife train`, alone or under torchrun."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..checkpoint.load import load_network
from ..checkpoint.save import save_checkpoint
from ..losses.objective import RECIPES
from ..losses.perceptual import VGGLoss
from ..model import Model
from ..model.devices import TRAINING_PRECISIONS, named_device, named_dtype
from ..networks.adaptive import build_network
from ..networks.config import RELEASES
from ..networks.ifnet import IFNet
from ..ops.memory_format import memory_format
from ..training.bundled import BUNDLED_CONFIG, Curriculum, made_lean, match_init
from ..training.datasets import (
    RealFrames,
    load_clip,
    read_folder,
    real_triplets,
    rendered_triplets,
    shots,
    texture_pool,
    triplets,
)
from ..training.run_folder import RunFolder
from ..training.samples import Source, check_crop
from ..training.schedule import Settings
from ..training.synthetic import RenderedMotion
from ..training.trainer import Result, Trainer
from ..training.validation import HeldOut
from .options import add_device_option
from .values import number, whole

log = logging.getLogger(__name__)

_EPILOG = """\
Without --data it makes the bundled checkpoint: rendered motion whose flow is known, later also --clips. With --data it
learns from real frames only. Several processes: torchrun --nproc-per-node 2 -m rife train OUT --data FOLDER; the same
--batch gives the same training on any number of them. docs/training.md tells the rest.
"""


def run(args: argparse.Namespace) -> int:
    """Trains a network: from nothing or from a checkpoint, on rendered motion or on your own clips."""
    local_rank = int(os.environ.get("LOCAL_RANK", -1))
    device = _device(args, local_rank)
    if local_rank > 0:
        logging.getLogger().setLevel(logging.WARNING)  # the first process tells
    if args.threads:
        torch.set_num_threads(args.threads)
    if local_rank != -1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        return _train(args, device, local_rank)
    finally:
        if local_rank != -1:
            dist.destroy_process_group()


def _train(args: argparse.Namespace, device: torch.device, local_rank: int) -> int:
    settings = _settings(args, device)
    # As convolutions will run, which autocast makes in half precision.
    form = memory_format(device, named_dtype(args.precision) or torch.float32)
    # A keyword that the stubs of nn.Module.to know only together with a tensor.
    network = _network(args).to(device, memory_format=form)  # type: ignore[call-overload]
    model = Model.from_network(network)
    # Rendered crops are first half as large.
    halved = not args.data and args.small_until > 0
    check_crop(args.crop, model.net.pad_multiple() * (2 if halved else 1))
    source, held_out = (_real if args.data else _rendered)(args, model)
    perceptual = VGGLoss(args.vgg, args.recipe).to(device) if args.vgg else None
    trainer = Trainer(model, source, settings, held_out, local_rank, perceptual)
    folder = RunFolder(
        args.out, trainer, args.save_every, args.log_every, args.tensorboard, writes=local_rank <= 0
    )
    folder.resume()
    result = trainer.run(folder.on_step)
    folder.close()
    if local_rank <= 0:
        _finish(args, result)
    return 0


def _finish(args: argparse.Namespace, result: Result) -> None:
    # Best for one's own clips; the bundled recipe's scenes are too many kinds for one number, it keeps the last.
    chosen = result.model if args.data else result.last
    path = save_checkpoint(chosen, args.out / "rife_comfy.safetensors", torch.float16)
    for name, score in result.before.items():
        after = result.after[name]
        log.info(
            "%-28s %.2f dB before, %.2f dB after (best, step %d)",
            name,
            score.psnr,
            after.psnr,
            result.best_step,
        )
    if args.data and not result.improved and not args.allow_worse:
        log.warning(
            "Nothing was better than the start on the held-out frames, so %s is the start. Train longer, with a "
            "lower --learning-rate or more clips; --allow-worse writes the last instead.",
            path,
        )


def _device(args: argparse.Namespace, local_rank: int) -> torch.device:
    device = named_device(args.device)
    if device.type == "cuda" and local_rank != -1:
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    return device


def _network(args: argparse.Namespace) -> IFNet:
    if args.start:
        network = load_network(args.start).float()
        if not isinstance(network, IFNet):
            raise ValueError(
                f"--start {args.start} is a RIFE of three networks, which has no published training; expected one of a "
                "single network, such as 4.26. Start from another checkpoint."
            )
        if "variational" in args.add:
            network.config = replace(network.config, variational=True)
        if "lean" in args.add:
            network = made_lean(network)
        if "dissolve" in args.add:
            network.add_dissolve()
        return network
    torch.manual_seed(args.seed)
    if args.network:
        return build_network(RELEASES[args.network])
    network = IFNet(BUNDLED_CONFIG)
    match_init(network)
    return network


def _settings(args: argparse.Namespace, device: torch.device) -> Settings:
    chosen = {f.name: getattr(args, f.name) for f in fields(Settings) if hasattr(args, f.name)}
    if args.learning_rate is None:
        chosen["learning_rate"] = 1e-3 if not args.data else 1e-4 if args.start else 3e-4
    if not args.vgg:
        chosen["perceptual_weight"] = 0.0
    if args.workers is None:
        chosen["workers"] = 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
    return Settings(**chosen)


def _real(args: argparse.Namespace, model: Model) -> tuple[Source, HeldOut]:
    learn, held_out = [], {}
    for folder in args.data:
        learned, judged = read_folder(folder, args.held_out_fraction, args.max_frames, args.max_width)
        learn += learned
        name = folder.name if folder.name not in held_out else str(folder)
        for stride in range(1, max(2, args.reach // 2 + 1)):
            held_out[f"{name} stride {stride}"] = triplets(judged, args.held_out_count, stride)
    for path in args.held_out:
        held_out[path.stem] = triplets(shots(load_clip(path)), args.held_out_count)
    if not any(held_out.values()):
        log.warning("nothing is held out: the last step counts as the best")
    source = RealFrames(learn, args.crop, args.reach, model.config.timestep, args.real_rest)
    return source, held_out


def _rendered(args: argparse.Namespace, model: Model) -> tuple[Source, HeldOut]:
    clips = [load_clip(path, args.max_frames, args.clip_width) for path in args.clips]
    held_out: dict[str, Any] = {}
    for path in args.held_out:
        clip = load_clip(path)
        held_out |= {f"{path.stem} stride {s}": rows for s in (1, 2) if (rows := real_triplets(clip, s, 6))}
    held_out |= {f"rendered up to {m} px": rendered_triplets(m, 8) for m in (4, 8, 16, 24)}
    scenes = RenderedMotion(
        args.crop, args.crop, args.seed, texture_pool(clips, 256), rest=args.rest, flaws=args.flaws
    )
    found = [shot for clip in clips for shot in shots(clip)]
    real = None
    if clips:
        real = RealFrames(found, args.crop, args.reach, args.any_time, args.real_rest)
        real = replace(real, halved=args.halved, stills=args.stills, fades=args.fades)
    # A network without timestep only ever sees the middle.
    times = None if model.config.timestep else 0.5
    shares = (args.max_motion, args.curriculum, args.small_until, args.real_from)
    return Curriculum(scenes, real, args.crop, *shares, times), held_out


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description, parser.epilog = run.__doc__, _EPILOG
    parser.set_defaults(run=run, log_format="%(asctime)s %(message)s")
    parser.add_argument(
        "out", type=Path, help="folder for checkpoints and logs; an interrupted run goes on there"
    )
    start = parser.add_argument_group("start").add_mutually_exclusive_group()
    start.add_argument("--start", type=Path, metavar="CKPT", help="go on from this checkpoint")
    start.add_argument(
        "--network",
        choices=RELEASES,
        metavar="NAME",
        help="fresh weights for this network, such as RIFE_m (default: the bundled one)",
    )
    parser.add_argument(
        "--add",
        nargs="*",
        default=[],
        choices=("variational", "dissolve", "lean"),
        help="what the network of --start has from here on: its first block's flow corrected by a variational one; a "
        "share of the cross-fade where the last block finds no flow right; lean: only the first block and that at "
        "half of the size",
    )
    _data_options(parser.add_argument_group("data"))
    _training_options(parser.add_argument_group("training"))
    group = parser.add_argument_group("machine and files")
    add_device_option(group)
    group.add_argument("--threads", type=whole(0, 1024), default=0, help="CPU threads, 0 for all")
    group.add_argument(
        "--workers", type=whole(0, 1024), help="threads that prepare data (default: 0 on a CPU, else up to 8)"
    )
    group.add_argument(
        "--save-every", type=number(-1, 1e9), default=120.0, help="seconds (default: %(default)s)"
    )
    group.add_argument(
        "--log-every",
        type=whole(1, 100_000_000),
        default=50,
        help="steps between rows of log.csv (%(default)s)",
    )
    group.add_argument("--tensorboard", action="store_true", help="write its files, too; needs the package")


def _data_options(group: argparse._ArgumentGroup) -> None:
    paths: dict[str, Any] = {"type": Path, "nargs": "*", "default": []}
    group.add_argument(
        "--data", **paths, metavar="FOLDER", help="folders of clips, or Vimeo90K's triplets or septuplets"
    )
    group.add_argument(
        "--clips", **paths, metavar="FILE", help="videos to learn from besides rendered motion"
    )
    group.add_argument("--held-out", **paths, metavar="FILE", help="videos to score on only")
    _numbers(
        group,
        (
            ("crop", 128, 32, 4096, "side of what is learned from, pixels"),
            ("held_out_fraction", 0.1, 0, 0.5, "share of each shot of --data that is held out"),
            ("held_out_count", 24, 1, 100_000, "triplets to score on per folder of --data and distance"),
            ("max_frames", 400, 3, 1_000_000, "of each clip"),
            ("max_width", 960, 32, 16384, "clips of --data are reduced by whole factors to this"),
            ("clip_width", 480, 32, 16384, "--clips are reduced by whole factors to this"),
            ("reach", 4, 2, 1000, "largest distance in frames between the two given ones of a clip"),
            ("max_motion", 24.0, 4, 1000, "largest displacement of rendered motion, pixels"),
            ("curriculum", 0.4, 0, 1, "share of the steps over which rendered motion grows to it"),
            ("small_until", 0.5, 0, 1, "share of the steps with rendered crops of half the side"),
            ("real_from", 0.5, 0, 1, "share of the steps after which every second step uses --clips"),
            ("rest", 0.0, 0, 1, "share of rendered scenes in which nothing moves"),
            (
                "flaws",
                0.0,
                0,
                1,
                "share of rendered scenes that are blurred, and of those that a codec squeezed",
            ),
            ("stills", 0.0, 0, 1, "share of windows of --clips that are the same frame three times"),
            ("fades", 0.0, 0, 1, "share of windows of --clips whose brightness changes"),
            ("halved", 0.0, 0, 1, "share of windows of --clips that are averaged down from twice the side"),
            ("real_rest", 0.25, 0, 1, "share of windows of real frames taken wherever they fall"),
        ),
    )
    group.add_argument(
        "--any-time", action="store_true", help="any frame between those of --clips, not the middle one"
    )


def _training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--learning-rate",
        type=number(0, 1),
        help="its peak (default: 1e-3; with --data 3e-4, with --data and --start 1e-4)",
    )
    _numbers(
        group,
        (
            ("steps", 4000, 1, 100_000_000, "optimiser steps"),
            ("batch", 12, 1, 100_000, "examples per step, of all processes together"),
            ("accumulate", 1, 1, 100_000, "passes per step, where memory is short"),
            ("warm_up", 100, 0, 100_000_000, "steps to the full learning rate"),
            ("seed", 0, -(2**63), 2**63, "decides fresh weights and data"),
            ("max_grad_norm", 1.0, 0, 1e9, "norm that longer gradients are cut to; 0: never"),
            ("ema", 0.998, 0, 0.9999999, "of the moving average of the weights that is kept"),
            ("flow_weight", 0.1, 0, 1e6, "weight of the end-point error of rendered motion at the start"),
            ("mse_weight", 0.0, 0, 1e6, "weight of the mean squared error"),
            ("distill_weight", 0.01, 0, 1e6, "weight of the distillation; 0.005 or 0.002 for RIFE_m"),
            ("perceptual_weight", 1.0, 0, 1e6, "weight of the perceptual loss of --vgg"),
            (
                "learned_time",
                0.3,
                0,
                1,
                "share of the steps of --recipe 4.25 whose timestep is guessed from the frames",
            ),
            ("score_every", 500, 0, 100_000_000, "steps between looks at the held-out frames"),
        ),
    )
    group.add_argument("--precision", choices=TRAINING_PRECISIONS, default="fp32", help="of the convolutions")
    group.add_argument("--recipe", choices=RECIPES, default="paper", help="what is minimised (%(default)s)")
    group.add_argument("--vgg", type=Path, metavar="FILE", help="weights of VGG19, for a perceptual loss")
    group.add_argument("--teacher", action="store_true", help="give a network without one a teacher")
    group.add_argument("--random-scales", action="store_true", help="shallower pyramids, too, as for 4.25")
    group.add_argument(
        "--allow-worse", action="store_true", help="keep the last even if the start was better"
    )


def _numbers(group: argparse._ArgumentGroup, rows: Sequence[tuple[str, float, float, float, str]]) -> None:
    """Options of these names, defaults, lowest and highest values, and meanings; whole where the default is."""
    for name, default, low, high, meaning in rows:
        option, help_text = f"--{name.replace('_', '-')}", f"{meaning} (default: {default})"
        kind = whole(int(low), int(high)) if isinstance(default, int) else number(low, high)
        group.add_argument(option, type=kind, default=default, help=help_text)
