"""A network of four narrow blocks on rendered scenes, which trains in a moment, and clips to train on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

import rife
from rife.cli import train
from rife.cli.app import make_parser
from rife.networks.ifnet import IFNet
from rife.training.bundled import BUNDLED_CONFIG, Curriculum, match_init
from rife.training.run_folder import RunFolder
from rife.training.schedule import Settings
from rife.training.synthetic import RenderedMotion
from rife.video.job import write_png

TINY = replace(BUNDLED_CONFIG, channels=(32, 24, 16, 16))

SCENES = RenderedMotion(32, 32, 1)

SHORT = Settings(steps=3, batch=2, warm_up=1, learning_rate=1e-3)


def tiny() -> rife.Model:
    torch.manual_seed(0)
    network = IFNet(TINY)
    match_init(network)
    return rife.Model.from_network(network)


def source(crop: int = 32, **options) -> Curriculum:
    return Curriculum(SCENES, crop=crop, small_until=0.0, max_motion=6.0, curriculum=0.0, **options)


def weights(model: rife.Model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.net.state_dict().items()}


def same(first: rife.Model, second: rife.Model) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def clip(frames: int = 9, seed: int = 5) -> torch.Tensor:
    scene = RenderedMotion(64, 96, seed, max_motion=4.0).clip(frames)
    return (scene * 255).round().byte().permute(0, 2, 3, 1)


def write(folder, frames: torch.Tensor, name: str = "im{}.png") -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        write_png(folder / name.format(i + 1), frame.numpy())


def reached(folder: Path) -> Path:
    """The file that says that `train_up_to` is where it stays."""
    return folder.with_name(f"{folder.name}.reached")


def train_up_to(step: int, arguments: list[str]) -> None:
    """`rife train` that stays at a step whose losses and scores are written, and whose state is not."""
    folder = Path(arguments[0])

    def save(self: RunFolder) -> None:
        if self.trainer.step == step:
            reached(folder).touch()
            time.sleep(600)
        saved(self)

    saved, RunFolder.save = RunFolder.save, save  # type: ignore[method-assign]
    train.run(make_parser().parse_args(["train", *arguments]))
