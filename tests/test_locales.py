"""What ComfyUI shows of the nodes: tooltips, names in seven languages, help pages."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings

import fake_comfyui as stand_in
import pytest

spec = importlib.util.spec_from_file_location("locales_tool", stand_in.ROOT / "tools" / "locales.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

DOCS = stand_in.ROOT / "web" / "docs"


@pytest.fixture(scope="module")
def nodes():
    return tool.schemas()


def test_everything_has_a_tooltip_and_every_node_a_description_and_a_category(nodes):
    for schema in nodes:
        options = schema.options
        assert options.get("description") and options.get("display_name") and options.get("category")
        assert options["category"].split("/")[0] in ("video", "model", "image"), options["category"]
        for name, texts in tool.inputs_of(schema).items():
            assert all(texts), f"{schema.node_id}.{name} has no tooltip"
        for output in schema.outputs:
            assert output.options.get("tooltip") and output.options.get("display_name"), schema.node_id


def test_users_words_find_the_nodes(nodes):
    aliases = {alias.lower() for schema in nodes for alias in schema.options.get("search_aliases") or ()}
    assert {"rife", "fps", "slow motion", "frame interpolation", "smooth video"} <= aliases


@pytest.mark.parametrize("language", tool.LANGUAGES)
def test_a_language_has_every_name_and_tooltip(nodes, language):
    path = tool.LOCALES / language / "nodeDefs.json"
    text, missing = tool.written(language, nodes)
    assert path.read_text(encoding="utf-8") == text, "run python tools/locales.py"
    if missing:
        warnings.warn(f"{language}: {len(missing)} texts are shown in English", stacklevel=1)
    for value in strings(json.loads(text)):
        # The front end's messages give these a meaning.
        assert value.strip() and not re.search(r"[{}@|]", value), value


def strings(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    else:
        yield value


def test_every_node_has_a_help_page_that_names_its_inputs(nodes):
    for schema in nodes:
        page = (DOCS / f"{schema.node_id}.md").read_text(encoding="utf-8")
        for name in tool.inputs_of(schema):
            assert f"**{name.split('.')[-1]}**" in page, f"{schema.node_id}.md does not speak of {name}"
        pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
        assert pictures and all((DOCS / picture).is_file() for picture in pictures), schema.node_id


@pytest.mark.parametrize("language", tool.HEADINGS)
def test_a_language_has_every_help_page_with_the_names_that_the_node_shows(nodes, language):
    for schema in nodes:
        page = (DOCS / schema.node_id / f"{language}.md").read_text(encoding="utf-8")
        assert page == tool.help_page(schema, language), "run python tools/locales.py"
        shown = json.loads((tool.LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        for one in shown[schema.node_id]["inputs"].values():
            assert f"**{one['name']}**" in page


def test_there_is_no_page_of_a_node_that_is_not_there(nodes):
    assert {path.name for path in DOCS.iterdir() if path.is_dir()} == {
        "pictures", *(schema.node_id for schema in nodes)
    }  # fmt: skip
    assert {path.stem for path in DOCS.glob("*.md")} == {schema.node_id for schema in nodes}
