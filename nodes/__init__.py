"""Holds the nodes: forms around `rife`, one file per capability. ComfyUI is imported in this folder only."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import compatibility
from .interpolate import RIFEInbetween, RIFEInterpolate
from .join import RIFEJoinClips
from .load import RIFECheckpointLoader, register_folder
from .measure import RIFEFlow, RIFEScore
from .save import RIFECheckpointSave
from .train import RIFETrain
from .train_step import RIFETrainStep
from .video import RIFEInterpolateChunks, RIFEInterpolateVideo

NODES: list[type[io.ComfyNode]] = [
    RIFECheckpointLoader,
    RIFEInterpolate,
    RIFEInbetween,
    RIFETrain,
    RIFETrainStep,
    RIFECheckpointSave,
    RIFEScore,
    RIFEFlow,
    RIFEInterpolateVideo,
    RIFEInterpolateChunks,
    RIFEJoinClips,
]


class RIFEExtension(ComfyExtension):
    """Is what `comfy_entrypoint` hands to ComfyUI."""

    async def on_load(self) -> None:
        """Makes models/rife known before the first loader asks for its files, and what our nodes replace."""
        register_folder()
        await compatibility.register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Lists all nodes of the pack; their ids never change."""
        return [*NODES, *compatibility.nodes()]
