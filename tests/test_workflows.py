"""The example workflows: every node, input, widget and link fits, and the first one runs to its end."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import host as stand_in
import numpy
import pytest

import rife
from rife.config import RELEASES
from rife.ifnet import IFNet

pytest_plugins = ["comfyui_server"]

FOLDER = stand_in.ROOT / "example_workflows"
FILES = sorted(FOLDER.glob("*.json"))
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}  # live in the browser only


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def kinds(server):
    return server.get("/object_info")


def inputs_of(kind: dict) -> dict[str, tuple]:
    """Name -> (type, options) of a node's /object_info entry, in the order of the form."""
    return {**kind["input"].get("required", {}), **kind["input"].get("optional", {})}


def widgets_of(kind: dict) -> list[tuple[str, bool]]:
    """(name, whether a prompt holds it) per entry of widgets_values: some widgets live in the browser only."""
    names = []
    for name, (type_, *options) in inputs_of(kind).items():
        options = options[0] if options else {}
        if options.get("forceInput") or not (isinstance(type_, list) or type_ in WIDGETS):
            continue
        names.append((name, True))
        if options.get("control_after_generate") or name in ("seed", "noise_seed"):
            names.append((f"{name} afterwards", False))
        if any(options.get(upload) for upload in ("image_upload", "video_upload", "audio_upload")):
            names.append(("upload", False))
    return names


def to_prompt(workflow: dict, kinds: dict) -> dict:
    """The UI format as the browser would queue it."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        names = widgets_of(kinds[node["type"]])
        values = {
            name: value for (name, sent), value in zip(names, node["widgets_values"], strict=False) if sent
        }
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
        assert nodes[source]["outputs"][out]["type"] == type_ == nodes[target]["inputs"][into]["type"]
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
            assert model["name"].endswith(".safetensors") and model["name"] in node["widgets_values"]


def follow(names: list[str], parts: list[list[str]]) -> bool:
    """Whether `names` are the beginnings of `parts`, one after the other."""
    for part in parts:
        count = sum(name in part for name in names)
        if names[:count] != part[:count]:
            return False
        names = names[count:]
    return not names


def test_our_nodes_are_used_as_they_are_defined(workflow, tmp_path):
    generator = stand_in.installed(tmp_path)
    schemas = {node_id: node.define_schema() for node_id, node in next(generator).nodes.items()}
    generator.close()
    ours = [node for node in workflow["nodes"] if node["type"] in schemas]
    assert ours
    for node in ours:
        schema = schemas[node["type"]]
        widgets = [i for i in schema.inputs if i.io_type in WIDGETS]
        sockets = [i for i in schema.inputs if i not in widgets]
        # Workflows of earlier versions lack what came later, which is optional and last.
        assert follow([i["name"] for i in node["inputs"]], [[i.id for i in sockets], [i.id for i in widgets]])
        assert follow(
            [o["name"] for o in node["outputs"]], [[o.options["display_name"] for o in schema.outputs]]
        )
        assert all(i.options.get("optional") for i in widgets[len(node["widgets_values"]) :])
        for widget, value in zip(widgets, node["widgets_values"], strict=False):
            assert type(value) is type(widget.options["default"]), (widget.id, value)


def test_every_node_is_one_of_comfyuis_or_ours_and_fits(workflow, kinds):
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        kind = kinds[node["type"]]
        known = inputs_of(kind)
        assert {i["name"] for i in node["inputs"]} <= set(known), node["type"]
        known_outputs = kind["output"], kind["output_name"]
        for key, offered in zip(("type", "name"), known_outputs, strict=True):
            assert [o[key] for o in node["outputs"]] == offered[: len(node["outputs"])], node["type"]
        ours = node["type"].startswith("RIFE")  # may be of an earlier version
        assert ours or len(node["outputs"]) == len(kind["output"]), node["type"]
        assert ours or len(node["widgets_values"]) == len(widgets_of(kind)), node["type"]
        for (name, sent), value in zip(widgets_of(kind), node["widgets_values"], strict=False):
            type_, *options = known.get(name, ("", {}))
            choices = type_ if isinstance(type_, list) else (options[0] if options else {}).get("options")
            # Files are the user's; everything else must be on offer.
            if sent and choices and not str(value).endswith((".safetensors", ".mp4")):
                assert value in choices, (node["type"], name, value)
    prompt = to_prompt(workflow, kinds)
    for entry in prompt.values():
        missing = set(kinds[entry["class_type"]]["input"].get("required", {})) - set(entry["inputs"])
        assert not missing, (entry["class_type"], missing)


def write_clip(path, rate: Fraction, frames: int) -> None:
    """A small video with a tone, as a phone would write it."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        video = file.add_stream("h264", rate=rate)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = file.add_stream("aac", rate=44100)
        for i in range(frames):
            picture = numpy.zeros((64, 96, 3), numpy.uint8)
            picture[16:48, 4 * i : 4 * i + 32] = (240, 120, 40)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        count = math.ceil(44100 * frames / rate)
        tone = (0.3 * numpy.sin(numpy.arange(count) * 0.06)).astype(numpy.float32)
        audio = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        audio.sample_rate = 44100
        file.mux(sound.encode(audio))
        file.mux(sound.encode())


def test_a_video_comes_out_at_twice_its_rate_with_its_sound(server, kinds, tmp_path):
    av = pytest.importorskip("av")
    rate = Fraction(24000, 1001)
    write_clip(server.base / "input" / "clip.mp4", rate, 6)
    small = stand_in.small_network(IFNet, RELEASES["4.26"], (16,) * 5)
    rife.save_checkpoint(small, server.base / "models" / "frame_interpolation" / "tiny.safetensors")
    workflow = json.loads((FOLDER / "Interpolate a video 2x.json").read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, kinds)
    for entry in prompt.values():
        if entry["class_type"] == "RIFECheckpointLoader":
            entry["inputs"]["checkpoint"] = "tiny.safetensors"
    outputs = server.run(prompt)
    (saved,) = (file for output in outputs.values() for file in output.get("images", []))
    (tmp_path / "out.mp4").write_bytes(server.file(saved))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert abs(file.streams.video[0].average_rate - 2 * rate) < Fraction(1, 500)
        assert sum(1 for _ in file.decode(video=0)) == 11
    with av.open(str(tmp_path / "out.mp4")) as file:
        seconds = sum(f.samples for f in file.decode(audio=0)) / 44100
    assert seconds == pytest.approx(11 / (2 * float(rate)), abs=0.06)


def test_comfyui_lists_our_workflows_as_templates(server):
    templates = server.get("/workflow_templates")
    assert sorted(templates["ComfyUI-RIFE"]) == [path.stem for path in FILES]
