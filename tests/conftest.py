"""Puts what helps the tests, tests/support/, on sys.path, and this checkout's core into their reach."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Threads that wait for each other otherwise keep the cores that they wait for: ten times as slow beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "support"))

import checkout  # noqa: E402, F401  (makes this checkout's `rife` importable)

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # `pytest -n 2`: threads of all workers together, and of the processes that they start, fit the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def pytest_addoption(parser):
    parser.addoption(
        "--released",
        choices=("off", "some", "all"),
        default="off",
        help="test on released weights, which pip brings: 55 MB of them, or all (tests/test_released.py)",
    )


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
