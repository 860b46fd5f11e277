"""The Triton kernel against the plain path: interpreted, and compiled for GPUs that are not there.

In a subprocess of a Python that has Triton: this one, else ComfyUI's. The figures are of `triton_checks.py`.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from find_comfyui import comfyui_or_reason

from rife.networks import triton_kernels as kernels

CHECKS = Path(__file__).parent / "support" / "triton_checks.py"


def python_with_triton() -> str:
    """Skips, with the reason, where there is none."""
    if importlib.util.find_spec("triton"):
        return sys.executable
    found = comfyui_or_reason()
    if isinstance(found, str):
        pytest.skip(f"no Triton in this environment, and {found}")
    probe = subprocess.run([found[1], "-c", "import triton, torch, einops"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no Triton in this environment, and none for {found[1]}: {probe.stderr.strip()[-200:]}")
    return found[1]


def checked(how: str, cache: Path) -> dict:
    interpret = {"TRITON_INTERPRET": "1" if how == "interpreted" else "0"}
    done = subprocess.run(
        [python_with_triton(), str(CHECKS), how],
        env={**os.environ, **interpret, "TRITON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict:
    return checked("interpreted", tmp_path_factory.mktemp("triton"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    return checked("compiled", tmp_path_factory.mktemp("triton"))


def test_any_shape_stride_and_flow_as_the_plain_path(interpreted):
    """To 1e-5 in float32, to the neighbouring number in halves."""
    wrong = [case for case in interpreted["random"] if not case["off"] <= 1]
    assert len(interpreted["random"]) >= 20 and not wrong, wrong


def test_a_flow_that_ends_nowhere_gives_no_nan(interpreted):
    assert interpreted["wild"]


def test_samples_further_apart_than_32_bits_reach(interpreted):
    assert interpreted["far"] < 1e-5


@pytest.mark.parametrize("release", ["4.25", "4.26.heavy", "4.6", "bundled"])
def test_a_pass_with_the_kernel_is_the_plain_pass(interpreted, release):
    found = interpreted["passes"][release]
    # The bundled network's second block gets frames that were reduced first, which is not the kernel's way.
    assert bool(found["calls"]) == (release != "bundled") and max(found["whole"], found["strips"]) < 1e-5, (
        found
    )


def test_it_is_kept_only_where_it_is_faster(interpreted):
    """The interpreter loses; told that it won, `Accelerated` goes on with the kernel, to the same picture."""
    found = interpreted["choice"]
    assert found["works"] and found["wins"] == [False]
    assert found["off"][:3] == [0, 0, 0] and 0 < found["off"][3] < 1e-5


@cache
def triton_version() -> tuple[int, ...]:
    ask = "import triton; print(*triton.__version__.split('.')[:2])"
    done = subprocess.run([python_with_triton(), "-c", ask], capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def spilled_by(name: str) -> int:
    """Bytes that a thread has to put aside: none, but from Triton 3.8 on, which wants more registers than there are."""
    if triton_version() < (3, 8) or name.startswith("gfx"):
        return 0
    return 2048 if "heavy" in name else 16


def test_it_compiles_for_gpus_without_spilling(compiled):
    """A thread stores several columns at once, and keeps in registers what it samples."""
    assert {name.split()[0] for name in compiled} == {"sm_80", "sm_90", "gfx942"}
    for name, found in compiled.items():
        assert found["spilled"] <= spilled_by(name), (name, found)
        assert found["stores"] and all(re.match("v[24]|dwordx", width) for width in found["stores"]), (
            name,
            found,
        )


def test_importing_the_module_imports_no_triton():
    statements = ast.parse(Path(kernels.__file__).read_text(encoding="utf-8")).body
    assert not any("triton" in ast.dump(x) for x in statements if isinstance(x, (ast.Import, ast.ImportFrom)))


def test_never_on_a_cpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert kernels.runs_on(torch.device("cuda")) and not kernels.runs_on(torch.device("cpu"))
