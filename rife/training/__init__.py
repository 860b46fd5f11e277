"""Training on clips and rendered scenes: data, the loop, run folders, held-out validation."""

from .trainer import Result, Settings, StopTraining, Trainer

__all__ = ["Result", "Settings", "StopTraining", "Trainer"]
