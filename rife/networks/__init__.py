"""Holds every released RIFE as a torch module, described by a table of releases."""

from .adaptive import build_network
from .config import AMBIGUOUS, RELEASES, IFNetConfig
from .ifnet import IFNet
from .prediction import Prediction
from .three_networks import LEGACY_RELEASES, LegacyConfig, LegacyRIFE

__all__ = [
    "AMBIGUOUS",
    "IFNet",
    "IFNetConfig",
    "LEGACY_RELEASES",
    "LegacyConfig",
    "LegacyRIFE",
    "Prediction",
    "RELEASES",
    "build_network",
]
