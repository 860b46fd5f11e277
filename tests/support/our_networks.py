"""The networks that are this project's own, by name: the bundled one, and what its recipe trains on the way there."""

from __future__ import annotations

from dataclasses import replace

from rife.training.bundled import BUNDLED_CONFIG, lean_config

OUR_NETWORKS = {
    "recipe": replace(BUNDLED_CONFIG, variational=True, dissolve=True),
    "bundled": lean_config(BUNDLED_CONFIG),
}
