"""Defines nodes that take the place of Fannovel16's in graphs made for his pack, and tells ComfyUI of it."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

from comfy_api.latest import ComfyAPI, io
from torch import Tensor

from ..rife.comfyui_workflow import ALL_IN_ONE, PRECISIONS, STATES, VFI, VFI_STATES, VFI_WIDGETS, offered
from ..rife.model import InferenceOptions
from ..rife.timeline.clock import Clock
from ..rife.timeline.lazy import Times, check_length
from ..rife.timeline.numbers import shortened, whole_number, words_of
from ..rife.timeline.plans import Plan, PlanOptions
from ..rife.timeline.request import HIGHEST_MULTIPLIER, AtTimes
from ..rife.timeline.text import MOST_CUTS
from . import load, model_management, run
from .run import RunOptions
from .timing import result_line
from .types import check_images

# What his node offered at any time. Not to be downloaded: the last one, which was never published by its author.
CHECKPOINTS = [
    *(f"rife4{i}.pth" for i in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 26)),
    "sudo_rife4_269.662_testV1_scale1.pth",
]
SCALES = [0.25, 0.5, 1.0, 2.0, 4.0]
InterpolationStates = io.Custom("INTERPOLATION_STATES")
_LAST_PAIR = 1_000_000_000  # larger numbers are no pairs of any clip
_NO_EFFECT = "Kept so that old graphs load; it changes nothing. "


class States:
    """Says, as Fannovel16's class does, which pairs, counted from 0, get no new frames."""

    def __init__(self, frame_indices: Sequence[int], is_skip_list: bool):
        self.frame_indices, self.is_skip_list = list(frame_indices), is_skip_list
        self._listed = frozenset(self.frame_indices)

    def is_frame_skipped(self, frame_index: int) -> bool:
        """Tells whether pair `frame_index`, counted from 0, is skipped."""
        return (frame_index in self._listed) == self.is_skip_list


class _VFI(io.ComfyNode):
    """Loads and runs, with the form of his RIFE VFI."""

    NODE_ID: str

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The same inputs in the same order; those that came later to his form are optional."""
        default = VFI_WIDGETS
        return io.Schema(
            node_id=cls.NODE_ID,
            # Under his id that name alone: should his node take it back, ComfyUI may keep what it is called.
            display_name="RIFE VFI (compatible)" if cls.NODE_ID == ALL_IN_ONE else cls.NODE_ID,
            category="video",
            description="Takes the place of RIFE VFI of ComfyUI-Frame-Interpolation in graphs made for it. For new "
            "graphs use Load RIFE Checkpoint and RIFE Interpolate.",
            search_aliases=["rife vfi"],
            is_deprecated=True,
            inputs=[
                io.Combo.Input("ckpt_name", options=CHECKPOINTS, default=default["ckpt_name"],
                               tooltip="A file of this name in models/rife or models/frame_interpolation, else the "
                               "same version of RIFE, downloaded once."),
                io.Image.Input("frames", tooltip="The frames of the clip in order."),
                io.Int.Input("clear_cache_after_n_frames", default=10, min=1, max=1000,
                             tooltip=_NO_EFFECT + "ComfyUI manages the memory."),
                io.Int.Input("multiplier", default=2, min=1,
                             tooltip="Frames out per frame in. A list of numbers is taken pair by pair."),
                io.Boolean.Input("fast_mode", default=True, tooltip=_NO_EFFECT),
                io.Boolean.Input("ensemble", default=True,
                                 tooltip=_NO_EFFECT + "Nor did it in his node. RIFE Interpolate has one that works."),
                io.Combo.Input("scale_factor", options=SCALES, default=1.0,
                               tooltip="Size at which motion is estimated; the frames keep theirs."),
                io.Combo.Input("dtype", options=list(PRECISIONS), default=default["dtype"], optional=True,
                               tooltip="Precision of the network."),
                io.Boolean.Input("torch_compile", default=False, optional=True,
                                 tooltip="As acceleration compile of RIFE Interpolate: up to minutes at the first run "
                                 "per frame size; where there is no compiler a warning is logged."),
                io.Int.Input("batch_size", default=1, min=1, max=64, optional=True,
                             tooltip="New frames made in one pass; 1, his default, chooses by size and memory."),
                InterpolationStates.Input("optional_interpolation_states", optional=True,
                                          tooltip="Pairs of frames between which nothing is made."),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The frames with new ones between them.")],
            hidden=[io.Hidden.prompt],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        ckpt_name: str,
        frames: Tensor,
        clear_cache_after_n_frames: int = 10,
        multiplier: int | Sequence[int] = 2,
        fast_mode: bool = True,
        ensemble: bool = True,
        scale_factor: float = 1.0,
        dtype: str = "float32",
        torch_compile: bool = False,
        batch_size: int = 1,
        optional_interpolation_states=None,
    ) -> io.NodeOutput:
        """(N,H,W,C) -> (M,H,W,3): every frame, and multiplier - 1 new ones after each that is not skipped."""
        check_images(frames, "frames")
        if optional_interpolation_states is None:
            _check_no_states_are_lost(getattr(getattr(cls, "hidden", None), "prompt", None) or {})
        start = time.perf_counter()
        checkpoint = ckpt_name if ckpt_name in load.checkpoint_files() else offered(ckpt_name)
        load.fetch(checkpoint)
        patcher = load.shared_patcher(checkpoint, precision=PRECISIONS[dtype])
        steps = per_pair(len(frames), multiplier, optional_interpolation_states)
        options = RunOptions(
            InferenceOptions(float(scale_factor)),
            batch_size=0 if batch_size == 1 else batch_size,
            acceleration="compile" if torch_compile else "off",
        )
        result, _ = run.interpolate(patcher, frames[..., :3], steps, options)
        model_management.send_status_text(result_line(len(frames), len(result), time.perf_counter() - start))
        return io.NodeOutput(result)


class RIFEVFI(_VFI):
    """Has a name of our own: ComfyUI puts it in the place of his node where his pack is not installed."""

    NODE_ID = ALL_IN_ONE


class FannovelVFI(_VFI):
    """Has his node's name."""

    NODE_ID = VFI


def per_pair(count: int, multiplier: int | Sequence[int], states=None) -> Plan:
    """Plans `count` frames with a multiplier of its own for each pair; 2 where a list ends, 1 if skipped. Raises
    ValueError for a multiplier that is too large."""
    given = list(multiplier) if isinstance(multiplier, (list, tuple)) else [multiplier] * (count - 1)
    multipliers = [_whole(m) for m in given[: count - 1]] + [2] * (count - 1 - len(given))
    if states is not None:
        multipliers = [1 if states.is_frame_skipped(i) else m for i, m in enumerate(multipliers)]
    options = PlanOptions(check=model_management.check_cancel)
    return Plan(Clock(count, Fraction(1)), AtTimes(_PairTimes(multipliers)), options)


def _whole(multiplier: float) -> int:
    """A multiplier as his node takes it, where less than one means one. Raises ValueError."""
    if not -HIGHEST_MULTIPLIER <= multiplier <= HIGHEST_MULTIPLIER:
        raise ValueError(
            f"multiplier is {shortened(multiplier)}, expected a whole number from 1 to {HIGHEST_MULTIPLIER:,}. 2 "
            "doubles the frame rate."
        )
    return max(1, int(multiplier))


class _PairTimes(Times):
    """Pair i of frames has its own multiplier: i, i + 1/m ... up to the last frame; computed when asked for."""

    def __init__(self, multipliers: Sequence[int]):
        self._multipliers = multipliers
        self._firsts = list(accumulate(multipliers, initial=0))  # output frames before each pair
        check_length(self._firsts[-1] + 1)

    def __len__(self) -> int:
        return self._firsts[-1] + 1

    def item(self, k: int) -> Fraction:
        """When output frame k is, in source frames."""
        if not 0 <= k < len(self):
            raise IndexError(k)
        i = bisect_right(self._firsts, k) - 1
        return i + (Fraction(k - self._firsts[i], self._multipliers[i]) if i < len(self._multipliers) else 0)

    @property
    def corners(self) -> tuple[int, ...]:
        """They only rise."""
        return 0, len(self) - 1


def _check_no_states_are_lost(prompt: dict) -> None:
    """ComfyUI, replacing a node, drops its optional inputs; what fed them is left behind, connected to nothing."""
    fed = {
        value[0] for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)
    }
    left = [i for i, node in prompt.items() if node["class_type"] in (STATES, VFI_STATES) and i not in fed]
    if left:
        raise ValueError(
            f"Node {left[0]}, interpolation states, is connected to nothing: ComfyUI dropped the link when it replaced "
            f"{VFI}. Connect it to optional_interpolation_states, convert the workflow (rife convert-workflow), or "
            "delete the node."
        )


class _States(io.ComfyNode):
    """Which pairs are skipped, with the form of his Make Interpolation State List."""

    NODE_ID: str

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The form."""
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name="Interpolation States (compatible)" if cls.NODE_ID == STATES else cls.NODE_ID,
            category="video",
            description="Says between which frames RIFE VFI makes nothing.",
            search_aliases=["rife vfi"],
            is_deprecated=True,
            inputs=[
                io.String.Input("frame_indices", default="1,2,3", multiline=True,
                                tooltip="Pairs of frames, counted from 0, apart by commas."),
                io.Boolean.Input("is_skip_list", default=True,
                                 tooltip="On: these pairs are skipped. Off: all others are."),
            ],
            outputs=[InterpolationStates.Output(display_name="INTERPOLATION_STATES",
                                                tooltip="For optional_interpolation_states of RIFE VFI.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, frame_indices: str, is_skip_list: bool) -> io.NodeOutput:
        """Numbers in a text -> INTERPOLATION_STATES."""
        try:
            indices = [whole_number(word, _LAST_PAIR) for word in words_of(frame_indices, MOST_CUTS)]
        except ValueError as error:
            raise ValueError(
                f"frame_indices is {shortened(frame_indices)}: {error}; expected whole numbers apart by commas, such "
                "as 1,2,3. Write them so."
            ) from error
        return io.NodeOutput(States(indices, is_skip_list))


class RIFEInterpolationStates(_States):
    """Has a name of our own."""

    NODE_ID = STATES


class FannovelStates(_States):
    """Has his node's name."""

    NODE_ID = VFI_STATES


def nodes() -> list[type[io.ComfyNode]]:
    """Lists the nodes under our names, and under Fannovel16's where nothing has them: then graphs made for his pack
    just run.

    Of two packs with one name the one that ComfyUI loads last has it. His, if it comes first, is there already; if it
    comes later, it takes its names back. RIFE_VFI_ALIAS in the environment: 1 takes them in any case, 0 in none.
    """
    ours: list[type[io.ComfyNode]] = [RIFEVFI, RIFEInterpolationStates]
    alias = os.environ.get("RIFE_VFI_ALIAS", "").strip().lower()
    if alias in ("0", "no", "false", "off"):
        return ours
    return ours + [node for node in (FannovelVFI, FannovelStates) if alias or not _is_known(node.NODE_ID)]


def _is_known(node_id: str) -> bool:
    # ComfyUI's own top-level module, not this folder: all nodes that are loaded so far.
    from nodes import NODE_CLASS_MAPPINGS

    return node_id in NODE_CLASS_MAPPINGS


async def register_replacements() -> None:
    """Tells ComfyUI what to take where Fannovel16's nodes are missing."""
    registry = getattr(ComfyAPI(), "node_replacement", None)
    if registry is None or not hasattr(io, "NodeReplace") or not model_management.has_server():
        return  # a convenience that must not keep the pack from loading
    always = [
        "ckpt_name",
        "frames",
        "clear_cache_after_n_frames",
        "multiplier",
        "fast_mode",
        "ensemble",
        "scale_factor",
    ]
    later = ["dtype", "torch_compile", "batch_size", "optional_interpolation_states"]
    await registry.register(_replacement(VFI, ALL_IN_ONE, always, later, list(VFI_WIDGETS)))
    states = ["frame_indices", "is_skip_list"]
    await registry.register(_replacement(VFI_STATES, STATES, states, [], states))


def _replacement(old: str, new: str, always: list[str], later: list[str], widgets: list[str]):
    """The server fails on inputs that a prompt lacks, and on links to those that it dropped: it hears only of inputs
    that are `always` there, and of no output, since they keep their places. The browser, which asks for `as_dict`,
    hears of all."""
    replacement = io.NodeReplace(
        new_node_id=new, old_node_id=old, old_widget_ids=widgets, input_mapping=_same(always)
    )  # fmt: skip
    as_dict = replacement.as_dict
    all_of_it = {
        "input_mapping": _same([*always, *later]),
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    }
    replacement.as_dict = lambda: {**as_dict(), **all_of_it}
    return replacement


def _same(names: list[str]) -> list[dict[str, str]]:
    return [{"new_id": name, "old_id": name} for name in names]
