"""Makes the core importable as `rife` from this checkout, without putting the project's root on sys.path.

The root holds a folder `nodes/`, which would hide ComfyUI's own `nodes.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def load_core() -> None:
    loaded = sys.modules.get("rife")
    if loaded is not None and Path(loaded.__file__).parent == ROOT / "rife":
        return
    folder = ROOT / "rife"
    spec = importlib.util.spec_from_file_location(
        "rife", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["rife"] = module
    spec.loader.exec_module(module)


load_core()
