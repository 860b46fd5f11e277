"""`Model`, the one core that nodes, scripts and commands share: inference, update, devices, precision, memory."""

from .model import BUNDLED_CHECKPOINT, PRECISIONS, SCALES, Model, Motion, load_model

__all__ = ["BUNDLED_CHECKPOINT", "Model", "Motion", "PRECISIONS", "SCALES", "load_model"]
