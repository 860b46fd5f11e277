"""Writes safetensors with metadata: the same bytes for the same content, and a digest of the tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

DIGEST = "rife_sha256"  # the metadata entry that holds `tensors_sha256`


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns a digest of names, dtypes, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def serialised(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Returns the file's bytes. Its own library writes metadata in an order that changes from run to run; here it is
    that of names."""
    plain = safetensors.torch.save(dict(tensors))
    length = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    return len(text).to_bytes(8, "little") + text + plain[8 + length :]
