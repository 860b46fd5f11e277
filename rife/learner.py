"""One step of training: forward, loss, gradients, optimiser; nothing that is not finite gets through."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .ifnet import IFNet, Prediction
from .losses import Objective

# What the convolutions compute in; weights, warps, losses and the optimiser stay in float32.
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MOST_SKIPPED = 50  # steps in a row without a usable gradient, after which training has diverged


class Batch(NamedTuple):
    """What one forward pass learns from, on the network's device."""

    imgs: Tensor  # (B,6,H,W), img0 and img1
    gt: Tensor  # (B,3,H,W), the true frame at `timestep`
    timestep: float | Tensor = 0.5  # float or (B,)
    flow: Tensor | None = None  # (B,4,H,W) in pixels, t->0 and t->1, where the data knows it


class _Trainable(nn.Module):
    """What DistributedDataParallel wraps: its forward is the training pass."""

    def __init__(self, net: IFNet):
        super().__init__()
        self.net = net

    def forward(self, batch: Batch, scale_list: tuple[float, ...] | None) -> Prediction:
        img0, img1 = batch.imgs[:, :3], batch.imgs[:, 3:6]
        return self.net.predict(img0, img1, batch.timestep, scale_list, gt=batch.gt, keep_stages=True)


class Learner:
    """Trains an `IFNet` in place: `backward` once or more, then `step`.

    local_rank: index of this process's device under DistributedDataParallel; -1 for a single process.
    """

    def __init__(self, net: IFNet, local_rank: int = -1):
        self.net = net
        self.skipped = 0  # steps in a row that changed nothing
        self._broken = False
        self._forward: nn.Module = _Trainable(net)
        like = next(net.parameters())
        if like.is_inference():
            raise ValueError(
                "the weights were made in torch.inference_mode, which allows no training. Train `model.copy()`."
            )
        if local_rank != -1:
            ids = [local_rank] if like.device.type == "cuda" else None
            # A refinement that the pass does not use has no gradients to wait for.
            unused = bool(net.config.refine) and not net.config.refine_default
            self._forward = DistributedDataParallel(
                self._forward, device_ids=ids, find_unused_parameters=unused
            )
        # The large weight decay guards against NaN (official code).
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, weight_decay=1e-3)
        self._scaler = torch.amp.GradScaler(like.device.type, enabled=False)

    def evaluate(
        self, batch: Batch, objective: Objective, **options: Any
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """`backward` without gradients."""
        with torch.no_grad():
            prediction, _, losses = self._loss(_Trainable(self.net), batch, objective, **options)
        return prediction, losses

    def backward(
        self, batch: Batch, objective: Objective, share: float = 1.0, last: bool = True, **options: Any
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Adds `share` of the gradients of the loss to those of the step; returns prediction and losses, detached.

        last: whether `step` comes next; only then are the gradients of all processes averaged.
        options: scale_list, the pyramid; precision, a key of `PRECISIONS`.
        """
        batch = Batch(*(x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in batch))
        alone = not isinstance(self._forward, DistributedDataParallel)
        with nullcontext() if alone or last else self._forward.no_sync():
            prediction, total, losses = self._loss(self._forward, batch, objective, **options)
            self._use_scaler(options.get("precision") == "fp16")
            # A NaN that reaches the backward of grid_sample on the CPU ends the process: ask before.
            if self._everywhere(torch.isfinite(total.detach())):
                self._scaler.scale(total * share).backward()
            else:
                self._broken = True
        return _detached(prediction), {name: loss.detach() for name, loss in losses.items()}

    def step(self, learning_rate: float, max_grad_norm: float | None = None) -> bool:
        """Applies the gradients, clipped to `max_grad_norm`; returns whether they had to be dropped.

        They are where a loss or a gradient is not finite. Raises RuntimeError after `MOST_SKIPPED` such in a row.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        dropped = self._broken or not self._apply(max_grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        self._broken = False
        self.skipped = self.skipped + 1 if dropped else 0
        if self.skipped >= MOST_SKIPPED:
            raise RuntimeError(
                f"{self.skipped} steps in a row gave a loss or gradient that is not finite: training diverged. "
                "Lower the learning rate and go on from the last good checkpoint; with fp16, try bf16 or fp32."
            )
        return dropped

    def state_dict(self) -> dict[str, Any]:
        """Of the optimiser and the loss scaling: with the weights, all that the next step depends on."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave, as a copy."""
        with torch.inference_mode(False), torch.no_grad():
            self.optimizer.load_state_dict(_copied(state["optimizer"]))
        if state["scaler"]:
            self._use_scaler(True)
            self._scaler.load_state_dict(state["scaler"])

    def _loss(
        self, forward, batch: Batch, objective: Objective, scale_list=None, precision: str = "fp32"
    ) -> tuple[Prediction, Tensor, dict[str, Tensor]]:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}.")
        dtype = PRECISIONS[precision]
        with torch.autocast(batch.imgs.device.type, dtype, enabled=dtype is not None):
            prediction = forward(batch, scale_list)
        return prediction, *objective(prediction, batch.gt, batch.flow)

    def _apply(self, max_grad_norm: float | None) -> bool:
        """Steps if the gradients are finite; the same on all processes, whose gradients are the same."""
        if not any(parameter.grad is not None for parameter in self.net.parameters()):
            return False
        self._scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), max_grad_norm or float("inf"))
        finite = bool(torch.isfinite(norm))
        if finite or self._scaler.is_enabled():
            self._scaler.step(self.optimizer)  # which itself leaves the weights alone where it found infinity
            self._scaler.update()
        return finite

    def _use_scaler(self, wanted: bool) -> None:
        if wanted != self._scaler.is_enabled():
            device = next(self.net.parameters()).device.type
            self._scaler = torch.amp.GradScaler(device, enabled=wanted)

    def _everywhere(self, finite: Tensor) -> bool:
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
    tea = (prediction.flow_tea, prediction.merged_tea)
    flow_tea, merged_tea = (None if x is None else x.detach() for x in tea)
    image, flow, mask = (x.detach() for x in (prediction.image, prediction.flow, prediction.mask))
    return Prediction(image, flow, mask, flow_tea=flow_tea, merged_tea=merged_tea)
