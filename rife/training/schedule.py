"""Says what decides a run: its settings, and what follows from them and the number of a step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Settings:
    """Holds everything that decides a training run besides its start and its data."""

    steps: int = 1000
    batch: int = 8  # examples per step, of all processes together
    accumulate: int = 1  # passes that a process takes its share of them in, where memory is short
    learning_rate: float = 1e-4  # at its peak
    warm_up: int = 50  # steps to get there; then a cosine down to a hundredth
    max_grad_norm: float = 1.0
    precision: str = "fp32"  # "bf16" | "fp16": of the convolutions
    ema: float = 0.998  # what is scored and kept is a moving average of the weights; 0: the weights
    seed: int = 0
    teacher: bool = False  # give a network that has none a privileged teacher to learn from
    recipe: str = "paper"  # what is minimised, see `losses.Objective`
    learned_time: float = 0.3  # share of the steps of recipe "4.25" whose timestep is the one that it guesses
    distill_weight: float = 0.01
    mse_weight: float = 0.0  # of the mean squared error, see `losses.Objective`
    flow_weight: float = 0.1  # of known flow, at the start; falls with the cube of the cosine
    perceptual_weight: float = 0.0  # of the perceptual loss that the trainer is given
    random_scales: bool = False  # train with shallower pyramids too, as 4.25 was
    score_every: int = 0  # steps between looks at the held-out frames; 0: only before and after
    allow_worse: bool = False  # whether the result may be worse on them than the start
    workers: int = 0  # threads that prepare data ahead


def learning_rate(step: int, settings: Settings) -> float:
    """Returns the rate of a step, counted from 0: linear warm-up, then a cosine down to a hundredth (RIFE's train.py:
    3e-4 to 3e-6)."""
    warm = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    return settings.learning_rate * warm * decay(step, settings)


def decay(step: int, settings: Settings) -> float:
    """Returns the cosine from 1 to a hundredth, after the warm-up; step counts from 0."""
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


def seed_of(settings: Settings, step: int, index: int | str) -> int:
    """Decides example `index` of a step, and with a name whatever else is random there."""
    digest = hashlib.blake2b(f"{settings.seed}/{step}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def pyramid(scales: Sequence[float], seed: int) -> tuple[float, ...]:
    """Draws the downscales of one step: 40% as they are, 30% the coarse ones halved, 30% also none above 4.

    For (16, 8, 4, 2, 1) the three pyramids that 4.25 was trained with.
    """
    drawn = draw(seed)
    if drawn < 0.4:
        return tuple(scales)
    halved = tuple(s / 2 if s > 2 else s for s in scales)
    return halved if drawn < 0.7 else tuple(min(s, 4) for s in halved)


def draw(seed: int) -> float:
    """Returns a number from 0 to 1 that the seed decides."""
    return float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
