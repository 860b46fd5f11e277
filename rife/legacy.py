from dataclasses import dataclass
from torch import nn
LEGACY_RELEASES = {}
@dataclass(frozen=True)
class LegacyConfig:
    family: str = "legacy"
class LegacyRIFE(nn.Module):
    pass
def detect_legacy(sd):
    raise ValueError("three-network RIFE")
