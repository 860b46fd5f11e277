"""Reads checkpoint files: what is inside, without executing anything or trusting what a file claims of itself.

A file is looked at before it is read. What it names and how large it says to be is taken from its structure alone,
by a pickle machine that builds nothing (`pickle_audit`); only then PyTorch reads it, with `weights_only`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch

from ..timeline.numbers import first_line
from .errors import UnknownCheckpointError, damaged
from .pickle_audit import MAX_BYTES, MAX_PICKLE, check_stream, check_zip
from .safetensors_file import DIGEST, tensors_sha256

SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt")
_PARTS = ("flownet", "contextnet", "unet")


def read_file(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the contents of a checkpoint file or folder, and the metadata of a safetensors file. Executes nothing.

    A folder holds flownet.* and, for the three-network families, contextnet.* and unet.*; the result then has one
    entry per part, {"flownet": {...}, "contextnet": {...}, "unet": {...}}.
    Raises FileNotFoundError, UnknownCheckpointError. A file that may not be read raises PermissionError.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no checkpoint at {path}. Give a .safetensors, .pkl, .pth or .pt file, or a folder that "
            "holds flownet.pkl."
        )
    try:
        return _read_regular(path)
    except UnknownCheckpointError as error:
        raise UnknownCheckpointError(f"{path} {error}") from error
    except PermissionError as error:
        raise PermissionError(
            f"{path} may not be read ({error.strerror}). Give yourself the right to."
        ) from error


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    found = {}
    for part in _PARTS:
        files = [folder / f"{part}{suffix}" for suffix in SUFFIXES]
        found[part] = next((file for file in files if file.is_file()), None)
    if found["flownet"] is None:
        names = [entry.name for entry in folder.iterdir()]
        of_others = {_FOREIGN_ENDINGS.get(Path(name.lower()).suffix, "") for name in (folder.name, *names)}
        if what := next(iter(sorted(of_others - {""}, reverse=True)), ""):
            raise UnknownCheckpointError(
                f"The folder {folder} holds {what}, made for another program, not the flownet.pkl that it was made "
                "from. Get that one, of the same version; `rife download` lists some."
            )
        raise FileNotFoundError(
            f"The folder {folder} holds no flownet.pkl (nor .safetensors, .pth, .pt): found "
            f"{sorted(p.name for p in folder.iterdir())[:8]}. Give the folder that the download was unpacked to."
        )
    raw, metadata = read_file(found["flownet"])
    others = {part: read_file(file)[0] for part, file in found.items() if file and part != "flownet"}
    return ({"flownet": raw, **others} if others else raw), metadata


def _read_regular(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise UnknownCheckpointError("is not a regular file (a device or a pipe), expected a checkpoint.")
    if info.st_size > MAX_BYTES:
        raise UnknownCheckpointError(
            f"has {info.st_size / 1e9:.1f} GB, RIFE checkpoints have 2 to 200 MB. It is another kind of model: "
            "choose a RIFE file."
        )
    with open(path, "rb") as file:
        start = file.read(512)
        _refuse_foreign(_foreign(path.name, start))
        _refuse_by_content(start)
        if _is_safetensors(start):
            return _read_safetensors(path, start)
        file.seek(0)
        if start.startswith(b"PK"):
            check_zip(file, info.st_size)
        else:
            check_stream(file.read(2 * MAX_PICKLE), info.st_size)
    return _load(path), {}


# What other programs run RIFE from: how such a file begins, or how its name ends -> what it is.
_FOREIGN_STARTS = {
    b"7767517": "the graph of an ncnn model",
    b"ftrt": "a TensorRT engine",
    b"GGUF": "a GGUF model",
    b"\x89HDF": "an HDF5 file, as Keras writes",
}
_FOREIGN_ENDINGS = {
    ".onnx": "an ONNX graph",
    ".param": "the graph of an ncnn model",
    ".bin": "the weights of an ncnn or OpenVINO model",
    ".engine": "a TensorRT engine",
    ".trt": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".mlmodel": "a CoreML model",
    ".mlpackage": "a CoreML model",
    ".mlmodelc": "a CoreML model",
    ".tflite": "a TensorFlow Lite model",
}


def _foreign(name: str, start: bytes) -> str:
    """What a file or folder of another program is, "" where it is none that is known."""
    if start.startswith((b"PK", b"\x80")) or _is_safetensors(start):
        return ""  # weights of any name are read
    if (start[:1], start[2:3]) == (b"\x08", b"\x12"):  # the fields "version" and "producer"
        return "an ONNX graph"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if b"<net " in start[:300].lower():
        return "the graph of an OpenVINO model"
    begins = next((what for magic, what in _FOREIGN_STARTS.items() if start.startswith(magic)), "")
    return begins or _FOREIGN_ENDINGS.get(Path(name.lower()).suffix, "")


def _refuse_foreign(what: str) -> None:
    if what:
        raise UnknownCheckpointError(
            f"is {what}, not plain weights: it was made from a checkpoint for another program, which folded and "
            "renamed them. Get the original of the same version, as .pkl or .safetensors; `rife download` lists some."
        )


def _refuse_by_content(start: bytes) -> None:
    text = start.lstrip().lower()
    again = "Download it again, from the page's download button or its `resolve` address."
    if not start:
        raise UnknownCheckpointError("is empty (0 bytes): the download never began. Download it again.")
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise UnknownCheckpointError(
            f"is a web page, not a checkpoint: the page was saved, not the file. {again}"
        )
    if text.startswith(b"version https://git-lfs"):
        raise UnknownCheckpointError(f"is a pointer of Git LFS, not the file that it stands for. {again}")
    archives = {
        b"\x1f\x8b": "gzip",
        b"7z\xbc\xaf": "7-Zip",
        b"Rar!": "RAR",
        b"BZh": "bzip2",
        b"\xfd7zXZ": "xz",
    }
    for magic, name in archives.items():
        if start.startswith(magic):
            raise UnknownCheckpointError(f"is a {name} archive. Unpack it and give the checkpoint inside.")
    if start[257:262] == b"ustar":
        raise UnknownCheckpointError(
            "is a tar archive, as PyTorch before 0.1.10 wrote. Unpack it, or save the weights again with PyTorch."
        )


def _is_safetensors(start: bytes) -> bool:
    """By content: eight bytes of length, then JSON. The suffix of a renamed file does not count."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _read_safetensors(path: Path, start: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    if (length := int.from_bytes(start[:8], "little")) > MAX_PICKLE:
        raise UnknownCheckpointError(
            f"is a safetensors file that describes its tensors in {length} bytes, expected less than {MAX_PICKLE}. "
            "It is another kind of model."
        )
    try:
        # Its own reader holds every offset of the header against the file's size before it reads.
        with safetensors.safe_open(path, framework="pt") as file:
            tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise UnknownCheckpointError(
            f"is not a valid safetensors file ({first_line(error)}). It is probably cut short: download it again."
        ) from error
    if DIGEST in metadata and metadata[DIGEST] != tensors_sha256(tensors):
        raise UnknownCheckpointError(
            "is damaged: its weights are not those that were saved, by their digest. Get it again; if another program "
            f"changed them on purpose, take the metadata entry {DIGEST} out."
        )
    return tensors, metadata


def _load(path: Path) -> dict[str, Any]:
    try:
        # As a stream: by the name's suffix, torch.load of some versions would try other formats.
        with open(path, "rb") as file:
            raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - the many ways a pickle can be broken all mean the same to the user
        raise damaged(error) from error
    if not isinstance(raw, Mapping):
        raise UnknownCheckpointError(
            f"holds a {type(raw).__name__}, expected a state dict (names and tensors). Save the network's state_dict()."
        )
    return dict(raw)
