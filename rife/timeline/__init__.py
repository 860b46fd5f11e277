"""Which output frame is which pair at which time: rates, cuts, repeats, curves. No network, no device."""

from .plans import AT_CUTS, AT_REPEATS, Clips, Clock, Curve, Plan, Step, exact_rate, plan

__all__ = ["AT_CUTS", "AT_REPEATS", "Clips", "Clock", "Curve", "Plan", "Step", "exact_rate", "plan"]
