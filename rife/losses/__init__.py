"""Defines what training minimises: the paper's losses and those of later releases."""

from .objective import RECIPES, Objective

__all__ = ["Objective", "RECIPES"]
