"""Finds out what a pickle of weights claims to be, without building any of it.

PyTorch reads with `weights_only`, so that no code runs. What that leaves is memory and time: a file of a few bytes may
describe tensors of terabytes, unfold without end or let the unpickler allocate billions of memo entries. Files come
from strangers, and the one who loads them is a server that other people's jobs run on. So a machine that knows the few
opcodes of files of weights, and builds nothing, walks through the pickle first: in a time that grows with the file's
length only, adding up what it asks for. What it does not know PyTorch never gets to see.
"""

from __future__ import annotations

import struct
import zipfile
from typing import Any, BinaryIO, NamedTuple

import torch

from .errors import UnknownCheckpointError, damaged

# The largest release with its teacher and optimiser state has half of it.
MAX_BYTES = 2**30
MAX_PICKLE = 2**22  # names and shapes only; released files have 20 to 100 kB
_MAX_OPCODES = 400_000  # released files have 10,000; a training state of 4.25.heavy 40,000
_MAX_RATIO = 16  # of a zip: weights hardly shrink, and PyTorch does not compress
_MAX_TEXT = 2**16  # bytes of a text
_MAGIC = 0x1950A86A20F9469CFC6C  # before the parts of a file in PyTorch's format before 1.6


def check_zip(file: BinaryIO, size: int) -> None:
    """Checks a file of PyTorch's format since 1.6, which has `size` bytes. Refuses bombs, other archives, and tensors
    larger than their data. Raises UnknownCheckpointError."""
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
                inside = [name[:60] for name in sorted(records)[:4]]
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
            if (broken := archive.testzip()) is not None:
                raise UnknownCheckpointError(
                    f"is damaged: the checksum of {broken[:60]} is not that of its bytes. Download it again; if it was "
                    "saved with set_crc32_options(False), save it again without."
                )
            claims = _claims(archive.read(name))
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


def check_stream(data: bytes, size: int) -> None:
    """Checks PyTorch's format before 1.6: pickles for magic number, version, system, weights and keys, then the data.

    data: the file's beginning, size: bytes of the whole file. Raises UnknownCheckpointError where its tensors are
    larger than the file.
    """
    total = sum(_claims(data, parts=4 if _MAGIC.to_bytes(10, "little") in data[:24] else 1).values())
    if total > size:
        raise UnknownCheckpointError(
            f"claims {total} bytes of tensors and has {size} in all. It is cut short: download it again."
        )


class _Opcode(NamedTuple):
    name: str
    argument: str  # struct's format of what follows; "line", "text1", "text4", "long1" or "" for nothing
    plain: (
        bool  # whether files of weights have it; the others are read to name what a foreign pickle would call
    )


def _opcodes() -> dict[int, _Opcode]:
    plain = {
        "\x80": ("PROTO", "B"), ".": ("STOP", ""), "(": ("MARK", ""), "}": ("EMPTY_DICT", ""), "]": ("EMPTY_LIST", ""),
        ")": ("EMPTY_TUPLE", ""), "t": ("TUPLE", ""), "\x85": ("TUPLE1", ""), "\x86": ("TUPLE2", ""),
        "\x87": ("TUPLE3", ""), "N": ("NONE", ""), "\x88": ("NEWTRUE", ""), "\x89": ("NEWFALSE", ""),
        "K": ("BININT1", "B"), "M": ("BININT2", "<H"), "J": ("BININT", "<i"), "\x8a": ("LONG1", "long1"),
        "G": ("BINFLOAT", ">d"), "X": ("BINUNICODE", "text4"), "q": ("BINPUT", "B"), "r": ("LONG_BINPUT", "<I"),
        "h": ("BINGET", "B"), "j": ("LONG_BINGET", "<I"), "c": ("GLOBAL", "line"), "R": ("REDUCE", ""),
        "b": ("BUILD", ""), "Q": ("BINPERSID", ""), "s": ("SETITEM", ""), "u": ("SETITEMS", ""), "a": ("APPEND", ""),
        "e": ("APPENDS", ""),
    }  # fmt: skip
    foreign = {
        "\x95": ("FRAME", "<Q"), "\x94": ("MEMOIZE", ""), "\x8c": ("SHORT_BINUNICODE", "text1"),
        "\x93": ("STACK_GLOBAL", ""), "C": ("SHORT_BINBYTES", "text1"), "B": ("BINBYTES", "text4"),
        "U": ("SHORT_BINSTRING", "text1"), "T": ("BINSTRING", "text4"), "i": ("INST", "line"), "p": ("PUT", "line"),
        "g": ("GET", "line"), "V": ("UNICODE", "line"), "S": ("STRING", "line"), "I": ("INT", "line"),
        "L": ("LONG", "line"), "F": ("FLOAT", "line"), "d": ("DICT", ""), "l": ("LIST", ""), "0": ("POP", ""),
        "1": ("POP_MARK", ""), "2": ("DUP", ""), "o": ("OBJ", ""), "\x81": ("NEWOBJ", ""), "\x92": ("NEWOBJ_EX", ""),
        "\x8f": ("EMPTY_SET", ""), "\x90": ("ADDITEMS", ""), "\x91": ("FROZENSET", ""), "P": ("PERSID", "line"),
    }  # fmt: skip
    table = {ord(code): _Opcode(*row, True) for code, row in plain.items()}
    return table | {ord(code): _Opcode(*row, False) for code, row in foreign.items()}


_OPCODES = _opcodes()


def _read(data: bytes, position: int) -> tuple[list[tuple[str, Any]], int, str]:
    """The opcodes of the pickle that begins at `position`, with their arguments, where it ends, and the first opcode
    that files of weights have not, "" for none.

    Raises UnknownCheckpointError for names that they do not refer to.
    """
    found: list[tuple[str, Any]] = []
    texts: list[str] = ["", ""]
    foreign = ""
    limit = position + MAX_PICKLE
    while not found or found[-1][0] != "STOP":
        if position >= min(len(data), limit) or len(found) >= _MAX_OPCODES:
            if position >= len(data) and len(data) < MAX_PICKLE:
                raise damaged(EOFError("the pickle does not end"))
            raise UnknownCheckpointError(
                f"describes its tensors in more than {MAX_PICKLE >> 20} MB. It is another kind of model."
            )
        opcode = _OPCODES.get(data[position])
        if opcode is None:
            raise _foreign(foreign or f"{data[position]:#04x}")
        argument, position = _argument(data, position + 1, opcode.argument)
        if opcode.argument.startswith("text"):
            texts = [texts[1], argument]
        if opcode.name in ("GLOBAL", "INST"):
            second, position = _argument(data, position, "line")
            argument = (argument, second)
            _check_name(*argument)
        if opcode.name == "STACK_GLOBAL":
            _check_name(*texts)
        if not opcode.plain or (opcode.name == "PROTO" and argument != 2):
            foreign = foreign or opcode.name
        found.append((opcode.name, argument))
    return found, position, foreign


def _foreign(opcode: str) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"cannot be read as plain weights: it has the pickle opcode {opcode}, which files of weights have not. It is "
        "another kind of file, or damaged: ask its author for a state dict or a safetensors file."
    )


def _argument(data: bytes, position: int, form: str) -> tuple[Any, int]:
    if not form:
        return None, position
    if form == "line":
        end = data.find(b"\n", position, position + _MAX_TEXT)
        if end < 0:
            raise damaged(ValueError("a name does not end"))
        return data[position:end].decode("utf-8", "replace"), end + 1
    if form in ("text1", "text4", "long1"):
        width = 4 if form == "text4" else 1
        length = int.from_bytes(data[position : position + width], "little")
        position += width
        if length > _MAX_TEXT or position + length > len(data):
            raise damaged(ValueError("a text or number is longer than any name"))
        raw = data[position : position + length]
        value = (
            int.from_bytes(raw, "little", signed=True) if form == "long1" else raw.decode("utf-8", "replace")
        )
        return value, position + length
    size = struct.calcsize(form)
    if position + size > len(data):
        raise damaged(EOFError("the pickle does not end"))
    return struct.unpack_from(form, data, position)[0], position + size


class _Box:
    """A dictionary or list, or what else takes entries; keeps none."""


class _Storage(NamedTuple):
    key: str
    itemsize: int
    numbers: int


_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_HARMLESS = {
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("torch", "Size"),
    ("torch", "device"),
    *(("torch._utils", name) for name in _TENSORS),
}


def _check_name(module: str, name: str) -> None:
    """Raises UnknownCheckpointError unless `module.name` is one that files of plain weights refer to."""
    if (module, name) in _HARMLESS or (
        module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
    ):
        return
    if module in ("torch", "torch.storage") and name.endswith("Storage"):
        _itemsize(name)
        return
    kinds = ("quantized", "qtensor", "sparse", "tensor_v3")
    if module.startswith("torch") and any(kind in name.lower() for kind in kinds):
        raise UnknownCheckpointError(
            "holds quantised or sparse tensors or such of 8 bits, expected plain ones of 16 or 32. Get the "
            "original file."
        )
    called = repr(f"{module[:60]}.{name[:60]}")[1:-1]  # whatever bytes a damaged file has there
    raise UnknownCheckpointError(
        f"would call {called} when read: a pickle that holds more than tensors can run any code, and is refused. "
        "Ask its author for a state dict or a safetensors file."
    )


class _Machine:
    """Runs the opcodes of plain weights over stand-ins: nothing is called, hashed or copied."""

    def __init__(self) -> None:
        self.claims: dict[str, int] = {}
        self._unfolded = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcodes: list[tuple[str, Any]]) -> None:
        """Raises UnknownCheckpointError; IndexError or KeyError where stack or memo lack what is asked for."""
        for count, (name, argument) in enumerate(opcodes):
            if name in ("BINPUT", "LONG_BINPUT"):
                # Indices are given in order, so they never pass the number of opcodes.
                if argument > count:
                    raise UnknownCheckpointError(
                        "is a damaged pickle (an impossible memo index). Download it again."
                    )
                self._memo[argument] = self._stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self._stack.append(self._memo[argument])
            elif name == "MARK":
                self._marks.append(len(self._stack))
            elif name in ("BININT1", "BININT2", "BININT", "LONG1", "BINFLOAT", "BINUNICODE", "NONE"):
                self._stack.append(argument)
            elif name in ("NEWTRUE", "NEWFALSE"):
                self._stack.append(name == "NEWTRUE")
            elif name in ("EMPTY_DICT", "EMPTY_LIST"):
                self._stack.append(_Box())
            elif name.startswith(("TUPLE", "EMPTY_TUPLE")):
                self._stack.append(self._tuple(name))
            elif name == "GLOBAL":
                self._stack.append(argument)
            elif name == "BINPERSID":
                self._stack.append(self._storage(self._stack.pop()))
            elif name == "REDUCE":
                arguments = self._stack.pop()
                self._stack.append(self._reduce(self._stack.pop(), arguments))
            elif name not in ("PROTO", "STOP"):
                self._fill(name)

    def _marked(self) -> list[Any]:
        """What lies above the last mark, taken off."""
        begin = self._marks.pop()
        items, self._stack[begin:] = self._stack[begin:], []
        return items

    def _tuple(self, name: str) -> tuple:
        if name == "TUPLE":
            return tuple(self._marked())
        length = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}[name]
        if length > len(self._stack):
            raise IndexError("the stack is empty")
        begin = len(self._stack) - length
        items, self._stack[begin:] = self._stack[begin:], []
        return tuple(items)

    def _fill(self, name: str) -> None:
        """SETITEM, SETITEMS, APPEND, APPENDS, BUILD: entries for a dictionary or list, which keeps none."""
        items = self._marked() if name in ("SETITEMS", "APPENDS") else [self._stack.pop()]
        if name == "SETITEM":
            items.insert(0, self._stack.pop())
        if name.startswith("SETITEM"):
            keys = items[::2]
            if not all(key is None or isinstance(key, (str, int, float)) for key in keys):
                raise UnknownCheckpointError(
                    "has dictionaries whose keys are neither texts nor numbers: tuples of tuples unfold without end. "
                    "It was made to do harm: delete it."
                )
        if not isinstance(self._stack[-1], _Box):
            raise UnknownCheckpointError("fills what is no dictionary or list. It is damaged.")

    def _reduce(self, function: Any, arguments: Any) -> Any:
        kind = function[1] if isinstance(function, tuple) and len(function) == 2 else None
        if not isinstance(kind, str) or not isinstance(arguments, tuple):
            raise UnknownCheckpointError("calls what is no function. It is damaged.")
        if kind in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return self._tensor(*arguments[:4])
        if kind == "_rebuild_parameter":
            return arguments[0]
        simple = all(value is None or isinstance(value, (str, int, _Box)) for value in arguments)
        sizes = (
            all(_is_side(side) for side in arguments[0])
            if arguments and type(arguments[0]) is tuple
            else simple
        )
        if (
            kind in ("OrderedDict", "Counter", "defaultdict", "device", "Size")
            and len(arguments) < 3
            and sizes
        ):
            return _Box()
        raise UnknownCheckpointError(f"calls {kind[:60]} with odd arguments. It is damaged.")

    def _storage(self, pid: Any) -> _Storage:
        """A storage beside the pickle: ("storage", its type, its key, its device, its length[, None])."""
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[0] != "storage":
            raise UnknownCheckpointError(
                f"refers to a {type(pid).__name__} outside, expected storages of numbers. It is damaged."
            )
        _, kind, key, location, count = pid[:5]
        if not (isinstance(key, str) and isinstance(location, str)):
            raise UnknownCheckpointError(
                "names a storage by what is no text: tuples of tuples unfold without end. It was made to do harm: "
                "delete it."
            )
        named = isinstance(kind, tuple) and len(kind) == 2 and isinstance(kind[1], str)
        if (
            not named
            or not kind[1].endswith("Storage")
            or not _is_side(count)
            or (pid[5:] and pid[5] is not None)
        ):
            raise UnknownCheckpointError("describes a storage that cannot be. It is damaged.")
        storage = _Storage(key, _itemsize(kind[1]), count)
        self.claims[key] = max(storage.itemsize * count, self.claims.get(key, 0))
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> _Box:
        shapes = all(type(x) is tuple and len(x) <= 8 and all(map(_is_side, x)) for x in (size, stride))
        if (
            not isinstance(storage, _Storage)
            or not _is_side(offset)
            or not shapes
            or len(size) != len(stride)
        ):
            raise UnknownCheckpointError("describes a tensor of an impossible size. It is damaged.")
        count = storage.itemsize
        for side in size:
            count *= side
            if count > 2**60:  # before it grows further
                break
        # Tensors larger than their storage repeat values, and would fill the memory when they are copied.
        self._unfolded += count
        if self._unfolded > MAX_BYTES:
            raise UnknownCheckpointError(
                f"describes tensors of {self._unfolded / 1e9:.1f} GB, of which {str(size)[:80]} in "
                f"{storage.itemsize * storage.numbers} bytes. It is damaged, or made to fill the memory: delete it."
            )
        return _Box()


def _is_side(value: Any) -> bool:
    """Whether it may be a length, an offset or a step: no negative number, and none that memory could not hold."""
    return type(value) is int and 0 <= value < 2**63


def _itemsize(name: str) -> int:
    """Bytes per number of torch.FloatStorage and its like."""
    sizes = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}
    sizes |= {"Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1, "ComplexFloat": 8, "ComplexDouble": 16}
    kind = name.removesuffix("Storage")
    if kind not in sizes:
        raise UnknownCheckpointError(
            f"holds a torch.{name[:60]}, expected floating-point weights. Get the original."
        )
    return sizes[kind]


def _claims(data: bytes, parts: int = 1) -> dict[str, int]:
    """Bytes that the tensors of the last of `parts` pickles in a row want, per storage.

    Raises UnknownCheckpointError for whatever is not plain weights.
    """
    position, foreign = 0, ""
    machine = _Machine()
    try:
        for _ in range(parts):
            opcodes, position, found = _read(data, position)
            foreign = foreign or found
        # Not before all are read: what a pickle would call says more than how it is written.
        if foreign:
            raise _foreign(foreign)
        machine.run(opcodes)
    except UnknownCheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken pickle fails in every way there is
        raise damaged(error) from error
    return machine.claims
