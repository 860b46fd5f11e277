"""Defines what a pass of any RIFE network gives, and the timestep that it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """Holds what one forward pass gives."""

    image: Tensor  # (B,3,H,W), the frame at time t
    flow: Tensor  # (B,4,H,W) pixels, x first: from the frame at t into img0, then into img1
    mask: Tensor  # (B,1,H,W) in 0..1, weight of the warped img0, in the dtype of the frames
    # After every block, coarse to fine; only if asked for: the flow, and the frame before refinement.
    flows: list[Tensor] = field(default_factory=list)
    merged: list[Tensor] = field(default_factory=list)
    flow_tea: Tensor | None = None  # of the privileged teacher, which saw the true frame
    merged_tea: Tensor | None = None
    flow_mix: Tensor | None = None  # of 4.25's second teacher, a mixture of all blocks; only if asked for
    merged_mix: Tensor | None = None
    time: Tensor | None = None  # (B,1,1,1), where a `TimePredictor` guesses the timestep

    @property
    def teachers(self) -> list[tuple[Tensor, Tensor]]:
        """Lists flow (B,4,H,W) and frame (B,3,H,W) of each teacher that there is."""
        pairs = ((self.flow_mix, self.merged_mix), (self.flow_tea, self.merged_tea))
        return [(flow, merged) for flow, merged in pairs if flow is not None and merged is not None]


class MakesWholePredictions:
    """Gives `image_from` to networks that make flow and mask as a whole all the same."""

    def image_from(self, *inputs: Any, **options: Any) -> Tensor:
        """Returns the frame (B,3,H,W) of `predict_from`, which takes the same."""
        image: Tensor = cast(Any, self).predict_from(*inputs, **options).image
        return image


def require_middle(timestep: float | Tensor) -> None:
    """Raises ValueError unless the timestep is 0.5 throughout, for networks that know no other."""
    half = bool((timestep == 0.5).all()) if isinstance(timestep, Tensor) else timestep == 0.5
    if not half:
        raise ValueError(
            "This RIFE network has no timestep input and only knows the middle (0.5), another one was asked for. "
            "Use multiplier 2, or RIFEInterpolate, which reaches quarters and eighths by recursion."
        )


def time_tensor(timestep: float | Tensor, img: Tensor) -> Tensor:
    """Returns the timestep as (B,1,1,1) in the dtype of img (B,C,H,W), on its device; as (B,1,H,W) where a map was
    given."""
    if not isinstance(timestep, Tensor):
        return img.new_full((img.shape[0], 1, 1, 1), timestep)
    if timestep.ndim <= 1:
        timestep = timestep.reshape(-1, 1, 1, 1)
    sides = img.shape[2:] if max(timestep.shape[2:]) > 1 else (1, 1)
    return timestep.to(img).expand(img.shape[0], -1, *sides)


def cross_fade_mask(timestep: Tensor) -> Tensor:
    """Returns the mask of the cross-fade at the timestep, both (B,1,h,w), a float32 logit: its sigmoid, the weight of
    img0, is 1 - t."""
    return torch.logit(1 - timestep.float(), eps=1e-6)
