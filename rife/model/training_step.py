"""Does one step of training: forward, loss, gradients, optimiser; nothing that is not finite gets through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..losses.auxiliary import EncoderLoss, TimePredictor
from ..losses.objective import Objective, recipe_of
from ..networks.ifnet import IFNet
from ..networks.prediction import Prediction
from ..timeline.numbers import shortened
from .devices import TRAINING_PRECISIONS, named_dtype

MOST_SKIPPED = 50  # steps in a row without a usable gradient, after which training has diverged


class Batch(NamedTuple):
    """Holds what one forward pass learns from, on the network's device."""

    imgs: Tensor  # (B,6,H,W), img0 and img1
    gt: Tensor  # (B,3,H,W), the true frame at `timestep`
    timestep: float | Tensor = 0.5  # float or (B,)
    flow: Tensor | None = None  # (B,4,H,W) in pixels, t->0 and t->1, where the data knows it


class _Trainable(nn.Module):
    """What DistributedDataParallel wraps: its forward is the training pass."""

    def __init__(self, net: IFNet, timer: TimePredictor | None = None):
        super().__init__()
        self.net, self.timer = net, timer

    def forward(
        self, batch: Batch, scale_list: tuple[float, ...] | None, mix: bool, guess_time: bool
    ) -> Prediction:
        src0, src1 = (self.net.source(img) for img in batch.imgs.split(3, 1))
        time = None if self.timer is None else self.timer(src0, src1, batch.gt)
        timestep = time if guess_time and time is not None else batch.timestep
        prediction = self.net.predict_from(
            src0, src1, timestep, scale_list, gt=batch.gt, keep_stages=True, mix=mix
        )
        return replace(prediction, time=time)


class TrainingStep:
    """Trains an `IFNet` in place: `backward` once or more, then `step`.

    local_rank: index of this process's device under DistributedDataParallel; -1 for a single process. recipe: a name of
    `losses.RECIPES`, for which the objective of each step shall be; "4.25" decays weights faster, and trains what
    `auxiliary` has beside the network, from the weights of the network's file where that holds them.
    """

    def __init__(self, net: IFNet, local_rank: int = -1, recipe: str = "paper"):
        self.net, self.recipe = net, recipe
        self.skipped = 0  # steps in a row that changed nothing
        self._not_finite = False
        like = next(net.parameters())
        if like.is_inference():
            raise ValueError(
                "the weights were made in torch.inference_mode, which allows no training. Train `model.copy()`."
            )
        rules, config = recipe_of(recipe), net.config
        timer = (
            TimePredictor(config.head_channels).to(like) if rules.guesses_time and config.timestep else None
        )
        if timer is not None and (kept := net.training_part("caltime")):
            timer.load_state_dict(kept)
        self._encoder = EncoderLoss(net.encode) if rules.encoder_loss and config.head else None
        self._unwrapped = _Trainable(net, timer)
        self._weights = list(self._unwrapped.parameters())
        self._forward: nn.Module = self._unwrapped
        if local_rank != -1:
            ids = [local_rank] if like.device.type == "cuda" else None
            # A refinement that the pass does not use has no gradients to wait for.
            unused = bool(config.refine) and not config.refine_default
            self._forward = DistributedDataParallel(
                self._unwrapped, device_ids=ids, find_unused_parameters=unused
            )
        self.optimizer = torch.optim.AdamW(self._weights, lr=1e-6, weight_decay=rules.weight_decay)
        self._scaler = torch.amp.GradScaler(like.device.type, enabled=False)

    def evaluate(
        self, batch: Batch, objective: Objective, **options: Any
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Does what `backward` does, on the same (B,...) frames and with the same results, without gradients. Raises
        ValueError for a precision that training does not know."""
        with torch.no_grad():
            prediction, _, losses = self._loss(self._unwrapped, batch, objective, **options)
        return prediction, losses

    def backward(
        self, batch: Batch, objective: Objective, share: float = 1.0, last: bool = True, **options: Any
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Adds `share` of the gradients of the loss to those of the step; returns prediction (B,...) and losses
        (scalars), detached.

        last: whether `step` comes next; only then are the gradients of all processes averaged.
        options: scale_list, the pyramid; precision, one of `TRAINING_PRECISIONS`, of the convolutions: weights, warps,
        losses and the optimiser stay in float32; guess_time, whether recipe "4.25" uses its
        guess of the timestep in place of the batch's.
        """
        # What inference mode made cannot be kept for the backward pass.
        batch = Batch._make(x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in batch)
        many = self._forward if isinstance(self._forward, DistributedDataParallel) else None
        with nullcontext() if many is None or last else many.no_sync():
            prediction, total, losses = self._loss(self._forward, batch, objective, **options)
            self._use_scaler(options.get("precision") == "fp16")
            # A NaN that reaches the backward of grid_sample on the CPU ends the process: ask before.
            if self._on_all_processes(torch.isfinite(total.detach())):
                self._scaler.scale(total * share).backward()
            else:
                self._not_finite = True
        return _detached(prediction), {name: loss.detach() for name, loss in losses.items()}

    def step(self, learning_rate: float, max_grad_norm: float | None = None) -> bool:
        """Applies the gradients at `learning_rate`, clipped to the norm `max_grad_norm`; returns whether they had to be
        dropped.

        They are where a loss or a gradient is not finite. Raises RuntimeError after `MOST_SKIPPED` such in a row.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        dropped = self._not_finite or not self._apply(max_grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        if self._encoder is not None and not dropped:
            self._encoder.follow(self.net.encode)
        self._not_finite = False
        self.skipped = self.skipped + 1 if dropped else 0
        if self.skipped >= MOST_SKIPPED:
            raise RuntimeError(
                f"{self.skipped} steps in a row gave a loss or gradient that is not finite: training diverged. "
                "Lower the learning rate and go on from the last good checkpoint; with fp16, try bf16 or fp32."
            )
        return dropped

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the optimiser, the loss scaling and the recipe's own networks: with the weights, all
        that the next step depends on."""
        extras = {name: part.state_dict() for name, part in self._extras().items()}
        return {"optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict(), **extras}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave, as a copy."""
        with torch.inference_mode(False), torch.no_grad():
            self.optimizer.load_state_dict(_copied(state["optimizer"]))
            for name, part in self._extras().items():
                part.load_state_dict(state[name])
        if state["scaler"]:
            self._use_scaler(True)
            self._scaler.load_state_dict(state["scaler"])

    def _extras(self) -> dict[str, nn.Module]:
        parts = {"timer": self._unwrapped.timer, "encoder": self._encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def _loss(
        self,
        forward: Callable[..., Prediction],
        batch: Batch,
        objective: Objective,
        scale_list: Sequence[float] | None = None,
        precision: str = "fp32",
        guess_time: bool = False,
    ) -> tuple[Prediction, Tensor, dict[str, Tensor]]:
        """What `forward` predicts, the loss to be minimised, and its parts. Raises ValueError for the precision."""
        if precision not in TRAINING_PRECISIONS:
            raise ValueError(
                f"precision is {shortened(precision)}, expected one of {', '.join(TRAINING_PRECISIONS)}. Use one of "
                "them."
            )
        half = precision != "fp32"
        with torch.autocast(batch.imgs.device.type, named_dtype(precision) if half else None, enabled=half):
            prediction = forward(batch, scale_list, recipe_of(objective.recipe).second_teacher, guess_time)
        objective = replace(objective, encoder=self._encoder)
        return prediction, *objective(prediction, batch.gt, batch.flow, batch.timestep)

    def _apply(self, max_grad_norm: float | None) -> bool:
        """Steps if the gradients are finite; the same on all processes, whose gradients are the same."""
        if not any(parameter.grad is not None for parameter in self._weights):
            return False
        self._scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._weights, max_grad_norm or float("inf"))
        finite = bool(torch.isfinite(norm))
        if finite or self._scaler.is_enabled():
            self._scaler.step(self.optimizer)  # which itself leaves the weights alone where it found infinity
            self._scaler.update()
        return finite

    def _use_scaler(self, wanted: bool) -> None:
        if wanted != self._scaler.is_enabled():
            device = next(self.net.parameters()).device.type
            self._scaler = torch.amp.GradScaler(device, enabled=wanted)

    def _on_all_processes(self, finite: Tensor) -> bool:
        """Whether it holds in every process: the others would wait for ever for the gradients of one that skips."""
        if isinstance(self._forward, DistributedDataParallel):
            finite = finite.int()
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite)


def _copied(value: Any) -> Any:
    """State with all tensors cloned: steps of the one would otherwise change the other."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _detached(prediction: Prediction) -> Prediction:
    """Without the graph, which is spent after the step and would hold all activations."""
    kept: dict[str, Any] = {
        name: None if x is None else x.detach()
        for name, x in vars(prediction).items()
        if name not in ("flows", "merged")  # one per block: nobody asks for them after the step
    }
    return Prediction(**kept)
