"""Interpolates frames by RIFE (Real-Time Intermediate Flow Estimation), any checkpoint: inference, training, video.

import rife
model = rife.load_model()                      # the bundled checkpoint, or a path to any RIFE file
middle = model.inference(img0, img1)           # (B,3,H,W) in 0..1
clip = rife.interpolate(model, frames, 2)      # (N,H,W,3) -> (2N-1,H,W,3)
"""

from typing import TYPE_CHECKING, Any

from .checkpoint import UnknownCheckpointError, detect, save_checkpoint
from .engine import interpolate, interpolate_stream
from .model import Model, load_model
from .networks.config import RELEASES, IFNetConfig
from .version import __version__

if TYPE_CHECKING:
    from .engine import join

__all__ = [
    "RELEASES",
    "IFNetConfig",
    "Model",
    "UnknownCheckpointError",
    "__version__",
    "detect",
    "interpolate",
    "interpolate_stream",
    "join",
    "load_model",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Brings `join` when it is asked for; see `rife.engine`."""
    if name != "join":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .engine import join

    return join
