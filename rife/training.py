"""Training: the schedule, the loop, the held-out check. `rife train` runs `main`.

Flow does not emerge from pictures alone in a short training: the first layers start as matching costs
(`match_init`), known flow teaches on rendered motion whose largest displacement grows (curriculum), then real frames
join, whose flow nobody knows. A short second run from the result (`--start`), with many scenes at rest and a small
learning rate, takes the last hundredths of a pixel of flow from what does not move.
"""

from __future__ import annotations

import argparse
import copy
import csv
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from .checkpoint import load_network, save_checkpoint
from .config import IFNetConfig
from .data import RealTriplets, RenderedMotion, Sample, noise_textures, usable_middles
from .ifnet import IFNet
from .metrics import psnr
from .model import Model
from .video import read_frames

log = logging.getLogger(__name__)

# The bundled network: a 4.25-shaped IFNet, narrow enough for a CPU to train and to run.
BUNDLED_CONFIG = IFNetConfig(
    family="comfy1",
    channels=(96, 80, 64, 40),
    scales=(8, 4, 2, 1),
    tail="shuffle",
    tail_channels=13,
    head="cnn",
    head_mid=16,
    head_channels=4,
    sampling="bicubic",
    pad=32,
)


# Offsets at which the two frames are compared by `match_init`: symmetric steps of two pixels, then single ones.
_AXIS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (-1, -1), (1, -1), (-1, 1))
_MATCHES = (
    ((0, 0), (0, 0)),
    *(((-x, -y), (x, y)) for x, y in _AXIS),
    *(((0, 0), (x, y)) for x, y in _AXIS),
    *(((-x, -y), (x, y)) for x, y in _DIAGONAL),
    *(((-x, -y), (0, 0)) for x, y in _AXIS),
)


@torch.no_grad()
def match_init(network: IFNet, gain: float = 3.0) -> None:
    """Starts every block's first layer as a matching cost, so that flow emerges at once.

    Each pair of filters subtracts the grey of one frame at one offset from that of the other at another, once with
    either sign: behind the activation their sum grows with the absolute difference, a cost volume of one pixel
    around. From random filters nothing left zero flow within 500 steps of batch 12; from these, the end-point
    error of translations of 2 to 8 px falls by 29% in 100 steps of batch 16.
    """
    for block in network.blocks:
        layer = block.conv0[0][0]
        count = min(len(_MATCHES), (layer.out_channels - 4) // 2)  # at least four filters stay free
        for k, ((x0, y0), (x1, y1)) in enumerate(_MATCHES[:count]):
            difference = torch.zeros_like(layer.weight[0])
            difference[0:3, 1 + y0, 1 + x0] += gain / 3
            difference[3:6, 1 + y1, 1 + x1] -= gain / 3
            layer.weight[2 * k], layer.weight[2 * k + 1] = difference, -difference
            layer.bias[2 * k : 2 * k + 2] = 0


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training run."""

    steps: int = 4000
    batch: int = 12
    crop: int = 128
    learning_rate: float = 1e-3
    warm_up: int = 100
    max_motion: float = 24.0
    curriculum: float = 0.4  # share of the steps over which the motion grows to max_motion
    small_until: float = 0.5  # share of the steps with crops of half the side, four times as fast
    real_from: float = 0.5  # share of the steps after which every second step uses real frames
    rest: float = 0.0  # share of the rendered scenes in which nothing moves
    real_rest: float = 0.25  # share of the real windows taken wherever they fall, mostly on what rests
    flow_weight: float = 0.1  # at the start; falls with the cube of the learning rate
    ema: float = 0.998
    seed: int = 0
    save_every: float = 120.0  # seconds


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to a hundredth (RIFE's train.py: 3e-4 to 3e-6)."""
    warm = min(1.0, (step + 1) / settings.warm_up)
    return settings.learning_rate * warm * decay(step, settings)


def decay(step: int, settings: Settings) -> float:
    """The cosine from 1 to a hundredth, after the warm-up."""
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


class Averaged:
    """Exponential moving average of a network's weights; what is saved and scored."""

    def __init__(self, network: torch.nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: torch.nn.Module, step: int) -> None:
        # Young averages forget faster, or the first steps would stay in them for long.
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            mean.lerp_(new, 1 - decay)


def train(
    model: Model,
    folder: str | os.PathLike,
    settings: Settings,
    textures: Tensor | None = None,
    clips: Sequence[Tensor] = (),
    held_out: dict[str, list[Tensor]] | None = None,
    resume: bool = True,
) -> Model:
    """Trains `model` and returns its averaged weights as a new model.

    folder: gets log.csv, state.pt (to resume from) and last.safetensors, each written whole or not at all.
    textures: (P,3,h,w) for the rendered scenes; clips: (N,H,W,3) uint8, real frames. held_out: name -> triplets
    (3,3,H,W) uint8, scored at the end and with every save.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    averaged = Averaged(model.net, settings.ema)
    start = _resume(folder, model, averaged) if resume else 0
    # Data is a function of the seed and of where the run stands, so that a resumed run sees new scenes.
    seed = settings.seed + 7919 * start
    rendered = RenderedMotion(settings.crop, settings.crop, seed, textures, rest=settings.rest)
    # A network without timestep only ever sees the middle.
    times = None if model.config.timestep else 0.5
    real = (
        RealTriplets(clips, settings.crop, seed=settings.seed + start, rest=settings.real_rest)
        if clips
        else None
    )
    saved = time.monotonic()
    began = time.monotonic()
    skipped = 0

    for step in range(start, settings.steps):
        progress = step / settings.steps
        use_real = real is not None and progress >= settings.real_from and step % 2 == 1
        growth = min(1.0, progress / settings.curriculum) if settings.curriculum else 1.0
        rendered.max_motion = 4.0 * (settings.max_motion / 4.0) ** growth
        crop = settings.crop // 2 if progress < settings.small_until else settings.crop
        rendered.height = rendered.width = crop
        sample = real.sample(settings.batch) if use_real else rendered.sample(settings.batch, times)
        info = _step(model, sample, step, settings)
        skipped += info["skipped"]
        if skipped > 100:
            raise RuntimeError(
                f"{skipped} steps gave a loss or gradient that is not finite; training diverged. "
                "Lower the learning rate; the last good state is in the folder."
            )
        averaged.update(model.net, step)
        if step % 50 == 0:
            _log(folder, step, info, time.monotonic() - began, use_real)
        if time.monotonic() - saved > settings.save_every:
            _save(folder, model, averaged, step + 1, held_out)
            saved = time.monotonic()
    _save(folder, model, averaged, settings.steps, held_out)
    return Model.from_network(averaged.network)


def _step(model: Model, sample: Sample, step: int, settings: Settings) -> dict:
    rate = learning_rate(step, settings)
    # Bilinear warping blurs: by 0.15 px more than averaging two frames 0.3 px apart does. Where motion is that
    # small, the true flow does not give the best picture, so in the end only the picture counts.
    flow_weight = settings.flow_weight * decay(step, settings) ** 3
    device = model.run_device
    img0, img1, gt = (x.to(device) for x in (sample.img0, sample.img1, sample.gt))
    flow = None if sample.flow is None else sample.flow.to(device)
    _, info = model.update(
        torch.cat((img0, img1), 1),
        gt,
        rate,
        flow_gt=flow,
        timestep=sample.timestep.to(device),
        flow_weight=flow_weight,
        max_grad_norm=1.0,
    )
    return {**info, "learning_rate": rate}


def _log(folder: Path, step: int, info: dict, seconds: float, real: bool) -> None:
    path = folder / "log.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("step", "seconds", "data", "loss_l1", "loss_flow", "learning_rate", "skipped"))
        writer.writerow(
            (
                step,
                f"{seconds:.0f}",
                "real" if real else "rendered",
                f"{float(info['loss_l1']):.5f}",
                f"{float(info['loss_flow']):.4f}",
                f"{info['learning_rate']:.2e}",
                int(info["skipped"]),
            )
        )


def _save(folder: Path, model: Model, averaged: Averaged, step: int, held_out) -> None:
    state = {
        "step": step,
        "network": model.net.state_dict(),
        "averaged": averaged.network.state_dict(),
        "optimizer": model.optimizer.state_dict(),
    }
    torch.save(state, folder / "state.tmp")
    os.replace(folder / "state.tmp", folder / "state.pt")
    save_checkpoint(averaged.network, folder / "last.safetensors", torch.float16)
    if held_out:
        scores = score_triplets(Model.from_network(averaged.network), held_out)
        with (folder / "scores.csv").open("a", newline="") as file:
            csv.writer(file).writerows(
                (step, name, f"{a:.3f}", f"{b:.3f}") for name, (a, b) in scores.items()
            )
        for name, (ours, average) in scores.items():
            log.info("step %d  %-28s %.2f dB, averaging %.2f dB", step, name, ours, average)


def _resume(folder: Path, model: Model, averaged: Averaged) -> int:
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location=model.run_device, weights_only=True)
    model.net.load_state_dict(state["network"])
    averaged.network.load_state_dict(state["averaged"])
    model.optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d of %s", state["step"], path)
    return state["step"]


def score_triplets(model: Model, triplets: dict[str, list[Tensor]]) -> dict[str, tuple[float, float]]:
    """Name -> mean PSNR in dB of the model and of frame averaging at t = 0.5, over (3,3,H,W) uint8 triplets."""
    scores = {}
    for name, rows in triplets.items():
        pairs = []
        for row in rows:
            img0, gt, img1 = (x[None].float() / 255 for x in row)
            pairs.append((psnr(model.inference(img0, img1), gt), psnr((img0 + img1) / 2, gt)))
        scores[name] = tuple(sum(column) / len(column) for column in zip(*pairs, strict=True))
    return scores


def rendered_triplets(motion: float, count: int, size: int = 256, seed: int = 10_000) -> list[Tensor]:
    """Rendered test scenes of one motion size: own seed and own textures, never drawn in training."""
    scenes = RenderedMotion(size, size, seed + int(motion), max_motion=motion)
    sample = scenes.sample(count, 0.5)
    stacked = torch.stack((sample.img0, sample.gt, sample.img1), 1)
    return list((stacked * 255).round().byte())


def real_triplets(clip: Tensor, stride: int, count: int) -> list[Tensor]:
    """Up to `count` evenly spread triplets (3,3,H,W) of a clip (N,H,W,3) uint8."""
    middles = usable_middles(clip, stride)
    chosen = middles[:: max(1, len(middles) // count)][:count]
    return [rearrange(clip[[i - stride, i, i + stride]], "n h w c -> n c h w") for i in chosen]


def load_clip(path: str | os.PathLike, max_frames: int = 400, max_width: int = 480) -> Tensor:
    """A clip as (N,H,W,3) uint8, reduced by whole factors to at most `max_width`; 8-bit rounding included."""
    frames = []
    for frame in read_frames(path, max_frames):
        image = torch.from_numpy(frame)
        factor = -(-image.shape[1] // max_width)
        if factor > 1:
            pooled = torch.nn.functional.avg_pool2d(rearrange(image, "h w c -> c h w").float(), factor)
            image = rearrange(pooled.round().byte(), "c h w -> h w c")
        frames.append(image)
    return torch.stack(frames)


def texture_pool(clips: Sequence[Tensor], count: int, size: int = 176, seed: int = 0) -> Tensor:
    """(count,3,size,size) uint8: half crops of the clips' frames, half procedural."""
    generator = torch.Generator().manual_seed(seed)
    pool = [
        (
            noise_textures(count - count // 2 if clips else count, 256, generator)[:, :, :size, :size] * 255
        ).byte()
    ]
    usable = [clip for clip in clips if min(clip.shape[1:3]) >= size]
    for _ in range(count // 2 if usable else 0):
        clip = usable[int(torch.randint(len(usable), (), generator=generator))]
        n, top, left = (
            int(torch.randint(limit, (), generator=generator))
            for limit in (len(clip), clip.shape[1] - size + 1, clip.shape[2] - size + 1)
        )
        pool.append(rearrange(clip[n, top : top + size, left : left + size], "h w c -> 1 c h w"))
    return torch.cat(pool)


def main(argv: Sequence[str] | None = None) -> int:
    """`rife train`: trains the bundled configuration, or goes on from a checkpoint, on rendered motion and clips."""
    parser = argparse.ArgumentParser(prog="rife train", description=main.__doc__)
    parser.add_argument(
        "out", type=Path, help="folder for checkpoints and logs; an interrupted run goes on there"
    )
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="video files to learn from")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="video files to score on only")
    parser.add_argument("--start", type=Path, help="checkpoint to go on from; default: fresh weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for all")
    for name, default in (("steps", 4000), ("batch", 12), ("crop", 128), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, meaning in (
        ("learning_rate", "its peak"),
        ("max_motion", "largest displacement of rendered motion, pixels"),
        ("curriculum", "share of the steps over which rendered motion grows to it"),
        ("small_until", "share of the steps with crops of half the side"),
        ("real_from", "share of the steps after which every second step uses the clips"),
        ("flow_weight", "weight of the end-point error of rendered motion at the start"),
        ("rest", "share of rendered scenes in which nothing moves"),
        ("real_rest", "share of windows of the clips taken wherever they fall"),
    ):
        option, default = f"--{name.replace('_', '-')}", getattr(Settings, name)
        parser.add_argument(option, type=float, default=default, help=f"{meaning} (default: %(default)s)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    clips = [load_clip(path) for path in args.clips]
    held_out: dict[str, list[Tensor]] = {}
    for path in args.held_out:
        clip = load_clip(path)
        held_out |= {f"{path.stem} stride {s}": rows for s in (1, 2) if (rows := real_triplets(clip, s, 6))}
    held_out |= {f"rendered up to {m} px": rendered_triplets(m, 8) for m in (4, 8, 16, 24)}
    chosen = {
        field.name: getattr(args, field.name) for field in fields(Settings) if hasattr(args, field.name)
    }
    settings = Settings(**chosen)
    if args.start:
        network = load_network(args.start).float()
    else:
        network = IFNet(BUNDLED_CONFIG)
        match_init(network)
    model = Model.from_network(network.to(args.device, memory_format=torch.channels_last))
    result = train(model, args.out, settings, texture_pool(clips, 256), clips, held_out)
    save_checkpoint(result, args.out / "rife_comfy.safetensors", torch.float16)
    return 0
