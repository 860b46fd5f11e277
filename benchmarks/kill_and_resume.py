"""Kills runs of `rife interpolate --resume` at random moments and goes on; each film has to be the same bytes.

python benchmarks/kill_and_resume.py [KILLS]   # on the tests' stand-in network
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from kills import killed_and_gone_on  # noqa: E402

torch.set_num_threads(1)  # before anything is forked
kills, began = int(sys.argv[1]) if len(sys.argv) > 1 else 200, time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    stages = killed_and_gone_on(Path(folder), kills)
print(f"{kills} kills, {kills} films of the same bytes, in {time.monotonic() - began:.0f} s:")
for where, count in stages.items():
    print(f"  {count:4d} {where}")
