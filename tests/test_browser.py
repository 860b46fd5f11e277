"""The pack in ComfyUI's own front end, in a headless Chromium. Skipped, loudly, where either is missing.

On the classic canvas; with COMFYUI_NODES=2.0 in the environment, in Nodes 2.0. COMFYUI_FRONT_END names another front
end than the one that came with ComfyUI: the folder `static` of its package.

What was seen is kept as pictures in tests/screenshots/ (not in git): they are there to be looked at.
"""

from __future__ import annotations

import json
import re

import fake_comfyui as stand_in
import pytest
import torch
from browser_tests import LARGE, PICTURES, graph, last_run, text_of
from workflow_files import (
    FILES,
    LATER,
    SUFFIX,
    VIEWERS,
    newer,
)

from rife.comfyui_workflow import convert
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

pytest_plugins = ["comfyui_server", "browser_tests"]

DYNAMIC = ["timing.target_fps", "timing.speed"]


def test_the_template_browser_shows_our_workflows_and_opens_one(page):
    page.command("Comfy.BrowseTemplates")
    page.page.get_by_text("ComfyUI-RIFE", exact=True).first.click()
    cards = page.page.locator('[data-testid^="template-workflow-"]')
    cards.first.wait_for()
    names = {c.get_attribute("data-testid").removeprefix("template-workflow-") for c in cards.all()}
    assert names == {path.stem for path in FILES}
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('[data-testid^=template-workflow-] img')].every(i => i.naturalWidth > 99)"
    )
    page.picture(PICTURES / "templates.png")
    page.page.get_by_test_id(f"template-workflow-24 to 60 fps{SUFFIX}").click()
    page.wait_for_node(
        "RIFEInterpolate", "node?.widgets.find(w => w.name === 'timing')?.value === 'frame rate'"
    )
    page.fit()
    page.picture(PICTURES / "template opened.png")


def ends_of(graph: dict) -> list[tuple]:
    """What links connect, by name: their numbers and order are the front end's, and an input that a node got later
    comes before those that have widgets."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    return sorted(
        (source, nodes[source]["outputs"][out]["name"], target, nodes[target]["inputs"][into]["name"], kind)
        for _, source, out, target, into, kind in graph["links"]
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_loads_as_it_was_saved(shared, kinds, path):
    saved = graph(path.stem)
    shared.load(saved, path.stem)
    loaded = shared.js("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    shared.picture(PICTURES / f"workflow {path.stem}.png")
    missing = shared.js("() => app.graph.nodes.filter(n => n.has_errors && !n.widgets).map(n => n.type)")
    assert set(missing) <= newer(saved, kinds).keys()
    if newer(saved, kinds):
        shared.page.keyboard.press("Escape")  # what says so
    found = {node["id"]: node for node in loaded["nodes"]}
    assert ends_of(loaded) == ends_of(saved)
    for node in saved["nodes"]:
        same = found[node["id"]]
        assert same["type"] == node["type"]
        if node["type"] not in VIEWERS:
            values, kept = node.get("widgets_values") or [], same.get("widgets_values") or []
            # What came later is optional and last, in our nodes and in those of another ComfyUI.
            both = len(values) if node["type"].startswith("RIFE") else min(len(values), len(kept))
            assert kept[:both] == values[:both], node["type"]
        names, later = [i["name"] for i in node["inputs"]], LATER.get(node["type"], set())
        kept = [i["name"] for i in same["inputs"] if i["name"] in names]
        assert kept == [name for name in names if name in kept or name not in later]


def test_a_choice_of_timing_brings_its_own_inputs_and_they_are_saved(page):
    page.load(graph("Interpolate a video 2x"))
    page.choose("RIFEInterpolate", "timing", "frame rate")
    page.wait_for_node("RIFEInterpolate", "node.widgets.some(w => w.name === 'timing.target_fps')")
    page.picture(PICTURES / "timing.png")
    names = page.node("RIFEInterpolate", "node.widgets.map(w => w.name)")
    at = names.index("timing")
    assert names[at + 1 : at + 3] == DYNAMIC
    page.choose("RIFEInterpolate", "timing", "multiplier")
    page.wait_for_node("RIFEInterpolate", "!node.widgets.some(w => w.name.startsWith('timing.'))")
    page.choose("RIFEInterpolate", "timing", "frame rate")
    page.wait_for_node("RIFEInterpolate", "node.widgets.some(w => w.name === 'timing.target_fps')")
    page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value = 50")
    saved = page.js("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    page.load(saved)
    assert page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value") == 50
    prompt = page.js("async () => (await app.graphToPrompt()).output")
    (ours,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "RIFEInterpolate")
    assert ours["timing"] == "frame rate" and ours["timing.target_fps"] == 50


def test_a_run_shows_progress_and_preview_and_can_be_cancelled(page, comfyui):
    page.load(graph("Interpolate a video 2x"))
    # Long enough for a browser that draws a frame in a second, on a loaded machine.
    set_widgets(page, "RIFEInterpolate", multiplier=128, scale="4.0", tta=True)
    before = len(comfyui.get("/history"))
    page.run()
    page.wait_for_node("RIFEInterpolate", "node.progress > 0")
    page.wait_for_picture("RIFEInterpolate")
    page.picture(PICTURES / "running.png")
    page.page.get_by_label("Cancel current run").click()
    assert "execution_interrupted" in comfyui.events(last_run(comfyui, after=before))
    page.picture(PICTURES / "cancelled.png")


def test_a_run_ends_with_a_video_on_the_node(page):
    page.load(graph("Interpolate a video 2x"))
    page.run()
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(v => v.src.includes('RIFE_2x') && v.videoWidth === 96)"
    )
    assert text_of(page, "frames, ").startswith("9 → 17 frames, 24 fps, 0.71 s")
    page.page.wait_for_timeout(
        2000
    )  # front ends from 1.54 on take texts of progress away when a run has ended
    assert "own training, decided by the file's metadata" in text_of(page, "frames, ")
    page.fit()
    page.picture(PICTURES / "finished.png")


def set_widgets(page, kind: str, **values) -> None:
    """Of all nodes of a kind."""
    page.js(
        """([kind, values]) => {
          for (const node of app.graph.nodes.filter(n => n.type === kind))
            for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value
        }""",
        [kind, values],
    )


def test_a_training_shows_its_curves_and_says_what_it_gained(page, comfyui):
    earlier = len(list(comfyui.base.rglob("RIFE_trained_*")))  # of other tests on this server
    page.page.set_viewport_size(LARGE)
    page.load(graph("Fine-tune on my clip and compare"))
    quick = {
        "steps": 160,
        "crop": 64,
        "batch_size": 2,
        "max_distance": 2,
        "held_out": 0.4,
        "allow_worse": True,
    }
    set_widgets(page, "RIFETrain", **quick, teacher=False)
    page.run()
    page.wait_for_picture("RIFETrain")
    page.picture(PICTURES / "training.png")
    assert re.match(r"held out: \S+ dB before, \S+ dB after; 160 of 160 steps", text_of(page, "160 of 160"))
    assert text_of(page, "RIFE_trained").startswith(f"RIFE_trained_{earlier + 1:05}")
    page.fit()
    page.wait_for_picture("PreviewImage")
    page.picture(PICTURES / "finished training.png")


def test_scores_are_seen_on_the_nodes(page):
    page.page.set_viewport_size(LARGE)
    page.load(graph("Score two checkpoints"))
    set_widgets(page, "RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    page.run()
    line = text_of(page, " dB")
    assert re.match(r"\d+ frames 2x: average \S+ dB, interp_model \S+ dB, second_model \S+ dB$", line)
    page.fit()
    page.picture(PICTURES / "finished score.png")


def test_a_video_from_file_to_file_shows_its_progress_and_says_what_was_made(page):
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "clip.mp4"}},
        "2": {"class_type": "RIFECheckpointLoader", "inputs": {"checkpoint": "rife_comfy (bundled)"}},
        "3": {
            "class_type": "RIFEInterpolateVideo",
            "inputs": {"interp_model": ["2", 0], "video": ["1", 0], "multiplier": 20},
        },
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["3", 3]}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "streamed", "format": "auto", "codec": "auto"},
        },
    }
    page.js("prompt => app.loadApiJson(prompt, 'video')", prompt)
    page.command("Comfy.Canvas.FitView")
    page.run()
    # Before the first pass it tells what is coming, there and where the report will be; while it works it shows a
    # picture.
    planned = text_of(page, "; 152 new", "RIFEInterpolateVideo")
    assert planned.startswith("9 → 161 frames, 240 fps, 0.67 s; 152 new")
    assert text_of(page, "; 152 new") == planned
    page.wait_for_node("RIFEInterpolateVideo", "node.progress > 0")
    page.wait_for_picture("RIFEInterpolateVideo")
    line = text_of(page, "took ")
    assert line.startswith("9 → 161 frames, 240 fps, 0.67 s; took ")
    assert page.node("PreviewAny", f"node.widgets.some(w => String(w.value).includes({json.dumps(planned)}))")
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(v => v.src.includes('streamed'))"
    )
    page.fit()
    page.picture(PICTURES / "finished video.png")


def test_a_wrong_input_is_said_in_the_browser(page):
    page.load(graph("Slow motion with a retime curve"))
    page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.curve').value = 'slower, please'")
    page.run()
    # Up to 1.53 the message itself is shown, and more on demand; then one click away.
    more = page.page.get_by_text(re.compile("See Errors|View details")).first
    more.wait_for()
    page.page.wait_for_timeout(1000)  # it fades in
    page.picture(PICTURES / "error.png")
    more.dispatch_event("click")  # a toast about the front end's version may lie over it
    # Cause, what was expected, what to do.
    page.page.get_by_text(
        re.compile("expected points apart by commas.*Write it so.", re.DOTALL)
    ).first.wait_for()
    page.picture(PICTURES / "error, all of it.png")


OLD = {
    "last_node_id": 4, "last_link_id": 4, "groups": [], "config": {}, "extra": {}, "version": 0.4,
    "nodes": [
        {"id": 1, "type": "LoadImage", "pos": [0, 0], "size": [300, 300], "flags": {}, "order": 0, "mode": 0,
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1], "slot_index": 0},
                     {"name": "MASK", "type": "MASK", "links": None}],
         "properties": {"Node name for S&R": "LoadImage"}, "widgets_values": ["first.png", "image"]},
        {"id": 2, "type": "LoadImage", "pos": [0, 350], "size": [300, 300], "flags": {}, "order": 1, "mode": 0,
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2], "slot_index": 0},
                     {"name": "MASK", "type": "MASK", "links": None}],
         "properties": {"Node name for S&R": "LoadImage"}, "widgets_values": ["last.png", "image"]},
        {"id": 5, "type": "ImageBatch", "pos": [350, 0], "size": [200, 50], "flags": {}, "order": 2, "mode": 0,
         "inputs": [{"name": "image1", "type": "IMAGE", "link": 1}, {"name": "image2", "type": "IMAGE", "link": 2}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [3], "slot_index": 0}],
         "properties": {"Node name for S&R": "ImageBatch"}},
        {"id": 3, "type": "RIFE VFI", "pos": [600, 0], "size": [440, 200], "flags": {}, "order": 3, "mode": 0,
         "inputs": [{"name": "frames", "type": "IMAGE", "link": 3},
                    {"name": "optional_interpolation_states", "type": "INTERPOLATION_STATES", "link": None}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [4], "slot_index": 0}],
         "properties": {"Node name for S&R": "RIFE VFI"}, "widgets_values": ["rife49.pth", 10, 2, True, True, 1]},
        {"id": 4, "type": "PreviewImage", "pos": [1100, 0], "size": [300, 300], "flags": {}, "order": 4, "mode": 0,
         "inputs": [{"name": "images", "type": "IMAGE", "link": 4}],
         "properties": {"Node name for S&R": "PreviewImage"}},
    ],
    "links": [[1, 1, 0, 5, 0, "IMAGE"], [2, 2, 0, 5, 1, "IMAGE"], [3, 5, 0, 3, 0, "IMAGE"], [4, 3, 0, 4, 0, "IMAGE"]],
}  # fmt: skip


def test_an_old_graph_with_rife_vfi_opens_and_runs_untouched(page, comfyui):
    """As saved in 2024; his pack is not here."""
    (comfyui.base / "models" / "rife").mkdir(exist_ok=True)
    network = stand_in.small_network(IFNet, RELEASES["4.26"])
    torch.save(network.state_dict(), comfyui.base / "models" / "rife" / "rife49.pth")
    page.load(OLD)
    page.picture(PICTURES / "old graph.png")
    assert page.js("() => app.graph.nodes.map(n => n.type)") == [node["type"] for node in OLD["nodes"]]
    assert page.node("RIFE VFI", "node.widgets.map(w => w.value).slice(0, 6)") == [
        "rife49.pth", 10, 2, True, True, 1,
    ]  # fmt: skip
    before = len(comfyui.get("/history"))
    page.run()
    page.wait_for_picture("PreviewImage")
    (shown,) = (out for out in last_run(comfyui, after=before)["outputs"].values() if "images" in out)
    assert len(shown["images"]) == 3
    page.picture(PICTURES / "old graph, run.png")


WIDGETS_BY_NODE = """() => Object.fromEntries(app.graph.nodes.map(node =>
    [node.id, (node.widgets ?? []).filter(w => w.serialize !== false).map(w => [w.name, w.value])]))"""


@pytest.mark.parametrize("name", ["24 to 60 fps", "old graph, converted"])
def test_values_come_back_by_place_and_by_name_alike(page, name):
    """The newest front end has both ways, and writes what both need."""
    workflow = convert(OLD)[0] if name.startswith("old") else graph(name)
    seen = []
    for by_name in (False, True):
        page.js("on => { LiteGraph.namedValuesRestore = on }", by_name)
        page.load(workflow)
        seen.append(page.js(WIDGETS_BY_NODE))
        page.load(page.js("() => JSON.parse(JSON.stringify(app.graph.serialize()))"))
        seen.append(page.js(WIDGETS_BY_NODE))
    assert all(one == seen[0] for one in seen)
    (ours,) = (dict(values) for values in seen[0].values() if "multiplier" in dict(values))
    expected = {"multiplier": 2, "cuts": "off"} if name.startswith("old") else {"timing.target_fps": 60}
    assert expected.items() <= ours.items()


# As saved before `loop_twin` came: fewer values than there are widgets now, one more where timing is a frame rate.
BEFORE = {
    "RIFEInterpolate": [
        [2, 24, "1.0", False, False, "", 0, "multiplier", True, False, "hold", "", "hold", 0, "auto", "off"],
        [2, 24, "1.0", False, False, "", 0, "frame rate", 60, 1, True, False, "hold", "", "hold", 0, "auto", "off"],
    ],
    "RIFEInterpolateVideo": [
        [2, "1.0", False, False, 0, "multiplier", True, False, "hold", "", "hold", "auto", -1, "auto", "off"],
    ],
}  # fmt: skip


def test_a_loop_of_an_old_graph_keeps_its_twin_and_a_new_node_drops_it(shared):
    twin = "node.widgets.find(w => w.name === 'loop_twin').value"
    for kind, graphs in BEFORE.items():
        shared.add(kind)
        assert shared.node(kind, twin) == "drop"
        for values in graphs:
            node = {"id": 1, "type": kind, "pos": [0, 0], "size": [300, 400], "flags": {}, "order": 0, "mode": 0,
                    "inputs": [], "outputs": [], "properties": {}, "widgets_values": values}  # fmt: skip
            shared.load({"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4})
            assert shared.node(kind, twin) == "keep"
            assert shared.node(kind, "node.widgets.find(w => w.name === 'loop').value") is True
            saved = shared.js("() => app.graph.serialize()")
            shared.load(saved)
            assert shared.node(kind, twin) == "keep"
