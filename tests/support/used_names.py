"""Which names of ComfyUI the nodes use, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server")


def used_names(folder: Path = ROOT / "nodes") -> dict[str, set[str]]:
    """Every dotted name of ComfyUI that the nodes use, with the keywords they pass to it."""
    used: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        aliases = dict(_imports(tree))
        calls = {
            id(n.func): {k.arg for k in n.keywords if k.arg}
            for n in ast.walk(tree)
            if isinstance(n, ast.Call)
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.Attribute, ast.Name)) and (name := _dotted(node, aliases)):
                used.setdefault(name, set()).update(calls.get(id(node), set()))
    return used


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                root = name.name.split(".")[0]
                if root in MODULES:
                    yield root, root
        elif (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").split(".")[0] in MODULES
        ):
            for name in node.names:
                yield name.asname or name.name, f"{node.module}.{name.name}"


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value, aliases)):
        return f"{base}.{node.attr}"
    return None
