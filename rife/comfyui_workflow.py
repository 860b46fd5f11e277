"""Rewrites ComfyUI workflows with other packs' RIFE nodes for ours, as saved (UI format) or exported (API format).

Fannovel16's `RIFE VFI` loads and runs in one node: it becomes a loader and RIFE Interpolate, or, where it does what
that form does not have (interpolation states, settings that come over links), the all-in-one node `RIFEVFI`.
ComfyUI's own `FrameInterpolate` and its loader become ours; FILM keeps its loader. Frames come out as before: cuts and
repeated frames, which the old nodes know nothing of, are left off.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from .checkpoint.catalog import DOWNLOADS
from .version import __version__

VFI, VFI_STATES = "RIFE VFI", "Make Interpolation State List"  # Fannovel16's
NATIVE, NATIVE_LOADER = "FrameInterpolate", "FrameInterpolationModelLoader"  # ComfyUI's
LOADER, RUNNER, ALL_IN_ONE, STATES = (
    "RIFECheckpointLoader", "RIFEInterpolate", "RIFEVFI", "RIFEInterpolationStates"
)  # fmt: skip

# In the order of the forms, with their defaults: so widgets_values are read and written. Later ones may be missing.
VFI_WIDGETS = {
    "ckpt_name": "rife49.pth", "clear_cache_after_n_frames": 10, "multiplier": 2, "fast_mode": True, "ensemble": True,
    "scale_factor": 1.0, "dtype": "float32", "torch_compile": False, "batch_size": 1,
}  # fmt: skip
LOADER_WIDGETS = {"checkpoint": "rife_comfy (bundled)", "variant": "auto", "precision": "auto"}
RUNNER_WIDGETS = {
    "multiplier": 2, "fps": 24.0, "scale": "1.0", "tta": False, "ensemble": False, "timesteps": "", "batch_size": 0,
    "timing": "multiplier", "loop": False, "keep_duration": False, "cuts": "hold", "cut_frames": "",
    "repeated_frames": "hold", "clip_length": 0, "precision": "auto", "acceleration": "off",
}  # fmt: skip
RUNNER_OUTPUTS = {"images": "IMAGE", "fps": "FLOAT", "frame_count": "INT", "report": "STRING", "cuts": "STRING",
                  "mask": "MASK"}  # fmt: skip

DOWNLOAD = " (download)"  # follows the name of a checkpoint that our loader is to fetch
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_AS_BEFORE = {"cuts": "off", "repeated_frames": "off"}
_OVER_LINKS = {"frames", "multiplier", "batch_size"}  # what may come over links to RIFE Interpolate, too


def offered(ckpt_name: str) -> str:
    """Returns what our loader calls a file of Fannovel16's: rife49.pth is "4.9 (download)"; others keep their names."""
    number = re.fullmatch(r"rife4(\d+)\.pth", ckpt_name)
    version = f"4.{number[1]}" if number else ""
    return version + DOWNLOAD if version in DOWNLOADS else ckpt_name


def convert(workflow: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns a copy for our nodes, and a line for each node that was changed. Raises ValueError for what is no
    workflow."""
    workflow = copy.deepcopy(workflow)
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        graphs = [_Graph(one) for one in (workflow, *workflow.get("definitions", {}).get("subgraphs", []))]
        lines = [line for graph in graphs for line in graph.convert()]
        _rename_outside(graphs)
        return workflow, lines
    prompt = workflow.get("prompt", workflow) if isinstance(workflow, dict) else None
    if not prompt or not all(isinstance(node, dict) and "class_type" in node for node in prompt.values()):
        raise ValueError(
            "this is no ComfyUI workflow, expected JSON with a list of nodes (saved) or with class_type in every node "
            "(exported for the API). Save or export it from ComfyUI."
        )
    return workflow, list(_convert_prompt(prompt))


def _loader_values(values: dict[str, Any]) -> dict[str, Any]:
    precision = PRECISIONS.get(values.get("dtype", "float32"), "auto")
    return {"checkpoint": offered(values["ckpt_name"]), "precision": precision}


def _runner_values(values: dict[str, Any]) -> dict[str, Any]:
    """Of `RIFE VFI`. One frame per pass was everybody's default there: our node chooses by size and memory."""
    batch = values.get("batch_size", 1)
    return {
        "multiplier": values.get("multiplier", 2),
        "scale": str(float(values.get("scale_factor", 1.0))),
        "batch_size": 0 if batch == 1 else batch,
        **_AS_BEFORE,
        **({"acceleration": "compile"} if values.get("torch_compile") else {}),
    }


def _is_film(name: Any) -> bool:
    return "film" in str(name).lower()


# API format: id -> {class_type, inputs}; an input is a value, or [id, output] where it comes over a link.


def _convert_prompt(prompt: dict[str, dict]) -> Iterator[str]:
    for node_id, node in list(prompt.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind == VFI:
            linked = {name for name, value in inputs.items() if isinstance(value, list)}
            if linked <= _OVER_LINKS:
                loader = _free_id(prompt)
                prompt[loader] = _api_node(LOADER, _loader_values(inputs))
                sockets = {"interp_model": [loader, 0], "images": inputs["frames"]}
                _replace(node, RUNNER, {**sockets, **_runner_values(inputs)})
            else:
                node["class_type"] = ALL_IN_ONE
        elif kind == VFI_STATES:
            node["class_type"] = STATES
        elif kind == NATIVE:
            _replace(node, RUNNER, {**inputs, **_AS_BEFORE})
        elif kind == NATIVE_LOADER and not _is_film(inputs["model_name"]):
            _replace(node, LOADER, {"checkpoint": inputs["model_name"]})
        if node["class_type"] != kind:
            yield f"{node_id}: {kind} -> {node['class_type']}"


def _free_id(prompt: dict[str, dict]) -> str:
    return str(1 + max((int(i) for i in prompt if i.isdecimal()), default=0))


def _api_node(kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def _replace(node: dict[str, Any], kind: str, inputs: dict[str, Any]) -> None:
    node["class_type"], node["inputs"] = kind, inputs


# UI format: nodes with slots, and links between slots by their places.


class _Graph:
    """A workflow as saved, or a subgraph of it."""

    def __init__(self, graph: dict[str, Any]):
        self.graph = graph
        self.nodes: list[dict] = graph["nodes"]
        self.links: list = graph.setdefault("links", [])
        self.renamed: set[str] = set()  # loaders whose model_name is a checkpoint now

    def convert(self) -> Iterator[str]:
        for node in list(self.nodes):
            before = node["type"]
            if before == VFI:
                self._vfi(node)
            elif before == VFI_STATES:
                _name(node, STATES)
            elif before == NATIVE:
                self._runner(node, {**_values(node, ["multiplier"]), **_AS_BEFORE})
            elif before == NATIVE_LOADER and not _is_film(_values(node, ["model_name"]).get("model_name")):
                self._native_loader(node)
            if node["type"] != before:
                yield f"{node['id']}: {before} -> {node['type']}"

    def _vfi(self, node: dict) -> None:
        linked = {slot["name"] for slot in node.get("inputs", []) if slot.get("link") is not None}
        if not linked <= _OVER_LINKS:
            _name(node, ALL_IN_ONE)
            return
        values = {**VFI_WIDGETS, **_values(node, list(VFI_WIDGETS))}
        for slot in node["inputs"]:
            slot["name"] = "images" if slot["name"] == "frames" else slot["name"]
        node["inputs"].insert(0, {"name": "interp_model", "type": "INTERP_MODEL", "link": None})
        self._runner(node, _runner_values(values))
        loader = self._new_loader(node, _loader_values(values))
        link = self._new_link(loader["id"], node["id"], "INTERP_MODEL")
        loader["outputs"][0]["links"] = [link]
        node["inputs"][0]["link"] = link

    def _runner(self, node: dict, values: dict[str, Any]) -> None:
        kept = {"interp_model", "images", *RUNNER_WIDGETS}
        node["inputs"] = [slot for slot in node["inputs"] if slot["name"] in kept]
        for place, slot in enumerate(node["inputs"]):
            self._aim(slot.get("link"), place)
        links = node["outputs"][0].get("links")
        node["outputs"] = [{"name": n, "type": t, "links": None} for n, t in RUNNER_OUTPUTS.items()]
        node["outputs"][0]["links"] = links
        _set_widgets(node, {**RUNNER_WIDGETS, **values})
        _name(node, RUNNER)

    def _native_loader(self, node: dict) -> None:
        for slot in node.get("inputs", []):
            if slot["name"] == "model_name":
                slot.update(name="checkpoint", widget={"name": "checkpoint"})
        node["outputs"][0]["name"] = "interp_model"
        checkpoint = _values(node, ["model_name"]).get("model_name", LOADER_WIDGETS["checkpoint"])
        _set_widgets(node, {**LOADER_WIDGETS, "checkpoint": checkpoint})
        _name(node, LOADER)
        self.renamed.add(str(node["id"]))

    def _new_loader(self, beside: dict, values: dict[str, Any]) -> dict:
        x, y = _point(beside.get("pos", [0, 0]))
        node = {
            "id": self._next("node", (n["id"] for n in self.nodes)), "type": LOADER, "pos": [x - 330, y],
            "size": [300, 130], "flags": {}, "order": 0, "mode": beside.get("mode", 0), "inputs": [], "properties": {},
            "outputs": [{"name": "interp_model", "type": "INTERP_MODEL", "links": []}],
        }  # fmt: skip
        _set_widgets(node, {**LOADER_WIDGETS, **values})
        _name(node, LOADER)
        self.nodes.append(node)
        return node

    def _new_link(self, source: int, target: int, kind: str) -> int:
        """From the first slot to the first slot."""
        link = self._next("link", (one["id"] if isinstance(one, dict) else one[0] for one in self.links))
        if "state" in self.graph:  # of a subgraph
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
            self.links.append(dict(zip(names, (link, source, 0, target, 0, kind), strict=True)))
        else:
            self.links.append([link, source, 0, target, 0, kind])
        return link

    def _aim(self, link: int | None, slot: int) -> None:
        for one in self.links:
            if isinstance(one, dict) and one["id"] == link:
                one["target_slot"] = slot
            elif isinstance(one, list) and one[0] == link:
                one[4] = slot

    def _next(self, what: str, used: Iterator[int]) -> int:
        """A free number of a node or link, noted as the last one."""
        state, key = self.graph, f"last_{what}_id"
        if "state" in self.graph:
            state, key = self.graph["state"], f"last{what.capitalize()}Id"
        state[key] = 1 + max([int(state.get(key, 0)), *(int(i) for i in used)])
        return state[key]


def _rename_outside(graphs: list[_Graph]) -> None:
    """A subgraph's node shows widgets of nodes inside it, by their names."""
    inside = {graph.graph.get("id"): graph.renamed for graph in graphs}
    for node in (node for graph in graphs for node in graph.nodes):
        for shown in node.get("properties", {}).get("proxyWidgets", []):
            if shown[0] in inside.get(node["type"], ()) and shown[1] == "model_name":
                shown[1] = "checkpoint"
                named = node.get("widgets_values_named") or {}
                if "model_name" in named:
                    node["widgets_values_named"] = {
                        "checkpoint" if name == "model_name" else name: value for name, value in named.items()
                    }


def _values(node: dict, names: list[str]) -> dict[str, Any]:
    """A node's widgets by name; those that its version had not yet are missing."""
    values = node.get("widgets_values") or []
    return dict(values) if isinstance(values, dict) else dict(zip(names, values, strict=False))


def _set_widgets(node: dict, values: dict[str, Any]) -> None:
    """By place, and by name: newer front ends write both, and restore by name where the user wants it."""
    node["widgets_values"], node["widgets_values_named"] = list(values.values()), dict(values)


def _name(node: dict, kind: str) -> None:
    node["type"] = kind
    known = {"cnr_id": "rife-interpolation", "ver": __version__, "Node name for S&R": kind}
    dropped = {"aux_id", "models"}  # another pack's address, files for another loader
    kept = {name: value for name, value in node.get("properties", {}).items() if name not in dropped}
    node["properties"] = {**kept, **known}


def _point(place: Any) -> tuple[float, float]:
    """Old files hold {"0": x, "1": y}."""
    return (place["0"], place["1"]) if isinstance(place, dict) else (place[0], place[1])
