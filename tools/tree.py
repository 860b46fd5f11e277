"""Writes the tree of "Where to look" in CONTRIBUTING.md: a line a package and a line a file, as their docstrings say.

python tools/tree.py      # after files came, went or changed what they are; tests/test_layout.py tells when
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "CONTRIBUTING.md"
# From the bottom up: a package of the core imports only those before it.
PACKAGES = "ops timeline networks losses checkpoint model engine video evaluation training cli".split()
BLOCK = re.compile(r"(?<=<!-- tree, by tools/tree\.py -->\n```\n).*?(?=```\n)", re.DOTALL)
LAST = """\
tests/                   named after what they test; golden/ holds outputs of the official code, support/ what helps tests
benchmarks/              run by hand, each figure of the documents beside its command
tools/                   what writes workflows, pictures, plots, locales, this tree
example_workflows/       templates that ComfyUI shows
web/docs/                help pages; locales/ names and tooltips in seven languages
"""


def said(path: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def lines(folder: Path, indent: str) -> list[str]:
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    return [f"{indent + path.name:25}{said(path)}" for path in files]


def tree() -> str:
    rows = [f"{'__init__.py':25}{said(ROOT / '__init__.py')}"]
    for folder, packages in (("nodes", ()), ("rife", PACKAGES)):
        rows.append(f"{folder + '/':25}{said(ROOT / folder / '__init__.py')}")
        rows += lines(ROOT / folder, "  ")
        for package in packages:
            rows.append(f"{f'  {package}/':25}{said(ROOT / folder / package / '__init__.py')}")
            rows += lines(ROOT / folder / package, "    ")
    return "\n".join(rows) + "\n" + LAST


def main() -> None:
    text, found = BLOCK.subn(lambda _: tree(), GUIDE.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"{GUIDE} has {found} places for the tree, expected one")
    GUIDE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
