"""Feeds damaged checkpoints to the loader for as long as asked; whatever is neither loaded nor refused is kept.

    python benchmarks/fuzz_loader.py --minutes 60 --keep found

Small valid files of every format are cut, flipped, spliced and overwritten with extreme numbers; of a zip also the
pickle inside, which is packed again so that its checksum is right. Half of the changes keep to the format, so that they
come further: opcodes of a pickle are left out, repeated, moved and given other arguments, fields of a safetensors
header other values. A load may end in a network, UnknownCheckpointError or FileNotFoundError. Everything else is a
finding: another exception, more than five seconds, more memory than --megabytes, a message of more than
2,000 characters, a process that dies. Each finding's bytes are written to --keep.
`fuzz_loader_guided.py` does the same, led by the lines that an input reaches.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import multiprocessing
import pickletools
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.checkpoint.load import load_network
from rife.networks.ifnet import IFNet
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE

SECONDS = 5
LONGEST_MESSAGE = 2000  # characters
FAST = 6  # of the seeds: the others have ten million weights
Change = Callable[[random.Random, bytes], bytes]
INTERESTING = [
    0,
    1,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**64 - 1,
]


def seeds() -> list[bytes]:
    """The same tiny network in every format, and a three-network RIFE whose weights are one number."""
    config = rife.IFNetConfig.from_dict(
        {**rife.RELEASES["4.22.lite"].to_dict(), "family": "custom", "channels": [4] * 4, "head_mid": 4}
    )
    state_dict = IFNet(config).state_dict()
    metadata = {"rife_config": json.dumps({"network": "ifnet", **config.to_dict()})}
    files = [save(state_dict), save(state_dict, metadata)]
    training_run = {"epoch": 1, "state_dict": {f"module.{k}": v.half() for k, v in state_dict.items()}}
    with torch.device("meta"):
        shapes = LegacyRIFE(LEGACY_RELEASES["arXiv-RIFE"]).state_dict()
    legacy = {k: torch.zeros(1).expand(v.shape) for k, v in shapes.items()}
    for content in (state_dict, training_run, legacy):
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            files.append(buffer.getvalue())
    return files


def damaged(rng: random.Random, data: bytes) -> bytes:
    """`data` after a few random changes, of which half keep to its format; of a zip, most often the pickle inside."""
    change = _changed if rng.random() < 0.5 else _changed_in_form
    try:
        if data.startswith(b"PK"):
            return _with_changed_pickle(rng, data, change) if rng.random() < 0.8 else _changed(rng, data)
        return change(rng, data)
    except Exception:  # noqa: BLE001 - its form is broken already
        return _changed(rng, data)


def _with_changed_pickle(rng: random.Random, data: bytes, change: Change) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(rng, content) if name.endswith("data.pkl") else content)
    return packed.getvalue()


def _changed_in_form(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with other fields in its header, or pickles with other opcodes."""
    if data[8:9] == b"{":
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        for _ in range(rng.randint(1, 4)):
            _change_fields(rng, header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]
    opcodes, rest = _opcodes_of(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(opcodes))
        begin = rng.randrange(len(opcodes))
        some = opcodes[begin : begin + rng.choice([1, 1, 2, 5, 20])]
        action = rng.randrange(5)
        if action == 0:
            del opcodes[at : at + len(some)]
        elif action == 1:
            opcodes[at:at] = some * rng.choice([1, 1, 2, 50])
        elif action == 2:
            opcodes[at] = rng.choice(some)
        elif action == 3:
            opcodes.insert(at, rng.choice(_OPCODES))
        else:
            opcodes[at] = _other_argument(rng, opcodes[at])
    return b"".join(opcodes) + rest


# What may be put into a pickle: what plain weights have, numbers at the edge, and some that they never have.
_OPCODES = [
    *(bytes([code]) for code in b"(}])t\x85\x86\x87N\x88\x89RbQsuae.012"),
    b"h\x00", b"q\x00", b"h\x05", b"K\x01", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff",
    b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"G" + struct.pack(">d", float("nan")), b"X\x01\x00\x00\x00a", b"X\x00\x00\x00\x00",
    b"ctorch\nFloatStorage\n", b"ctorch\nSize\n", b"ctorch\nfloat32\n", b"cbuiltins\nlist\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n", b"ccollections\nCounter\n", b"ccollections\ndefaultdict\n",
]  # fmt: skip


def _opcodes_of(data: bytes) -> tuple[list[bytes], bytes]:
    """The opcodes of the pickles at the beginning, each with its argument, and what follows."""
    found: list[bytes] = []
    end = 0
    while True:
        try:
            places = [end + place for _, _, place in pickletools.genops(data[end:])]
        except Exception:  # noqa: BLE001 - no further pickle
            return found, data[end:]
        found += [data[a:b] for a, b in pairwise([*places, places[-1] + 1])]
        end = places[-1] + 1


def _other_argument(rng: random.Random, opcode: bytes) -> bytes:
    """With an extreme number, or a bit flipped in its argument."""
    if len(opcode) in (2, 3, 5) and rng.random() < 0.7:
        return opcode[:1] + struct.pack("<Q", rng.choice(INTERESTING))[: len(opcode) - 1]
    at = rng.randrange(len(opcode))
    return opcode[:at] + bytes([opcode[at] ^ 1 << rng.randrange(8)]) + opcode[at + 1 :]


def _change_fields(rng: random.Random, header: dict) -> None:
    """One field of a safetensors header, anywhere in it, to something else."""
    place: Any = header
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if key == "rife_config" and rng.random() < 0.8:
            inner = json.loads(place[key])
            _change_fields(rng, inner)
            place[key] = json.dumps(inner)
            return
        if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    if isinstance(place, dict) and rng.random() < 0.2:
        del place[key]
    else:
        place[key] = rng.choice(
            [*INTERESTING, -1, 0.5, 1e300, "", "x", "9" * 50, None, True, [], {}, [2**62, 4], "F64"]
        )


def _changed(rng: random.Random, original: bytes) -> bytes:
    """Most changes are where the structure is described: at the beginning, in a zip also at the end."""
    data = bytearray(original)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        where = rng.choice([512, 4096, 20_000, len(data)])
        at = rng.randrange(min(where, len(data)))
        at = len(data) - 1 - at if rng.random() < 0.3 else at
        action = rng.randrange(6)
        if action == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at] = rng.randrange(256)
        elif action == 2:
            number = struct.pack("<Q", rng.choice(INTERESTING))[: rng.choice([1, 2, 4, 8])]
            data[at : at + len(number)] = number
        elif action == 3:
            del data[at : at + rng.choice([1, 4, 64, len(data)])]
        elif action == 4:
            data[at:at] = data[(start := rng.randrange(len(data))) : start + rng.choice([1, 8, 200])]
        else:
            data[at:at] = rng.choice(
                [b"\x80\x02", b"cos\nsystem\n", b"R", b"r\xff\xff\xff\x7f", b"}", b"{", b"Q", b"."]
            )
    return bytes(data)


def load(path: str | Path) -> None:
    """Reads a file as everybody does. AssertionError for a refusal that nobody would read."""
    try:
        load_network(path)
    except (rife.UnknownCheckpointError, FileNotFoundError) as error:
        assert len(str(error)) < LONGEST_MESSAGE + len(str(path)), (
            f"a message of {len(str(error))} characters"
        )


def work(seed: int, until: float, megabytes: int, path: Path, count) -> None:
    """Loads damaged files until `until`; the one at hand lies at `path`. Exits with 1 at a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    torch.set_num_threads(1)
    logging.disable()
    warnings.simplefilter("ignore")
    rng, files = random.Random(seed), seeds()
    while time.time() < until:
        path.write_bytes(damaged(rng, rng.choice(files)))
        start = time.process_time()  # of the processor: a busy machine is no finding
        try:
            load(path)
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            print(f"{type(error).__name__}: {error}", flush=True)
            sys.exit(1)
        if (took := time.process_time() - start) > SECONDS:
            print(f"took {took:.1f} s", flush=True)
            sys.exit(1)
        count.value += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=8000, help="address space of the process that loads")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_found"))
    args = parser.parse_args()

    args.keep.mkdir(parents=True, exist_ok=True)
    current = args.keep / "current.pth"
    until, seed, found = time.time() + args.minutes * 60, args.seed, 0
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    while time.time() < until:
        before = count.value
        process = context.Process(target=work, args=(seed, until, args.megabytes, current, count))
        process.start()
        process.join(until - time.time() + 30)
        if process.exitcode != 0:
            process.kill()
            found += 1
            data = current.read_bytes()
            target = args.keep / f"{hashlib.sha256(data).hexdigest()[:12]}.pth"
            target.write_bytes(data)
            print(
                f"finding {found}: {target}, exit {process.exitcode}, after {count.value - before} files",
                flush=True,
            )
        seed += 1
    print(f"{count.value} damaged files in {args.minutes:g} minutes, {found} findings")


if __name__ == "__main__":
    main()
