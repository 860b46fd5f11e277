"""What people do with the nodes in ComfyUI: find, connect, bypass, upload, save, reset, read help, use App mode.

Skipped as tests/test_browser.py is, with the same settings and pictures.
"""

from __future__ import annotations

import json
import re

import front_end
import pytest
from browser_tests import PICTURES, graph, last_run, text_of
from workflow_files import FOLDER, SUFFIX, write_clip

pytest_plugins = ["comfyui_server", "browser_tests"]

DOCS = FOLDER.parent / "web" / "docs"


SEARCH = json.loads((FOLDER.parent / "tests" / "search.json").read_text(encoding="utf-8"))
FOUND = """() => [...document.querySelectorAll('[data-testid=result-item], .p-autocomplete-option, [role=option]')]
    .map(e => e.innerText.replace(/\\s+/g, ' ')).filter(text => !text.includes('testing-pack'))"""


def test_what_users_type_leads_to_the_node_that_does_it_first_or_second(shared):
    """Every phrase of tests/search.json, in seven languages; printed as a table."""
    shared.command("Workspace.SearchBox.Toggle")
    box, wrong = shared.page.locator("input:focus"), {}
    for words, name in SEARCH.items():
        box.fill(words)
        place = f"({FOUND})().slice(0, 2).findIndex(t => t.startsWith({json.dumps(name + ' ')}))"
        try:
            shared.page.wait_for_function(f"() => {place} >= 0", timeout=5000)
            print(f"{words:20} {name:28} {1 + shared.js('() => ' + place)}")
        except Exception:  # noqa: BLE001 - Playwright's own; all that is wrong is told at once
            wrong[words] = shared.js(FOUND)[:4]
        if words in ("rife", "60 fps", "补帧"):
            shared.picture(PICTURES / f"search {words}.png")
    shared.page.keyboard.press("Escape")
    assert not wrong


@pytest.mark.parametrize("words", ["frame interpolation", "slow motion"])
def test_the_template_search_finds_ours(page, words):
    page.command("Comfy.BrowseTemplates")
    page.page.get_by_role("dialog").locator("input:visible").first.fill(words)
    ours = page.page.locator(f'[data-testid^="template-workflow-"][data-testid$="{SUFFIX}"]')
    ours.first.wait_for()
    page.picture(PICTURES / f"templates for {words}.png")


def test_the_blueprint_is_loader_and_runner_in_one(page):
    page.command("Workspace.SearchBox.Toggle")
    page.page.locator("input:focus").fill("rife")
    page.page.wait_for_function(f"() => ({FOUND})()[0]?.startsWith('RIFE ')")
    page.page.keyboard.press("Enter")
    page.page.wait_for_timeout(500)
    page.page.mouse.click(900, 600)  # where it is put down
    page.page.wait_for_function("() => app.graph.nodes[0]?.title === 'RIFE'")
    shown = page.js("() => app.graph.nodes[0].widgets.map(w => [w.name, w.value])")
    assert shown == [["checkpoint", "rife_comfy (bundled)"], ["multiplier", 2]]
    page.fit()
    page.picture(PICTURES / "blueprint.png")


def drop_blueprint(page, name: str) -> None:
    """From the node search onto an empty place, as a user does."""
    page.command("Workspace.SearchBox.Toggle")
    page.page.locator("input:focus").fill(name)
    page.page.wait_for_function(f"() => ({FOUND})()[0]?.startsWith({json.dumps(name)})")
    page.page.keyboard.press("Enter")
    page.page.wait_for_timeout(500)
    page.page.mouse.click(900, 600)  # where it is put down
    page.page.wait_for_function("name => app.graph.nodes.some(n => n.title === name)", arg=name)


# What a blueprint shows: sockets of its inputs, then widgets; sockets of its outputs.
BLUEPRINTS = {
    "Interpolate to a frame rate": (["video", "checkpoint", "target fps"], ["video", "fps", "report"]),
    "Perfect loop": (
        ["images", "checkpoint", "multiplier", "fps of the clip", "colour drift"],
        ["images", "fps", "report"],
    ),
    "Join clips": (
        ["first clip", "second clip", "third clip", "checkpoint", "frames of fading"],
        ["video", "images", "report"],
    ),
    "Long video": (
        ["video", "checkpoint", "multiplier", "codec", "quality (crf)"],
        ["video", "fps", "report"],
    ),
    "After CogVideoX or Wan": (
        ["images", "checkpoint", "fps of the clip", "target fps"],
        ["images", "fps", "report"],
    ),
}


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_every_blueprint_is_found_and_reads_well(page, name):
    drop_blueprint(page, name)
    inputs, outputs = BLUEPRINTS[name]
    shown = page.js("() => app.graph.nodes[0].inputs.map(i => i.label ?? i.name)")
    assert sorted(shown) == sorted(inputs)
    assert page.js("() => app.graph.nodes[0].outputs.map(o => o.label ?? o.name)") == outputs
    page.fit()
    page.picture(PICTURES / f"blueprint {name}.png")


def test_a_blueprint_runs(page, comfyui):
    drop_blueprint(page, "Interpolate to a frame rate")
    page.js(
        """() => {
          const node = app.graph.nodes[0]
          const [load, save] = ["LoadVideo", "SaveVideo"].map(kind => {
            const made = LiteGraph.createNode(kind)
            app.graph.add(made)
            return made
          })
          load.widgets.find(w => w.name === "file").value = "clip.mp4"
          load.connect(0, node, node.inputs.findIndex(i => i.type === "VIDEO"))
          node.connect(0, save, 0)
          load.pos = [node.pos[0] - 400, node.pos[1]]
          save.pos = [node.pos[0] + 500, node.pos[1]]
        }"""
    )
    page.fit()
    before = len(comfyui.get("/history"))
    page.run()
    entry = last_run(comfyui, before, 120)
    assert entry["status"]["status_str"] == "success"
    assert any(found.get("images") for found in entry["outputs"].values())
    page.picture(PICTURES / "blueprint that ran.png")


WIDGETS = "() => app.graph.nodes[0].widgets?.map(w => [w.name, w.value]) ?? []"


def test_reset_all_parameters_leaves_a_node_that_runs(chromium, comfyui, kinds):
    with front_end.open_page(chromium, comfyui, {"Comfy.RightSidePanel.IsOpen": True}) as page:
        version = page.js("() => window.__COMFYUI_FRONTEND_VERSION__")
        if tuple(map(int, version.split(".")[:2])) < (1, 45):
            pytest.skip(f"front end {version} has no such button")
        reset = page.page.locator('[aria-label="Reset all parameters"], [title="Reset all parameters"]').first
        for kind in sorted(name for name in kinds if name.startswith("RIFE")):
            page.add(kind)
            before = page.js(WIDGETS)
            if not before:
                continue
            # So that there is something to reset.
            page.js(
                "() => { const w = app.graph.nodes[0].widgets.find(w => w.name === 'multiplier'); if (w) w.value = 7 }"
            )
            reset.wait_for()
            page.page.wait_for_timeout(300)  # the panel of the node before goes
            reset.dispatch_event("click")
            page.page.wait_for_timeout(300)
            assert page.js(WIDGETS) == before, kind
            if kind == "RIFEInterpolate":
                page.picture(PICTURES / "reset.png")


def first_words(node_id: str) -> str:
    """The beginning of a help page's first paragraph, without its markup."""
    paragraph = (DOCS / f"{node_id}.md").read_text(encoding="utf-8").split("\n\n")[1]
    return re.sub(r"[*`]", "", paragraph).replace("\n", " ")[:40]


def test_the_help_of_every_node_opens_from_the_node(page, comfyui):
    kinds = comfyui.get("/object_info").items()
    ours = sorted(name for name, kind in kinds if kind["python_module"].endswith("ComfyUI-RIFE"))
    assert {path.stem for path in DOCS.glob("*.md")} == set(ours)
    for node_id in ours:
        page.add(node_id)
        page.page.get_by_test_id("info-button").click()
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


# What a search from a link leads to first: only nodes that the link fits.
FROM_A_LINK = {
    ("GetVideoComponents", "images"): dict.fromkeys(
        ("interpolate", "fps", "slow motion", "补帧"), "RIFE Interpolate"
    ),
    ("LoadVideo", "VIDEO"): {"interpolate": "Interpolate to a frame rate"}
    | dict.fromkeys(("fps", "slow motion", "补帧"), "RIFE Interpolate Video"),
}


@pytest.mark.parametrize(("kind", "output"), FROM_A_LINK, ids=lambda name: name)
def test_a_search_from_a_link_leads_to_the_node_that_takes_it(page, kind, output):
    page.load(graph("Interpolate a video 2x"))
    start = page.slot(kind, "out", output)
    page.drag(start, (start[0], 1200))  # an empty place of the canvas
    page.page.get_by_text("Search", exact=True).first.click()
    box = page.page.locator("input:focus")
    for words, name in FROM_A_LINK[kind, output].items():
        box.fill(words)
        page.page.wait_for_function(f"() => ({FOUND})()[0]?.startsWith({json.dumps(name + ' ')})")
    page.picture(PICTURES / f"search from {output}.png")
    page.page.keyboard.press("Enter")
    page.page.wait_for_timeout(500)
    page.page.mouse.click(1700, 1100)  # where it is put down
    page.wait_for_node("RIFEInterpolate" if output == "images" else "RIFEInterpolateVideo", "node")


def test_a_link_is_drawn_with_the_mouse(page):
    page.load(graph("Interpolate a video 2x"))
    images = "node.inputs.find(i => i.name === 'images')"
    page.node("RIFEInterpolate", f"node.disconnectInput(node.inputs.indexOf({images}))")
    page.wait_for_node("RIFEInterpolate", f"{images}.link == null")
    page.drag(page.slot("GetVideoComponents", "out", "images"), page.slot("RIFEInterpolate", "in", "images"))
    page.wait_for_node("RIFEInterpolate", f"app.graph.getLink({images}.link)?.origin_id == 2")


def test_a_bypassed_node_lets_the_clip_through_with_its_own_rate(page, comfyui):
    page.load(graph("Interpolate a video 2x"))
    page.page.mouse.click(*page.at("RIFEInterpolate", 60, -15))
    page.page.keyboard.press("Control+b")
    page.wait_for_node("RIFEInterpolate", "node.mode === 4")
    page.page.wait_for_timeout(500)
    page.picture(PICTURES / "bypassed.png")
    before = len(comfyui.get("/history"))
    page.run()
    run = last_run(comfyui, after=before)
    assert run["status"]["status_str"] == "success"
    (saved,) = (out for out in run["outputs"].values() if "images" in out)
    assert frames_and_rate(comfyui, saved["images"][0]) == (9, 12)


def frames_and_rate(comfyui, saved: dict) -> tuple[int, float]:
    """Of a video that a run saved."""
    av = pytest.importorskip("av")
    with av.open(str(comfyui.base / saved["type"] / saved["subfolder"] / saved["filename"])) as file:
        stream = file.streams.video[0]
        return sum(1 for _ in file.decode(stream)), float(stream.average_rate)


def test_a_video_is_uploaded_by_the_node_and_interpolated(page, comfyui, tmp_path):
    film = tmp_path / "holiday.mp4"
    write_clip(film, 24, 5)
    page.load(graph("Long video 2x"))
    if front_end.NODES_2:
        node = page.page.locator(".lg-node", has_text="Choose a video")
        node.locator("input[type=file]").first.set_input_files(film)
    else:
        y = page.node("LoadVideo", "node.widgets.find(w => w.type === 'button').y")
        with page.page.expect_file_chooser() as chooser:
            page.page.mouse.click(*page.at("LoadVideo", 120, y + 10))
        chooser.value.set_files(film)
    page.wait_for_node("LoadVideo", "node.widgets.find(w => w.name === 'file').value.startsWith('holiday')")
    page.run()
    assert text_of(page, "took").startswith("5 → 9 frames, 48 fps")
    page.picture(PICTURES / "uploaded.png")


def kept(workflow: dict) -> list:
    """What a graph is, in an order of its own."""
    nodes = [
        (n["id"], n["type"], n.get("title"), n.get("widgets_values"), n["mode"]) for n in workflow["nodes"]
    ]
    return [sorted(nodes, key=str), sorted(map(str, workflow["links"])), workflow["extra"]["linearData"]]


def test_a_workflow_saved_under_a_name_opens_as_it_was(chromium, comfyui):
    serialized = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
    with front_end.open_page(chromium, comfyui) as page:
        page.load(graph("24 to 60 fps"))
        page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value = 50")
        page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'cuts').value = 'off'")
        page.js("() => void app.extensionManager.command.execute('Comfy.SaveWorkflowAs')")
        page.page.get_by_role("dialog").locator("input").first.fill("my film")
        page.page.keyboard.press("Enter")
        page.page.wait_for_function(
            "() => app.extensionManager.workflow.activeWorkflow?.path === 'workflows/my film.json'"
        )
        saved = page.js(serialized)
    with front_end.open_page(chromium, comfyui) as page:
        page.command("Workspace.ToggleSidebarTab.workflows")
        page.page.get_by_text("my film").last.click()
        page.wait_for_node("RIFEInterpolate", "node")
        page.page.wait_for_timeout(1000)
        opened = page.js(serialized)
        page.fit()
        page.picture(PICTURES / "opened again.png")
        assert kept(opened) == kept(saved)
        assert (
            page.node("RIFEInterpolate", "node.widgets.find(w => w.name === 'timing.target_fps').value") == 50
        )


def test_app_mode_asks_runs_and_shows(page):
    """Inputs, run and result of a template where the graph is hidden."""
    page.load(graph("24 to 60 fps"))
    page.command("Comfy.ToggleLinear")
    skip = page.page.get_by_text("Skip", exact=True)
    page.page.get_by_test_id("linear-widgets").get_by_text("target_fps").wait_for()
    if skip.count():
        skip.first.click()
    asked = page.page.get_by_test_id("linear-widgets").inner_text()
    assert all(name in asked for name in ("file", "checkpoint", "timing", "target_fps", "keep_duration"))
    page.picture(PICTURES / "app mode.png")
    page.page.get_by_test_id("linear-run-button").get_by_text("Run", exact=True).click()
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(v => v.src.includes('RIFE_60fps') && v.videoWidth)",
        timeout=3 * front_end.PATIENCE_MS,
    )
    page.picture(PICTURES / "app mode, run.png")
