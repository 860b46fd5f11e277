"""Keeps an INTERP_MODEL that was trained: a model of its own, which remembers its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..rife.checkpoint.build import build_from_state_dict
from ..rife.model import Model
from ..rife.model.devices import with_fine_dtype
from ..rife.networks.config import IFNetConfig
from . import model_management
from .native import adapt

_KEY = "rife_training"  # under which a patcher, and its clones, carry it


class Training(NamedTuple):
    """Holds what a training leaves behind, so that the next one goes on from it. Nobody changes it."""

    weights: Mapping[str, Tensor]  # float32 on the CPU, whatever the patcher's own precision
    learner: (
        Mapping[str, Any] | None
    )  # optimiser after its last step; None where the weights are not that step's
    losses: Sequence[float]  # one per step, since the model was loaded
    steps: int


def training_of(patcher) -> Training:
    """Returns what `patcher` remembers; for a model that was never trained, its weights alone."""
    remembered = patcher.get_attachment(_KEY) if hasattr(patcher, "get_attachment") else None
    return remembered or Training(plain_weights(patcher.model), None, (), 0)


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copies the weights: float32, on the CPU, and of no inference mode, so that they can be trained."""
    with torch.inference_mode(False):
        return {
            name: tensor.detach().to("cpu", _training_dtype(tensor), copy=True)
            for name, tensor in network.state_dict().items()
        }


def _training_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


def check_trainable(patcher) -> None:
    """Raises ValueError, before any work, for a model that has no training here."""
    network = adapt(patcher).net
    if isinstance(getattr(network, "config", None), IFNetConfig):
        return
    if hasattr(network, "config"):
        raise ValueError(
            f"interp_model is a RIFE of three networks ({'/'.join(network.config.versions)}), expected one of a single "
            "network: no training was ever published for these. Load the bundled checkpoint, RIFE, or any 4.x."
        )
    raise ValueError(
        f"interp_model is a {type(network).__name__} of ComfyUI's own loader, expected one of Load RIFE Checkpoint, "
        "which knows how to train it. Load the same file there; FILM cannot be trained."
    )


def fresh_model(patcher) -> Model:
    """Makes a model with copies of the weights and of the optimiser's state, on the patcher's device, to be trained.

    To be called, and used, outside of inference mode.
    """
    training = training_of(patcher)
    network = build(patcher.model.config, training)
    network.training_parts = patcher.model.training_parts
    model = Model.from_network(model_management.placed(network, patcher.load_device))
    if training.learner is not None:
        model.learner.load_state_dict(training.learner)  # as a copy
    return model


def build(config: IFNetConfig, training: Training) -> nn.Module:
    """Builds a network with copies of the weights, in float32 on the CPU, that can be trained."""
    with torch.inference_mode(False):
        return build_from_state_dict(config, training.weights)


def learner_state(model: Model) -> dict[str, Any]:
    """Returns a copy of the optimiser's state on the CPU."""
    state = copy.deepcopy(model.learner.state_dict())
    for values in state["optimizer"]["state"].values():
        values.update({name: v.cpu() for name, v in values.items() if isinstance(v, Tensor)})
    return state


def trained_patcher(
    config: IFNetConfig,
    training: Training,
    precision: torch.dtype,
    fine: torch.dtype | None = None,
    disable_dynamic: bool = False,
):
    """Makes an INTERP_MODEL of the weights in `training`, which it carries. ComfyUI keeps this as a recipe, too.

    precision, fine: dtypes of the weights and of the last trunks (`IFNet.fine_dtype`), those of the model that it was
    trained from.
    """
    network = with_fine_dtype(build(config, training), fine)
    patcher = model_management.make_patcher(network, precision, disable_dynamic)
    patcher.cached_patcher_init = (trained_patcher, (config, training, precision, fine))
    patcher.set_attachments(_KEY, training)
    return patcher


def loss_map(losses: Sequence[float]) -> dict[str, list[float]]:
    """Makes a LOSS_MAP of `losses`, one per step, of at least two values that differ: ComfyUI's Plot Loss Graph divides
    by their range."""
    values = [loss for loss in losses if math.isfinite(loss)] or [0.0]
    values = values * 2 if len(values) == 1 else values
    if min(values) == max(values):
        values[0] += 1e-6 * max(1.0, abs(values[0]))
    return {"loss": values}
