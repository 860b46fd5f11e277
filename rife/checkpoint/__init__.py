"""Files and state dicts to networks and back: read without trust, recognise by tensors, build, save, download."""

from .load import UnknownCheckpointError, convert, detect, load_network, save_checkpoint

__all__ = ["UnknownCheckpointError", "convert", "detect", "load_network", "save_checkpoint"]
