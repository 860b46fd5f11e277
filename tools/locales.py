"""Writes locales/<language>/nodeDefs.json, what ComfyUI shows of our nodes in each language, and their help pages.

    python tools/locales.py

English comes from the nodes themselves. tools/translations/<language>.json holds the others, once for all nodes:
"names" by the id of an input or output (or a node's English name), "texts" by the English text. What has none is
written in English and listed here; tests/test_locales.py checks that every key is there and up to date.

Help pages: web/docs/<node>.md is English and written by hand; web/docs/<node>/<language>.md is written here, of the same
names and texts that the node shows and of the English page's picture.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import checkout  # noqa: E402, F401  (makes this checkout's `rife` importable)
import fake_comfyui as host  # noqa: E402

from rife.comfyui_workflow import ALL_IN_ONE, STATES, VFI, VFI_STATES  # noqa: E402

LOCALES, TRANSLATIONS = ROOT / "locales", ROOT / "tools" / "translations"
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "es", "de")
DOCS = ROOT / "web" / "docs"
# What a help page calls inputs and outputs.
HEADINGS = {
    "zh": ("输入", "输出"),
    "ja": ("入力", "出力"),
    "ko": ("입력", "출력"),
    "fr": ("Entrées", "Sorties"),
    "es": ("Entradas", "Salidas"),
    "de": ("Eingänge", "Ausgänge"),
}


def schemas() -> list:
    """Of all nodes, in the order of the menu."""
    with tempfile.TemporaryDirectory() as models:
        installed = host.installed(Path(models))
        found = [node.define_schema() for node in next(installed).nodes.values()]
        installed.close()
    return found


def inputs_of(schema) -> dict[str, list[str]]:
    """Input id -> its tooltips. a.b are the inputs of a dynamic choice, which may share an id."""
    found: dict[str, list[str]] = {}

    def add(one, before: str = "") -> None:
        texts = found.setdefault(before + one.id, [])
        if one.options.get("tooltip") not in texts:
            texts.append(one.options.get("tooltip"))
        for option in one.options.get("options", ()):
            for inner in getattr(option, "inputs", ()):
                add(inner, f"{before}{one.id}.")

    for one in schema.inputs:
        add(one)
    return found


class Words:
    """One language's translations; `missing` collects what it lacks."""

    def __init__(self, language: str):
        path = TRANSLATIONS / f"{language}.json"
        self.english = language == "en"
        self.found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.missing: list[str] = []

    def name(self, name: str) -> str:
        return name if self.english else self.found.get("names", {}).get(name, name)

    def text(self, *texts: str) -> str:
        return " / ".join(self._one(text.strip()) for text in texts)

    def _one(self, text: str) -> str:
        known = self.found.get("texts", {})
        if not self.english and text not in known:
            self.missing.append(text)
        return known.get(text, text)


def definitions(nodes: list, words: Words) -> dict:
    """The contents of nodeDefs.json."""
    result = {}
    for schema in nodes:
        name = schema.options["display_name"]
        result[schema.node_id] = {
            "display_name": words.name(name),
            "description": words.text(schema.options["description"]),
            # The front end asks for a_b where an input's name is a.b.
            "inputs": {
                key.replace(".", "_"): {"name": words.name(key.split(".")[-1]), "tooltip": words.text(*texts)}
                for key, texts in inputs_of(schema).items()
            },
            "outputs": {
                str(i): {
                    "name": words.name(output.options["display_name"]),
                    "tooltip": words.text(output.options["tooltip"]),
                }
                for i, output in enumerate(schema.outputs)
            },
        }
    return result


def written(language: str, nodes: list) -> tuple[str, list[str]]:
    """nodeDefs.json of a language, and the texts that it shows in English."""
    words = Words(language)
    text = json.dumps(definitions(nodes, words), indent=1, ensure_ascii=False) + "\n"
    return text, words.missing


def help_page(schema, language: str) -> str:
    """The help page of a node in another language, as Markdown."""
    shown = definitions([schema], Words(language))[schema.node_id]
    page = (DOCS / f"{schema.node_id}.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", page)[:1]
    lines = [f"# {shown['display_name']}", "", shown["description"], "", f"![]({picture})"]
    for heading, rows in zip(HEADINGS[language], (shown["inputs"], shown["outputs"]), strict=True):
        lines += [
            "",
            f"## {heading}",
            "",
            *(f"- **{row['name']}**: {row['tooltip']}" for row in rows.values()),
        ]
    return "\n".join(lines) + "\n"


def write_help(nodes: list) -> None:
    """All pages but those by hand; nodes under another pack's id have those of ours that they are."""
    for node_id, ours in ((VFI, ALL_IN_ONE), (VFI_STATES, STATES)):
        (DOCS / f"{node_id}.md").write_text(
            (DOCS / f"{ours}.md").read_text(encoding="utf-8"), encoding="utf-8"
        )
    for schema in nodes:
        for language in HEADINGS:
            page = DOCS / schema.node_id / f"{language}.md"
            page.parent.mkdir(exist_ok=True)
            page.write_text(help_page(schema, language), encoding="utf-8")


def main() -> None:
    nodes = schemas()
    write_help(nodes)
    for language in LANGUAGES:
        text, missing = written(language, nodes)
        path = LOCALES / language / "nodeDefs.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{language}: {len(missing)} texts in English")
        for line in missing:
            print(f"    {line}")


if __name__ == "__main__":
    main()
