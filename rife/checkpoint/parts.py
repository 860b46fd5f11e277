"""Separates what of a file inference needs, what only training needs, and what neither does.

Released files carry teachers, guessers of time and half-finished refinements; other people's carry loss networks,
counters and buffers. None of it may keep a network from loading. What the student itself lacks or has in another
shape is damage, which `build.check_tensors` refuses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..losses.auxiliary import TimePredictor
from ..networks.config import IFNetConfig
from ..networks.three_networks import LegacyConfig
from .build import FLOATS, empty_network

_LINES = 20  # of what is left out that are said
# 4.25's name of its teacher, and ours, which is the paper's.
_TEACHER, _BLOCK_TEA, _TIMER = "teacher.", "block_tea.", "caltime."


class Parts(NamedTuple):
    """Holds a state dict, taken apart."""

    config: IFNetConfig | LegacyConfig  # with those of the optional networks that the file really holds
    network: dict[str, Tensor]  # what the network is built from
    training: dict[str, Tensor]  # `block_tea.` and `caltime.` of 4.25's kind, for those who go on training it
    left_out: tuple[str, ...]  # what else there is, a line each


def separate(config: IFNetConfig | LegacyConfig, state_dict: Mapping[str, Tensor]) -> Parts:
    """Returns the parts of a state dict (keys as `clean_keys` gives them) that `config` was found for.

    Training-only networks count where all their tensors are there, in the shapes that training needs. Nothing of the
    student is left out, whether it fits or not: that is for `build.check_tensors` to see.
    """
    if isinstance(config, LegacyConfig):
        return _take_apart(config, state_dict, {}, {})
    reasons: dict[str, str] = {}
    config = replace(
        config,
        teacher=_teacher_fits(config, state_dict, reasons),
        refine=_usable_refinement(config, state_dict, reasons),
    )
    training = _training_parts(config, state_dict, reasons)
    return _take_apart(config, state_dict, training, reasons)


def _take_apart(
    config: IFNetConfig | LegacyConfig,
    state_dict: Mapping[str, Tensor],
    training: dict[str, Tensor],
    reasons: Mapping[str, str],
) -> Parts:
    depth = 2 if isinstance(config, LegacyConfig) else 1
    wanted = empty_network(config).state_dict()
    modules = {tuple(key.split(".")[:depth]) for key in wanted}
    network, others = {}, Counter[str]()
    for key, value in state_dict.items():
        module = tuple(key.split(".")[:depth])
        # A block too many, too, is one of a student that is not whole.
        if module in modules or re.fullmatch(r"block\d+", module[-1]):
            network[key] = value
        elif key.startswith(_TEACHER) and any(k.startswith(_BLOCK_TEA) for k in training):
            continue
        elif not (key.startswith(_TIMER) and key in training):
            others[key.partition(".")[0]] += 1
    lines = [f"{part} ({_count(n)}{reasons.get(part, '')})" for part, n in sorted(others.items())]
    if len(lines) > _LINES:
        lines[_LINES:] = [f"{len(lines) - _LINES} other parts"]
    return Parts(config, network, training, tuple(lines))


def _count(tensors: int) -> str:
    return "1 tensor" if tensors == 1 else f"{tensors} tensors"


def _teacher_fits(config: IFNetConfig, state_dict: Mapping[str, Tensor], reasons: dict[str, str]) -> bool:
    """Whether `block_tea` is one that this network can learn from. 4.0's takes inputs that nobody published."""
    bare = replace(config, teacher=True, refine="")
    fits = _fits(empty_network(bare).state_dict(), _BLOCK_TEA, state_dict)
    reasons["block_tea"] = ", a teacher of another shape than this network's training needs"
    return fits


def _usable_refinement(config: IFNetConfig, state_dict: Mapping[str, Tensor], reasons: dict[str, str]) -> str:
    """The refinement that is built: none where inference can do without it and it is not whole."""
    if not config.refine or config.refine_default:
        note = ", half of a refinement: frames are not refined" if config.refine_default else ""
        reasons |= dict.fromkeys(("contextnet", "unet"), note)
        return config.refine
    wanted = empty_network(replace(config, teacher=False)).state_dict()
    whole = all(_fits(wanted, prefix, state_dict) for prefix in ("contextnet.", "unet."))
    reasons |= dict.fromkeys(
        ("contextnet", "unet"), ", a refinement that is not whole; this release does without"
    )
    return config.refine if whole else ""


def _training_parts(
    config: IFNetConfig, state_dict: Mapping[str, Tensor], reasons: dict[str, str]
) -> dict[str, Tensor]:
    """4.25's `teacher.` (as `block_tea.`) and `caltime.`, each where it fits."""
    found: dict[str, Tensor] = {}
    teacher = {
        _BLOCK_TEA + key.removeprefix(_TEACHER): value
        for key, value in state_dict.items()
        if key.startswith(_TEACHER)
    }
    if teacher and not config.teacher:
        wanted = empty_network(replace(config, teacher=True, refine="")).state_dict()
        if _fits(wanted, _BLOCK_TEA, teacher):
            found |= {key: value for key, value in teacher.items() if key in wanted}
    reasons["teacher"] = ", a teacher of another shape than this network's training needs"
    with torch.device("meta"):
        timer = {_TIMER + k: v for k, v in TimePredictor(config.head_channels).state_dict().items()}
    if config.head and _fits(timer, _TIMER, state_dict):
        found |= {key: state_dict[key] for key in timer}
    reasons["caltime"] = ", a guesser of time of another shape than this network's training needs"
    return found


def _fits(wanted: Mapping[str, Tensor], prefix: str, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether all wanted tensors whose names begin with `prefix` are there, of that shape, and finite weights."""
    for key, like in wanted.items():
        if not key.startswith(prefix) or key.endswith("num_batches_tracked"):
            continue
        value = state_dict.get(key)
        if value is None or value.shape != like.shape or value.dtype not in FLOATS or value.is_meta:
            return False
        if not torch.isfinite(value.float()).all():
            return False
    return True
