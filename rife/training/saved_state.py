"""Writes and reads the state of a training run: all of it and unchanged, or an error in words."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..atomic_write import atomic_write
from ..timeline.numbers import first_line

KEYS = ("settings", "step", "network", "averaged", "learner", "before", "best")


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes plain tensors, numbers and containers, of `KEYS`, through `atomic_write`. Raises OSError."""
    with atomic_write(path) as temporary:
        content = io.BytesIO()  # PyTorch's own writer does not say why it failed
        torch.save(dict(state), content)
        temporary.write_bytes(content.getbuffer())


def read_state(path: Path) -> dict[str, Any]:
    """Reads what `write_state` wrote, onto the CPU; executes nothing.

    Raises OSError where the drive fails, ValueError where the file is damaged or something else.
    """
    content = io.BytesIO(path.read_bytes())  # nor does its reader, which asks for each tensor by itself
    try:
        with zipfile.ZipFile(content) as archive:  # whose checksums PyTorch does not look at
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {broken[:60]} is not that of its bytes")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - the many ways a file can be broken all mean the same to the user
        why = (
            first_line(error) if isinstance(error, zipfile.BadZipFile) else "it holds more than plain tensors"
        )
        raise ValueError(f"{path} is damaged ({why}). {_begin_anew(path)}") from error
    if not isinstance(state, Mapping) or not set(KEYS) <= set(state):
        raise ValueError(
            f"{path} is no state of a training run, expected one with {', '.join(KEYS)}. {_begin_anew(path)}"
        )
    return dict(state)


def _begin_anew(path: Path) -> str:
    return (
        f"Take another folder, and --start {path.with_name('last.safetensors')} to keep what was learned; or delete "
        "the file to begin anew."
    )
