"""What a pickle of weights claims to be, found out without building any of it.

PyTorch reads with `weights_only`, so that no code runs. What that leaves is memory and time: a file of a few bytes may
describe tensors of terabytes, a zip may unpack to as much, a memo index of billions makes the C unpickler allocate it.
Files come from strangers, and the one who loads them is a server that other people's jobs run on. So a machine that
builds nothing walks through the pickle first and adds up what it asks for.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO

import torch

from .errors import UnknownCheckpointError, damaged

# The largest release with its teacher and optimiser state has half of it.
MAX_BYTES = 2**30
MAX_PICKLE = 2**24  # names and shapes only; released files have 20 to 100 kB
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


def check_zip(file: BinaryIO, size: int) -> None:
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
            if records[name].file_size > MAX_PICKLE:
                raise UnknownCheckpointError(
                    f"describes its tensors in {records[name].file_size} bytes, expected less than {MAX_PICKLE}. It "
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
        raise damaged(error) from error


def check_stream(file: BinaryIO, size: int) -> None:
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
        raise damaged(error) from error
    if total > size:
        raise UnknownCheckpointError(
            f"claims {total} bytes of tensors and has {size} in all. It is cut short: download it again."
        )


class _Storage:
    def __init__(self, itemsize: int, key: str, count: int):
        self.itemsize, self.key, self.nbytes = itemsize, key, itemsize * count


class _Nothing:
    """Stands for every harmless name of a pickle; takes any state and keeps none."""

    def __init__(self, *_args: Any, **_kwargs: Any):
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
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

    def _tensor(self, storage: _Storage, _offset: int, size: tuple, *_rest: Any) -> _Nothing:
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
        if self.unfolded > MAX_BYTES:
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
            weight += weights.get(int(argument or 0), 0)
        elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
            if tuple_before:
                weights[stored if argument is None else int(argument)] = weight
            stored += 1
        tuple_before = "TUPLE" in opcode.name
        if weight > MAX_PICKLE:
            raise UnknownCheckpointError("holds tuples that unfold without end, made to do harm: delete it.")
        # Indices are given in order, so they never pass the number of opcodes.
        if "PUT" in opcode.name and int(argument or 0) > count:
            raise UnknownCheckpointError("is a damaged pickle (an impossible memo index). Download it again.")
        if file.tell() - begin > MAX_PICKLE:
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
        raise damaged(error) from error
    return machine.claims
