"""Plans which output frame is which pair at which time: rates, cuts, repeats, curves. It knows no network, no device.
No network, no device."""

from .clock import Clock, exact_rate
from .curve import Curve
from .plans import AT_CUTS, AT_REPEATS, Clips, ConcatenatedPlan, Plan, Step, plan

__all__ = [
    "AT_CUTS", "AT_REPEATS", "Clips", "Clock", "ConcatenatedPlan", "Curve", "Plan", "Step", "exact_rate", "plan",
]  # fmt: skip
