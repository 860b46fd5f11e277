"""The stand-in host against the real ComfyUI, in its own Python: names, keywords, loading, interplay."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import fake_comfyui as stand_in
import pytest
from find_comfyui import comfyui_or_reason
from used_names import used_names

HERE = Path(__file__).resolve().parent
CHECKS = re.findall(
    r"^@check\ndef (\w+)", (HERE / "support" / "inside_comfyui.py").read_text(encoding="utf-8"), re.M
)


@pytest.fixture(scope="module")
def results():
    found = comfyui_or_reason()
    if isinstance(found, str):
        warnings.warn(f"Not tested against the real ComfyUI: {found}", stacklevel=1)
        pytest.skip(found)
    comfyui, python = found
    command = [python, str(HERE / "support" / "inside_comfyui.py"), str(comfyui)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=comfyui, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULTS ")]
    assert lines, run.stdout[-2000:] + run.stderr[-4000:]
    return json.loads(lines[-1].removeprefix("RESULTS "))


@pytest.mark.parametrize("check", CHECKS)
def test_in_the_real_comfyui(results, check):
    assert results[check] == "ok", results[check]


def test_the_stand_in_has_every_name_that_the_nodes_use(tmp_path):
    generator = stand_in.installed(tmp_path)
    next(generator)
    try:
        used = used_names()
        assert "comfy.model_management.load_models_gpu" in used and "comfy_api.latest.io.Int.Input" in used
        for dotted in used:
            value = sys.modules[dotted.split(".")[0]]
            for part in dotted.split(".")[1:]:
                value = getattr(value, part)
    finally:
        generator.close()


def test_only_memory_touches_comfyuis_model_management():
    for file in (stand_in.ROOT / "nodes").glob("*.py"):
        if file.name != "model_management.py":
            assert not re.search(
                r"^\s*(import comfy\.|import comfy$|from comfy[. ])", file.read_text(), re.M
            ), file
