"""Says what an example of training data is, and where examples come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Sample(NamedTuple):
    """Holds one batch of training data: frames (B,3,H,W) in 0..1, flow (B,4,H,W) in pixels, t->0 and t->1."""

    img0: Tensor
    img1: Tensor
    gt: Tensor
    flow: Tensor | None  # None where nobody knows it, as for real frames
    timestep: Tensor  # (B,)


class Source(Protocol):
    """Says where examples come from. What is asked for decides the answer, whoever asks, in whatever order: so a run
    that is interrupted goes on with the same data, any number of processes shares a batch, and threads may prepare it.
    """

    def example(self, seed: int, step: int, progress: float) -> Sample:
        """Gives one example, a batch of 1. All of one step are of one size, and have a flow or none.

        seed: decides what is random; step counts from 0, `progress` is the share of the steps done, 0..1.
        """


def check_crop(crop: int, multiple: int) -> None:
    """Raises ValueError where crops of this side are no multiple of what a network's frames are padded to."""
    if crop % multiple:
        raise ValueError(
            f"crop is {crop}, expected a multiple of {multiple}, which this model's frames are padded to. "
            f"Use {max(1, round(crop / multiple)) * multiple}."
        )


def concatenated(samples: Sequence[Sample]) -> Sample:
    """Makes one batch of several."""
    img0, img1, gt, flows, timestep = zip(*samples, strict=True)
    flow = None if flows[0] is None else torch.cat(flows)
    return Sample(torch.cat(img0), torch.cat(img1), torch.cat(gt), flow, torch.cat(timestep))
