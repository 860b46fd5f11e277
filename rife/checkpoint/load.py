"""Checkpoints: file -> clean keys -> detect -> build -> load, and save.

A checkpoint tells by its tensors what it is. What tensors cannot tell comes, in this order, from `variant`, from the
file's own metadata (files saved here), or from `twins.decide`.
Nothing in a file is ever executed: see `files`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..atomic_write import atomic_write
from ..networks.adaptive import build_network
from ..networks.config import RELEASES, IFNetConfig
from ..networks.three_networks import LEGACY_RELEASES, LegacyConfig, LegacyRIFE, detect_legacy
from .ambiguous import decide, twins_of
from .files import SUFFIXES, UnknownCheckpointError, first_line, read_file

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model", "net", "generator", "ema")
_PREFIXES = ("module.", "_orig_mod.", "state_dict.", "model.", "net.", "generator.")
# Training-only networks that official files carry; inference does not need them.
_DROPPED = ("teacher.", "caltime.")
_PARTS = {"flownet": "flownet", "contextnet": "contextnet", "unet": "fusionnet", "fusionnet": "fusionnet"}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_BLOCKS = 8  # released: 3 to 5


def load_network(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> nn.Module:
    """Network in float32 on the CPU, in eval mode, from a file, a folder or a state dict.

    source: .safetensors, .pkl, .pth, .pt; or a folder with flownet.* (and contextnet.*, unet.* for the
    three-network families); or a state dict in any of the spellings in circulation.
    variant: a key of `RELEASES` or `LEGACY_RELEASES`, to decide between twins (RIFE/RIFE_2R, 3.6/3.8).
    Raises FileNotFoundError, UnknownCheckpointError.
    """
    if isinstance(source, Mapping):
        name, raw, metadata, hint = "the state dict", source, {}, ""
    else:
        name, (raw, metadata) = str(source), read_file(source)
        hint = "/".join(Path(source).parts[-2:])
    try:
        state_dict = clean_keys(_merged(raw))
        config, reason = _config_of(state_dict, metadata, variant, hint)
        network = _build(config, state_dict)
    except UnknownCheckpointError as error:
        raise UnknownCheckpointError(f"{name}: {error}") from error
    network.decided_by = reason
    versions = ", ".join(config.versions) or "own training"
    log.info("RIFE from %s: %s, versions %s, decided by %s", name, config.family, versions, reason)
    return network


def _merged(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """One state dict of what a folder's files hold, in the spelling of the three-network families."""
    parts = {part: clean_keys(raw[part]) for part in _PARTS if isinstance(raw.get(part), Mapping)}
    if "flownet" not in parts:
        return raw
    # The folder of a later version may still hold the other two files of an old one.
    if not _is_legacy(parts["flownet"]):
        return parts["flownet"]
    return {
        f"{_PARTS[part]}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()
    }


def clean_keys(raw: Mapping[str, Any]) -> StateDict:
    """The tensors of a state dict in the released files' spelling.

    Unwraps {'state_dict': ...} and the like, strips DDP's, torch.compile's and wrappers' prefixes, turns
    ComfyUI's `blocks.N.` into `blockN.`, drops `teacher.` and `caltime.`. Raises UnknownCheckpointError where two
    tensors would get one name.
    """
    for _ in range(8):  # a damaged file may wrap itself
        inner = next((raw[k] for k in _WRAPPERS if isinstance(raw.get(k), Mapping)), None)
        if inner is None:
            break
        raw = inner
    tensors = {k: v for k, v in raw.items() if isinstance(k, str) and isinstance(v, Tensor)}
    three_networks = any("fusionnet." in key for key in tensors)
    prefixes = _PREFIXES if three_networks else (*_PREFIXES, "flownet.")
    cleaned = {}
    for key, value in tensors.items():
        while prefix := next((p for p in prefixes if key.startswith(p)), None):
            key = key[len(prefix) :]
        if key.startswith(_DROPPED):
            continue
        key = re.sub(r"^blocks\.(\d+)\.", r"block\1.", key)
        if key in cleaned:
            raise UnknownCheckpointError(
                f"{key} is there twice, under different prefixes: the file holds several networks. Save one of them."
            )
        cleaned[key] = value
    return cleaned


def detect(state_dict: Mapping[str, Tensor]) -> IFNetConfig | LegacyConfig:
    """The architecture of a state dict in any spelling, from names and shapes alone.

    Raises UnknownCheckpointError with what was found and what was expected.
    """
    state_dict = clean_keys(state_dict)
    if _is_legacy(state_dict):
        try:
            return detect_legacy(state_dict)
        except ValueError as error:
            raise UnknownCheckpointError(str(error)) from error
    shape_of = {key: tuple(value.shape) for key, value in state_dict.items()}
    try:
        found = _read_shapes(shape_of)
    except UnknownCheckpointError:
        raise
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UnknownCheckpointError(
            f"This looks like a RIFE with parts missing (no usable {error}); it has {len(shape_of)} tensors. "
            "The file was cut down or belongs to a fork; get the released file."
        ) from error
    return _complete(found)


def _is_legacy(state_dict: StateDict) -> bool:
    flow = ("", "flownet.")
    marks = ("block0.res0.", "block0.conv1.weight", "block0.convblock0.0.weight")
    if any(key.startswith(("fusionnet.", "flownet.")) for key in state_dict):
        return True
    return any(key.startswith(p + mark) for key in state_dict for p in flow for mark in marks)


def _read_shapes(shape: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of IFNetConfig that names and shapes decide."""
    if "block0.conv0.1.0.weight" not in shape:
        raise UnknownCheckpointError(_not_rife(shape))
    n = 1
    while f"block{n}.conv0.1.0.weight" in shape:
        n += 1
    if n > _MAX_BLOCKS:
        raise UnknownCheckpointError(
            f"it has {n} blocks, released versions have 3 to 5. It belongs to a fork."
        )
    act = "prelu" if "block0.conv0.0.1.weight" in shape else "leaky"
    found: dict[str, Any] = {
        "channels": tuple(shape[f"block{i}.conv0.1.0.weight"][0] for i in range(n)),
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
        width, per_group = shape["block0.convblock.0.conv.weight"][:2]
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
        channels = shape["block0.lastconv.0.weight"][1] // 4
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
            mid = shape[f"encode.{first}.weight"][0]
            return {"head": head, "head_mid": mid, "head_channels": shape[f"encode.{last}.weight"][1]}
    return {}


def _input_fields(shape: dict[str, tuple[int, ...]], found: dict[str, Any], n: int) -> dict[str, Any]:
    first = shape["block0.conv0.0.0.weight"][1]
    later = shape["block1.conv0.0.0.weight"][1] if n > 1 else None
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


_FILE_PARTS = ("teacher", "refine", "refine_act")


def _complete(found: dict[str, Any]) -> IFNetConfig:
    """Adds what tensors cannot say: from the first released version of these shapes, else by the general rule."""
    shaped = {k: v for k, v in found.items() if k not in _FILE_PARTS}
    parts = {"teacher": False, "refine": "", **{k: v for k, v in found.items() if k in _FILE_PARTS}}
    defaults = {"groups": 1, "trunk_skip": False, "zero_init": False, "head": "", "raw_inputs": False}
    for row in RELEASES.values():
        if all(getattr(row, k) == v for k, v in {**defaults, **shaped}.items()):
            return _with_parts(row, parts)
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
        mask_add="head" not in shaped,
        ensemble=ensemble,
        refine_default=bool(shaped["raw_inputs"]),
        pad=max(32, 4 * scales[0]),
        **shaped,
    )
    return _with_parts(row, parts)


def _with_parts(row: IFNetConfig, parts: dict[str, Any]) -> IFNetConfig:
    """`row` with the optional networks that this file really holds."""
    refine = row.refine or parts["refine"] if parts["refine"] else ""
    return replace(row, **{**parts, "refine": refine})


def _config_of(
    state_dict: StateDict, metadata: Mapping[str, str], variant: str | None, hint: str
) -> tuple[IFNetConfig | LegacyConfig, str]:
    """The architecture, and what decided it; `hint` is the file's name."""
    found = detect(state_dict)
    if variant is not None:
        return _named(variant, found), f"the variant asked for ({variant})"
    if "rife_config" in metadata:
        return _check_metadata(_config_from_metadata(metadata["rife_config"]), found), "the file's metadata"
    twins = twins_of(found) if isinstance(found, IFNetConfig) else ()
    if not twins:
        return found, "names and shapes of its tensors"
    _check_tensors_of(found, state_dict)
    twin, reason = decide(twins, state_dict, hint)
    return _named(twin, found), reason


def _named(variant: str, found: IFNetConfig | LegacyConfig) -> IFNetConfig | LegacyConfig:
    """The release of that name, with the optional networks that the file holds."""
    known = {**RELEASES, **LEGACY_RELEASES}
    if variant not in known:
        raise UnknownCheckpointError(
            f"there is no variant {variant!r}; known are {', '.join(known)}. Leave it out to detect it."
        )
    row = known[variant]
    if isinstance(row, IFNetConfig) and isinstance(found, IFNetConfig):
        return _with_parts(row, {k: getattr(found, k) for k in _FILE_PARTS})
    return row


def _config_from_metadata(text: str) -> IFNetConfig | LegacyConfig:
    try:
        values = json.loads(text)
        if values.pop("network", "ifnet") == "legacy":
            return LegacyConfig.from_dict(values)
        config = IFNetConfig.from_dict(values)
        _check_values(config)
        return config
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownCheckpointError(
            f"the metadata entry rife_config is not usable ({first_line(error)}). Save the checkpoint again."
        ) from error


def _check_values(config: IFNetConfig) -> None:
    """Raises ValueError for what no release has and the network does not know."""
    for field in fields(config):
        value, known = getattr(config, field.name), [getattr(row, field.name) for row in RELEASES.values()]
        if type(value) is not type(known[0]) or (type(value) is tuple and {type(n) for n in value} != {int}):
            raise ValueError(f"{field.name} is {str(value)[:40]!r}")
        free = field.name == "family" or (field.name, value) == ("sampling", "bicubic")
        if type(value) is str and value not in known and not free:
            raise ValueError(f"{field.name} is {value[:40]!r}, known are {sorted(set(known))}")


_READ_FROM_TENSORS = (
    "channels",
    "trunk",
    "groups",
    "tail",
    "tail_channels",
    "head",
    "head_mid",
    "head_channels",
)


def _check_metadata(
    config: IFNetConfig | LegacyConfig, found: IFNetConfig | LegacyConfig
) -> IFNetConfig | LegacyConfig:
    """`config`, held against what the tensors say, so that nothing of another size is ever built."""
    if type(config) is not type(found):
        wrong = ["network"]
    elif isinstance(config, IFNetConfig):
        wrong = [name for name in _READ_FROM_TENSORS if getattr(config, name) != getattr(found, name)]
        powers = {2**i for i in range(8)}
        wrong += (
            ["scales"] if len(config.scales) != len(config.channels) or set(config.scales) - powers else []
        )
        wrong += ["pad"] if config.pad not in powers else []
        wrong += ["stem_stride"] if config.stem_stride not in (1, 2) else []
        wrong += ["dissolve"] if config.dissolve and not config.feat_channels else []
    else:
        wrong = [] if config == found else ["family"]
    if wrong:
        raise UnknownCheckpointError(
            f"the metadata does not fit the tensors ({', '.join(wrong)}). Somebody edited one of them: load it with "
            "its version as variant, or save it again."
        )
    return config


def _check_tensors_of(config: IFNetConfig | LegacyConfig, state_dict: StateDict) -> nn.Module:
    """The network without weights, after `state_dict` was found to fit it."""
    with torch.device("meta"):
        network = LegacyRIFE(config) if isinstance(config, LegacyConfig) else build_network(config)
    _check_tensors(network, state_dict, config)
    return network


def _build(config: IFNetConfig | LegacyConfig, state_dict: StateDict) -> nn.Module:
    network = _check_tensors_of(config, state_dict)
    # Weights are copied, never shared with the caller's or a memory-mapped file's tensors.
    tensors = {key: value.detach().to("cpu", _plain(value), copy=True) for key, value in state_dict.items()}
    wanted = network.state_dict()
    stored = [value.dtype for key, value in state_dict.items() if key in wanted and value.is_floating_point()]
    network.stored_dtype = max(set(stored), key=stored.count)
    network.load_state_dict(
        {key: tensors.get(key, torch.zeros((), dtype=torch.int64)) for key in wanted}, assign=True
    )
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def _plain(value: Tensor) -> torch.dtype:
    return torch.float32 if value.is_floating_point() else value.dtype


def _check_tensors(network: nn.Module, state_dict: StateDict, config: IFNetConfig | LegacyConfig) -> None:
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
        if tensor.dtype not in _FLOATS:
            raise UnknownCheckpointError(
                f"{key} is {tensor.dtype}, weights must be floating point of 16, 32 or 64 bits. Quantised files are "
                "not supported: get the original."
            )
        if tensor.is_meta:
            raise UnknownCheckpointError(
                f"{key} is a meta tensor: a shape with no data. Load the weights before handing them over."
            )
        # A NaN would reach the sampling grid of a warp, which may end the whole process.
        if not torch.isfinite(tensor.float()).all():
            raise UnknownCheckpointError(
                f"{key} contains NaN or infinity, so no frame can come out. The training that wrote the file "
                "diverged, or the file is damaged: use an earlier checkpoint."
            )


def save_checkpoint(
    model: Any,
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Writes a Model's or network's weights as safetensors; its metadata says what it is.

    path: the file, .safetensors is appended if absent. dtype: cast on the way (float16 halves the file).
    notes: more metadata, which loading does not ask for.
    Written to a temporary name in the same folder, then renamed: never a half file under `path`.
    Raises ValueError, before anything is written, for weights that are not finite or too large for `dtype`.
    """
    network = getattr(model, "net", model)
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    tensors = {key: _to_store(key, value, dtype) for key, value in network.state_dict().items()}
    kind = "legacy" if isinstance(network.config, LegacyConfig) else "ifnet"
    config = json.dumps({"network": kind, **network.config.to_dict()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(
            tensors, temporary, {**(notes or {}), "format": "pt", "rife_config": config}
        )
    return path


def _to_store(key: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if not value.is_floating_point():
        return value.detach().cpu().contiguous()
    stored = value.detach().to("cpu", dtype or value.dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise ValueError(
            f"{key} has values up to {float(value.abs().max()):g}, which are no weights that {stored.dtype} can hold. "
            "If they were finite, save as bfloat16 or float32; else the training diverged: use an earlier checkpoint."
        )
    return stored


def convert(
    source: str | os.PathLike,
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
) -> Path:
    """Any file or folder that `load_network` reads -> one safetensors file that says what it is; where it is.

    dtype: of the weights; default that of the source (float32 for float64), so that no bit changes. Networks that
    only training needs (`teacher.`, `caltime.`) are left out. ComfyUI's own loader takes the result where it knows
    the architecture, those of five blocks.
    Raises FileNotFoundError, UnknownCheckpointError, ValueError.
    """
    if Path(path).suffix in set(SUFFIXES) - {".safetensors"}:
        raise ValueError(
            f"The result would be {path}, expected a name that ends in .safetensors: name it so."
        )
    network = load_network(source, variant)
    stored = network.stored_dtype
    return save_checkpoint(network, path, dtype or (torch.float32 if stored == torch.float64 else stored))
