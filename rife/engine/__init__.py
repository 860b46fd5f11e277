"""Runs plans in batches, from memory or as a stream: frames in, frames out."""

from .batches import Interpolator
from .in_memory import interpolate
from .joining import Joining, join, join_stream
from .stream import interpolate_stream

__all__ = ["Interpolator", "interpolate", "interpolate_stream", "Joining", "join", "join_stream"]
