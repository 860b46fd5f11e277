"""What a timestep in training is worth: RIFE_m trained at random times against RIFE_m trained at 0.5 only.

    nice -n 19 python benchmarks/train_timesteps.py [--steps 1500] [--csv FILE]

The original code trains RIFE_m at 0.5 alone. Both networks here start from the same weights, see the same scenes of
rendered motion (up to 6 px), and differ only in the time of the true frame; then both are asked for t = 0.25, 0.5 and
0.75 on scenes that neither saw. Narrow blocks (90, 60, 40) and no refinement, which no timestep reaches: minutes on a
CPU.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.evaluation.metrics import psnr
from rife.networks.ifnet import IFNet
from rife.training.bundled import Curriculum, match_init
from rife.training.schedule import Settings
from rife.training.synthetic import RenderedMotion
from rife.training.trainer import Trainer

NETWORK = replace(rife.RELEASES["RIFE_m"], channels=(90, 60, 40), refine="")
TIMES = (0.25, 0.5, 0.75)
MOTION = 6.0


def trained(args: argparse.Namespace, timestep: float | None) -> rife.Model:
    """A RIFE_m after training at `timestep`, or at random ones for None."""
    torch.manual_seed(args.seed)
    network = IFNet(NETWORK)
    match_init(network)
    scenes = RenderedMotion(args.crop, args.crop, args.seed)
    source = Curriculum(
        scenes, crop=args.crop, max_motion=MOTION, curriculum=0.0, small_until=0.0, timestep=timestep
    )
    settings = Settings(
        steps=args.steps,
        batch=args.batch,
        learning_rate=1e-3,
        warm_up=50,
        distill_weight=0.005,
        seed=args.seed,
    )
    start = time.perf_counter()
    trainer = Trainer(
        rife.Model.from_network(network.to(memory_format=torch.channels_last)), source, settings
    )
    result = trainer.run(lambda step: step.number % 50 == 0 and print(step.number, step.losses, flush=True))
    seconds = time.perf_counter() - start
    print(f"trained at {timestep or 'random times'}: {seconds:.0f} s, {args.steps / seconds:.2f} steps/s")
    return result.last


def score(model: rife.Model, timestep: float, count: int = 24) -> float:
    """Mean PSNR in dB on scenes of another seed and other textures."""
    scenes = RenderedMotion(128, 128, 4242, max_motion=MOTION)
    x = scenes.sample(count, timestep)
    frames = model.inference(x.img0, x.img1, timestep=timestep)
    return sum(psnr(a, b) for a, b in zip(frames, x.gt, strict=True)) / count


class Averaging:
    """What a network has to beat."""

    def inference(self, img0, img1, timestep):
        return torch.lerp(img0, img1, timestep)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("steps", 1500), ("batch", 4), ("crop", 64), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--train", nargs="*", choices=("0.5", "random"), default=("0.5", "random"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    rows = [("trained_at", *(f"psnr_t{t:g}" for t in TIMES))]
    rows.append(("averaging", *(f"{score(Averaging(), t):.2f}" for t in TIMES)))
    for name in args.train:
        model = trained(args, 0.5 if name == "0.5" else None)
        rows.append((name, *(f"{score(model, t):.2f}" for t in TIMES)))
        print(*rows[-1])
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
