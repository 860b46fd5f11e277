"""Weights and frames of the golden outputs, by recipe: the official code's figures without the official code.

The files in `golden/` hold, for 191 runs of the authors' own implementations (PyTorch, CPU, float32), the output
sub-sampled by 8 in both directions, its mean and standard deviation; weights and frames follow from a seed.
"""

from __future__ import annotations

import io
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"
_SMALL = ("lastconv", ".conv1.2.", ".conv2.2.", ".conv1.0.weight", ".conv2.0.weight")


@cache
def _json() -> dict:
    return json.loads((FOLDER / "rife_golden.json").read_text())


@cache
def _outputs() -> dict[str, Tensor]:
    return load_file(FOLDER / "rife_golden.safetensors")


def cases() -> list[dict]:
    return _json()["cases"]


def architectures() -> list[str]:
    return list(_json()["shapes"])


def shapes(arch: str) -> dict[str, list[int]]:
    return _json()["shapes"][arch]


def expected(name: str) -> Tensor:
    """(1,3,H/8,W/8)"""
    return _outputs()[name]


def train_cases() -> list[dict]:
    return json.loads((FOLDER / "train_golden.json").read_text())


def late_cases() -> list[dict]:
    """Steps of the code that trained 4.25, as published by those who have it, without VGG."""
    return json.loads((FOLDER / "late_golden.json").read_text())


def _uniform(key: str, count: int, seed: int) -> np.ndarray:
    """splitmix64 of 1..count, keyed by name and seed, as float64 in [-1, 1)."""
    with np.errstate(over="ignore"):
        i = np.arange(1, count + 1, dtype=np.uint64)
        z = i * np.uint64(0x9E3779B97F4A7C15) + np.uint64((zlib.crc32(key.encode()) << 32) ^ seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return 2.0 * (z >> np.uint64(11)).astype(np.float64) / 2**53 - 1.0


def _weight(key: str, shape: list[int], seed: int) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    count = int(np.prod(shape)) if shape else 1
    u = _uniform(key, count, seed)
    if key.endswith("running_var"):
        value = 1 + 0.1 * u
    elif key.endswith("running_mean"):
        value = 0.05 * u
    elif key.endswith("beta"):
        value = 1 + 0.1 * u
    elif len(shape) >= 2:
        value = u * np.sqrt(3 / (count / shape[0])) * (0.3 if any(part in key for part in _SMALL) else 1.0)
    elif key.endswith(".bias"):
        value = 0.05 * u
    else:
        value = 0.25 + 0.05 * u
    return torch.from_numpy(value.astype(np.float32).reshape(shape))


def state_dict(arch: str, seed: int = 1) -> dict[str, Tensor]:
    """All weights of an architecture, in the released files' spelling."""
    return {key: _weight(key, shape, seed) for key, shape in shapes(arch).items()}


def fill(module: torch.nn.Module, prefix: str, seed: int) -> None:
    """Weights by recipe for a part that no release's file holds; `prefix` is before the names."""
    shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
    module.load_state_dict({key: _weight(f"{prefix}.{key}", shape, seed) for key, shape in shapes.items()})


def frame(height: int, width: int, d: float, seed: int) -> Tensor:
    """(1,3,H,W) at displacement d: 0 for img0, 1 for img1, 0.5 for the truth."""
    y, x = np.meshgrid(np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64), indexing="ij")
    x, y = x - 3 * d, y + 2 * d
    channels = [
        0.5
        + 0.2 * np.sin(0.11 * x + 0.05 * y + c + seed)
        + 0.15 * np.cos(0.031 * x - 0.17 * y + 2 * c)
        + 0.1 * np.sin(0.23 * x + 0.4 * c) * np.cos(0.19 * y)
        for c in range(3)
    ]
    return torch.from_numpy(np.stack(channels).astype(np.float32))[None]


def release_file(version: str, value: float = 0.0) -> bytes:
    """A small .pkl with all shapes of a release: every tensor is one number, seen many times.

    Files of different values differ at both ends, so that no mixture of them passes for one.
    """
    tensors = {
        f"module.{key}": torch.full((1,), value).expand(shape) for key, shape in shapes(version).items()
    }
    file = io.BytesIO()
    torch.save({"note": f"value {value:.1f}", **tensors}, file)
    return file.getvalue()
