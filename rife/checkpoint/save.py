"""Writes safetensors that say what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic_write import atomic_write
from ..networks.three_networks import LegacyConfig
from ..timeline.numbers import shortened
from .files import SUFFIXES
from .load import read_checkpoint
from .safetensors_file import DIGEST, serialised, tensors_sha256


def save_checkpoint(
    model: Any,
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Writes a Model's or network's weights as safetensors; its metadata says what it is.

    path: the file, .safetensors is appended if absent. dtype: cast on the way (float16 halves the file).
    notes: more metadata, which loading does not ask for.
    The same content gives the same bytes. A digest of the tensors is part of the metadata, and looked at by loading.
    Written to a temporary name in the same folder, then renamed: never a half file under `path`.
    Raises ValueError, before anything is written, for weights that are not finite or too large for `dtype`.
    """
    network = getattr(model, "net", model)
    path = Path(path)
    if path.name and path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    tensors = {key: _to_store(key, value, dtype) for key, value in network.state_dict().items()}
    kind = "legacy" if isinstance(network.config, LegacyConfig) else "ifnet"
    config = json.dumps({"network": kind, **network.config.to_dict()})
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", "rife_config": config, DIGEST: tensors_sha256(tensors)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(serialised(tensors, {**(notes or {}), **metadata}))
    return path


def _to_store(key: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if not value.is_floating_point():
        return value.detach().cpu().contiguous()
    stored = value.detach().to("cpu", dtype or value.dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise ValueError(
            f"{shortened(key)} has values up to {float(value.abs().max()):g}, which are no weights that {stored.dtype} "
            "can hold. If they were finite, save as bfloat16 or float32; else the training diverged: use an "
            "earlier checkpoint."
        )
    return stored


def convert(
    source: str | os.PathLike,
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
) -> Path:
    """Writes any file or folder that `load_network` reads as one safetensors file that says what it is; returns where
    it is.

    dtype: of the weights; default that of the source (float32 for float64), so that no bit changes. Networks that
    only training needs (`teacher.`, `caltime.`) are left out. ComfyUI's own loader takes the result where it knows
    the architecture, those of five blocks.
    Raises FileNotFoundError, UnknownCheckpointError, ValueError.
    """
    if Path(path).suffix in set(SUFFIXES) - {".safetensors"}:
        raise ValueError(
            f"The result would be {path}, expected a name that ends in .safetensors: name it so."
        )
    found = read_checkpoint(source, variant)
    kept = torch.float32 if found.stored_dtype == torch.float64 else found.stored_dtype
    return save_checkpoint(found.network, path, dtype or kept)
