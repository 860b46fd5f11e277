"""Prompts that nobody means, for a real ComfyUI server: every input of our nodes with values it is not made for.

Values are harmless: just beyond a limit, never what would hold software that does not look.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import fake_comfyui as stand_in
from comfyui_server import Server, node
from training_runs import clip
from video_files import make_of

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

MOMENT = 2.0  # seconds in which a prompt has to be answered, and a cancelled one to have ended
_OURS = "custom_nodes.ComfyUI-RIFE"
_SKIPPED = {"RIFEInterpolateChunks"}  # wants an object of VideoHelperSuite
_LEFT_ALONE = {("RIFECheckpointLoader", "checkpoint")}  # its good values may be downloads

INTS = [
    0, -1, 1, 2, 7, 10**6, 10**6 + 1, 2**31, 2**53, 2**63 - 1, -(2**63), True, "3", "x", None, 2.5, [], {}, "1e9",
]  # fmt: skip
FLOATS = [
    0.0, -1.0, 1.0, 1e-300, 1e300, 1e7, -1e7, float("nan"), float("inf"), -float("inf"), "0.5", "x", None, [], {},
    2**63,
]  # fmt: skip
TEXTS = [
    "", " ", ",", ",,,;;", "x", "1", "0", "-1", "0.5", "1/2", "1/0", "0/0", "1e-2", "1e100", "1e-100", "1e123", "nan",
    "inf", "0.5,0.25", "0.5,0.5", "1/3, 2/3", "0:0", "0:0,1:1", "0:0,0:1", "1:0,0:1", "0:0,1:1e9", "0:0,1000000000:1",
    "0:0,1:-1", "0:0,100000:0.01", "0:0:0", ":", "0:,1:1", "a:b", "0" * 41, "9" * 41, "0." + "3" * 50, "1," * 10_001,
    "1 " * 200_001, "0:0," * 20_001, "x" * 100_000, " " * 4_000_001, "\u0663", "\u00b2", "\u202e1", "\x00", "1\n2",
    "{}", "[1]", "'; DROP TABLE", "../../etc", "/dev/null", "%s%s%n", "\ud83c\udfac", None, 5, True, [], {},
    "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9", ",".join(str(i / 1001) for i in range(1, 1001)),
    ",".join(str(7 * i) for i in range(100_000)),
]  # fmt: skip
CHOICES = ["", "x", None, 5, True, [], {}, "../x", "x" * 100_000, "\x00"]
BOOLS = [None, 5, "x", [], {}, "false", 0.5]


class Prompt(NamedTuple):
    """One node of ours with one odd value, in a graph that is otherwise sound."""

    kind: str
    name: str
    value: Any
    linked: bool
    graph: dict


class Answer(NamedTuple):
    """What came of it. fault: why that is not as it should be, "" where it is."""

    seconds: float
    what: str
    fault: str


def furnish(server: Server) -> None:
    """The network and the clip that `sound_graph` names."""
    small = stand_in.small_network(IFNet, RELEASES["4.26"])
    rife.save_checkpoint(small, server.base / "models" / "frame_interpolation" / "small.safetensors")
    make_of(server.base / "input" / "moving.mkv", clip(12), 24)


def prompts(server: Server) -> Iterator[Prompt]:
    """All of them, by what the server says of our nodes."""
    kinds = server.get("/object_info")
    for kind, info in kinds.items():
        if info["python_module"] != _OURS or kind in _SKIPPED:
            continue
        inputs = _inputs(info)
        for name, value, fixed in _odd(kind, inputs):
            graph = sound_graph(kind, info)
            graph["it"]["inputs"] |= {**fixed, name: value}
            yield Prompt(kind, name, value, False, graph)
            if (source := _source_of(value)) and source["class_type"] in kinds:
                linked = json.loads(json.dumps(graph))
                linked["odd"] = source
                linked["it"]["inputs"][name] = ["odd", 0]
                yield Prompt(kind, name, value, True, linked)


def _inputs(info: dict) -> dict:
    """A node's inputs, the needed and the others."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def _odd(kind: str, inputs: dict) -> Iterator[tuple[str, Any, dict]]:
    """(name, odd value, what else must be set for it to be looked at)."""
    for name, (type_, *options) in inputs.items():
        if (kind, name) in _LEFT_ALONE:
            continue
        options = options[0] if options else {}
        if type_ == "COMFY_DYNAMICCOMBO_V3":
            yield from ((name, value, {}) for value in CHOICES)
            for choice in options["options"]:
                inner = {**choice["inputs"].get("required", {}), **choice["inputs"].get("optional", {})}
                for below, value, _ in _odd(kind, inner):
                    usual = {f"{name}.{n}": o[1].get("default") for n, o in inner.items() if len(o) > 1}
                    yield f"{name}.{below}", value, {name: choice["key"], **usual}
            continue
        kinds = {"INT": INTS, "FLOAT": FLOATS, "STRING": TEXTS, "BOOLEAN": BOOLS, "COMBO": CHOICES}
        yield from (
            (name, value, {}) for value in kinds.get(type_ if isinstance(type_, str) else "COMBO", ())
        )


def sound_graph(kind: str, info: dict) -> dict:
    """A sound graph of small things around one node, called "it"."""
    inputs = _inputs(info)
    graph = {
        "model": node("RIFECheckpointLoader", checkpoint="small.safetensors"),
        "image": node("EmptyImage", width=64, height=48, batch_size=4, color=8_000_000),
        "mask": node("SolidMask", value=0.5, width=64, height=48),
        "video": node("CreateVideo", images=["image", 0], fps=24.0),
        "states": node("RIFEInterpolationStates", frame_indices="1", is_skip_list=True),
    }
    sources = {"INTERP_MODEL": "model", "IMAGE": "image", "VIDEO": "video", "INTERPOLATION_STATES": "states"}
    if kind in ("RIFETrain", "RIFEScore"):  # which refuse still frames before they look at all else
        graph["file"] = node("LoadVideo", file="moving.mkv")
        graph["image"] = node("GetVideoComponents", video=["file", 0])
    wanted = {}
    for name, (type_, *options) in inputs.items():
        options = options[0] if options else {}
        if type_ in sources and (
            name in info["input"].get("required", {}) or kind in ("RIFETrain", "RIFEScore")
        ):
            wanted[name] = [sources[type_], 0]
        elif "default" in options:
            wanted[name] = options["default"]
        elif isinstance(type_, list) or type_ == "COMBO":
            wanted[name] = (type_ if isinstance(type_, list) else options["options"])[0]
    if kind == "RIFEScore":  # a model, or frames to compare with
        wanted.pop("compared", None)
        wanted.pop("second_model", None)
    if kind == "RIFETrain":
        wanted |= {"steps": 2, "crop": 64, "held_out": 0.0}
        wanted.pop("video", None)
    if kind == "RIFECheckpointLoader":
        wanted["checkpoint"] = "small.safetensors"
    if kind in ("RIFEVFI",):
        wanted["ckpt_name"] = "rife49.pth"
    graph["it"] = node(kind, **wanted)
    graph["shown"] = node("PreviewAny", source=["it", 0])
    return graph


def _source_of(value: Any) -> dict | None:
    """A node that gives the value over a link, where no form checks it."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return node("PrimitiveInt", value=value)
    if isinstance(value, float):
        return node("PrimitiveFloat", value=value)
    return node("PrimitiveString", value=value) if isinstance(value, str) else None


def post(server: Server, prompt: Prompt) -> Answer:
    """Posts a prompt, cancels it where it goes on, and judges the answer."""
    began = time.monotonic()
    status, answer = server.post("/prompt", {"prompt": prompt.graph, "client_id": "odd"})
    posted = time.monotonic() - began
    if status != 200:
        return Answer(posted, "refused by its form", "" if posted < MOMENT else "answered late")
    entry = _ended(server, answer["prompt_id"], MOMENT)
    cancelled = entry is None
    if cancelled:
        asked = time.monotonic()
        server.post("/interrupt")
        entry = _ended(server, answer["prompt_id"], MOMENT)
        if entry is None:
            entry = _ended(server, answer["prompt_id"], 120) or {
                "status": {"messages": [], "status_str": "?"}
            }
            return Answer(time.monotonic() - asked, "cancelled", "went on after Cancel")
    seconds = time.monotonic() - began
    error = server.events(entry).get("execution_error")
    if error is None:
        what = "cancelled" if cancelled else entry["status"]["status_str"]
        return Answer(seconds, what, "")
    return Answer(seconds, "an error", _fault_of(error))


def _ended(server: Server, prompt_id: str, seconds: float) -> dict | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if entry := server.get(f"/history/{prompt_id}").get(prompt_id):
            return entry
        time.sleep(0.02)
    return None


def _fault_of(error: dict) -> str:
    """Raw is what Python or a library says, not we: another kind of error, or one that no line of ours raised."""
    kind, message = error["exception_type"].rpartition(".")[2], error["exception_message"]
    raised = [line for line in "".join(error["traceback"]).splitlines() if line.strip().startswith("raise ")]
    if kind not in (
        "ValueError",
        "RuntimeError",
        "FileNotFoundError",
        "VideoError",
        "UnknownCheckpointError",
    ):
        return f"raw {kind}: {message[:80]}"
    if not raised:
        return f"raw {kind}: {message[:80]}"
    return "" if len(message) < 1500 else f"a message of {len(message)} characters"
