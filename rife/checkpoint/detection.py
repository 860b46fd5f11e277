"""Tells what a state dict is, by its names and shapes: keys in one spelling, and the architecture behind them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..networks.config import RELEASES, IFNetConfig
from ..networks.three_networks import LegacyConfig, detect_legacy
from ..timeline.numbers import shortened
from .errors import UnknownCheckpointError

StateDict = dict[str, Tensor]
# Where files keep the weights beside optimisers and counters, and what they put before every name.
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params_ema",
    "params",
    "model",
    "net",
    "generator",
    "ema",
    "ema_state_dict",
    "model_ema",
    "network",
    "ifnet",
    "student",
    "weights",
)
_PREFIXES = ("module.", "_orig_mod.", *(f"{name}." for name in _WRAPPERS))
_LONGEST_NAME = 300  # characters; released: 40
_MOST_SIDES = 8  # dimensions; released: 4
_OF_STUDENT = re.compile(r"(?:^|\.)(?:blocks?\.?\d+|encode)\.")  # names of what every frame needs
_MAX_BLOCKS = 8  # released: 3 to 5


def clean_keys(raw: Mapping[str, Any]) -> StateDict:
    """Returns the tensors of a state dict in the released files' spelling.

    Unwraps {'state_dict': ...} and the like, strips DDP's, torch.compile's and wrappers' prefixes, turns
    ComfyUI's `blocks.N.` into `blockN.`. Raises UnknownCheckpointError where two tensors would get one name,
    and where a weight of the student is no tensor.
    """
    for _ in range(8):  # a damaged file may wrap itself
        inner = next((raw[k] for k in _WRAPPERS if isinstance(raw.get(k), Mapping)), None)
        if inner is None:
            break
        raw = inner
    named = {key: value for key, value in raw.items() if isinstance(key, str)}
    three_networks = any("fusionnet." in key for key in named)
    prefixes = _PREFIXES if three_networks else (*_PREFIXES, "flownet.")
    cleaned: StateDict = {}
    for key, value in named.items():
        if not isinstance(value, Tensor):
            if _OF_STUDENT.search(key):
                raise UnknownCheckpointError(
                    f"{shortened(key)} is a {type(value).__name__}, expected a tensor. The file is damaged, or "
                    "quantised by another program: get the released one."
                )
            continue
        if len(key) > _LONGEST_NAME:
            raise UnknownCheckpointError(
                f"a tensor is called {shortened(key)}, expected a name of {_LONGEST_NAME} characters at most. It is "
                "damaged or another kind of model."
            )
        if value.dim() > _MOST_SIDES:
            raise UnknownCheckpointError(
                f"{shortened(key)} has {value.dim()} dimensions, expected {_MOST_SIDES} at most. It is damaged "
                "or another kind of model."
            )
        while prefix := next((p for p in prefixes if key.startswith(p)), None):
            key = key[len(prefix) :]
        key = re.sub(r"^blocks\.(\d+)\.", r"block\1.", key)
        if key in cleaned:
            raise UnknownCheckpointError(
                f"{shortened(key)} is there twice, under different prefixes: the file holds several networks. Save "
                "one of them."
            )
        cleaned[key] = value
    return cleaned


def detect(state_dict: Mapping[str, Tensor]) -> IFNetConfig | LegacyConfig:
    """Detects the architecture of a state dict in any spelling, from names and shapes alone.

    Raises UnknownCheckpointError with what was found and what was expected.
    """
    return detect_cleaned(clean_keys(state_dict))


def detect_cleaned(state_dict: StateDict) -> IFNetConfig | LegacyConfig:
    """Does what `detect` does, with what `clean_keys` gave. Raises UnknownCheckpointError."""
    if is_legacy(state_dict):
        try:
            return detect_legacy(state_dict)
        except ValueError as error:
            raise UnknownCheckpointError(str(error)) from error
    shape_of = {key: tuple(value.shape) for key, value in state_dict.items()}
    try:
        found = _read_shapes(shape_of)
    except UnknownCheckpointError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise UnknownCheckpointError(
            f"This looks like a RIFE, but its {len(shape_of)} tensors do not fit each other ({error}). "
            "The file is damaged or belongs to a fork; get the released file."
        ) from error
    return _complete(found)


def is_legacy(state_dict: StateDict) -> bool:
    """Tells whether these cleaned keys are those of a three-network RIFE, or of a part of one."""
    flow = ("", "flownet.")
    marks = ("block0.res0.", "block0.conv1.weight", "block0.convblock0.0.weight")
    if any(key.startswith(("fusionnet.", "flownet.")) for key in state_dict):
        return True
    return any(key.startswith(p + mark) for key in state_dict for p in flow for mark in marks)


def _side(shape: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    """A side of a convolution's weights: 0 is what it puts out, 1 what it takes (by group)."""
    found = shape.get(key)
    if found is None:
        raise UnknownCheckpointError(
            f"This looks like a RIFE with parts missing: there is no {shortened(key)} among {len(shape)} tensors. "
            "The file was cut down or belongs to a fork; get the released file."
        )
    if len(found) != 4:
        raise UnknownCheckpointError(
            f"{shortened(key)} has the shape {found}, a convolution's weights have four sides. The file is damaged: "
            "get the released one."
        )
    return found[axis]


def _read_shapes(shape: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of IFNetConfig that names and shapes decide."""
    if "block0.conv0.1.0.weight" not in shape:
        raise UnknownCheckpointError(_not_rife(shape))
    n = 1
    while f"block{n}.conv0.1.0.weight" in shape:
        n += 1
    blocks = {key.partition(".")[0] for key in shape if re.match(r"block[0-9]{1,3}\.", key)}
    beyond = sorted(blocks - {f"block{i}" for i in range(n)})
    if beyond:
        raise UnknownCheckpointError(
            f"block{n} is missing or has no conv0.1.0.weight, though {beyond[-1]} is there. The file is incomplete: "
            "get the released one."
        )
    if n > _MAX_BLOCKS:
        raise UnknownCheckpointError(
            f"it has {n} blocks, released versions have 3 to 5. It belongs to a fork."
        )
    act = "prelu" if "block0.conv0.0.1.weight" in shape else "leaky"
    found: dict[str, Any] = {
        "channels": tuple(_side(shape, f"block{i}.conv0.1.0.weight", 0) for i in range(n)),
        "act": act,
        "teacher": any(key.startswith("block_tea.") for key in shape),
        **_trunk_fields(shape, act),
        **_tail_fields(shape),
        **_head_fields(shape),
    }
    if any(k.startswith("contextnet.") for k in shape) and any(k.startswith("unet.") for k in shape):
        found["refine"] = "unet"
        found["refine_act"] = "prelu" if "unet.up0.1.weight" in shape else "leaky"
    found.update(_input_fields(shape, found, n))
    return found


# What people hold beside RIFE files: a part of a key -> what has it, and what it is for.
_OTHERS = {
    "extract.extract_sublevels.": "FILM: ComfyUI's own Load Frame Interpolation Model takes it",
    "encoder.pyramid1.": "IFRNet, another interpolation network",
    "feat_ext.": "GMFSS, another interpolation network",
    "metricnet.": "GMFSS, another interpolation network",
    "feature_bone.": "EMA-VFI, another interpolation network",
    "comb_block.": "AMT, another interpolation network",
    "fnet.": "RAFT, an optical flow network",
    "diffusion_model.": "a diffusion model: it goes to models/checkpoints",
    "transformer_blocks.": "a diffusion model: it goes to models/diffusion_models",
    "first_stage_model.": "a VAE: it goes to models/vae",
    "decoder.conv_in.": "a VAE: it goes to models/vae",
    "lora_": "a LoRA: it goes to models/loras",
    "conv_first.": "ESRGAN or another upscaler: it goes to models/upscale_models",
    "RDB1.conv1.": "ESRGAN, an upscaler: it goes to models/upscale_models",
    "rdb1.conv1.": "ESRGAN, an upscaler: it goes to models/upscale_models",
}


def _not_rife(shape: Mapping[str, tuple[int, ...]]) -> str:
    known = next((what for part, what in _OTHERS.items() if any(part in key for key in shape)), "")
    if known:
        return f"not a RIFE network but {known}. Choose a RIFE file here."
    example = ", ".join(sorted(shape)[:4]) or "nothing"
    return (
        f"not a RIFE network: {len(shape)} tensors, such as {example}; a RIFE has block0.conv0.1.0.weight. "
        "FILM, IFRNet, GMFSS and upscalers need their own loaders."
    )


def _trunk_fields(shape: dict[str, tuple[int, ...]], act: str) -> dict[str, Any]:
    if "block0.convblock.0.beta" in shape:
        width, per_group = (_side(shape, "block0.convblock.0.conv.weight", axis) for axis in (0, 1))
        return {"trunk": "res", "groups": width // per_group}
    if "block0.convblock.0.conv.weight" in shape:
        raise UnknownCheckpointError(
            "the ResConv blocks have no beta: somebody folded it into the convolution, as exporters do. "
            "Use the original file."
        )
    if "block0.convblock.0.0.weight" in shape:
        return {"trunk": "plain", "trunk_skip": act == "prelu"}
    if "block0.convblock0.0.0.weight" in shape:
        return {"trunk": "pair", "zero_init": True}
    raise UnknownCheckpointError(
        "block0 has none of the trunks of released versions (convblock.0.beta, convblock.0.0.weight, "
        "convblock0.0.0.weight). The file belongs to a fork or is incomplete."
    )


def _tail_fields(shape: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    if "block0.lastconv.weight" in shape:
        return {"tail": "deconv", "tail_channels": 5}
    if "block0.lastconv.0.weight" in shape:
        channels = _side(shape, "block0.lastconv.0.weight", 1) // 4
        if channels not in (5, 6, 13):
            raise UnknownCheckpointError(
                f"block0.lastconv puts out {channels} channels, released versions have 5, 6 or 13. "
                "The file belongs to a fork."
            )
        return {"tail": "shuffle", "tail_channels": channels}
    if "block0.conv1.2.weight" in shape:
        return {"tail": "split2", "tail_channels": 5}
    if "block0.conv1.0.weight" in shape:
        return {"tail": "split1", "tail_channels": 5}
    raise UnknownCheckpointError(
        "block0 has no output layer (lastconv, or conv1 and conv2). The file is incomplete: download it again."
    )


def _head_fields(shape: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    spellings = (("cnn", "cnn0", "cnn3"), ("seq4", "0", "6"), ("seq2", "0", "1"))
    for head, first, last in spellings:
        if f"encode.{last}.weight" in shape:
            mid, out = _side(shape, f"encode.{first}.weight", 0), _side(shape, f"encode.{last}.weight", 1)
            return {"head": head, "head_mid": mid, "head_channels": out}
    return {}


def _input_fields(shape: dict[str, tuple[int, ...]], found: dict[str, Any], n: int) -> dict[str, Any]:
    first = _side(shape, "block0.conv0.0.0.weight", 1)
    later = _side(shape, "block1.conv0.0.0.weight", 1) if n > 1 else None
    if found["trunk"] == "pair":
        fields, ok = {"timestep": False}, first == 11 and later == 11
    else:
        features = 2 * found.get("head_channels", 0)
        timestep = first - 6 - features
        feat = 8 if found["tail_channels"] == 13 and found["tail"] == "shuffle" else 0
        raw = 0 if later is None else later - (6 + features + timestep + 1 + 4 + feat)
        fields, ok = (
            {"timestep": bool(timestep), "raw_inputs": raw == 6},
            timestep in (0, 1) and raw in (0, 6),
        )
    if not ok:
        raise UnknownCheckpointError(
            f"block0 takes {first} channels and block1 {later}, which no released version does. "
            "The file belongs to a fork."
        )
    return fields


FILE_PARTS = ("teacher", "refine", "refine_act")


def _complete(found: dict[str, Any]) -> IFNetConfig:
    """Adds what tensors cannot say: from the first released version of these shapes, else by the general rule."""
    shaped = {k: v for k, v in found.items() if k not in FILE_PARTS}
    parts = {"teacher": False, "refine": "", **{k: v for k, v in found.items() if k in FILE_PARTS}}
    defaults = {"groups": 1, "trunk_skip": False, "zero_init": False, "head": "", "raw_inputs": False}
    for row in RELEASES.values():
        if all(getattr(row, k) == v for k, v in {**defaults, **shaped}.items()):
            return with_parts(row, parts)
    n = len(shaped["channels"])
    scales = tuple(2**i for i in reversed(range(n)))
    feat = shaped["tail"] == "shuffle" and shaped["tail_channels"] == 13
    if shaped["trunk"] == "pair":
        ensemble = "always"
    else:
        ensemble = "no" if feat or shaped["raw_inputs"] else "optional"
    row = IFNetConfig(
        family="custom",
        scales=scales,
        mask_add="head" not in shaped and not feat,  # which came with 4.7 and 4.21
        ensemble=ensemble,
        refine_default=bool(shaped.get("raw_inputs")),
        pad=max(32, 4 * scales[0]),
        **shaped,
    )
    return with_parts(row, parts)


def with_parts(row: IFNetConfig, parts: dict[str, Any]) -> IFNetConfig:
    """Returns `row` with the optional networks that this file really holds."""
    refine = row.refine or parts["refine"] if parts["refine"] else ""
    return replace(row, **{**parts, "refine": refine})
