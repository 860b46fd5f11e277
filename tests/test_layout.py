"""Imports point one way: each module of the core imports only those listed before it, and little else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent / "rife"
ORDER = (
    "version files config memory fused stopwatch layouts sampling warp refine pyramid still relaxation variational "
    "ifnet kernels acceleration twins legacy checkpoint transfer catalog losses perceptual auxiliary learner model "
    "timeline scenes cogvideo report copies engine codecs stills media overlap writer parts video segments clips "
    "metrics pictures baselines scoring tables protocols score data workflow datasets bundled training runfolder "
    "train_command interpolate_command cli __main__ __init__ "
).split()
THIRD_PARTY = {"torch", "numpy", "safetensors", "einops", "tqdm"}
# baselines, metrics and kernels do without theirs where it is not installed.
OF_SOME_MODULES = {
    **dict.fromkeys(("codecs", "stills", "media", "writer"), {"av"}),
    "baselines": {"cv2"},
    "kernels": {"triton"},
    "metrics": {"lpips"},
}


def _imports(path: Path) -> tuple[set[str], set[str]]:
    """Names of the core's modules, and of top-level packages, that a file imports."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path.name} reaches out of the core"
            inside |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
    return inside, outside


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda p: p.stem)
def test_core_imports_point_one_way(path):
    inside, outside = _imports(path)
    earlier = set(ORDER[: ORDER.index(path.stem)])
    assert inside <= earlier | {"version"}, f"{path.stem} imports {inside - earlier}"
    allowed = THIRD_PARTY | set(sys.stdlib_module_names) | OF_SOME_MODULES.get(path.stem, set())
    assert outside <= allowed, f"{path.stem} imports {outside - allowed}"


def test_only_the_nodes_know_comfyui():
    for path in CORE.glob("*.py"):
        _, outside = _imports(path)
        assert not outside & {"comfy", "comfy_api", "folder_paths", "nodes"}, path.name
