"""Says how a new frame is made from its two neighbours, in one value instead of three that always go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
# How frames at other times than the middle are made, where the network has a timestep: see `Model.by_timesteps`.
TIMESTEP_METHODS = ("direct", "recursive")


@dataclass(frozen=True)
class InferenceOptions:
    """Holds what `Model.inference` is asked for besides frames and times, the same for all frames of a run.

    scale: one of `SCALES`, the size at which flow is estimated, as a factor of the frames' own. tta: average with the
    frames turned by 180 degrees. ensemble: average with time reversed.
    """

    scale: float = 1.0
    tta: bool = False
    ensemble: bool = False

    def keywords(self) -> dict[str, Any]:
        """Returns the same as keyword arguments of the public calls: `Model.inference`, `rife.interpolate` and its
        stream."""
        return {"scale": self.scale, "TTA": self.tta, "ensemble": self.ensemble}
