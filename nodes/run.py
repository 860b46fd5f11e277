"""Runs the engine on ComfyUI's devices: clips, videos, chunks and pairs, with progress, cancel and back-off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..rife import engine
from ..rife.engine import Interpolator
from ..rife.engine.batches import MAX_BATCH
from ..rife.engine.chunks import Chunks
from ..rife.engine.in_memory import has_opacity, with_mask
from ..rife.engine.keep import keeper_of
from ..rife.engine.shutter import ShutterPlan, averaged, motion_of
from ..rife.evaluation.charts import flow_picture
from ..rife.model import InferenceOptions, Model, Motion
from ..rife.model.acceleration import most_per_pass
from ..rife.model.devices import named_dtype
from ..rife.networks.config import IFNetConfig
from ..rife.timeline import scenes
from ..rife.timeline.cadence import Cadence
from ..rife.timeline.parts import Part, check_forward
from ..rife.timeline.plans import ConcatenatedPlan, Plan
from ..rife.timeline.scenes import Scenes
from ..rife.video import job as video
from ..rife.video.job import Job
from .model_management import (
    DEFAULT_OPTIONS,
    Progress,
    check_cancel,
    empty_images,
    load,
    oom_options,
    to_picture,
    watched,
    with_precision,
)
from .native import adapt
from .pace import Pace

_LOOKED_AT = 10_000  # steps of a plan, to tell about how long a run will take
_LARGEST_BATCH = 256


@dataclass(frozen=True)
class RunOptions:
    """Holds what a node's inputs say of a run, besides what is made.

    batch_size: new frames per pass, 0: as many as fit. precision: of the network in this run, a key of
    `rife.model.PRECISIONS`; acceleration: one of `rife.model.acceleration.ACCELERATIONS`; timestep_method: one of
    `rife.model.options.TIMESTEP_METHODS`. Raises ValueError for a batch_size that no form allows.
    """

    inference: InferenceOptions = DEFAULT_OPTIONS
    batch_size: int = 0
    precision: str = "auto"
    acceleration: str = "off"
    timestep_method: str = "direct"

    def __post_init__(self) -> None:
        if not 0 <= self.batch_size <= _LARGEST_BATCH:  # over a link no form looks at it
            raise ValueError(
                f"batch_size is {self.batch_size}, expected 0 (as many as fit) to {_LARGEST_BATCH}. Lower it."
            )

    def load(self, patcher, height: int, width: int, channels: int, wanted: int) -> tuple[Interpolator, int]:
        """Loads the model as it is to run; returns it, and its new frames per pass: as many of those `wanted`
        as fit. Raises ValueError for a timestep_method that it has not."""
        model, batch = load(
            with_precision(patcher, self.precision), height, width, self.inference, channels,
            wanted=wanted, batch_size=self.batch_size, acceleration=self.acceleration,
        )  # fmt: skip
        if self.timestep_method != "direct" and isinstance(model, Model):
            model = model.by_timesteps(self.timestep_method)
        elif self.timestep_method != "direct":
            raise ValueError(
                f"timestep_method {self.timestep_method} asked of a model from ComfyUI's own loader. Use Load RIFE "
                "Checkpoint for it, or leave it at direct."
            )
        return model, batch


# Is told before the first pass how many frames there will be, how many of them are new, and about how many seconds they
# take, if known.
PlanCallback = Callable[[int, int, float | None], None]


def interpolate(
    patcher, frames: Tensor, plan: Plan | ConcatenatedPlan, options: RunOptions, masks: Tensor | None = None,
    on_plan: PlanCallback | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Returns the plan's images (M,H,W,C) and masks (M,H,W) of `frames` (N,H,W,C) with masks (N,H,W), which follow
    their flow.

    Contiguous, on ComfyUI's intermediate device and in its dtype; without masks, those of the result are empty.
    """
    shape = len(plan), *frames.shape[1:]
    out = empty_images(shape)
    out_masks = None if masks is None else empty_images(shape[:3])
    total = sum(step.kind == "new" for step in plan)
    model, batch = None, 1
    if total:
        wanted = total if options.batch_size else most_per_pass(total, options.acceleration)
        model, batch = options.load(patcher, *shape[1:3], shape[3] + (masks is not None), wanted)
    pace = Pace(patcher, options, frames.shape[1] * frames.shape[2])
    if on_plan:
        on_plan(len(plan), total, pace.seconds_for(model, total))
    with pace.measured(total):
        engine.interpolate(
            model, frames, plan=plan, batch_size=batch, on_progress=Progress(total) if total else None,
            out=out, masks=masks, out_masks=out_masks, **options.inference.keywords(), **oom_options(),
        )  # fmt: skip
    return out, _masks_or_none(out, out_masks)


@dataclass(frozen=True)
class Finish:
    """Says what is done to frames after they are made: motion blur, in degrees of a shutter, and kept regions."""

    shutter: float = 0.0
    keep: Tensor | str | None = None


def interpolate_and_finish(
    patcher,
    frames: Tensor,
    plan: Plan | ConcatenatedPlan,
    options: RunOptions,
    masks: Tensor | None,
    finish: Finish,
    scenes: Sequence[Scenes],
    on_plan: PlanCallback | None = None,
) -> tuple[Tensor, Tensor]:
    """Does what `interpolate` does to frames (N,H,W,C) and masks (N,H,W), with `finish`; scenes: of each clip of the
    plan."""
    if not finish.shutter and finish.keep is None:
        return interpolate(patcher, frames, plan, options, masks, on_plan)
    out = empty_images((len(plan), *frames.shape[1:]))
    out_masks = None if masks is None else empty_images(out.shape[:3])
    progress, done = Progress(len(plan)), 0
    model, batch = options.load(patcher, *frames.shape[1:3], frames.shape[3] + (masks is not None), len(plan))
    if on_plan:
        new = sum(step.kind == "new" for step in plan)
        on_plan(len(plan), new, None)  # nobody knows how long what a shutter adds takes
    for (first, part), found in zip(plan.parts(), scenes, strict=True):
        check_forward(part)
        whole = ShutterPlan(part, finish.shutter, motion_of(found)) if finish.shutter else part
        keeper = keeper_of(finish.keep)
        clip = range(first, first + (part.clock.count or 0))
        stream = engine.interpolate_stream(
            model, (with_mask(frames[i], None if masks is None else masks[i]) for i in clip),
            plan_for=lambda _, whole=whole: whole, watcher=keeper, retouch=keeper.retouched if keeper else None,
            batch_size=batch, opacity=has_opacity(frames, masks), **options.inference.keywords(), **oom_options(),
        )  # fmt: skip
        for frame in averaged(stream, opacity=has_opacity(frames, masks)) if finish.shutter else stream:
            out[done].copy_(frame[..., : frames.shape[3]])
            if out_masks is not None:
                out_masks[done].copy_(frame[..., -1])
            done += 1
            progress(done, len(plan), out[done - 1])
    return out, _masks_or_none(out, out_masks)


def _masks_or_none(out: Tensor, masks: Tensor | None) -> Tensor:
    """The masks of a result, empty ones where none were given."""
    return out.new_zeros((1, *out.shape[1:3])).expand(len(out), -1, -1) if masks is None else masks


class Rendered(NamedTuple):
    """Says what `render` did: number of frames, those of the clip that begin a scene, the pattern of those that repeat
    the one before, whether there is sound and what became of it."""

    frames: int
    cuts: list[int]
    cadence: Cadence
    sound: bool
    sound_said: str


def render(
    patcher,
    job: Job,
    path: Path,
    options: RunOptions,
    on_plan: PlanCallback | None = None,
    keep: Tensor | str | None = None,
    enlarge: Callable[[Tensor], Tensor] | None = None,
) -> Rendered:
    """Computes a whole job into the file `path`. keep: a mask (H,W), "auto" or None."""
    clip = job.clip
    model, batch = options.load(
        patcher, clip.height, clip.width, 4 if clip.look.alpha else 3, options.batch_size or MAX_BATCH
    )
    job.look_through(lambda _: check_cancel())
    progress, finder = Progress(len(job.plan)), job.timing.finder()
    pace, new = Pace(patcher, options, clip.height * clip.width), _about_new(job.plan)
    if on_plan:
        on_plan(len(job.plan), new, pace.seconds_for(model, new))
    with pace.measured(new), job.writer(path) as writer:
        video.render(
            model, job, job.part(), writer, lambda done, frame: progress(done, progress.total, frame),
            finder=finder, keep=keep, enlarge=enlarge, batch_size=batch,
            **options.inference.keywords(), **oom_options(),
        )  # fmt: skip
    cuts, cadence = job.timing.cuts_among(finder), job.timing.cadence_among(finder, len(clip))
    return Rendered(writer.count, cuts, cadence, writer.sound, writer.sound_said)


def _about_new(plan: Plan) -> int:
    """How many steps of a plan are new frames; of a long one, by `_LOOKED_AT` of them, evenly spread."""
    step = -(-len(plan) // _LOOKED_AT)
    seen = range(0, len(plan), step)
    return sum(plan[k].kind == "new" for k in seen) * len(plan) // len(seen)


def make_chunk(
    patcher, chunks: Chunks, part: Part, last: bool, shape: Sequence[int], options: RunOptions
) -> Tensor:
    """Returns the frames (M,H,W,C) of a part of a clip that comes in chunks of frames of `shape` (H,W,C)."""
    out = empty_images((part.last - part.first, *shape))
    model, batch = options.load(patcher, *shape, wanted=len(out))
    progress = Progress(len(out))
    frames = chunks.make(model, part, last, batch_size=batch, **options.inference.keywords(), **oom_options())
    for k, frame in enumerate(frames):
        out[k].copy_(frame)
        progress(k + 1, len(out), frame)
    return out


def between(patcher, image0: Tensor, image1: Tensor, timestep: float, options: RunOptions) -> Tensor:
    """Returns the images (N,H,W,C) at 0 < `timestep` < 1 between the pairs of image0 and image1 (N,H,W,C)."""
    result = empty_images(image0.shape)
    model, _ = options.load(patcher, *image0.shape[1:], wanted=1)
    progress = Progress(len(image0))
    for i, pair in enumerate(zip(image0, image1, strict=True)):
        progress.before = i
        made = engine.interpolate(
            model, torch.stack(pair), timesteps=[timestep], batch_size=1, on_progress=progress,
            **options.inference.keywords(), **oom_options(),
        )  # fmt: skip
        result[i].copy_(made[1])
    return result


def motion(patcher, image0: Tensor, image1: Tensor, timestep: float, scale: float = 1.0) -> Motion:
    """Returns `rife.Model.motion` of each pair of image0 and image1 (N,H,W,C), at 0 < `timestep` < 1 and `scale`, on
    the CPU. Raises ValueError, RuntimeError."""
    if not isinstance(adapt(patcher), Model):
        raise ValueError(
            f"interp_model is ComfyUI's own {type(patcher.model).__name__}, which gives finished frames and tells "
            "nothing of the flow. Load the same file with Load RIFE Checkpoint; FILM cannot be looked into."
        )
    # The whole flow is wanted, as for a map that follows the colours.
    model, _ = load(patcher, *image0.shape[1:3], InferenceOptions(scale), 4)
    progress = Progress(len(image0))
    found = []
    for i, pair in enumerate(zip(image0, image1, strict=True)):
        check_cancel()
        img0, img1 = (frame[None].permute(0, 3, 1, 2) for frame in pair)
        found.append([part.cpu() for part in model.motion(img0, img1, timestep, scale)])
        progress.show(i + 1, lambda: to_picture(flow_picture(found[-1][0][0])))
    return Motion(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def find_scenes(patcher, frames: Tensor) -> Scenes:
    """Finds cuts and repeats of `frames` (N,H,W,C), made small where they are and compared where the model runs."""
    return scenes.find_scenes(watched(frames), getattr(patcher, "load_device", None))


def choose_scale(patcher, found: Scenes, height: int, width: int) -> tuple[float, str]:
    """Does `rife.timeline.scenes.choose_scale` for this model, with why; ComfyUI's own only know 1."""
    model = adapt(patcher)
    if not isinstance(model, Model):
        return 1.0, "models of ComfyUI's own loader only know scale 1"
    if not isinstance(model.config, IFNetConfig):
        return 1.0, "nobody knows how far a RIFE of three networks reaches"
    return scenes.choose_scale(found, height, width, model.config.reach)


def describe(patcher, precision: str = "auto") -> dict[str, str]:
    """Says where and how precisely the model runs, for a report."""
    dtype = named_dtype(precision)
    fine = None if dtype else getattr(patcher.model, "fine_dtype", None)
    names = [str(kind).removeprefix("torch.") for kind in (dtype or patcher.model_dtype(), fine) if kind]
    return {"device": str(patcher.load_device), "precision": ", partly ".join(names)}
