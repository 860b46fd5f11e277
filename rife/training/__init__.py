"""Trains on clips and rendered scenes: data, the loop, run folders, held-out validation."""

from .schedule import Settings
from .trainer import Result, StopTraining, Trainer

__all__ = ["Result", "Settings", "StopTraining", "Trainer"]
