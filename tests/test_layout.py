"""Imports point one way: each package of the core imports only packages beneath it, and little else.

`pytest -s tests/test_layout.py` prints how many imports lead from each package to each other.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "rife"
# From the bottom up; a package may import those before it.
ORDER = (
    "version atomic_write ops timeline networks losses checkpoint model engine video evaluation training "
    "comfyui_workflow cli __main__ __init__"
).split()
PACKAGES = [name for name in ORDER if (CORE / name).is_dir()]
THIRD_PARTY = {"torch", "numpy", "safetensors", "einops", "tqdm"}
# OpenCV, Triton and LPIPS are optional: their modules do without them where they are not installed.
OF_SOME = {
    "video": {"av", "PIL"},
    "checkpoint/locking": {"filelock"},
    "evaluation/baselines": {"cv2"},
    "evaluation/metrics": {"lpips"},
    "model/onnx_export": {"onnx", "onnxruntime"},
    "networks/triton_kernels": {"triton"},
}


def _box(path: Path) -> str:
    """The package, or the module beside the packages, that a file belongs to."""
    return path.relative_to(CORE).with_suffix("").parts[0]


def _imports(path: Path) -> tuple[list[tuple[str, ...]], set[str]]:
    """(paths of the core's modules, names of top-level packages) that a file imports."""
    here = path.relative_to(CORE).parts
    inside, outside = [], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(here), f"{path} reaches out of the core"
            base = here[: len(here) - node.level] + tuple(node.module.split(".") if node.module else ())
            inside += [base] if base else [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
    return inside, outside


FILES = sorted(CORE.rglob("*.py"))
NAMES = ["/".join(path.relative_to(CORE).with_suffix("").parts) for path in FILES]


@pytest.mark.parametrize(("path", "name"), list(zip(FILES, NAMES, strict=True)), ids=NAMES)
def test_core_imports_point_one_way(path, name):
    inside, outside = _imports(path)
    box = _box(path)
    earlier = set(ORDER[: ORDER.index(box)]) | {box}
    above = {module[0] for module in inside} - earlier
    assert not above, f"{name} imports {above}, which stand above it"
    allowed = THIRD_PARTY | set(sys.stdlib_module_names) | OF_SOME.get(box, set()) | OF_SOME.get(name, set())
    assert outside <= allowed, f"{name} imports {outside - allowed}"


def test_no_file_is_in_a_circle():
    """Within a package, too, files can be put into an order in which each imports only those before it."""
    files = dict(zip(NAMES, FILES, strict=True))
    waiting = {
        name: {"/".join(module) for module in _imports(path)[0]} & set(files)
        for name, path in files.items()
        if path.name != "__init__.py"
    }
    while ready := [name for name, wants in waiting.items() if not wants & set(waiting)]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"these import each other: {waiting}"


def test_imports_between_packages_as_a_table(capsys):
    """Rows import columns; all figures stand on one side of the diagonal."""
    counts = Counter((_box(path), module[0]) for path in FILES for module in _imports(path)[0])
    rows = [f"{'':12}" + " ".join(f"{name[:5]:>5}" for name in PACKAGES)]
    for user in PACKAGES:
        rows.append(f"{user:12}" + " ".join(f"{counts[user, used] or '':>5}" for used in PACKAGES))
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert not [
        pair for pair in counts if set(pair) <= set(PACKAGES) and ORDER.index(pair[1]) > ORDER.index(pair[0])
    ]


def test_only_the_nodes_know_comfyui():
    for path in FILES:
        _, outside = _imports(path)
        assert not outside & {"comfy", "comfy_api", "folder_paths", "nodes"}, path


def test_importing_the_core_needs_no_pyav():
    code = f"import sys; sys.path.insert(0, {str(CORE.parent)!r}); sys.modules['av'] = None; import rife"
    subprocess.run([sys.executable, "-c", code], check=True)


def _tree():
    spec = importlib.util.spec_from_file_location("tree_tool", ROOT / "tools" / "tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_in_contributing_is_that_of_the_files():
    tool = _tree()
    assert tool.PACKAGES == PACKAGES
    (written,) = tool.BLOCK.findall(tool.GUIDE.read_text(encoding="utf-8"))
    assert written == tool.tree(), "run `python tools/tree.py`"
    silent = [
        path for folder in ("nodes", "rife") for path in (ROOT / folder).rglob("*.py") if not tool.said(path)
    ]
    assert not silent, f"without a docstring: {silent}"


def test_files_that_documents_name_are_there():
    named = re.compile(r"`((?:rife|nodes|tests|tools|benchmarks|docs)/[\w/.-]+\.\w+)`")
    missing = [
        f"{page.name}: {name}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
        for name in named.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert not missing


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_no_file_of_tests_is_longer_than_500_lines():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS}
    assert not {name: length for name, length in lengths.items() if length > 500}


def test_no_test_imports_from_another_test():
    """What tests share lies in tests/support/, the only folder of theirs on sys.path."""
    scripts = [*TESTS, *(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    reached = re.compile(r"^\s*(?:from|import) (?:test_\w+|conftest)\b.*", re.MULTILINE)
    found = {
        path.name: lines for path in scripts if (lines := reached.findall(path.read_text(encoding="utf-8")))
    }
    assert not found
