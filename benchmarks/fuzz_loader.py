"""Feeds damaged checkpoints to the loader for as long as asked; whatever is neither loaded nor refused is kept.

    python benchmarks/fuzz_loader.py --minutes 60 --keep found

Small valid files of every format are cut, flipped, spliced and overwritten with extreme numbers. A load may end in a
network, UnknownCheckpointError or FileNotFoundError. Everything else is a finding: another exception, more than five
seconds, more memory than --megabytes, a process that dies. Each finding's bytes are written to --keep.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import multiprocessing
import random
import resource
import struct
import sys
import time
import warnings
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rife
from rife.checkpoint import load_network

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
    """The same tiny network in every format."""
    config = rife.IFNetConfig.from_dict(
        {**rife.RELEASES["4.22.lite"].to_dict(), "channels": [8, 8, 8, 8], "head_mid": 4}
    )
    network = sys.modules["rife.ifnet"].IFNet(config)
    state_dict = network.state_dict()
    files = [save(state_dict, {"rife_config": '{"network": "ifnet"}'})]
    for content in (
        state_dict,
        {"epoch": 1, "state_dict": {f"module.{k}": v.half() for k, v in state_dict.items()}},
    ):
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            files.append(buffer.getvalue())
    return files


def damaged(rng: random.Random, files: list[bytes]) -> bytes:
    """One of `files` after a few random changes, most of them where the structure is described."""
    data = bytearray(rng.choice(files))
    for _ in range(rng.randint(1, 8)):
        # Structure is at the beginning, in a zip also at the end.
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
        if not data:
            return b""
    return bytes(data)


def work(seed: int, until: float, megabytes: int, path: Path, count) -> None:
    """Loads damaged files until `until`; the one at hand lies at `path`. Exits with 1 at a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    torch.set_num_threads(1)
    logging.disable()
    warnings.simplefilter("ignore")
    rng, files = random.Random(seed), seeds()
    while time.time() < until:
        path.write_bytes(damaged(rng, files))
        start = time.monotonic()
        try:
            load_network(path)
        except (rife.UnknownCheckpointError, FileNotFoundError):
            pass
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            print(f"{type(error).__name__}: {error}", flush=True)
            sys.exit(1)
        if time.monotonic() - start > 5:
            print(f"took {time.monotonic() - start:.1f} s", flush=True)
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
