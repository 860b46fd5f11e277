"""Memory that one pass on a CPU frees is what the next one takes."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PASSES = """
import resource, sys
import torch
import rife
torch.set_num_threads(1)
model = rife.load_model(device="cpu")
frames = torch.rand(2, 1, 3, 480, 720)
for i in range(8):
    if i == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model.inference(*frames)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the habits of glibc's malloc")
def test_a_pass_touches_few_fresh_pages():
    """3,000 to 7,000 before, a tenth of its time."""
    done = subprocess.run(
        [sys.executable, "-c", PASSES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1000
