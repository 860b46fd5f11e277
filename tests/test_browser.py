"""The pack in ComfyUI's own front end, in a headless Chromium. Skipped, loudly, where either is missing.

What was seen is kept as pictures in tests/screenshots/ (not in git): they are there to be looked at.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings

import front_end
import pytest
from workflow_files import (
    FILES,
    FOLDER,
    LATER,
    SUFFIX,
    VIEWERS,
    newer,
    template,
    write_clip,
    write_clips,
    write_images,
)

pytest_plugins = ["comfyui_server"]

PICTURES = FOLDER.parent / "tests" / "screenshots"
DOCS = FOLDER.parent / "web" / "docs"
LARGE = {"width": 2880, "height": 1500}
DYNAMIC = ["timing.target_fps", "timing.speed"]


@pytest.fixture(scope="module")
def chromium():
    found = front_end.chromium_or_reason()
    if isinstance(found, str):
        warnings.warn(f"Not tested in a browser: {found}", stacklevel=1)
        pytest.skip(found)
    shutil.rmtree(PICTURES, ignore_errors=True)
    with front_end.browser(found) as running:
        yield running


@pytest.fixture(scope="module")
def comfyui(server, chromium):
    """The server with the files that the workflows name."""
    write_clip(server.base / "input" / "clip.mp4", 12, 9)
    write_clips(server.base / "input")
    write_images(server.base / "input")
    return server


@pytest.fixture(scope="module")
def kinds(server):
    return server.get("/object_info")


@pytest.fixture
def page(chromium, comfyui):
    with front_end.open_page(chromium, comfyui) as opened:
        yield opened
        # The front end asks the registry about packs whose nodes fail; this server lets nothing out.
        ours = [text for text in opened.console if "rife" in text.lower() and "api.comfy.org" not in text]
        assert not ours, ours


@pytest.fixture(scope="module")
def shared(chromium, comfyui):
    """One window for tests that only load and look; large, since the front end leaves out small text."""
    with front_end.open_page(chromium, comfyui) as opened:
        opened.page.set_viewport_size(LARGE)
        yield opened


def graph(name: str) -> dict:
    return template(name.removesuffix(SUFFIX))


def last_run(server, after: int, seconds: float = 60) -> dict:
    """The history entry that comes after so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entries = list(server.get("/history").values())
        if len(entries) > after:
            return entries[-1]
        time.sleep(0.2)
    raise AssertionError(f"no run ended within {seconds} s")


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
    assert loaded["links"] == saved["links"]
    for node in saved["nodes"]:
        same = found[node["id"]]
        assert same["type"] == node["type"]
        if node["type"] not in VIEWERS:
            values, kept = node.get("widgets_values") or [], same.get("widgets_values") or []
            # What came later is optional and last, in our nodes and in those of another ComfyUI.
            both = len(values) if node["type"].startswith("RIFE") else min(len(values), len(kept))
            assert kept[:both] == values[:both], node["type"]
        names, later = [i["name"] for i in node["inputs"]], LATER.get(node["type"], set())
        kept = [i["name"] for i in same["inputs"]][: len(names)]
        assert kept == [name for name in names if name in kept or name not in later]


def test_a_choice_of_timing_brings_its_own_inputs_and_they_are_saved(page):
    page.load(graph("Interpolate a video 2x"))
    page.choose("RIFEInterpolate", "timing", "frame rate")
    page.wait_for_node("RIFEInterpolate", "node.widgets.some(w => w.name === 'timing.target_fps')")
    page.picture(PICTURES / "timing.png")
    names = page.node("RIFEInterpolate", "node.widgets.map(w => w.name)")
    at = names.index("timing")
    assert names[at + 1 : at + 3] == DYNAMIC
    page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value = 50")
    saved = page.js("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    page.load(saved)
    assert page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value") == 50
    prompt = page.js("async () => (await app.graphToPrompt()).output")
    (ours,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "RIFEInterpolate")
    assert ours["timing"] == "frame rate" and ours["timing.target_fps"] == 50
    page.choose("RIFEInterpolate", "timing", "multiplier")
    page.wait_for_node("RIFEInterpolate", "!node.widgets.some(w => w.name.startsWith('timing.'))")


def test_a_run_shows_progress_and_preview_and_can_be_cancelled(page, comfyui):
    page.load(graph("Interpolate a video 2x"))
    page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'multiplier').value = 128")
    before = len(comfyui.get("/history"))
    page.run()
    page.wait_for_node("RIFEInterpolate", "node.progress > 0")
    page.wait_for_node("RIFEInterpolate", "node.imgs?.[0]?.naturalWidth > 0")
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
    assert line_of(page, "RIFEInterpolate", "frames, ").startswith("9 → 17 frames, 24 fps, 0.71 s")
    page.fit()
    page.picture(PICTURES / "finished.png")


def line_of(page, kind: str, part: str) -> str:
    """The line of text on a node's face, once there is one with that in it; a widget of the front end's own."""
    line = f"node.widgets.map(w => String(w.value)).find(v => v.includes({json.dumps(part)})) ?? ''"
    page.wait_for_node(kind, f"{line} !== ''")
    return page.node(kind, line)


def set_widgets(page, kind: str, **values) -> None:
    """Of all nodes of a kind."""
    page.js(
        """([kind, values]) => {
          for (const node of app.graph.nodes.filter(n => n.type === kind))
            for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value
        }""",
        [kind, values],
    )


def test_a_training_shows_its_curves_and_says_what_it_gained(page):
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
    page.wait_for_node("RIFETrain", "node.imgs?.[0]?.naturalWidth > 0")
    page.picture(PICTURES / "training.png")
    assert re.match(
        r"held out: \S+ dB before, \S+ dB after; 160 of 160 steps", line_of(page, "RIFETrain", "160 of 160")
    )
    assert line_of(page, "RIFECheckpointSave", "output/").startswith(
        "output/frame_interpolation/RIFE_trained_00001"
    )
    page.fit()
    page.page.wait_for_function(
        "() => app.graph.nodes.filter(n => n.type === 'PreviewImage').every(n => n.imgs?.[0]?.naturalWidth > 0)"
    )
    page.picture(PICTURES / "finished training.png")


def test_scores_are_seen_on_the_nodes(page):
    page.page.set_viewport_size(LARGE)
    page.load(graph("Score two checkpoints"))
    set_widgets(page, "RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    page.run()
    line = line_of(page, "RIFEScore", " dB")
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
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "streamed", "format": "auto", "codec": "auto"},
        },
    }
    page.js("prompt => app.loadApiJson(prompt, 'video')", prompt)
    page.command("Comfy.Canvas.FitView")
    page.run()
    page.wait_for_node("RIFEInterpolateVideo", "node.progress > 0")
    page.wait_for_node("RIFEInterpolateVideo", "node.imgs?.[0]?.naturalWidth > 0")
    line = line_of(page, "RIFEInterpolateVideo", "frames, ")
    assert line.startswith("9 → 161 frames, 240 fps, 0.67 s; took ")
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(v => v.src.includes('streamed'))"
    )
    page.fit()
    page.picture(PICTURES / "finished video.png")


def test_a_wrong_input_is_said_in_the_browser(page):
    page.load(graph("Slow motion with a retime curve"))
    page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.curve').value = 'slower, please'")
    page.run()
    page.page.get_by_text("expected points apart by commas").first.wait_for()
    page.page.wait_for_timeout(1000)  # it fades in
    page.picture(PICTURES / "error.png")
    page.page.get_by_text("See Errors").click()
    page.page.get_by_text("Write it so.").first.wait_for()  # cause, what was expected, what to do
    page.picture(PICTURES / "error, all of it.png")


@pytest.mark.parametrize("words", ["rife", "slow motion", "fps", "smooth video"])
def test_the_search_finds_our_nodes(shared, words):
    shared.command("Workspace.SearchBox.Toggle")
    shared.page.locator("input:focus").fill(words)
    shared.page.get_by_text("RIFE Interpolate").first.wait_for()
    shared.picture(PICTURES / f"search {words}.png")
    shared.page.keyboard.press("Escape")


def first_words(node_id: str) -> str:
    """The beginning of a help page's first paragraph, without its markup."""
    paragraph = (DOCS / f"{node_id}.md").read_text(encoding="utf-8").split("\n\n")[1]
    return re.sub(r"[*`]", "", paragraph).replace("\n", " ")[:40]


def test_the_help_of_every_node_opens_from_the_node(page, comfyui):
    ours = sorted(name for name in comfyui.get("/object_info") if name.startswith("RIFE"))
    assert {path.stem for path in DOCS.glob("*.md")} == set(ours)
    for node_id in ours:
        info = page.page.get_by_test_id("info-button")
        for _ in range(6):  # the toolbox above a node misses a selection that comes while it is drawn
            page.add(node_id)
            page.page.wait_for_timeout(1000)
            if info.is_visible():
                break
        info.click()
        page.page.wait_for_function(
            "words => document.body.innerText.replace(/\\s+/g, ' ').includes(words)", arg=first_words(node_id)
        )
        page.page.wait_for_function(
            "() => [...document.images].some(i => i.src.includes('/docs/pictures/') && i.naturalWidth > 0)"
        )
        page.picture(PICTURES / f"help {node_id}.png")


def test_the_nodes_speak_japanese(chromium, comfyui):
    with front_end.open_page(chromium, comfyui, {"Comfy.Locale": "ja"}) as page:
        page.add("RIFEInterpolate")
        assert page.node("RIFEInterpolate", "node.title") == "RIFE 補間"
        names = page.node("RIFEInterpolate", "node.inputs.map(i => i.localized_name ?? i.label)")
        assert {"倍率", "補間モデル", "画像", "タイミング"} <= set(names)
        page.fit()
        page.picture(PICTURES / "japanese.png")


def test_the_new_kind_of_nodes_folds_what_is_advanced(chromium, comfyui):
    with front_end.open_page(chromium, comfyui, {"Comfy.VueNodes.Enabled": True}) as page:
        page.load(graph("24 to 60 fps"))
        node = page.page.locator(".lg-node", has_text="Which frame rate?")
        node.get_by_text("multiplier", exact=True).first.wait_for()
        page.picture(PICTURES / "new nodes.png")
        assert not node.get_by_text("batch_size", exact=True).is_visible()
        node.get_by_text("advanced", exact=False).first.click()
        node.get_by_text("batch_size", exact=True).wait_for()
        page.picture(PICTURES / "new nodes, all inputs.png")
