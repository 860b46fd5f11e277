"""Other packs' graphs, rewritten for our nodes."""

from __future__ import annotations

import copy
import json

import fake_comfyui as stand_in
import pytest

from rife.cli.app import main
from rife.comfyui_workflow import (
    DOWNLOAD,
    LOADER,
    LOADER_WIDGETS,
    RUNNER,
    RUNNER_OUTPUTS,
    RUNNER_WIDGETS,
    VFI_WIDGETS,
    convert,
    offered,
)

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}


def slot(name: str, kind: str, link: int | None = None, **more) -> dict:
    return {"name": name, "type": kind, "link": link, **more}


def node(node_id: int, kind: str, inputs=(), outputs=(), values=(), **more) -> dict:
    return {"id": node_id, "type": kind, "pos": [0, 0], "inputs": list(inputs), "widgets_values": list(values),
            "outputs": [{"name": n, "type": t, "links": links} for n, t, links in outputs], **more}  # fmt: skip


def old_graph(**vfi) -> dict:
    """As saved in 2024, when RIFE VFI had six widgets; the multiplier comes over a link."""
    multiplier = slot("multiplier", "INT", 3, widget={"name": "multiplier"})
    states = slot("optional_interpolation_states", "INTERPOLATION_STATES")
    return {
        "last_node_id": 9, "last_link_id": 9, "version": 0.4,
        "nodes": [
            node(1, "LoadImage", outputs=[("IMAGE", "IMAGE", [1])], values=["0.png", "image"]),
            node(5, "PrimitiveInt", outputs=[("INT", "INT", [3])], values=[4, "fixed"]),
            node(2, "RIFE VFI", [slot("frames", "IMAGE", 1), states, multiplier], [("IMAGE", "IMAGE", [2])],
                 ["rife47.pth", 10, 2, True, True, 0.5], properties={"Node name for S&R": "RIFE VFI"}, **vfi),
            node(3, "SaveImage", [slot("images", "IMAGE", 2)], values=["out"]),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [3, 5, 0, 2, 2, "INT"], [2, 2, 0, 3, 0, "IMAGE"]],
    }  # fmt: skip


def by_type(graph: dict) -> dict[str, dict]:
    return {one["type"]: one for one in graph["nodes"]}


def check_links(graph: dict) -> None:
    nodes = {one["id"]: one for one in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    for link in graph["links"]:
        number, source, out, target, into, kind = link.values() if isinstance(link, dict) else link
        if source >= 0:
            assert nodes[source]["outputs"][out]["type"] == kind
            assert number in nodes[source]["outputs"][out]["links"]
        if target >= 0:
            assert nodes[target]["inputs"][into]["type"] == kind
            assert nodes[target]["inputs"][into]["link"] == number


@pytest.mark.parametrize(
    ("file", "choice"),
    [
        ("rife40.pth", "4.0"),
        ("rife47.pth", "4.7"),
        ("rife49.pth", "4.9"),
        ("rife417.pth", "4.17"),
        ("rife426.pth", "4.26"),
    ],
)
def test_his_files_are_versions_of_our_catalogue(file, choice):
    assert offered(file) == choice + DOWNLOAD


@pytest.mark.parametrize("file", ["sudo_rife4_269.662_testV1_scale1.pth", "rife499.pth", "mine.pth"])
def test_other_files_keep_their_names(file):
    assert offered(file) == file


def test_the_forms_are_those_of_the_nodes(tmp_path):
    """What stands here of nodes/ is the same there."""
    generator = stand_in.installed(tmp_path)
    host = next(generator)
    schemas = {name: one.define_schema() for name, one in host.nodes.items()}
    generator.close()
    for kind, widgets in ((LOADER, LOADER_WIDGETS), (RUNNER, RUNNER_WIDGETS), ("RIFEVFI", VFI_WIDGETS)):
        form = [one for one in schemas[kind].inputs if one.io_type in WIDGETS]
        assert [one.id for one in form][: len(widgets)] == list(widgets)
        for one in form[: len(widgets)]:
            assert widgets[one.id] == one.options.get("default", "multiplier")
        assert all(one.options.get("optional") for one in form[len(widgets) :])
    outputs = {one.options["display_name"]: one.io_type for one in schemas[RUNNER].outputs}
    assert outputs == RUNNER_OUTPUTS


def test_a_saved_graph_gets_a_loader_and_our_node():
    old = old_graph()
    before = copy.deepcopy(old)
    new, lines = convert(old)
    assert old == before and lines == ["2: RIFE VFI -> RIFEInterpolate"]
    check_links(new)
    nodes = by_type(new)
    loader, runner = nodes[LOADER], nodes[RUNNER]
    assert (
        loader["widgets_values"] == ["4.7 (download)", "auto", "fp32"] and loader["id"] == new["last_node_id"]
    )
    assert [one["name"] for one in runner["inputs"]] == ["interp_model", "images", "multiplier"]
    values = dict(zip(RUNNER_WIDGETS, runner["widgets_values"], strict=True))
    assert values == {**RUNNER_WIDGETS, "scale": "0.5", "cuts": "off", "repeated_frames": "off"}
    assert runner["properties"]["cnr_id"] == "rife-interpolation"


def test_torch_compile_becomes_acceleration():
    saved = old_graph()
    place = list(VFI_WIDGETS).index("torch_compile")
    vfi = by_type(saved)["RIFE VFI"]
    vfi["widgets_values"] = [
        *vfi["widgets_values"],
        *list(VFI_WIDGETS.values())[len(vfi["widgets_values"]) :],
    ]
    vfi["widgets_values"][place] = True
    runner = by_type(convert(saved)[0])[RUNNER]
    assert dict(zip(RUNNER_WIDGETS, runner["widgets_values"], strict=True))["acceleration"] == "compile"

    inputs = {**VFI_WIDGETS, "frames": ["1", 0], "torch_compile": True}
    new, _ = convert({"2": {"class_type": "RIFE VFI", "inputs": inputs}})
    assert new["2"]["inputs"]["acceleration"] == "compile"


def test_what_our_form_lacks_becomes_the_all_in_one_node():
    old = old_graph()
    old["nodes"].append(node(6, "Make Interpolation State List", values=["1,2", True],
                             outputs=[("INTERPOLATION_STATES", "INTERPOLATION_STATES", [8])]))  # fmt: skip
    old["nodes"][2]["inputs"][1]["link"] = 8
    old["links"].append([8, 6, 0, 2, 1, "INTERPOLATION_STATES"])
    new, lines = convert(old)
    assert lines == ["2: RIFE VFI -> RIFEVFI", "6: Make Interpolation State List -> RIFEInterpolationStates"]
    check_links(new)
    assert by_type(new)["RIFEVFI"]["widgets_values"] == old["nodes"][2]["widgets_values"]


def test_an_exported_graph_is_converted_too():
    inputs = {**VFI_WIDGETS, "frames": ["1", 0], "dtype": "float16", "batch_size": 4, "multiplier": ["5", 0]}
    old = {"1": {"class_type": "LoadImage", "inputs": {"image": "0.png"}},
           "2": {"class_type": "RIFE VFI", "inputs": inputs},
           "7": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}  # fmt: skip
    new, _ = convert({"prompt": old})
    prompt = new["prompt"]
    assert prompt["8"]["inputs"] == {"checkpoint": "4.9 (download)", "precision": "fp16"}
    assert prompt["2"]["class_type"] == RUNNER and prompt["7"] == old["7"]
    assert prompt["2"]["inputs"] == {
        "interp_model": ["8", 0], "images": ["1", 0], "multiplier": ["5", 0], "scale": "1.0", "batch_size": 4,
        "cuts": "off", "repeated_frames": "off",
    }  # fmt: skip
    old["2"]["inputs"]["optional_interpolation_states"] = ["9", 0]
    assert convert(old)[0]["2"] == {**old["2"], "class_type": "RIFEVFI"}


@pytest.mark.parametrize("model", ["rife_v4.26.safetensors", "film_net_fp16.safetensors"])
def test_comfyuis_own_nodes_in_a_subgraph(model):
    """As in ComfyUI's template, whose outer node shows the loader's widget. FILM keeps its loader."""
    name = slot("model_name", "COMBO", 24, widget={"name": "model_name"})
    inner = {
        "id": "inside", "state": {"lastNodeId": 3, "lastLinkId": 24},
        "nodes": [
            node(1, "FrameInterpolationModelLoader", [name], [("INTERP_MODEL", "INTERP_MODEL", [1])], [model]),
            node(2, "FrameInterpolate", [slot("interp_model", "INTERP_MODEL", 1), slot("images", "IMAGE", 3),
                                         slot("multiplier", "INT", None, widget={"name": "multiplier"})],
                 [("IMAGE", "IMAGE", [4])], [3]),
        ],
        "links": [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
            for link in ((1, 1, 0, 2, 0, "INTERP_MODEL"), (3, -10, 0, 2, 1, "IMAGE"), (4, 2, 0, -20, 0, "IMAGE"),
                         (24, -10, 1, 1, 0, "COMBO"))
        ],
    }  # fmt: skip
    shown = [["1", "model_name"], ["2", "multiplier"]]
    outer = node(16, "inside", properties={"proxyWidgets": shown})
    old = {"nodes": [outer], "links": [], "definitions": {"subgraphs": [inner]}}
    new, lines = convert(old)
    graph = new["definitions"]["subgraphs"][0]
    check_links(graph)
    film = model.startswith("film")
    assert len(lines) == (1 if film else 2)
    kinds = by_type(graph)
    assert kinds[RUNNER]["widgets_values"][0] == 3 and (LOADER in kinds) == (not film)
    first = new["nodes"][0]["properties"]["proxyWidgets"][0]
    assert first == ["1", "model_name" if film else "checkpoint"]
    if not film:
        assert kinds[LOADER]["widgets_values"] == [model, "auto", "auto"]


def test_the_command_line_writes_what_was_converted(tmp_path, capsys):
    source, target = tmp_path / "old.json", tmp_path / "new.json"
    source.write_text(json.dumps(old_graph()))
    assert main(["convert-workflow", str(source), str(target)]) == 0
    assert json.loads(target.read_text()) == convert(old_graph())[0]
    assert "RIFE VFI -> RIFEInterpolate" in capsys.readouterr().out
    target.unlink()
    for text, complaint in (
        ("{", "old.json"),
        ('{"nodes": []}', "no node to convert"),
        ("[1]", "no ComfyUI workflow"),
    ):
        source.write_text(text)
        assert main(["convert-workflow", str(source), str(target)]) == 1
        assert complaint in capsys.readouterr().err and not target.exists()


def test_widgets_are_written_by_name_too_since_newer_front_ends_may_restore_them_so():
    node = {
        "id": 7, "type": "RIFE VFI", "pos": [0, 0], "inputs": [{"name": "frames", "type": "IMAGE", "link": None}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": None}],
        "widgets_values": ["rife426.pth", 10, 3, True, True, 0.5],
        "widgets_values_named": {"ckpt_name": "rife426.pth", "multiplier": 3, "scale_factor": 0.5},
    }  # fmt: skip
    new, _ = convert({"nodes": [node], "links": []})
    for one in new["nodes"]:
        assert list(one["widgets_values_named"].values()) == one["widgets_values"]
    runner, loader = new["nodes"]
    assert (
        runner["widgets_values_named"]["multiplier"] == 3 and runner["widgets_values_named"]["cuts"] == "off"
    )
    assert loader["widgets_values_named"]["checkpoint"] == "4.26 (download)"
