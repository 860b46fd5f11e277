"""Tells whether a network is traced, as for ONNX: then operations are plain ones, none of which writes into a part."""

from __future__ import annotations

import torch


def is_tracing() -> bool:
    """Tells whether torch.jit.trace is running."""
    return torch.jit.is_tracing()  # type: ignore[attr-defined]
