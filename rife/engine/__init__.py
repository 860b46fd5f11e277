"""Runs plans in batches, from memory or as a stream: frames in, frames out."""

from typing import TYPE_CHECKING, Any

from .batches import Interpolator
from .in_memory import interpolate
from .stream import interpolate_stream

if TYPE_CHECKING:
    from .joining import Joining, join, join_stream

__all__ = ["Interpolator", "interpolate", "interpolate_stream", "Joining", "join", "join_stream"]


def __getattr__(name: str) -> Any:
    """Brings what joins clips when it is asked for: seams and scenes are a fifth of the time of `import rife`."""
    if name not in ("Joining", "join", "join_stream"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import joining

    return getattr(joining, name)
