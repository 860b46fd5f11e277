"""Saves an INTERP_MODEL as a file that Load RIFE Checkpoint lists."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from torch import nn

from ..rife.checkpoint.load import load_network
from ..rife.checkpoint.save import save_checkpoint
from ..rife.model.devices import PRECISIONS, named_dtype
from ..rife.timeline.numbers import shortened
from . import model_management
from .load import FOLDERS
from .native import adapt
from .trained import build, training_of
from .types import model_input

_AS_IT_RUNS = "as it runs"  # the model's own precision
_LONGEST_NAME = 200  # of 255 that file systems take, less what is added


class RIFECheckpointSave(io.ComfyNode):
    """Saves a model, trained or loaded, as .safetensors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFECheckpointSave",
            display_name="Save RIFE Checkpoint",
            category="model/training",
            description="Writes a model as .safetensors into ComfyUI's output folder, where Load RIFE Checkpoint finds "
            "it. The file says what it is, so that nothing is guessed when it is loaded.",
            search_aliases=["save rife", "save interpolation model", "export rife", "convert rife"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                model_input(),
                io.String.Input(
                    "filename_prefix",
                    default=f"{FOLDERS[0]}/RIFE_trained",
                    tooltip="Beginning of the file's path in the output folder; a counter follows, no file is ever "
                    f"overwritten. Files in {FOLDERS[0]}/ appear in the list of Load RIFE Checkpoint.",
                ),
                io.Combo.Input(
                    "precision",
                    options=[*(name for name, dtype in PRECISIONS.items() if dtype), _AS_IT_RUNS],
                    default="fp32",
                    tooltip="Of the weights in the file. fp32 to go on training from it, fp16 for half the size, bf16 "
                    "only where fp16 fails.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="checkpoint",
                    tooltip="The name that the file has in the list of Load RIFE Checkpoint.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, interp_model, filename_prefix: str = f"{FOLDERS[0]}/RIFE_trained", precision: str = "fp32"
    ) -> io.NodeOutput:
        """Writes an INTERP_MODEL to a file; returns its name. Raises ValueError for a name that is none and for weights
        that are no numbers."""
        network, notes = _content(interp_model)
        dtype = interp_model.model_dtype() if precision == _AS_IT_RUNS else named_dtype(precision)
        folder, name, counter, subfolder, _ = _place(filename_prefix)
        # ComfyUI reads the counter right after the prefix, so the steps come last.
        steps = f"{notes['steps']}_steps" if notes["steps"] else ""
        path = Path(folder) / f"{name}_{counter:05}_{steps}.safetensors"
        save_checkpoint(network, path, dtype, {"rife_training": json.dumps(notes)})
        inside = Path(subfolder, path.name).as_posix()
        listed = inside.removeprefix(f"{FOLDERS[0]}/")
        where = f"output/{inside}, {path.stat().st_size / 1e6:.1f} MB" + (
            "" if listed != inside else f"; only files in output/{FOLDERS[0]} are in the loader's list"
        )
        model_management.send_status_text(where)
        return io.NodeOutput(listed)


def _place(filename_prefix: str) -> tuple[str, str, int, str, str]:
    """Folder, name, number, folder within the output folder, prefix of a file to save. Raises ValueError."""
    try:
        if any(len(part.encode()) > _LONGEST_NAME for part in filename_prefix.split("/")):
            raise ValueError(f"a name longer than {_LONGEST_NAME} bytes")
        if "\0" in filename_prefix:
            raise ValueError("a zero byte in a name")
        return folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
    except Exception as error:  # noqa: BLE001 - ComfyUI raises a bare Exception for a place outside of the folder
        raise ValueError(
            f"filename_prefix is {shortened(filename_prefix)}, expected a name within ComfyUI's output folder that the "
            f"system takes, such as {FOLDERS[0]}/mine ({shortened(str(error))}). Give another one."
        ) from error


def _content(patcher) -> tuple[nn.Module, dict]:
    """The network with the best weights there are, and what its training was. Raises ValueError."""
    network = adapt(patcher).net
    if not hasattr(network, "config"):
        return load_network(network.state_dict()), {"steps": 0}  # ComfyUI's RIFE; its FILM is refused
    training = training_of(patcher)
    notes = {"steps": training.steps}
    if not training.steps:
        return network, notes
    return build(network.config, training), notes
