"""Defines what one step of training minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..networks.prediction import Prediction
from ..timeline.numbers import shortened
from .functional import distillation_loss, flow_loss, laplacian_loss, ssim, time_loss

Parts = dict[str, tuple[float, Tensor]]  # name of a loss -> its weight, the loss


@dataclass(frozen=True)
class Recipe:
    """Says how a release was trained, as far as releases differ in it."""

    losses: Callable[[Objective, Prediction, Tensor], Parts]
    weight_decay: float  # of AdamW; so large that it guards against NaN
    second_teacher: bool  # whether the mixture of all blocks teaches, too (`mix` of `IFNet.predict_from`)
    guesses_time: bool  # whether an `auxiliary.TimePredictor` learns beside networks with a timestep
    encoder_loss: bool  # whether frames are compared by the network's own encoder, `auxiliary.EncoderLoss`
    random_scales: bool  # whether pyramids were shallower in some of the steps (a default of the nodes)
    vgg_weights: Mapping[int, float]  # layer of torchvision's VGG19 `features` -> weight of its difference
    vgg_textures: bool  # Gram matrices of the same layers besides, and frames that are not normalised


@dataclass(frozen=True)
class Objective:
    """Computes what one step minimises.

    recipe: a key of `RECIPES`. distill: weight of the distillation (0.01; 0.005 or 0.002 for RIFE_m). flow: weight of
    the end-point error of every block, where the data knows the flow. mse: weight of the mean squared error besides,
    since absolute ones prefer one guess to a mean of two.
    perceptual: any function of two frames (B,3,H,W) that gives a scalar, such as an LPIPS or VGG distance, times its
    weight. encoder: the same, such as `auxiliary.EncoderLoss`, for recipes that compare by the network's encoder.
    Each part counts where the prediction has it.
    """

    recipe: str = "paper"
    distill: float = 0.01
    flow: float = 0.01
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None
    perceptual_weight: float = 1.0
    encoder: Callable[[Tensor, Tensor], Tensor] | None = None
    mse: float = 0.0

    def __post_init__(self) -> None:
        recipe_of(self.recipe)

    def __call__(
        self,
        prediction: Prediction,
        gt: Tensor,
        flow_gt: Tensor | None = None,
        timestep: float | Tensor = 0.5,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts before they are weighted: loss_l1, loss_tea, loss_distill, loss_flow ..."""
        parts = recipe_of(self.recipe).losses(self, prediction, gt)
        if prediction.time is not None:
            parts["loss_time"] = (1.0, time_loss(prediction.time, timestep))
        if self.mse:
            parts["loss_mse"] = (self.mse, F.mse_loss(prediction.image, gt))
        known = gt.new_zeros(()) if flow_gt is None else flow_loss(prediction.flows, flow_gt)
        parts["loss_flow"] = (self.flow, known)
        if self.perceptual is not None:
            parts["loss_perceptual"] = (self.perceptual_weight, self.perceptual(prediction.image, gt))
        total = sum((weight * loss for weight, loss in parts.values()), gt.new_zeros(()))
        return total, {name: loss for name, (_, loss) in parts.items()}


def _paper_losses(objective: Objective, prediction: Prediction, gt: Tensor) -> Parts:
    """Laplacian loss of student and teacher, and the distillation (ECCV2022-RIFE model/RIFE.py)."""
    tea = prediction.merged_tea
    return {
        "loss_l1": (1.0, laplacian_loss(prediction.image, gt)),
        "loss_tea": (1.0, gt.new_zeros(()) if tea is None else laplacian_loss(tea, gt)),
        "loss_distill": (objective.distill, distillation_loss(prediction, gt)),
    }


def _v425_losses(objective: Objective, prediction: Prediction, gt: Tensor) -> Parts:
    """As the author trained 4.25: L1 of every stage, weighted 0.8^(n-1-i), and of both teachers, the same in the
    features of the network's own encoder, SSIM, a little for short flow; distillation has no margin and half the weight
    per teacher."""
    last = len(prediction.merged) - 1
    stages = [(0.8 ** (last - i), x) for i, x in enumerate(prediction.merged)]
    teachers = [(1.0, merged) for _, merged in prediction.teachers]

    def l1(frames: Sequence[tuple[float, Tensor]]) -> Tensor:
        return sum((share * (x - gt).abs().mean() for share, x in frames), gt.new_zeros(()))

    parts = {
        "loss_l1": (0.1, l1(stages)),
        "loss_tea": (0.1, l1(teachers)),
        "loss_distill": (objective.distill / 2, distillation_loss(prediction, gt, margin=0.0, mean=False)),
        "loss_ssim": (0.1, 1 - ssim(prediction.image, gt, size=3, stride=3, padding=1)),
        "loss_length": (1e-5, ((prediction.flow**2 + 1e-6).sum(1) ** 0.5).mean()),
    }
    encoder = objective.encoder
    if encoder is not None:
        compared = (share * encoder(x, gt) for share, x in stages + teachers)
        parts["loss_encoder"] = (0.1, sum(compared, gt.new_zeros(())))
    return parts


RECIPES = {
    "paper": Recipe(
        losses=_paper_losses,
        weight_decay=1e-3,
        second_teacher=False,
        guesses_time=False,
        encoder_loss=False,
        random_scales=False,
        vgg_weights={1: 0.1 / 2.6, 6: 0.1 / 4.8, 11: 0.1 / 3.7, 20: 0.1 / 5.6, 29: 1 / 1.5},
        vgg_textures=False,
    ),
    "4.25": Recipe(
        losses=_v425_losses,
        weight_decay=1e-2,
        second_teacher=True,
        guesses_time=True,
        encoder_loss=True,
        random_scales=True,
        vgg_weights={1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0},
        vgg_textures=True,
    ),
}


def recipe_of(name: str) -> Recipe:
    """Returns the row of `RECIPES` of that name. Raises ValueError for another name."""
    if name not in RECIPES:
        raise ValueError(f"recipe is {shortened(name)}, expected one of {', '.join(RECIPES)}.")
    return RECIPES[name]
