"""A network of four narrow blocks on rendered scenes, which trains in a moment, and clips to train on."""

from __future__ import annotations

from dataclasses import replace

import torch

import rife
from rife.networks.ifnet import IFNet
from rife.training.bundled import BUNDLED_CONFIG, Curriculum, match_init
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
