"""Frames in, frames out: a plan run in batches, from memory or as a stream."""

from .in_memory import Interpolator, interpolate, interpolate_stream

__all__ = ["Interpolator", "interpolate", "interpolate_stream"]
