"""Where the real ComfyUI is, and the Python that can start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def find_comfyui() -> Path | None:
    """COMFYUI_PATH, else the ComfyUI in whose custom_nodes this project lies, else ~/comfy/ComfyUI."""
    if os.environ.get("COMFYUI_PATH"):
        return Path(os.environ["COMFYUI_PATH"]).expanduser()
    around = ROOT.parent.parent if ROOT.parent.name == "custom_nodes" else None
    places = [around, Path.home() / "comfy" / "ComfyUI"]
    return next((place for place in places if place and (place / "main.py").is_file()), None)


def find_python(comfyui: Path) -> str | None:
    """COMFYUI_PYTHON, else ComfyUI's own environment, else this one if it has what ComfyUI needs."""
    if os.environ.get("COMFYUI_PYTHON"):
        return os.environ["COMFYUI_PYTHON"]
    for own in (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe", "venv/Scripts/python.exe"):
        if (comfyui / own).exists():
            return str(comfyui / own)
    probe = "import torch, aiohttp, comfy_aimdo, transformers, av"
    fits = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0
    return sys.executable if fits else None


def comfyui_or_reason() -> tuple[Path, str] | str:
    """(its folder, its python), or why there is none."""
    comfyui = find_comfyui()
    if comfyui is None or not (comfyui / "main.py").is_file():
        return f"no ComfyUI at {comfyui or 'COMFYUI_PATH, above this folder, or ~/comfy/ComfyUI'}"
    python = find_python(comfyui)
    if python is None:
        return f"no Python for {comfyui}: set COMFYUI_PYTHON to one that can start it"
    return comfyui, python
