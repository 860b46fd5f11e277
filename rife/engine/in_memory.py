"""Interpolates a clip in memory: which pair at which time, in batches, written straight into the result.

Frames are H W C in 0..1, as ComfyUI's IMAGE; the model sees B C H W. Original frames are copied bit-exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ..model.options import InferenceOptions
from ..timeline.clock import Clock
from ..timeline.plans import ConcatenatedPlan, Plan, Step
from ..timeline.plans import plan as make_plan
from .batches import BatchRunner, Interpolator, IsOutOfMemory, TaskList, passthrough_frame
from .transfers import Target, write

Progress = Callable[[int, int, Tensor | None], None]


def interpolate(
    model: Interpolator,
    frames: Tensor,
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    plan: Plan | ConcatenatedPlan | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    precision: str = "auto",
    out: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    on_progress: Progress | None = None,
    is_oom: IsOutOfMemory | None = None,
    on_oom: Callable[[], None] | None = None,
    masks: Tensor | None = None,
    out_masks: Tensor | None = None,
) -> Tensor:
    """Returns `frames` (N,H,W,C) with new frames between each two, as contiguous (M,H,W,C), M = (N-1)*multiplier + 1.

    timesteps: times between 0 and 1 exclusive, rising, made for every pair instead of multiplier's even ones;
    then M = (N-1)*(len(timesteps)+1) + 1. plan: of N frames, by `rife.timeline.plan`, instead of both: any rate, loop,
    cuts ...; then M = len(plan). scale, TTA, ensemble: see `Model.inference`.
    batch_size: new frames per forward pass at most; default by size and, on an accelerator, free memory.
    precision: fp32, fp16 or bf16 for this run, with a copy of the network; auto: as the model is.
    out: a contiguous tensor of the result's shape to write into; out_dtype: of the result, default frames'.
    on_progress(done, total, newest frame or None): before the first and after every batch, counting new frames;
    what it raises ends the run. is_oom tells whether an exception means out of memory, by default that of any back end;
    then the batch is halved, after on_oom(), and later clips remember
    (`rife.model.device_memory.BatchSizes`). Raises ValueError, or RuntimeError when one frame does not fit.
    masks: (N,H,W), moved by the flow of the frames and written into out_masks (M,H,W), which must then be given; that
    of frames of one colour is the masks' own.
    Frames of four channels are RGB with opacity, not multiplied. Light above 1 keeps its values.
    """
    _check_frames(frames)
    if plan is None:
        plan = multiplied(frames.shape[0], multiplier, timesteps)
    if plan.clock.count != frames.shape[0]:
        raise ValueError(
            f"the plan is for {plan.clock.count} frames, but there are {frames.shape[0]}. Make one for these."
        )
    out = _output(out, (len(plan), *frames.shape[1:]), out_dtype or frames.dtype, frames.device)
    clip = _ClipBuffer(frames, masks, out, out_masks)
    work = TaskList()
    passthrough = deque((k, step) for k, step in enumerate(plan) if not work.add(k, step))
    total = len(work.tasks)

    def report_progress(done: int) -> None:
        if on_progress:
            on_progress(done, total, clip.target(work.targets[done - 1][0])[0] if done else None)

    if not total:
        clip.pass_through(passthrough)
        report_progress(0)
        return out
    runner = BatchRunner(
        model.with_precision(precision), clip.shape, out.device, batch_size,
        InferenceOptions(scale, TTA, ensemble), is_oom, on_oom, total, clip.opacity,
        steady=plan.steady,
    )  # fmt: skip
    report_progress(0)
    rows = [[clip.target(k) for k in ks] for ks in work.targets]
    for made in runner.run(work.tasks, rows, clip.frame):
        clip.pass_through(passthrough, work.targets[made - 1][-1])  # while the device computes
        report_progress(runner.transfer.completed)
    clip.pass_through(passthrough)
    if runner.transfer.completed < total:
        runner.transfer.wait(total)
        report_progress(total)
    return out


def multiplied(count: int | None, multiplier: int, timesteps: Sequence[float] | None) -> Plan:
    """Plans `count` frames (None: nobody knows yet) with a multiplier's even steps, or `timesteps` instead."""
    if timesteps is not None:
        return make_plan(Clock(count, Fraction(1)), timesteps=timesteps)
    return make_plan(Clock(count, Fraction(1)), multiplier=multiplier)


class _ClipBuffer:
    """A clip and its result: frames (N,H,W,C) with, perhaps, masks (N,H,W) behind their channels, frame by frame."""

    def __init__(self, frames: Tensor, masks: Tensor | None, out: Tensor, out_masks: Tensor | None):
        if masks is not None:
            _check_masks(frames, masks, out, out_masks)
        else:
            out_masks = None  # nothing to put there
        self._frames, self._masks = frames, masks
        self._outs = [out] if out_masks is None else [out, out_masks[..., None]]
        height, width, channels = frames.shape[1:]
        self.shape = height, width, channels + (masks is not None)
        self.opacity = has_opacity(frames, masks)

    def frame(self, index: int) -> Tensor:
        """Source frame (H,W,C), its mask behind the channels."""
        return with_mask(self._frames[index], None if self._masks is None else self._masks[index])

    def target(self, k: int) -> Target:
        """Where output frame k (H,W,C) goes: one tensor, or the picture and the mask."""
        return [out[k] for out in self._outs]

    def pass_through(self, given: deque[tuple[int, Step]], end: int | None = None) -> None:
        """Writes output frames that need no model, those before frame `end` of `given`."""
        while given and (end is None or given[0][0] < end):
            k, step = given.popleft()
            write(self.target(k), passthrough_frame(step, self.frame, self.opacity))


def with_mask(frame: Tensor, mask: Tensor | None) -> Tensor:
    """Returns a frame (H,W,C), of floats or bytes, with its mask (H,W) in 0..1 as a further channel; as it is without
    one."""
    if mask is None:
        return frame
    last = mask if frame.is_floating_point() else (mask * 255).round_()
    return torch.cat((frame, last[..., None].to(frame)), 2)


def has_opacity(frames: Tensor, masks: Tensor | None) -> bool:
    """Tells whether the fourth channel of frames (N,H,W,C) with masks (N,H,W) behind theirs is that of the colours.

    Where all is of one colour, what is to be seen is the mask.
    """
    return frames.shape[3] == 4 or (frames.shape[3] == 3 and masks is not None and _is_flat(frames))


def _is_flat(frames: Tensor) -> bool:
    """Whether each frame (N,H,W,C) is of one colour."""
    return all(torch.equal(frame, frame[:1, :1].expand_as(frame)) for frame in frames)


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(
            f"the frames are {tuple(frames.shape)}, expected (N,H,W,C) with at least one frame. "
            "Connect a node that gives images."
        )
    if not frames.is_floating_point():
        raise ValueError(
            f"the frames are {frames.dtype}, expected floating point in 0..1. Divide bytes by 255."
        )


def _check_masks(frames: Tensor, masks: Tensor, out: Tensor, out_masks: Tensor | None) -> None:
    found = tuple(masks.shape), None if out_masks is None else tuple(out_masks.shape)
    wanted = tuple(frames.shape[:3]), tuple(out.shape[:3])
    if found != wanted:
        raise ValueError(
            f"masks and out_masks are {found[0]} and {found[1]}, expected {wanted[0]} and {wanted[1]}, as the frames "
            "and the result are. Give both in these shapes, or neither."
        )


def _output(out: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    if tuple(out.shape) != tuple(shape) or not out.is_contiguous():
        raise ValueError(
            f"out is {tuple(out.shape)}{'' if out.is_contiguous() else ', not contiguous'}, expected a contiguous "
            f"{tuple(shape)}. Leave it out to have it allocated."
        )
    return out
