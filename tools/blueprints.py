"""Writes subgraphs/*.json: loader and runner in one node, which ComfyUI's search finds by the name of the file.

    python tools/blueprints.py

ComfyUI puts nodes first whose name begins with what was typed, the shortest of them first; "rife" would lead to RIFE
Flow, "frame rate" to none of ours, whatever their search_aliases are. tests/search.json holds what leads where.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import checkout  # noqa: E402, F401  (makes this checkout's `rife` importable)
import fake_comfyui as host  # noqa: E402

FOLDER = ROOT / "subgraphs"
SOCKETS = ("IMAGE", "MASK", "VIDEO", "INTERP_MODEL", "VHS_BatchManager", "UPSCALE_MODEL", "COMFY_AUTOGROW_V3")
NAMES = uuid.UUID("6f4b0a3e-4f2e-4c53-9d1a-1f3f6d4b7a10")  # ids are made of names: the same at each writing

# What inputs are called where their own name is for programs.
LABELS = {
    "timing.target_fps": "target fps", "fps": "fps of the clip", "clips.clip0": "first clip", "clips.clip1": "second clip",
    "clips.clip2": "third clip", "fade": "frames of fading", "loop_drift": "colour drift", "crf": "quality (crf)",
}  # fmt: skip

# File name: its inner node, what that node is set to, the inputs that are shown, the outputs, what it says of itself.
BLUEPRINTS = {
    "RIFE": (
        "RIFEInterpolateVideo", {}, ["video", "multiplier"], ["video", "fps"],
        "Doubles the frame rate of a video of any length with RIFE, or multiplies it; sound stays.",
    ),
    "Frame Rate (RIFE)": (
        "RIFEInterpolateVideo", {"timing": "frame rate"}, ["video", "timing.target_fps"], ["video", "fps"],
        "Brings a video of any frame rate to another one, such as 24 to 60, with RIFE; sound stays.",
    ),
    "Frame Interpolation (RIFE)": (
        "RIFEInterpolate", {}, ["images", "multiplier", "fps"], ["images", "fps"],
        "Makes new frames between each two images of a clip with RIFE.",
    ),
    "Interpolate to a frame rate": (
        "RIFEInterpolateVideo", {"timing": "frame rate"}, ["video", "timing.target_fps"], ["video", "fps", "report"],
        "Brings a video of any length and frame rate to another rate, such as 24 to 60 or 29.97, exactly, with RIFE; sound "
        "and subtitles stay. The clip is never held in memory.",
    ),
    "Perfect loop": (
        "RIFEInterpolate", {"loop": True, "cuts": "off", "loop_drift": "auto"},
        ["images", "multiplier", "fps", "loop_drift"], ["images", "fps", "report"],
        "Closes a clip: new frames lead from its last image back to the first, a last image that is the first again is "
        "left out, and a drift of colours from end to begin is spread over the clip.",
    ),
    "Join clips": (
        "RIFEJoinClips", {}, ["clips.clip0", "clips.clip1", "clips.clip2", "fade"], ["video", "images", "report"],
        "Makes one film of clips that follow each other, images or videos: frames that two of them share are dropped or "
        "morphed, small gaps bridged, colours matched, sound faded over.",
    ),
    "Long video": (
        "RIFEInterpolateVideo", {}, ["video", "multiplier", "codec", "crf"], ["video", "fps", "report"],
        "Multiplies the frame rate of a video of any length as a stream from file to file, in memory that does not grow.",
    ),
    "After CogVideoX or Wan": (
        "RIFEInterpolate", {"timing": "frame rate", "timing.target_fps": 24.0, "fps": 16.0},
        ["images", "fps", "timing.target_fps"], ["images", "fps", "report"],
        "For images from VAE Decode: fps of the clip is what the model makes (8 CogVideoX, 16 CogVideoX 1.5 and Wan), target "
        "fps what you want. Connect fps to Create Video.",
    ),
}  # fmt: skip


def widgets(schema, chosen: dict) -> dict:
    """Every widget of a node with its value, those of the chosen option of a dynamic combo behind it."""
    values = {}
    for one in schema.inputs:
        if type(one).io_type in SOCKETS:
            continue
        options = one.options
        if type(one).io_type == "COMFY_DYNAMICCOMBO_V3":
            values[one.id] = chosen.get(one.id, options["options"][0].key)
            (option,) = (o for o in options["options"] if o.key == values[one.id])
            inside = {f"{one.id}.{inner.id}": inner.options["default"] for inner in option.inputs}
            values |= {name: chosen.get(name, default) for name, default in inside.items()}
        else:
            values[one.id] = chosen.get(one.id, options.get("default"))
    return values


def kinds(schema) -> dict[str, str]:
    """The type of every input, those of dynamic choices included."""
    found = {}
    for one in schema.inputs:
        found[one.id] = type(one).io_type
        if type(one).io_type == "COMFY_AUTOGROW_V3":
            grown = one.options["template"]
            found |= {f"{one.id}.{grown.prefix}{i}": type(grown.input).io_type for i in range(3)}
        for option in one.options.get("options", ()):
            for inner in getattr(option, "inputs", ()):
                found[f"{one.id}.{inner.id}"] = type(inner).io_type
    return found


def label(name: str) -> dict[str, str]:
    """How people see an input."""
    return {"label": LABELS.get(name, name.replace("_", " "))}


def blueprint(name: str, nodes: dict) -> dict:
    """A workflow of one subgraph, as ComfyUI saves a blueprint."""
    kind, chosen, shown, given, description = BLUEPRINTS[name]
    loader, runner = nodes["RIFECheckpointLoader"], nodes[kind]
    types, links = kinds(runner), []

    def link(source: int, slot: int, target: int, place: int, of: str) -> int:
        ends = {"origin_id": source, "origin_slot": slot, "target_id": target, "target_slot": place}
        links.append({"id": len(links) + 1, **ends, "type": of})
        return len(links)

    sockets = [
        one for one in types if types[one] in (*SOCKETS, "IMAGE,VIDEO") and types[one] != "COMFY_AUTOGROW_V3"
    ]
    names = sockets + [one for one in shown if one not in sockets]
    inputs = [{"name": one, "type": types[one], "link": None} for one in names]
    for one in inputs:
        if one["name"] not in sockets:
            one["widget"] = {"name": one["name"]}
    inputs[0]["link"] = link(1, 0, 2, 0, "INTERP_MODEL")
    outside, sides = [], []
    for place, one in enumerate(["checkpoint", *shown]):
        inner, of = (1, "COMBO") if one == "checkpoint" else (2, types[one])
        at = 0 if one == "checkpoint" else names.index(one)
        number = link(-10, place, inner, at, of)
        if inner == 2:
            inputs[at]["link"] = number
        else:
            checkpoint = number
        sides.append(
            {"id": _id(name, one), "name": one, "type": of, "linkIds": [number], "pos": [-260, 20 * place]}
            | label(one)
        )
        widget = {} if one in sockets else {"widget": {"name": one}}
        outside.append({"name": one, "type": of, "link": None, **label(one), **widget})
    outputs = [
        {"name": o.options["display_name"], "type": type(o).io_type, "links": []} for o in runner.outputs
    ]
    results = []
    for place, one in enumerate(given):
        (slot,) = (i for i, o in enumerate(outputs) if o["name"] == one)
        number = link(2, slot, -20, place, outputs[slot]["type"])
        outputs[slot]["links"] = [number]
        results.append({"id": _id(name, "out", one), "name": one, "type": outputs[slot]["type"],
                        "linkIds": [number], "pos": [900, 20 * place]})  # fmt: skip
    inner = [
        _node(1, loader, [-100, 0], [{"name": "checkpoint", "type": "COMBO", "widget": {"name": "checkpoint"},
                                      "link": checkpoint}],
              [{"name": "interp_model", "type": "INTERP_MODEL", "links": [1]}], {}),
        _node(2, runner, [300, 0], inputs, outputs, chosen),
    ]  # fmt: skip
    graph = {
        "id": _id(name), "version": 1, "revision": 0, "config": {}, "name": name, "widgets": [], "groups": [],
        "state": {"lastGroupId": 0, "lastNodeId": 2, "lastLinkId": len(links), "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [-300, 0, 140, 120]},
        "outputNode": {"id": -20, "bounding": [880, 0, 120, 80]},
        "inputs": sides, "outputs": results, "nodes": inner, "links": links, "extra": {},
        "category": "video", "description": description,
    }  # fmt: skip
    node = {
        "id": 1, "type": graph["id"], "pos": [0, 0], "size": [360, 180], "flags": {}, "order": 0, "mode": 0,
        "inputs": outside, "outputs": [{"name": o["name"], "type": o["type"], "links": []} for o in results],
        "title": name, "widgets_values": [],
        "properties": {"proxyWidgets": [["1" if one == "checkpoint" else "2", one]
                                        for one in ["checkpoint", *shown] if one not in sockets]},
    }  # fmt: skip
    return {
        "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4,
        "definitions": {"subgraphs": [graph]}, "extra": {},
    }  # fmt: skip


def _node(number: int, schema, at: list[int], inputs: list, outputs: list, chosen: dict) -> dict:
    values = widgets(schema, chosen)
    return {
        "id": number, "type": schema.node_id, "pos": at, "size": [320, 200], "flags": {}, "order": number - 1,
        "mode": 0, "inputs": inputs, "outputs": outputs,
        "properties": {"Node name for S&R": schema.node_id, "cnr_id": "rife-interpolation"},
        "widgets_values": list(values.values()), "widgets_values_named": values,
    }  # fmt: skip


def _id(*words: str) -> str:
    return str(uuid.uuid5(NAMES, " ".join(words)))


def written() -> dict[str, str]:
    """The files' contents by name."""
    with tempfile.TemporaryDirectory() as models:
        installed = host.installed(Path(models))
        nodes = {name: node.define_schema() for name, node in next(installed).nodes.items()}
        installed.close()
    return {name: json.dumps(blueprint(name, nodes), indent=1) + "\n" for name in BLUEPRINTS}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in written().items():
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
