"""Reading checkpoint files: what is inside, without executing anything or trusting what a file claims of itself.

A file is looked at before it is read. What it names and how large it says to be is taken from its structure alone,
by a pickle machine that builds nothing (`_claims`); only then PyTorch reads it, with `weights_only`.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import torch

SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt")
_PARTS = ("flownet", "contextnet", "unet")

# The largest release with its teacher and optimiser state has half of it.
_MAX_BYTES = 2**30
_MAX_PICKLE = 2**24  # names and shapes only; released files have 20 to 100 kB
_MAX_RATIO = 16  # of a zip: weights hardly shrink, and PyTorch does not compress

_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_HARMLESS = {
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("torch", "Size"),
    ("torch", "device"),
    *(("torch._utils", name) for name in _TENSORS),
}


class UnknownCheckpointError(ValueError):
    """The file or state dict is not a RIFE that this package knows; the message says what was found."""


def read_file(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """Contents of a checkpoint file or folder, and the metadata of a safetensors file. Executes nothing.

    A folder holds flownet.* and, for the three-network families, contextnet.* and unet.*; the result then has one
    entry per part, {"flownet": {...}, "contextnet": {...}, "unet": {...}}.
    Raises FileNotFoundError, UnknownCheckpointError.
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
    if info.st_size > _MAX_BYTES:
        raise UnknownCheckpointError(
            f"has {info.st_size / 1e9:.1f} GB, RIFE checkpoints have 2 to 200 MB. It is another kind of model: "
            "choose a RIFE file."
        )
    with open(path, "rb") as file:
        start = file.read(512)
        _refuse_by_content(start)
        if _is_safetensors(start):
            return _read_safetensors(path)
        file.seek(0)
        if start.startswith(b"PK"):
            _check_zip(file, info.st_size)
        else:
            _check_stream(io.BytesIO(file.read(_MAX_PICKLE)), info.st_size)
    return _load(path), {}


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


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        # Its own reader holds every offset of the header against the file's size before it reads.
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise UnknownCheckpointError(
            f"is not a valid safetensors file ({first_line(error)}). It is probably cut short: download it again."
        ) from error


def _check_zip(file: BinaryIO, size: int) -> None:
    """PyTorch's format since 1.6. Refuses bombs, other archives, and tensors larger than their data."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            records = {info.filename: info for info in entries}
            total = sum(info.file_size for info in entries)
            if total > _MAX_RATIO * size + 2**20:
                raise UnknownCheckpointError(
                    f"has {size} bytes and unpacks to {total}, which weights never do. It is damaged or made to do "
                    "harm: delete it."
                )
            # PyTorch finds the weights beside the first entry, and looks names up without regard to case.
            root = entries[0].filename.partition("/")[0] + "/" if entries else ""
            name = root + "data.pkl"
            if name not in records:
                inside = sorted(records)[:4]
                raise UnknownCheckpointError(
                    f"is a zip archive of {inside}, not a checkpoint. Unpack it and give the folder or file inside."
                )
            if len({entry.lower() for entry in records}) < len(entries):
                raise UnknownCheckpointError(
                    "holds two entries of one name, so that nobody can say which counts. It is damaged: delete it."
                )
            if any(entry.startswith(root + "code/") for entry in records):
                raise UnknownCheckpointError(
                    "is a TorchScript program, which carries code: such files are refused. Get the state dict."
                )
            if records[name].file_size > _MAX_PICKLE:
                raise UnknownCheckpointError(
                    f"describes its tensors in {records[name].file_size} bytes, expected less than {_MAX_PICKLE}. It "
                    "is another kind of model."
                )
            claims = _claims(io.BytesIO(archive.read(name)))
            for key, claimed in claims.items():
                record = records.get(f"{root}data/{key}")
                if record is None or record.file_size < claimed:
                    there = "nothing" if record is None else f"{record.file_size} bytes"
                    raise UnknownCheckpointError(
                        f"claims {claimed} bytes for a tensor and holds {there}. It is damaged: download it again."
                    )
    except UnknownCheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken directory of a zip leads anywhere
        raise _damaged(error) from error


def _check_stream(file: BinaryIO, size: int) -> None:
    """PyTorch's format before 1.6: pickles for magic number, version, system, weights and keys, then the data."""
    try:
        first = _Inert(file).load()
        weights = file
        if first == 0x1950A86A20F9469CFC6C:
            for _ in range(2):
                _Inert(file).load()
        else:
            file.seek(0)
        total = sum(_claims(weights).values())
    except UnknownCheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken pickle fails in every way there is
        raise _damaged(error) from error
    if total > size:
        raise UnknownCheckpointError(
            f"claims {total} bytes of tensors and has {size} in all. It is cut short: download it again."
        )


def _damaged(error: BaseException) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"cannot be read as plain weights ({type(error).__name__}: {first_line(error)}). It is damaged or no "
        "checkpoint at all: download it again, or ask its author for a state dict or a safetensors file."
    )


class _Storage:
    def __init__(self, itemsize: int, key: str, count: int):
        self.itemsize, self.key, self.nbytes = itemsize, key, itemsize * count


class _Nothing:
    """Stands for every harmless name of a pickle; takes any state and keeps none."""

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass


class _Inert(pickle.Unpickler):
    """A pickle machine that calls nothing but this file's own stand-ins."""

    def __init__(self, file: BinaryIO):
        super().__init__(_checked(file), encoding="latin1")
        self.claims: dict[str, int] = {}
        self.unfolded = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return self._tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *_: data
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _itemsize(name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return _Nothing
        if (module, name) in _HARMLESS:
            return _Nothing
        kind = next(
            (kind for kind in ("quantized", "qtensor", "sparse", "tensor_v3") if kind in name.lower()), None
        )
        if module.startswith("torch") and kind:
            raise UnknownCheckpointError(
                "holds quantised or sparse tensors or such of 8 bits, expected plain ones of 16 or 32. Get the "
                "original file."
            )
        raise UnknownCheckpointError(
            f"would call {module}.{name} when read: a pickle that holds more than tensors can run any code, and is "
            "refused. Ask its author for a state dict or a safetensors file."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, itemsize, key, _location, count = pid[:5]
        types = isinstance(kind, str), isinstance(itemsize, int), isinstance(key, str), isinstance(count, int)
        # Never shown: a damaged one may be of any size.
        if not all(types) or kind != "storage" or count < 0:
            raise UnknownCheckpointError(
                f"refers to a {type(pid).__name__} outside, expected storages of numbers. It is damaged."
            )
        storage = _Storage(itemsize, key, count)
        self.claims[storage.key] = max(storage.nbytes, self.claims.get(storage.key, 0))
        return storage

    def _tensor(self, storage: _Storage, _offset: int, size: tuple, *_rest) -> _Nothing:
        count = storage.itemsize
        if (
            not isinstance(size, tuple)
            or len(size) > 8
            or not all(type(side) is int and side >= 0 for side in size)
        ):
            raise UnknownCheckpointError("describes a tensor of an impossible size. It is damaged.")
        for side in size:
            count *= side
        # Tensors larger than their storage repeat values, and would fill the memory when they are copied.
        self.unfolded += count
        if self.unfolded > _MAX_BYTES:
            raise UnknownCheckpointError(
                f"describes tensors of {self.unfolded / 1e9:.1f} GB, of which {str(size)[:80]} in {storage.nbytes} "
                "bytes. It is damaged, or made to fill the memory: delete it."
            )
        return _Nothing()


def _itemsize(name: str) -> int:
    """Bytes per number of torch.FloatStorage and its like."""
    sizes = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}
    sizes |= {"Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1, "ComplexFloat": 8, "ComplexDouble": 16}
    kind = name.removesuffix("Storage")
    if kind not in sizes:
        raise UnknownCheckpointError(
            f"holds a torch.{name}, expected floating-point weights. Get the original."
        )
    return sizes[kind]


def _checked(file: BinaryIO) -> BinaryIO:
    """`file` after a look through its next pickle: a memo index of billions makes the C unpickler allocate it."""
    begin = file.tell()
    # Tuples that repeat tuples that repeat tuples: small in the file, but hashing or printing one walks all of it.
    weights: dict[int, int] = {}
    weight, tuple_before, stored = 1, False, 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if "GET" in opcode.name:
            weight += weights.get(int(argument), 0)
        elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
            if tuple_before:
                weights[stored if argument is None else int(argument)] = weight
            stored += 1
        tuple_before = "TUPLE" in opcode.name
        if weight > _MAX_PICKLE:
            raise UnknownCheckpointError("holds tuples that unfold without end, made to do harm: delete it.")
        # Indices are given in order, so they never pass the number of opcodes.
        if "PUT" in opcode.name and int(argument) > count:
            raise UnknownCheckpointError("is a damaged pickle (an impossible memo index). Download it again.")
        if file.tell() - begin > _MAX_PICKLE:
            raise UnknownCheckpointError(
                "describes its tensors in more than 16 MB. It is another kind of model."
            )
    file.seek(begin)
    return file


def _claims(file: BinaryIO) -> dict[str, int]:
    """Bytes that a pickle's tensors want, per storage; refuses names that are not of plain weights."""
    try:
        machine = _Inert(file)
        machine.load()
    except UnknownCheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken pickle fails in every way there is
        raise _damaged(error) from error
    return machine.claims


def _load(path: Path) -> dict[str, Any]:
    try:
        # As a stream: by the name's suffix, torch.load of some versions would try other formats.
        with open(path, "rb") as file:
            raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - the many ways a pickle can be broken all mean the same to the user
        raise _damaged(error) from error
    if not isinstance(raw, Mapping):
        raise UnknownCheckpointError(
            f"holds a {type(raw).__name__}, expected a state dict (names and tensors). Save the network's state_dict()."
        )
    return dict(raw)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    return (str(error).strip().splitlines() or [""])[0][:200]
