"""Measures what a network is worth on frames that it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ..evaluation.metrics import psnr, ssim
from ..model.model import Model

HeldOut = Mapping[str, Sequence[Tensor]]  # name of a set -> triplets (3,3,H,W) uint8 with their true middle


class Score(NamedTuple):
    """Holds means over held-out triplets at t = 0.5: of the model, and of frame averaging; PSNR in dB."""

    psnr: float
    ssim: float
    average_psnr: float


def mean_psnr(scores: Mapping[str, Score]) -> float:
    """Returns the mean PSNR in dB over the held-out sets, each counted once."""
    return sum(score.psnr for score in scores.values()) / len(scores)


def score_triplets(model: Model, triplets: HeldOut) -> dict[str, Score]:
    """Scores the model on (3,3,H,W) uint8 triplets, rounded to 8 bit as in the papers (`rife.evaluation.metrics`), by
    the names of their sets."""
    scores = {}
    for name, rows in triplets.items():
        table = []
        for row in rows:
            img0, gt, img1 = (x[None].float() / 255 for x in row)
            ours = model.inference(img0, img1)
            table.append((psnr(ours, gt), ssim(ours[0], gt[0]), psnr((img0 + img1) / 2, gt)))
        if table:
            scores[name] = Score(*(sum(column) / len(column) for column in zip(*table, strict=True)))
    return scores
