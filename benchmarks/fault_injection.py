"""Lets every write, fsync, rename and read fail once, in turn, while files are written: videos, runs under --resume,
pictures, checkpoints, training runs, downloads. After each the old file stands under its name, or the new one, nothing
else is left, and the next run writes what it should.

python benchmarks/fault_injection.py [SCENARIO ...]   # Linux, with a C compiler
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("write", "fsync", "rename", "read")


def preloaded() -> int:
    """Starts this script anew, with the library that counts and fails."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faults.so"
        source = ROOT / "benchmarks" / "fault_injection.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTS": str(library)}
        return subprocess.run([sys.executable, "-P", *sys.argv], env=environment, check=False).returncode


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    import torch
    from fault_scenarios import SCENARIOS, begin, judge, state
    from web import Web

    torch.set_num_threads(1)
    faults, bad = ctypes.CDLL(os.environ["FAULTS"]), 0
    faults.fault_arm.argtypes, faults.fault_count.restype = (ctypes.c_int, ctypes.c_long), ctypes.c_long

    def attempt(scenario, folder: Path, kind: int = -1, nth: int = 0) -> Exception | None:
        """One run, of which at most one call fails."""
        faults.fault_arm(kind, nth)
        try:
            scenario.run(folder)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            return error
        finally:
            counts[:] = [faults.fault_count(kind) for kind in range(len(KINDS))]
            faults.fault_arm(-1, 0)
        return None

    with tempfile.TemporaryDirectory() as base, Web().running() as web:
        begun = Path(base) / "begun"
        begun.mkdir()
        for name in sys.argv[1:] or SCENARIOS:
            scenario = SCENARIOS[name](begun, web)
            began, place, counts = time.monotonic(), Path(base) / scenario.name, [0] * len(KINDS)
            begin(scenario, place / "it")
            before = state(place / "it")
            faults.fault_watch(str(place).encode())
            if error := attempt(scenario, place / "it"):
                raise error
            whole, todo, ended = state(place / "it"), list(counts), Counter()
            for kind, count in enumerate(todo):
                for nth in range(1, count + 1):
                    shutil.rmtree(place / "it")
                    begin(scenario, place / "it")
                    try:
                        error = attempt(scenario, place / "it", kind, nth)
                        ended["in an error" if error else "whole"] += 1
                        judge(scenario, place / "it", before, whole, error)
                    except Exception as fault:  # noqa: BLE001 - the next one is tried as well
                        bad += 1
                        print(f"{scenario.name}, {KINDS[kind]} {nth}: {type(fault).__name__}: {fault} <- {error!r}",
                              flush=True)  # fmt: skip
            done = ", ".join(f"{count} {kind}s" for kind, count in zip(KINDS, todo, strict=True))
            print(
                f"{scenario.name}: {done}; ended {dict(ended)}; {time.monotonic() - began:.0f} s", flush=True
            )
    print(f"{bad} faults were not borne" if bad else "all were borne")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main() if "FAULTS" in os.environ else sys.exit(preloaded())
