"""The example workflows: every node, input, widget and link fits; those that need no video model run to their end."""

from __future__ import annotations

import json
import urllib.error
from fractions import Fraction

import fake_comfyui as stand_in
import pytest
from workflow_files import (
    FILES,
    FOLDER,
    LATER,
    NOTES,
    VIEWERS,
    newer,
    template,
    write_clip,
    write_clips,
    write_images,
)

pytest_plugins = ["comfyui_server"]

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def kinds(server):
    return server.get("/object_info")


def inputs_of(kind: dict) -> dict[str, tuple]:
    """Name -> (type, options) of a node's /object_info entry, in the order of the form."""
    return {**kind["input"].get("required", {}), **kind["input"].get("optional", {})}


def widgets_of(node: dict, kind: dict | None = None) -> dict:
    """Widget -> value of a node as it was saved, those left out that live in the browser only.

    kind: the node's /object_info entry, which tells what follows a seed.
    """
    names = [i["name"] for i in node["inputs"] if "widget" in i]
    if node["type"] in VIEWERS:
        return dict.fromkeys(names, "")
    known = inputs_of(kind) if kind else {}
    values = iter(node.get("widgets_values", ()))
    found = {}
    for name in names:
        value = next(values)
        options = (*known.get(name, ("",)), {})[1]
        if options.get("control_after_generate") or name in ("seed", "noise_seed"):
            next(values)
        if name != "upload":
            found[name] = value
    assert not list(values), (node["type"], "more values than widgets")
    return found


def to_prompt(workflow: dict, kinds: dict) -> dict:
    """The UI format as the browser would queue it."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        values = widgets_of(node, kinds[node["type"]])
        linked = {i["name"]: links[i["link"]] for i in node["inputs"] if i["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": {**values, **linked}}
    return prompt


def test_there_are_workflows_and_no_index():
    assert FILES and not (FOLDER / "index.json").exists()


def test_links_and_ids_agree(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"]) and workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    for link, source, out, target, into, type_ in workflow["links"]:
        assert nodes[source]["outputs"][out]["type"] == type_
        taken = nodes[target]["inputs"][into]["type"]
        assert taken == "*" or type_ in taken.split(",")
        assert (
            link in nodes[source]["outputs"][out]["links"] and nodes[target]["inputs"][into]["link"] == link
        )


def test_missing_models_and_nodes_can_be_found(workflow):
    for node in workflow["nodes"]:
        properties = node["properties"]
        if node["type"] not in NOTES:
            ours = node["type"].startswith("RIFE")
            assert (
                properties["cnr_id"] == ("rife-interpolation" if ours else "comfy-core") and properties["ver"]
            )
        for model in properties.get("models", []):
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(model["name"])
            assert model["name"].endswith(".safetensors") and model["name"] in widgets_of(node).values()


def follow(names: list[str], parts: list[list[str]]) -> bool:
    """Whether `names` are the beginnings of `parts`, one after the other."""
    for part in parts:
        count = sum(name in part for name in names)
        if names[:count] != part[:count]:
            return False
        names = names[count:]
    return not names


def form_of(schema, values: dict, given: list[str]) -> tuple[list[str], dict]:
    """Sockets and widgets (name -> input) of one of our nodes, with those of the chosen dynamic options."""
    sockets, widgets = [], {}
    for one in schema.inputs:
        if template := one.options.get("template"):
            # As many as are connected, and one to connect.
            linked = [name for name in given if name.startswith(f"{one.id}.")]
            sockets += linked or [f"{one.id}.{template.prefix}0"]
            continue
        if one.io_type not in WIDGETS:
            sockets.append(one.id)
            continue
        widgets[one.id] = one
        for option in one.options.get("options", ()):
            if getattr(option, "key", None) == values.get(one.id):
                widgets.update({f"{one.id}.{inner.id}": inner for inner in getattr(option, "inputs", ())})
    return sockets, widgets


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    generator = stand_in.installed(tmp_path_factory.mktemp("models"))
    yield {node_id: node.define_schema() for node_id, node in next(generator).nodes.items()}
    generator.close()


def test_our_nodes_are_used_as_they_are_defined(workflow, schemas):
    ours = [node for node in workflow["nodes"] if node["type"] in schemas]
    assert ours and all(
        node["type"] in schemas for node in workflow["nodes"] if node["type"].startswith("RIFE")
    )
    for node in ours:
        schema, values = schemas[node["type"]], widgets_of(node)
        sockets, widgets = form_of(schema, values, [i["name"] for i in node["inputs"]])
        # Workflows of earlier versions lack what came later, which is optional and last.
        assert follow([i["name"] for i in node["inputs"]], [sockets, list(widgets)])
        assert follow(
            [o["name"] for o in node["outputs"]], [[o.options["display_name"] for o in schema.outputs]]
        )
        assert all(widgets[name].options.get("optional") for name in set(widgets) - set(values))
        for name, value in values.items():
            default = widgets[name].options.get("default", "")
            # JSON of the browser writes 24.0 as 24.
            assert type(default)(value) == value, (name, value)


def test_app_mode_asks_for_media_and_checkpoint_and_shows_the_result(workflow):
    """App mode, which hides the graph, is empty without."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    shown = workflow["extra"]["linearData"]
    asked = {(nodes[node]["type"], name) for node, name in shown["inputs"]}
    assert ("RIFECheckpointLoader", "checkpoint") in asked and len(shown["inputs"]) > 2
    for node, name in shown["inputs"]:
        (slot,) = (i for i in nodes[node]["inputs"] if i["name"] == name)
        assert "widget" in slot and slot["link"] is None
    results = {nodes[node]["type"] for node in shown["outputs"]}
    assert results and results <= {"SaveVideo", "SaveImage", "PreviewImage", "ImageCompare"}


def test_every_node_is_one_of_comfyuis_or_ours_and_fits(workflow, kinds):
    if missing := newer(workflow, kinds):
        pytest.skip(f"needs a newer ComfyUI: {missing}")
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        kind, later = kinds[node["type"]], LATER.get(node["type"], set())
        known, values = inputs_of(kind), widgets_of(node, kind)
        names = {i["name"] for i in node["inputs"]} - {"upload"}
        assert {name.split(".")[0] for name in names} <= set(known) | later, node["type"]
        outputs = [o for o in node["outputs"] if o["name"] not in later - set(kind["output_name"])]
        known_outputs = kind["output"], kind["output_name"]
        for key, offered in zip(("type", "name"), known_outputs, strict=True):
            assert [o[key] for o in outputs] == offered[: len(outputs)], node["type"]
        ours = node["type"].startswith("RIFE")  # may be of an earlier version
        assert ours or len(outputs) == len(kind["output"]), node["type"]
        for name, value in values.items():
            type_, *options = known.get(name, ("", {}))
            choices = type_ if isinstance(type_, list) else (options[0] if options else {}).get("options")
            choices = [c["key"] if isinstance(c, dict) else c for c in choices or ()]
            # Files are the user's; everything else must be on offer.
            if choices and not str(value).endswith((".safetensors", ".mp4", ".png")):
                assert value in choices, (node["type"], name, value)
    prompt = to_prompt(workflow, kinds)
    for entry in prompt.values():
        given = {name.split(".")[0] for name in entry["inputs"]}
        missing = set(kinds[entry["class_type"]]["input"].get("required", {})) - given
        assert not missing, (entry["class_type"], missing)


def test_they_explain_themselves_in_groups(workflow):
    assert workflow["groups"] and any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    inside = [g["bounding"] for g in workflow["groups"]]
    for node in workflow["nodes"]:
        x, y = node["pos"]
        assert any(a <= x <= a + w and b <= y <= b + h for a, b, w, h in inside), node["type"]


@pytest.fixture(scope="module")
def files(server):
    """A clip and two images, as the workflows name them; the clip's rate."""
    rate = Fraction(24000, 1001)
    write_clip(server.base / "input" / "clip.mp4", rate, 18)
    write_clips(server.base / "input", rate)
    write_images(server.base / "input")
    return rate


# What comes out of 18 frames, or of two images: frames, and the rate as a multiple of the clip's or in fps.
RESULTS = {
    "Interpolate a video 2x": (35, 2, None),
    "Long video 2x": (35, 2, None),
    "24 to 60 fps": (46, None, 60),  # every 60th of 0.75075 s
    "Perfect loop": (36, 2, None),
    "Slow motion with a retime curve": (48, 1, None),  # 2 s
    "Anime on twos": (36, 2, None),
    "Two images into a clip": (25, None, 24),
    "Generated images to a file as a stream": (9, None, 128),
    "Join clips": (22, 1, None),
    "Even sharpness": (35, 2, None),
    "Motion blur 60 to 24 fps": (18, None, 24),
    "Keep logo and subtitles": (35, 2, None),
}


def check_job_picture(server, outputs: dict) -> None:
    """What ComfyUI shows of its last job, in the queue and among the assets, is a result that was saved."""
    saved = [
        file for output in outputs.values() for file in output.get("images", ()) if file["type"] == "output"
    ]
    assert saved
    try:
        (job,) = server.get("/api/jobs?limit=1&sort_by=created_at&sort_order=desc")["jobs"]
    except urllib.error.HTTPError:
        return  # this ComfyUI keeps no such list
    shown = job["preview_output"]
    assert shown["mediaType"] == "images" and shown["filename"] in {file["filename"] for file in saved}


@pytest.mark.parametrize("name", RESULTS)
def test_it_runs_to_the_end_and_gives_what_it_says(server, kinds, files, name, tmp_path):
    av = pytest.importorskip("av")
    frames, times, fps = RESULTS[name]
    workflow = template(name)
    outputs = server.run(to_prompt(workflow, kinds))
    check_job_picture(server, outputs)
    (saved,) = (file for output in outputs.values() for file in output.get("images", []))
    (tmp_path / "out.mp4").write_bytes(server.file(saved))
    with av.open(str(tmp_path / "out.mp4")) as file:
        rate = Fraction(fps) if fps else times * files
        assert abs(file.streams.video[0].average_rate - rate) < Fraction(1, 500)
        assert sum(1 for _ in file.decode(video=0)) == frames
        if not file.streams.audio:
            return
    with av.open(str(tmp_path / "out.mp4")) as file:
        seconds = sum(f.samples for f in file.decode(audio=0)) / 44100
    assert seconds == pytest.approx(frames / float(rate), abs=0.06)


def test_training_gives_a_checkpoint_and_pictures(server, kinds, files):
    prompt = to_prompt(template("Fine-tune on my clip and compare"), kinds)
    (train,) = (node for node in prompt.values() if node["class_type"] == "RIFETrain")
    train["inputs"] |= {"steps": 2, "crop": 64, "batch_size": 1, "allow_worse": True, "teacher": False}
    outputs = server.run(prompt, 300)
    assert sum(len(output.get("images", ())) for output in outputs.values()) >= 1
    check_job_picture(server, outputs)
    assert list((server.base / "output").rglob("*.safetensors"))


def test_scoring_two_checkpoints_says_which_is_better(server, kinds, files):
    prompt = to_prompt(template("Score two checkpoints"), kinds)
    for node in prompt.values():
        if node["inputs"].get("checkpoint", "").endswith("(download)"):
            node["inputs"]["checkpoint"] = "rife_comfy (bundled)"
    outputs = server.run(prompt, 300)
    check_job_picture(server, outputs)
    (report,) = (
        output["text"][0] for key, output in outputs.items() if prompt[key]["class_type"] == "PreviewAny"
    )
    assert "psnr" in report.lower()


def test_comparing_with_the_true_frame_shows_and_saves_what_was_made(server, kinds, files):
    outputs = server.run(to_prompt(template("Compare with the true frame"), kinds))
    check_job_picture(server, outputs)
    assert any({"a_images", "b_images"} <= output.keys() for output in outputs.values())


def test_comfyui_lists_our_workflows_as_templates(server):
    templates = server.get("/workflow_templates")
    assert sorted(templates["ComfyUI-RIFE"]) == [path.stem for path in FILES]
