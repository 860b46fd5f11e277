"""Loads a file in ComfyUI's model folders as an INTERP_MODEL."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import folder_paths
import torch
from comfy_api.latest import io

from ..rife.checkpoint.catalog import DOWNLOADS, Download, download
from ..rife.checkpoint.errors import UnknownCheckpointError
from ..rife.checkpoint.load import Checkpoint, read_checkpoint
from ..rife.model import BUNDLED_CHECKPOINT, PRECISIONS
from ..rife.networks.config import AMBIGUOUS
from . import model_management
from .types import InterpModel

BUNDLED = "rife_comfy (bundled)"
# ComfyUI's own folder for such models, and the one that other packs' users have.
FOLDERS = ("frame_interpolation", "rife")
# Follows the name of a checkpoint that is on offer. Workflows hold it: it never changes.
DOWNLOAD = " (download)"
_COMPANIONS = ("contextnet", "unet")  # of a flownet.pkl, in the three-network families


def register_folder() -> None:
    """Adds models/rife to ComfyUI's folders, and output/frame_interpolation, where Save RIFE Checkpoint writes.

    Folders of these names in extra_model_paths.yaml stay. Also where ComfyUI-Frame-Interpolation, if it is
    installed, keeps its RIFEs: nobody has to copy them.
    """
    saved = os.path.join(folder_paths.get_output_directory(), FOLDERS[0])
    folder_paths.add_model_folder_path(FOLDERS[0], saved)
    folder_paths.add_model_folder_path("rife", os.path.join(folder_paths.models_dir, "rife"))
    for custom_nodes in folder_paths.get_folder_paths("custom_nodes"):
        packs = os.listdir(custom_nodes) if os.path.isdir(custom_nodes) else []
        for pack in sorted(packs):
            if pack.lower() == "comfyui-frame-interpolation":
                folder_paths.add_model_folder_path("rife", os.path.join(custom_nodes, pack, "ckpts", "rife"))
    # A folder that only a yaml file named has no extensions, which means every file.
    paths, extensions = folder_paths.folder_names_and_paths["rife"]
    folder_paths.folder_names_and_paths["rife"] = (
        paths,
        set(extensions) | folder_paths.supported_pt_extensions,
    )


def checkpoint_files() -> dict[str, Path]:
    """Returns all checkpoints by the name that the combo shows.

    A name is the path inside its folder; where both folders hold different files of one name, both carry the
    folder's name in front, so that a workflow never loads another file than the one it was saved with.
    """
    found: dict[str, dict[str, Path]] = {folder: _list(folder) for folder in FOLDERS}
    files: dict[str, Path] = {}
    for folder, entries in found.items():
        for name, path in entries.items():
            same_name = [other[name] for other in found.values() if name in other]
            clash = not all(os.path.samefile(path, other) for other in same_name)
            files.setdefault(f"{folder}/{name}" if clash else name, path)
    return files


def _list(folder: str) -> dict[str, Path]:
    if folder not in folder_paths.folder_names_and_paths:
        return {}
    files = {}
    for name in folder_paths.get_filename_list(folder):
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            files[name] = Path(path)
    return {name: path for name, path in files.items() if not _is_companion(path)}


def _is_companion(path: Path) -> bool:
    return path.stem in _COMPANIONS and path.with_name("flownet" + path.suffix).exists()


def downloads(files: dict[str, Path]) -> list[str]:
    """Lists what the combo offers besides `files`: the catalogue without what is on disk already."""
    here = {path.name for path in files.values()}
    return [name + DOWNLOAD for name, entry in DOWNLOADS.items() if entry.file not in here]


def _entry(checkpoint: str) -> Download | None:
    """The catalogue's entry that a choice names, whether its file is on disk or not."""
    return DOWNLOADS.get(checkpoint.removesuffix(DOWNLOAD)) if checkpoint.endswith(DOWNLOAD) else None


def _find(checkpoint: str) -> Path | None:
    """The file of a choice, if it is on disk. A download is found by its file name, in sub-folders too."""
    files = checkpoint_files()
    entry = _entry(checkpoint)
    if entry is None:
        return files.get(checkpoint)
    found = [path for path in files.values() if path.name == entry.file]
    return min(found, key=lambda path: len(path.parts), default=None)


def _unlisted(checkpoint: str) -> str:
    """Why a file of that name, in our folders, is not in ComfyUI's list, which goes by endings; "" for none such."""
    paths = (folder_paths.get_full_path(folder, checkpoint) for folder in FOLDERS)
    path = next(filter(None, paths), None)
    if path is None or os.path.splitext(path)[1].lower() in folder_paths.supported_pt_extensions:
        return ""
    try:
        read_checkpoint(path)
    except (UnknownCheckpointError, OSError) as error:
        return str(error).replace(path, checkpoint)
    return (
        f"{checkpoint} is a RIFE checkpoint, but its name does not end as ComfyUI expects it. "
        "Rename it to end in .pkl, .pth, .pt or .safetensors, and press R."
    )


def _missing(checkpoint: str) -> str:
    """Why there is no file of a choice, and what to do."""
    if found := _unlisted(checkpoint):
        return found
    offered = [name for name, entry in DOWNLOADS.items() if entry.file == os.path.basename(checkpoint)]
    advice = f"choose {offered[0] + DOWNLOAD!r}" if offered else "choose another one"
    return (
        f"There is no checkpoint {checkpoint!r}, expected a file in models/frame_interpolation or models/rife. "
        f"Put it there, or {advice}."
    )


def fetch(checkpoint: str) -> None:
    """Downloads what a choice offers, unless it is on disk. Raises DownloadError, and ComfyUI's when cancelled."""
    entry = _entry(checkpoint)
    if entry is None or _find(checkpoint) is not None:
        return
    path = download(entry, _download_folder(), on_progress=model_management.TransferProgress())
    # What runs after this is not to be run again because the file is there now.
    _downloaded[checkpoint] = _state([path])


_downloaded: dict[str, str] = {}  # choice -> the state of its file as it came


def _download_folder() -> str:
    """The first folder of ComfyUI's list for such models that can be written to."""
    folders = folder_paths.get_folder_paths(FOLDERS[0])
    for folder in folders:
        # One that is not there yet is made, where its parent allows it.
        existing = next(p for p in (Path(folder), *Path(folder).absolute().parents) if p.exists())
        if os.access(existing, os.W_OK):
            return folder
    return folders[0]  # download says what is wrong with it


def _state(paths: list[Path]) -> str:
    return repr([(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths])


def _sources(checkpoint: str) -> list[Path]:
    """The file of a combo entry, with its companions. Raises FileNotFoundError."""
    if checkpoint == BUNDLED:
        return [BUNDLED_CHECKPOINT]
    path = _find(checkpoint)
    if path is None:
        raise FileNotFoundError(_missing(checkpoint))
    if path.stem != "flownet":
        return [path]
    companions = [path.with_name(name + path.suffix) for name in _COMPANIONS]
    return [path, *(file for file in companions if file.exists())]


def load_patcher(
    checkpoint: str, variant: str = "auto", precision: str = "auto", disable_dynamic: bool = False
):
    """Makes a new patcher of a combo entry. ComfyUI keeps this as a recipe, to build the model anew for another
    device. Raises FileNotFoundError, UnknownCheckpointError."""
    return _load(checkpoint, variant, precision, disable_dynamic)[0]


def _load(checkpoint: str, variant: str, precision: str, disable_dynamic: bool = False) -> tuple[Any, str]:
    """A new patcher, and what was loaded."""
    sources = _sources(checkpoint)
    source = sources[0] if len(sources) == 1 else sources[0].parent
    # ComfyUI runs nodes in inference mode; weights made in it could never be trained.
    with torch.inference_mode(False):
        found = read_checkpoint(source, None if variant == "auto" else variant)
        patcher = model_management.make_patcher(found.network, precision, disable_dynamic)
    patcher.cached_patcher_init = (load_patcher, (checkpoint, variant, precision))
    return patcher, describe(found)


_loaded: WeakValueDictionary[tuple, Any] = WeakValueDictionary()
_described: WeakKeyDictionary[torch.nn.Module, str] = (
    WeakKeyDictionary()
)  # what the networks in `_loaded` are


def shared_patcher(checkpoint: str, variant: str = "auto", precision: str = "auto"):
    """Returns the patcher of a combo entry: the one that another loader holds already, if the file is the same.

    Only what holds a patcher keeps it alive: when ComfyUI drops the last, its memory is free. Raises as `load_patcher`.
    """
    files = [path.resolve() for path in _sources(checkpoint)]
    key = (_state(files), variant, precision)
    patcher = _loaded.get(key)
    if patcher is None:
        patcher, line = _load(checkpoint, variant, precision)
        _loaded[key], _described[patcher.model] = patcher, line
    return patcher


def described(patcher) -> str:
    """Says in a line what an INTERP_MODEL is and how that is known; also for those that others loaded or trained."""
    network = patcher.model
    if not hasattr(network, "config"):
        return f"{type(network).__name__} of ComfyUI's own loader"
    return _described.get(network) or f"RIFE {', '.join(network.config.versions) or 'of own training'}"


def describe(found: Checkpoint) -> str:
    """Says what was loaded and how that is known, for the node's face."""
    without = f"; left out, as no frame needs it: {'; '.join(found.left_out)}" if found.left_out else ""
    return f"RIFE {found.versions}, decided by {found.decided_by}{without}"


class RIFECheckpointLoader(io.ComfyNode):
    """Loads any RIFE, from any of the spellings in circulation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        files = checkpoint_files()
        return io.Schema(
            node_id="RIFECheckpointLoader",
            display_name="Load RIFE Checkpoint",
            category="model/loaders",
            description="Loads any RIFE checkpoint, from the paper's to 4.26, for interpolating frames. "
            "The version is read from the file.",
            search_aliases=[
                "rife model",
                "rife checkpoint",
                "frame interpolation model",
                "vfi model",
                "load rife",
            ],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[BUNDLED, *sorted(files), *downloads(files)],
                    default=BUNDLED,
                    tooltip="The bundled model, or a file (.safetensors .pkl .pth .pt) in "
                    "models/frame_interpolation or models/rife. Those marked (download) are fetched from the "
                    "internet when the node runs, once, into models/frame_interpolation. Bundled: where things move "
                    "less than some 16 pixels between two frames; 4.6: where they move further.",
                ),
                io.Combo.Input(
                    "variant",
                    options=["auto", *chain.from_iterable(AMBIGUOUS)],
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Leave on auto. A few releases have files that look the same but compute differently: "
                    "name it if yours is RIFE_2R or 3.8.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="auto: half precision where the device is good at it, else fp32. fp32 for reference "
                    "results, bf16 only if fp16 fails.",
                ),
            ],
            outputs=[
                InterpModel.Output(
                    display_name="interp_model",
                    tooltip="For the RIFE nodes and for ComfyUI's own Run Frame Interpolation Model.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str | None = None, variant: str = "auto", precision: str = "auto"
    ) -> str:
        """Returns a text that changes when a file is replaced under the same name, as training does."""
        if checkpoint is None:
            return "linked"
        try:
            state = _state(_sources(checkpoint))
        except OSError:
            return "missing"
        return "missing" if _downloaded.get(checkpoint) == state else state

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        """Takes the place of ComfyUI's look into the list: a download keeps its name when its file has come."""
        linked = checkpoint is None  # from another node, which has not run yet
        if linked or checkpoint == BUNDLED or _entry(checkpoint) or _find(checkpoint):
            return True
        return _missing(checkpoint)

    @classmethod
    def execute(cls, checkpoint: str, variant: str = "auto", precision: str = "auto") -> io.NodeOutput:
        """Returns the INTERP_MODEL of combo entries. Raises DownloadError, FileNotFoundError,
        UnknownCheckpointError."""
        fetch(checkpoint)
        patcher = shared_patcher(checkpoint, variant, precision)
        model_management.send_status_text(described(patcher))
        return io.NodeOutput(patcher)
