"""Frames in, frames out: a plan run in batches, from memory or as a stream."""

from .batches import Interpolator
from .in_memory import interpolate
from .joining import Joining, join, join_stream
from .stream import interpolate_stream

__all__ = ["Interpolator", "interpolate", "interpolate_stream", "Joining", "join", "join_stream"]
