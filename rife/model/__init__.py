"""Defines `Model`, the core that nodes, scripts and commands share: inference, update, devices, precision, memory."""

from .devices import PRECISIONS
from .model import BUNDLED_CHECKPOINT, Model, load_model
from .motion import Motion
from .onnx_export import export_onnx
from .options import SCALES, InferenceOptions

__all__ = [
    "BUNDLED_CHECKPOINT", "InferenceOptions", "Model", "Motion", "PRECISIONS", "SCALES", "export_onnx", "load_model",
]  # fmt: skip
