"""Checkpoints: file -> clean keys -> detect -> build -> load, and save.

A checkpoint tells by its tensors what it is. What tensors cannot tell comes, in this order, from the file's own
metadata (files saved here), from `variant`, or from the table's default (see `config.AMBIGUOUS`).
Nothing in a file is ever executed: pickles are read with `weights_only`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .config import RELEASES, IFNetConfig
from .ifnet import IFNet
from .legacy import LEGACY_RELEASES, LegacyConfig, LegacyRIFE, detect_legacy

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model", "net", "generator", "ema")
_PREFIXES = ("module.", "_orig_mod.", "state_dict.", "model.", "net.", "generator.")
# Training-only networks that official files carry; inference does not need them.
_DROPPED = ("teacher.", "caltime.")
_PARTS = {"flownet": "flownet", "contextnet": "contextnet", "unet": "fusionnet"}
_SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt")


class UnknownCheckpointError(ValueError):
    """The file or state dict is not a RIFE that this package knows; the message says what was found."""


def load_network(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> nn.Module:
    """Network in float32 on the CPU, in eval mode, from a file, a folder or a state dict.

    source: .safetensors, .pkl, .pth, .pt; or a folder with flownet.* (and contextnet.*, unet.* for the
    three-network families); or a state dict in any of the spellings in circulation.
    variant: a key of `RELEASES` or `LEGACY_RELEASES`, to decide between twins (RIFE/RIFE_2R, 3.6/3.8).
    Raises FileNotFoundError, UnknownCheckpointError.
    """
    if isinstance(source, Mapping):
        name, raw, metadata = "the state dict", source, {}
    else:
        name = str(source)
        raw, metadata = read_file(source)
    try:
        state_dict = clean_keys(raw)
        config = _config_of(state_dict, metadata, variant)
        network = _build(config, state_dict)
    except UnknownCheckpointError as error:
        raise UnknownCheckpointError(f"{name}: {error}") from error
    log.info(
        "RIFE from %s: %s, versions %s", name, config.family, ", ".join(config.versions) or "own training"
    )
    return network


def read_file(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """Contents of a checkpoint file or folder, and the metadata of a safetensors file. Executes nothing."""
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no checkpoint at {path}. Give a .safetensors, .pkl, .pth or .pt file, or a folder that "
            "holds flownet.pkl."
        )
    if path.suffix.lower() in (".safetensors", ".sft"):
        return _read_safetensors(path)
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - the many ways a pickle can be broken all mean the same to the user
        raise UnknownCheckpointError(
            f"{path} cannot be read as plain weights ({type(error).__name__}: {_first_line(error)}). It is "
            "damaged, or a pickle that holds more than tensors and would run code: such files are refused. "
            "Download it again, or ask its author for a state dict or a safetensors file."
        ) from error
    if not isinstance(raw, Mapping):
        raise UnknownCheckpointError(
            f"{path} holds a {type(raw).__name__}, expected a state dict (names and tensors). "
            "Save the network's state_dict()."
        )
    return dict(raw), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise UnknownCheckpointError(
            f"{path} is not a valid safetensors file ({_first_line(error)}). It is probably cut short: "
            "download it again."
        ) from error


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    found = {}
    for part in _PARTS:
        files = [folder / f"{part}{suffix}" for suffix in _SUFFIXES]
        found[part] = next((file for file in files if file.is_file()), None)
    if found["flownet"] is None:
        raise FileNotFoundError(
            f"The folder {folder} holds no flownet.pkl (nor .safetensors, .pth, .pt): found "
            f"{sorted(p.name for p in folder.iterdir())[:8]}. Give the folder that the download was unpacked to."
        )
    raw, metadata = read_file(found["flownet"])
    if found["contextnet"] is None and found["unet"] is None:
        return raw, metadata
    merged: dict[str, Any] = {}
    for part, prefix in _PARTS.items():
        if found[part] is not None:
            tensors = clean_keys(raw if part == "flownet" else read_file(found[part])[0])
            merged.update({f"{prefix}.{key}": value for key, value in tensors.items()})
    return merged, metadata


def clean_keys(raw: Mapping[str, Any]) -> StateDict:
    """The tensors of a state dict in the released files' spelling.

    Unwraps {'state_dict': ...} and the like, strips DDP's, torch.compile's and wrappers' prefixes, turns
    ComfyUI's `blocks.N.` into `blockN.`, drops `teacher.` and `caltime.`.
    """
    while True:
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
        if not key.startswith(_DROPPED):
            cleaned[re.sub(r"^blocks\.(\d+)\.", r"block\1.", key)] = value
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
    except (KeyError, IndexError) as error:
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
        example = ", ".join(sorted(shape)[:4]) or "nothing"
        raise UnknownCheckpointError(
            f"not a RIFE network: {len(shape)} tensors, such as {example}; a RIFE has block0.conv0.1.0.weight. "
            "FILM, IFRNet, GMFSS and upscalers need their own loaders."
        )
    n = 1
    while f"block{n}.conv0.1.0.weight" in shape:
        n += 1
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
    state_dict: StateDict, metadata: Mapping[str, str], variant: str | None
) -> IFNetConfig | LegacyConfig:
    found = detect(state_dict)
    if variant is None and "rife_config" in metadata:
        return _config_from_metadata(metadata["rife_config"])
    if variant is None:
        return found
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
        kind = values.pop("network", "ifnet")
        return (LegacyConfig if kind == "legacy" else IFNetConfig).from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnknownCheckpointError(
            f"the metadata entry rife_config is not usable ({_first_line(error)}). Save the checkpoint again."
        ) from error


def _build(config: IFNetConfig | LegacyConfig, state_dict: StateDict) -> nn.Module:
    with torch.device("meta"):
        network = LegacyRIFE(config) if isinstance(config, LegacyConfig) else IFNet(config)
    _check_tensors(network, state_dict, config)
    # Weights are copied, never shared with the caller's or a memory-mapped file's tensors.
    tensors = {key: value.detach().to("cpu", _plain(value), copy=True) for key, value in state_dict.items()}
    wanted = network.state_dict()
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
        if not tensor.is_floating_point():
            raise UnknownCheckpointError(
                f"{key} is {tensor.dtype}, weights must be floating point. Quantised files are not supported."
            )
        # A NaN would reach the sampling grid of a warp, which may end the whole process.
        if not torch.isfinite(tensor).all():
            raise UnknownCheckpointError(
                f"{key} contains NaN or infinity, so no frame can come out. The training that wrote the file "
                "diverged, or the file is damaged: use an earlier checkpoint."
            )


def save_checkpoint(model: Any, path: str | os.PathLike, dtype: torch.dtype | None = None) -> Path:
    """Writes a Model's or network's weights as safetensors; its metadata says what it is.

    path: the file, .safetensors is appended if absent. dtype: cast on the way (float16 halves the file).
    Written to a temporary name in the same folder, then renamed: never a half file under `path`.
    """
    network = getattr(model, "net", model)
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach()
        .to("cpu", dtype if dtype and value.is_floating_point() else value.dtype)
        .contiguous()
        for key, value in network.state_dict().items()
    }
    kind = "legacy" if isinstance(network.config, LegacyConfig) else "ifnet"
    config = json.dumps({"network": kind, **network.config.to_dict()})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    os.close(handle)
    try:
        safetensors.torch.save_file(tensors, temporary, {"format": "pt", "rife_config": config})
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
