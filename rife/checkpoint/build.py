"""Builds networks out of configurations and weights that fit each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..networks.adaptive import build_network
from ..networks.config import IFNetConfig
from ..networks.ifnet import IFNet
from ..networks.three_networks import LegacyConfig, LegacyRIFE
from ..timeline.numbers import shortened
from .errors import UnknownCheckpointError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


Network = IFNet | LegacyRIFE


def empty_network(config: IFNetConfig | LegacyConfig) -> Network:
    """Builds the network of an architecture on the meta device: names and shapes of its tensors, no weights."""
    with torch.device("meta"):
        return LegacyRIFE(config) if isinstance(config, LegacyConfig) else build_network(config)


def build_from_state_dict(config: IFNetConfig | LegacyConfig, state_dict: Mapping[str, Tensor]) -> Network:
    """Builds the network with copies of these weights: float32, on the CPU, in eval mode, ready to be trained.

    The tensors are known to fit (`check_tensors`); those that the network has no use for are passed over. Counters
    of batch norm that are absent are 0.
    """
    network = empty_network(config)
    zero = torch.zeros((), dtype=torch.int64)
    # Copies: weights are never shared with the caller's or a memory-mapped file's tensors.
    network.load_state_dict(
        {key: _copied(state_dict.get(key, zero)) for key in network.state_dict()}, assign=True
    )
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def _copied(value: Tensor) -> Tensor:
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to("cpu", dtype, copy=True)


def check_tensors(config: IFNetConfig | LegacyConfig, state_dict: Mapping[str, Tensor]) -> None:
    """Raises UnknownCheckpointError unless these are the tensors of that architecture, and finite weights."""
    network = empty_network(config)
    # BatchNorm's step counter is absent from files of old PyTorch versions and means nothing in eval mode.
    wanted = {
        k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    missing = sorted(set(wanted) - set(state_dict))
    extra = sorted(k for k in set(state_dict) - set(wanted) if not k.endswith("num_batches_tracked"))
    shapes = {k: (tuple(state_dict[k].shape), s) for k, s in wanted.items() if k in state_dict}
    wrong = [f"{k} {a}, expected {b}" for k, (a, b) in shapes.items() if a != b]
    if missing or extra or wrong:
        raise UnknownCheckpointError(
            f"the tensors do not fit {config.family} {'/'.join(config.versions)}: missing {missing[:3]} "
            f"({len(missing)} in all), unexpected {extra[:3]} ({len(extra)}), of other shape {wrong[:3]} "
            f"({len(wrong)}). Use the released file, or name its version as variant."
        )
    for key in wanted:
        tensor = state_dict[key]
        if tensor.dtype not in FLOATS:
            raise UnknownCheckpointError(
                f"{shortened(key)} is {tensor.dtype}, weights must be floating point of 16, 32 or 64 bits. "
                "Quantised files are not supported: get the original."
            )
        if tensor.is_meta:
            raise UnknownCheckpointError(
                f"{shortened(key)} is a meta tensor: a shape with no data. Load the weights before handing them over."
            )
        # A NaN would reach the sampling grid of a warp, which may end the whole process.
        if not torch.isfinite(tensor.float()).all():
            raise UnknownCheckpointError(
                f"{shortened(key)} contains NaN or infinity, so no frame can come out. The training that wrote the "
                "file diverged, or the file is damaged: use an earlier checkpoint."
            )
