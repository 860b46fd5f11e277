"""Turns files and state dicts into networks and back: read without trust, recognise, build, save, download."""

from .detection import detect
from .errors import UnknownCheckpointError
from .load import load_network
from .save import convert, save_checkpoint

__all__ = ["UnknownCheckpointError", "convert", "detect", "load_network", "save_checkpoint"]
