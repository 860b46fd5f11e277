"""Frames in, frames out: which pair at which time, in batches, written straight into the result.

Frames are H W C in 0..1, as ComfyUI's IMAGE; the model sees B C H W. Original frames are copied bit-exact.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..model.acceleration import most_per_pass
from ..model.device_memory import Limits, free_memory, is_out_of_memory, most_that_fit
from ..model.model import check_finite
from ..networks.memory_estimate import ENCODED_SINGLY
from ..timeline.plans import LONGEST_DRAWING, Clips, Clock, Plan, Step
from ..timeline.plans import pair_times as pair_times  # noqa: F401 - part of this module's surface
from ..timeline.plans import plan as make_plan
from .transfers import Rows, Target, copies, write

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

    def memory_estimate(
        self, height: int, width: int, batch: int = 1, scale: float = 1.0, TTA: bool = False,
        ensemble: bool = False, channels: int = 3,
    ) -> int: ...  # fmt: skip


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
    masks: Tensor | None = None,
    out_masks: Tensor | None = None,
) -> Tensor:
    """`frames` (N,H,W,C) with new frames between each two -> contiguous (M,H,W,C), M = (N-1)*multiplier + 1.

    timesteps: times between 0 and 1 exclusive, rising, made for every pair instead of multiplier's even ones;
    then M = (N-1)*(len(timesteps)+1) + 1. plan: of N frames, by `rife.timeline.plan`, instead of both: any rate, loop,
    cuts ...; then M = len(plan). scale, TTA, ensemble: see `Model.inference`.
    batch_size: new frames per forward pass at most; default by size and, on an accelerator, free memory.
    precision: fp32, fp16 or bf16 for this run, with a copy of the network; auto: as the model is.
    out: a contiguous tensor of the result's shape to write into; out_dtype: of the result, default frames'.
    on_progress(done, total, newest frame or None): before the first and after every batch, counting new frames;
    what it raises ends the run. is_oom tells whether an exception means out of memory, by default that of any back end;
    then the batch is halved, after on_oom(), and later clips remember (`rife.memory.Limits`). Raises ValueError, or
    RuntimeError when one frame does not fit.
    masks: (N,H,W), moved by the flow of the frames and written into out_masks (M,H,W), which must then be given.
    """
    _check_frames(frames)
    if plan is None:
        plan = make_plan(Clock(frames.shape[0], 1), **_request(multiplier, timesteps))
    if plan.clock.count != frames.shape[0]:
        raise ValueError(
            f"the plan is for {plan.clock.count} frames, but there are {frames.shape[0]}. Make one for these."
        )
    out = _output(out, (len(plan), *frames.shape[1:]), out_dtype or frames.dtype, frames.device)
    clip = _Clip(frames, masks, out, out_masks)
    work = _Work()
    given = deque((k, step) for k, step in enumerate(plan) if not work.takes(k, step))
    if not work.tasks:
        clip.pass_on(given)
        if on_progress:
            on_progress(0, 0, None)
        return out
    maker = _Maker(
        _in_precision(model, precision), clip.shape, out.device, batch_size,
        {"scale": scale, "TTA": TTA, "ensemble": ensemble}, is_oom, on_oom, total=len(work.tasks),
    )  # fmt: skip
    _fill(clip, maker, work, given, on_progress)
    return out


class _Clip:
    """A clip and its result: frames (N,H,W,C) with, perhaps, masks (N,H,W) behind their channels, frame by frame."""

    def __init__(self, frames: Tensor, masks: Tensor | None, out: Tensor, out_masks: Tensor | None):
        if masks is not None:
            _check_masks(frames, masks, out, out_masks)
        self._frames, self._masks = frames, masks
        self._outs = [out] if masks is None else [out, out_masks[..., None]]
        height, width, channels = frames.shape[1:]
        self.shape = height, width, channels + (masks is not None)

    def frame(self, index: int) -> Tensor:
        frame = self._frames[index]
        return (
            frame if self._masks is None else torch.cat((frame, self._masks[index][..., None].to(frame)), 2)
        )

    def target(self, k: int) -> Target:
        """Where output frame k goes."""
        return [out[k] for out in self._outs]

    def pass_on(self, given: deque[tuple[int, Step]], end: int | None = None) -> None:
        """Writes output frames that need no model, those before frame `end` of `given`."""
        while given and (end is None or given[0][0] < end):
            k, step = given.popleft()
            write(self.target(k), _given(step, self.frame))


def _fill(clip: _Clip, maker: _Maker, work: _Work, given: deque, on_progress: Progress | None) -> None:
    """Makes the new frames and passes the given ones on."""
    total = len(work.tasks)

    def tell() -> None:
        if on_progress:
            done = maker.transport.landed
            on_progress(done, total, clip.target(work.targets[done - 1][0])[0] if done else None)

    tell()
    rows = [[clip.target(k) for k in ks] for ks in work.targets]
    for made in maker.run(work.tasks, rows, clip.frame):
        clip.pass_on(given, work.targets[made - 1][-1])  # while the device computes
        tell()
    clip.pass_on(given)
    if maker.transport.landed < total:
        maker.transport.land(total)
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

    Holds the source frames of one batch, of two on CUDA, which computes one while the caller gets the frames of the one
    before. They may be uint8, a quarter of the memory; new ones are float then. Originals are yielded as they came.
    plan_for: gives the plan of a number of source frames, instead of multiplier and timesteps; it is asked with None
    at first, for an open plan, and with the true number when the source has ended. Its steps must not go backward.
    watcher: is shown every frame before its steps are asked for, so that the plan can hold the cuts that it finds.
    is_oom, on_oom: see `interpolate`.
    """
    if plan_for is None:

        def plan_for(count: int | None) -> Plan:
            return make_plan(Clock(count, 1), **_request(multiplier, timesteps))

    window = _Window(frames, watcher)
    steps = window.steps(plan_for)
    first = next(steps, None)
    if first is None:
        return
    like = window.frame(first.left)
    options = {"scale": scale, "TTA": TTA, "ensemble": ensemble}
    model = _in_precision(model, precision)
    maker = _Maker(model, like.shape, like.device, batch_size, options, is_oom, on_oom)
    pending, rounds = [first], deque()
    while pending:
        rounds.append(_begin(maker, pending, window))
        while len(rounds) > maker.transport.behind:
            yield from _ended(maker, rounds.popleft(), window)
        try:
            pending = list(islice(_whole_batch(steps, maker.batch), 4 * maker.batch))
        except Exception:
            # The source broke: what was made before it did is given first.
            for last in rounds:
                yield from _ended(maker, last, window)
            raise
    for last in rounds:
        yield from _ended(maker, last, window)


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


class _Round(NamedTuple):
    """Steps of a stream, the frames (H,W,C) of the new ones by place, and how many are made when all of them are."""

    steps: list[Step]
    frames: dict[int, Tensor]
    made: int


def _begin(maker: _Maker, steps: list[Step], window: _Window) -> _Round:
    work, frames, rows = _Work(), {}, []
    for k, step in enumerate(steps):
        work.takes(k, step)
    for targets in work.targets:
        like = window.frame(steps[targets[0]].left)
        frame = torch.empty_like(like, dtype=like.dtype if like.is_floating_point() else torch.float32)
        frames.update(dict.fromkeys(targets, frame))
        rows.append([[frame]])
    for _ in maker.run(work.tasks, rows, window.frame):
        pass
    return _Round(steps, frames, maker.made)


def _ended(maker: _Maker, round_: _Round, window: _Window) -> Iterator[Tensor]:
    for k, step in enumerate(round_.steps):
        if step.kind == "new":
            maker.transport.land(round_.made)
        yield round_.frames.pop(k) if step.kind == "new" else _given(step, window.frame)
    window.forget(round_.steps[-1].left)


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

    def takes(self, k: int, step: Step) -> bool:
        """Output frame k shows `step`: whether that is new, and to be made."""
        if step.kind != "new":
            return False
        if step == self._last:
            self.targets[-1].append(k)
            return True
        self._last = step
        self.tasks.append((step.left, step.right, float(step.time)))
        self.targets.append([k])
        return True


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


class _Maker:
    """Makes the new frames of one clip or stream, as many in one pass as fit.

    shape: of a frame, (H,W,C); result: the device that the frames go to; total: how many there will be, where that is
    known: then passes are of even size.
    """

    def __init__(self, model, shape, result: torch.device, batch_size, options, is_oom, on_oom, total=None):
        self._model, self._shape, self._options = model, tuple(shape), options
        self._is_oom, self._on_oom = is_oom or is_out_of_memory, on_oom
        self.transport = copies(model.run_device, result)
        self.made = 0  # frames that have been computed, or will be by themselves
        self._total = total
        self._encoded: dict[int, Tensor] = {}  # frames that the model has seen already
        # What fitted into one pass before, for passes that take as much memory as these.
        self._kind = (*map(str, (model.run_device, model.run_dtype)), self._shape, *options.values())
        self._static = getattr(model, "static_shapes", False)
        self._kind += (self._static,)
        self._limits, self._free = Limits.of(model), free_memory(model.run_device)
        wanted = batch_size or _auto_batch(model, self._shape, options, self._free)
        if total and not batch_size:
            wanted = min(wanted, most_per_pass(total, getattr(model, "acceleration", "off")))
        self.batch = self._even(self._limits.begin(self._kind, wanted, self._free))

    def _even(self, batch: int) -> int:
        """So many per pass that all passes are of a size.

        Those that are made for one shape are of powers of two: else every length of a clip, and every other amount of
        free memory, would be another shape.
        """
        if self._static:
            return 1 << batch.bit_length() - 1
        left = batch if self._total is None else self._total - self.made
        return -(-left // -(-left // batch))

    def run(self, tasks, rows: Rows, frame_at: Callable[[int], Tensor]) -> Iterator[int]:
        """Makes `tasks` into `rows`; yields how many of them are under way after each pass."""
        done = 0
        while done < len(tasks):
            end = min(done + self.batch, len(tasks))
            # The last batch filled up, for models that are compiled for one size of it.
            size = self.batch if self._static else end - done
            if self._pass(size, tasks[done:end], rows[done:end], frame_at):
                self.made += end - done
                done = end
                yield done
            else:
                # Not where it was caught: the traceback would keep the failed pass's tensors alive.
                self._back_off(size)

    def _pass(self, size: int, tasks, rows: Rows, frame_at: Callable[[int], Tensor]) -> bool:
        """Whether there was memory for a pass of `size`. Raises RuntimeError where there is none for one frame."""
        try:
            images = self._forward(tasks + tasks[-1:] * (size - len(tasks)), frame_at)
            self.transport.save(images[: len(tasks)], rows)
            return True
        except Exception as error:
            if not self._is_oom(error):
                raise
            if size == 1:
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                height, width, _ = self._shape
                raise RuntimeError(
                    f"Not enough memory for one new frame of {width}x{height} on {self._model.run_device} ({cause}). "
                    "Turn TTA and ensemble off, use half precision or smaller frames, or free memory held by "
                    "other models."
                ) from error
            return False

    def _back_off(self, failed: int) -> None:
        self._encoded.clear()
        self.transport.land(self.made)
        batch = self._limits.lower(self._kind, failed, self._free)
        log.warning("Out of memory at %d new frames per pass, going on with %d.", failed, batch)
        self.batch = self._even(batch)
        if self._on_oom:
            self._on_oom()

    def _forward(self, tasks, frame_at: Callable[[int], Tensor]) -> Tensor:
        """(B,C,H,W). Each frame is uploaded and encoded once and kept while the next pass needs it."""
        model, encoded = self._model, self._encoded
        needed = sorted({i for left, right, _ in tasks for i in (left, right)})
        for i in [i for i in encoded if i not in needed]:
            del encoded[i]
        new = [i for i in needed if i not in encoded]
        if new:
            sent = [frame_at(i) for i in new]
            # Before they are sent, where they are: asking the device would be waiting for it.
            for i, frame in zip(new, sent, strict=True):
                check_finite(frame, f"frame {i} of the clip")
            frames = rearrange(_floats(self.transport.upload(sent)), "n h w c -> n c h w")
            encoded.update(zip(new, _encode(model, frames, self._options), strict=True))
            del frames, sent
        lefts, rights, times = zip(*tasks, strict=True)
        sources = (_together([encoded[i] for i in side]) for side in (lefts, rights))
        timestep = torch.tensor(times)
        if not hasattr(model, "between"):
            return model.inference(*sources, timestep=timestep, **self._options)
        height, width, channels = self._shape
        return model.between(*sources, (channels, height, width), timestep=timestep, **self._options)


def _together(samples: list[Tensor]) -> Tensor:
    return torch.cat(samples) if len(samples) > 1 else samples[0]


def _encode(model, frames: Tensor, options) -> Sequence[Tensor]:
    """What the model wants of each of `frames` (N,C,H,W)."""
    if not hasattr(model, "encode"):
        return frames.split(1)
    # Of large frames, two at a time may take more memory than all that follows.
    parts = frames.split(1) if frames.shape[2] * frames.shape[3] > ENCODED_SINGLY else [frames]
    made = [model.encode(part, scale=options["scale"], TTA=options["TTA"], name=None) for part in parts]
    return made if len(made) > 1 else made[0].split(1)


def _auto_batch(model: Interpolator, shape: tuple[int, ...], options: dict, free: int | None) -> int:
    """New frames (H,W,C) per pass: enough to fill a large GPU, never more than half of its free memory.

    On the CPU one at a time: the working set of one frame already exceeds the caches.
    """
    if model.run_device.type == "cpu":
        return 1
    height, width, channels = shape
    wanted = max(1, min(32, 8 * 1024 * 1024 // (height * width)))
    if free is None:
        return wanted
    return most_that_fit(
        wanted,
        free / 2,
        lambda batch: model.memory_estimate(height, width, batch, channels=channels, **options),
    )
