"""`fuzz_loader.py`, led by coverage: inputs that reach new lines of the loader are kept and changed further.

    pip install atheris
    python benchmarks/fuzz_loader_guided.py CORPUS -max_total_time=3600 -rss_limit_mb=3000

CORPUS is a folder; valid files are put there if it is empty. All other options are libFuzzer's. A finding ends the run
and is written to crash-*, oom-* or timeout-* in the current folder.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pickletools", "zipfile"]):
    import pickletools  # noqa: F401 - before torch, which would bring it without instruments
    import zipfile  # noqa: F401
import torch

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
with atheris.instrument_imports(include=["rife"]):
    import fuzz_loader


MAX_BYTES = 300_000


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """One time in four libFuzzer's own changes, else those of `fuzz_loader.damaged`."""
    rng = random.Random(seed)
    if not data or rng.random() < 0.25:
        return atheris.Mutate(data, max_size)
    return fuzz_loader.damaged(rng, data)[:max_size]


def main() -> None:
    """Runs libFuzzer on the loader."""
    torch.set_num_threads(1)
    logging.disable()
    warnings.simplefilter("ignore")
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for i, data in enumerate(fuzz_loader.seeds()[: fuzz_loader.FAST]):
            (corpus / f"seed{i}").write_bytes(data)
    handle, path = tempfile.mkstemp(suffix=".pth")
    os.close(handle)

    def look_at(data: bytes) -> None:
        Path(path).write_bytes(data)
        start = time.process_time()
        fuzz_loader.load(path)
        assert time.process_time() - start < fuzz_loader.SECONDS

    atheris.Setup([*sys.argv, f"-max_len={MAX_BYTES}"], look_at, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
