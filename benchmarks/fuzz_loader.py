"""Feeds damaged checkpoints to the loader for as long as asked; whatever is neither loaded nor refused is kept.

    python benchmarks/fuzz_loader.py --minutes 60 --keep found

Small valid files of every format are cut, flipped, spliced and overwritten with extreme numbers; of a zip also the
pickle inside, which is packed again so that its checksum is right. A load may end in a network,
UnknownCheckpointError or FileNotFoundError. Everything else is a finding: another exception, more than five seconds,
more memory than --megabytes, a process that dies. Each finding's bytes are written to --keep.
`fuzz_loader_guided.py` does the same, led by the lines that an input reaches.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import multiprocessing
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.checkpoint.load import load_network
from rife.networks.ifnet import IFNet
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE

SECONDS = 5
FAST = 6  # of the seeds: the others have ten million weights
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
    """`data` after a few random changes; of a zip, half of the time, the pickle inside."""
    if data.startswith(b"PK") and rng.random() < 0.5:
        try:
            return _with_damaged_pickle(rng, data)
        except Exception:  # noqa: BLE001 - a zip that is broken already
            pass
    return _changed(rng, data)


def _with_damaged_pickle(rng: random.Random, data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, _changed(rng, content) if name.endswith("data.pkl") else content)
    return packed.getvalue()


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
            load_network(path)
        except (rife.UnknownCheckpointError, FileNotFoundError):
            pass
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
