"""The blueprints of subgraphs/: up to date, and with the nodes and widgets that there are."""

from __future__ import annotations

import importlib.util
import json

import fake_comfyui as stand_in
import pytest

spec = importlib.util.spec_from_file_location("blueprints_tool", stand_in.ROOT / "tools" / "blueprints.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def texts():
    return tool.written()


def test_they_are_as_the_tool_writes_them(texts):
    assert {path.stem for path in tool.FOLDER.glob("*.json")} == set(texts)
    for name, text in texts.items():
        written = (tool.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert written == text, "run python tools/blueprints.py"


def test_links_join_outputs_and_inputs_of_one_type(texts):
    for text in texts.values():
        (graph,) = json.loads(text)["definitions"]["subgraphs"]
        ends = {-10: graph["inputs"], -20: graph["outputs"]}
        nodes = {node["id"]: node for node in graph["nodes"]}
        for link in graph["links"]:
            start, end = link["origin_id"], link["target_id"]
            sources = ends[start] if start in ends else nodes[start]["outputs"]
            targets = ends[end] if end in ends else nodes[end]["inputs"]
            source, target = sources[link["origin_slot"]], targets[link["target_slot"]]
            assert source["type"] == target["type"] == link["type"]
            assert source["name"] == target["name"]


def test_those_that_users_are_promised_are_there_and_speak_to_people(texts):
    promised = {
        "Interpolate to a frame rate",
        "Perfect loop",
        "Join clips",
        "Long video",
        "After CogVideoX or Wan",
    }
    assert promised <= set(texts)
    for name in promised:
        (graph,) = json.loads(texts[name])["definitions"]["subgraphs"]
        assert graph["category"] == "video" and len(graph["description"]) > 60
        labels = [one["label"] for one in graph["inputs"]]
        assert len(set(labels)) == len(labels) and not any("." in one or "_" in one for one in labels)
    (loop,) = json.loads(texts["Perfect loop"])["definitions"]["subgraphs"]
    assert loop["nodes"][1]["widgets_values_named"]["loop_twin"] == "drop"
