"""Frames in, frames out: which pair at which time, in batches, written straight into the result.

Frames are H W C in 0..1, as ComfyUI's IMAGE; the model sees B C H W. Original frames are copied bit-exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from .copies import Copies, copies
from .model import check_finite
from .timeline import LONGEST_DRAWING, Clips, Clock, Plan, Step
from .timeline import pair_times as pair_times  # noqa: F401 - part of this module's surface
from .timeline import plan as make_plan

log = logging.getLogger(__name__)

Progress = Callable[[int, int, Tensor | None], None]


class Interpolator(Protocol):
    """What the engine needs; `rife.Model` is one.

    One that has `encode` and `between` besides, as `rife.Model` has, looks at each frame once instead of once per pair.
    """

    run_device: torch.device
    run_dtype: torch.dtype

    def inference(
        self, img0: Tensor, img1: Tensor, *, scale: float, TTA: bool, timestep: Tensor, ensemble: bool
    ) -> Tensor: ...

    def memory_estimate(self, height: int, width: int, batch: int = 1) -> int: ...


class Watcher(Protocol):
    """What a stream asks about scenes as its frames go by; `rife.scenes.SceneFinder` is one."""

    ahead: int  # frames to push past the one that is asked about

    def push(self, frame: Tensor) -> None: ...

    def finish(self) -> None: ...


def interpolate(
    model: Interpolator,
    frames: Tensor,
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    plan: Plan | Clips | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    precision: str = "auto",
    out: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    on_progress: Progress | None = None,
    is_oom: Callable[[BaseException], bool] | None = None,
    on_oom: Callable[[], None] | None = None,
) -> Tensor:
    """`frames` (N,H,W,C) with new frames between each two -> contiguous (M,H,W,C), M = (N-1)*multiplier + 1.

    timesteps: times between 0 and 1 exclusive, rising, made for every pair instead of multiplier's even ones;
    then M = (N-1)*(len(timesteps)+1) + 1. plan: of N frames, by `rife.timeline.plan`, instead of both: any rate, loop,
    cuts ...; then M = len(plan). scale, TTA, ensemble: see `Model.inference`.
    batch_size: new frames per forward pass; default by size and, on an accelerator, free memory.
    precision: fp32, fp16 or bf16 for this run, with a copy of the network; auto: as the model is.
    out: a contiguous tensor of the result's shape to write into; out_dtype: of the result, default frames'.
    on_progress(done, total, newest frame or None): before the first and after every batch, counting new frames;
    what it raises ends the run. is_oom tells whether an exception means out of memory (default: torch's own);
    then the batch is halved, after on_oom(). Raises ValueError, or RuntimeError when one frame does not fit.
    """
    _check_frames(frames)
    if plan is None:
        plan = make_plan(Clock(frames.shape[0], 1), **_request(multiplier, timesteps))
    if plan.clock.count != frames.shape[0]:
        raise ValueError(
            f"the plan is for {plan.clock.count} frames, but there are {frames.shape[0]}. Make one for these."
        )
    out = _output(out, (len(plan), *frames.shape[1:]), out_dtype or frames.dtype, frames.device)
    options = {"scale": scale, "TTA": TTA, "ensemble": ensemble}
    model = _in_precision(model, precision)
    work = _Work()
    for k, step in enumerate(plan):
        if step.kind == "new":
            work.add(k, step)
        else:
            out[k].copy_(_given(step, frames.__getitem__))
    if work.tasks:
        _make(model, frames, work, out, batch_size, options, on_progress, is_oom, on_oom)
    elif on_progress:
        on_progress(0, 0, None)
    return out


def _make(model, frames: Tensor, work: _Work, out: Tensor, batch_size, options, on_progress, is_oom, on_oom):
    """Makes the new frames of `work` and writes them into `out`."""
    total = len(work.tasks)

    def tell() -> None:
        if on_progress:
            newest = out[work.targets[transport.landed - 1][0]] if transport.landed else None
            on_progress(transport.landed, total, newest)

    transport = copies(model.run_device, out.device)
    tell()
    started = 0
    for count, images in _run_batches(
        model,
        frames.__getitem__,
        work.tasks,
        frames.shape[1:],
        batch_size,
        options,
        {},
        transport,
        is_oom,
        on_oom,
    ):
        transport.save(images, [[out[k] for k in ks] for ks in work.targets[started : started + count]])
        started += count
        tell()
    if transport.landed < total:
        transport.finish()
        tell()


def interpolate_stream(
    model: Interpolator,
    frames: Iterable[Tensor],
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    plan_for: Callable[[int | None], Plan] | None = None,
    watcher: Watcher | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    precision: str = "auto",
    is_oom: Callable[[BaseException], bool] | None = None,
    on_oom: Callable[[], None] | None = None,
) -> Iterator[Tensor]:
    """As `interpolate`, one frame (H,W,C) at a time, in constant memory.

    Holds the source frames of one batch. They may be uint8, a quarter of the memory; new ones are float then. Originals
    are yielded as they came.
    plan_for: gives the plan of a number of source frames, instead of multiplier and timesteps; it is asked with None
    at first, for an open plan, and with the true number when the source has ended. Its steps must not go backward.
    watcher: is shown every frame before its steps are asked for, so that the plan can hold the cuts that it finds.
    is_oom, on_oom: see `interpolate`.
    """
    if plan_for is None:

        def plan_for(count: int | None) -> Plan:
            return make_plan(Clock(count, 1), **_request(multiplier, timesteps))

    options = {"scale": scale, "TTA": TTA, "ensemble": ensemble}
    model = _in_precision(model, precision)
    window = _Window(frames, watcher)
    steps = window.steps(plan_for)
    first = next(steps, None)
    if first is None:
        return
    shape = window.frame(first.left).shape
    batch = batch_size or _auto_batch(model, *shape[:2])
    pending = [first]
    encoded: dict[int, Tensor] = {}
    back_off = {"is_oom": is_oom, "on_oom": on_oom}
    while pending:
        yield from _run_steps(model, pending, window, shape, batch, options, encoded, back_off)
        window.forget(pending[-1].left)
        pending = list(islice(_whole_batch(steps, batch), 4 * batch))


def _in_precision(model, precision: str):
    return model if precision == "auto" else model.with_precision(precision)


def _request(multiplier: int, timesteps: Sequence[float] | None) -> dict:
    return {"multiplier": multiplier} if timesteps is None else {"timesteps": timesteps}


def _whole_batch(steps: Iterator[Step], batch: int) -> Iterator[Step]:
    """Steps up to the one that fills a batch of new frames."""
    new = 0
    while new < batch and (step := next(steps, None)) is not None:
        new += step.kind == "new"
        yield step


def _run_steps(
    model,
    steps: list[Step],
    window: _Window,
    shape,
    batch: int,
    options,
    encoded: dict[int, Tensor],
    back_off: dict,
) -> Iterator[Tensor]:
    work, made = _Work(), {}
    for k, step in enumerate(steps):
        if step.kind == "new":
            work.add(k, step)
    done = 0
    for count, images in _run_batches(
        model, window.frame, work.tasks, shape, batch, options, encoded, **back_off
    ):
        for targets, image in zip(work.targets[done : done + count], images, strict=True):
            made.update(dict.fromkeys(targets, image))
        done += count
    for k, step in enumerate(steps):
        if step.kind != "new":
            yield _given(step, window.frame)
            continue
        like = window.frame(step.left)
        image = rearrange(made[k], "c h w -> h w c").to(like.device)
        yield image.to(like.dtype) if like.is_floating_point() else image.float()


def _given(step: Step, frame_at: Callable[[int], Tensor]) -> Tensor:
    """The picture (H,W,C) of a step that needs no model."""
    if not step.time:
        return frame_at(step.left)
    return torch.lerp(_floats(frame_at(step.left)), _floats(frame_at(step.right)), float(step.time))


def _floats(frames: Tensor) -> Tensor:
    """Bytes as numbers in 0..1."""
    return frames if frames.is_floating_point() else frames.float().div_(255)


class _Work:
    """The new frames of some steps: what to make, in batches, and where it goes.

    A task is (left, right, time): two source frames and a time between them; so a loop, or a jump, is a pair like all
    others. What is asked for twice in a row, as in a freeze, is made once: `targets` are the output frames that show
    a task's result.
    """

    def __init__(self) -> None:
        self.tasks: list[tuple[int, int, float]] = []
        self.targets: list[list[int]] = []
        self._last: Step | None = None

    def add(self, k: int, step: Step) -> None:
        """Output frame k shows `step`."""
        if step == self._last:
            self.targets[-1].append(k)
            return
        self._last = step
        self.tasks.append((step.left, step.right, float(step.time)))
        self.targets.append([k])


class _Window:
    """The frames of a stream that steps still need, by index; the first one is kept for loops."""

    def __init__(self, frames: Iterable[Tensor], watcher: Watcher | None):
        self._source = iter(frames)
        self._watcher = watcher
        self._held: dict[int, Tensor] = {}
        self.count = 0
        self.ended = False

    def frame(self, index: int) -> Tensor:
        return self._held[index]

    def steps(self, plan_for: Callable[[int | None], Plan]) -> Iterator[Step]:
        """The plan's steps; the frames that one needs have been read when it comes."""
        plan = plan_for(None)
        ahead = self._watcher.ahead if self._watcher else 0
        if plan.options.at_repeats == "retime":
            ahead += LONGEST_DRAWING  # where the drawing ends
        k = 0
        while True:
            if not self.ended and self._read_to(plan.position(k) + 1 + ahead):
                if not self.count:
                    return
                plan = plan_for(self.count)
            if self.ended and k >= len(plan):
                return
            yield plan[k]
            k += 1

    def _read_to(self, index: int) -> bool:
        """Reads frames up to that one; whether the source has ended now."""
        while self.count <= index:
            frame = next(self._source, None)
            if frame is None:
                self.ended = True
                if self._watcher:
                    self._watcher.finish()
                return True
            frame = torch.as_tensor(frame)
            if self._watcher:
                self._watcher.push(frame)
            self._held[self.count] = frame
            self.count += 1
        return False

    def forget(self, before: int) -> None:
        """Lets go of frames that no later step needs."""
        for index in [i for i in self._held if 0 < i < before - LONGEST_DRAWING]:
            del self._held[index]


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


def _output(out: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    if tuple(out.shape) != tuple(shape) or not out.is_contiguous():
        raise ValueError(
            f"out is {tuple(out.shape)}{'' if out.is_contiguous() else ', not contiguous'}, expected a contiguous "
            f"{tuple(shape)}. Leave it out to have it allocated."
        )
    return out


def _run_batches(
    model, frame_at, tasks, shape, batch_size, options, encoded, transport=None, is_oom=None, on_oom=None
) -> Iterator[tuple[int, Tensor]]:
    """Yields (number of tasks done, their frames (B,C,H,W) on the model's device), halving on out of memory.

    shape: of a frame, (H,W,C); encoded: frames that the model has seen already, by index, kept up to date.
    """
    is_oom = is_oom or (lambda error: isinstance(error, torch.OutOfMemoryError))
    batch = batch_size or _auto_batch(model, *shape[:2])
    transport = transport or Copies(model.run_device)
    done = 0
    while done < len(tasks):
        part = tasks[done : done + batch]
        # The last batch filled up, for models that are compiled for one size of it.
        fill = batch - len(part) if getattr(model, "static_shapes", False) else 0
        try:
            images = _forward(model, frame_at, part + part[-1:] * fill, shape, encoded, options, transport)
        except Exception as error:
            if not is_oom(error):
                raise
            if len(part) == 1:
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                raise RuntimeError(
                    f"Not enough memory for one new frame of {shape[1]}x{shape[0]} on {model.run_device} ({cause}). "
                    "Turn TTA and ensemble off, use half precision or smaller frames, or free memory held by "
                    "other models."
                ) from error
            images = None
        if images is None:
            # Outside the except block: the traceback would keep the failed batch's tensors alive.
            batch = len(part) // 2
            encoded.clear()
            log.warning("Out of memory at %d new frames per batch, going on with %d.", len(part), batch)
            if on_oom:
                on_oom()
            continue
        done += len(part)
        yield len(part), images[: len(part)]


def _forward(model, frame_at, part, shape, encoded: dict[int, Tensor], options, transport: Copies) -> Tensor:
    """One batch of tasks. Each frame is uploaded and encoded once and kept while the next batch needs it."""
    needed = sorted({i for left, right, _ in part for i in (left, right)})
    for i in [i for i in encoded if i not in needed]:
        del encoded[i]
    new = [i for i in needed if i not in encoded]
    if new:
        sent = [frame_at(i) for i in new]
        # Before they are sent, where they are: asking the device would be waiting for it.
        for i, frame in zip(new, sent, strict=True):
            check_finite(frame, f"frame {i} of the clip")
        frames = rearrange(_floats(transport.upload(sent)), "n h w c -> n c h w")
        encoded.update(zip(new, _encode(model, frames, options).split(1), strict=True))
    lefts, rights, times = zip(*part, strict=True)
    sources = (_together([encoded[i] for i in side]) for side in (lefts, rights))
    timestep = torch.tensor(times)
    if not hasattr(model, "between"):
        return model.inference(*sources, timestep=timestep, **options)
    height, width, channels = shape
    return model.between(*sources, (channels, height, width), timestep=timestep, **options)


def _together(samples: list[Tensor]) -> Tensor:
    return torch.cat(samples) if len(samples) > 1 else samples[0]


def _encode(model, frames: Tensor, options) -> Tensor:
    if not hasattr(model, "encode"):
        return frames
    return model.encode(frames, scale=options["scale"], TTA=options["TTA"], name=None)


def _auto_batch(model: Interpolator, height: int, width: int) -> int:
    """New frames per forward pass: enough to fill a large GPU, never more than half of its free memory.

    On the CPU one at a time: the working set of one frame already exceeds the caches.
    """
    if model.run_device.type == "cpu":
        return 1
    wanted = max(1, min(32, 8 * 1024 * 1024 // (height * width)))
    if model.run_device.type == "cuda":
        free = torch.cuda.mem_get_info(model.run_device)[0]
        wanted = max(1, min(wanted, free // 2 // max(1, model.memory_estimate(height, width))))
    return wanted
