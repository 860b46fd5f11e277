"""Defines the nodes that take images and give more images."""

from __future__ import annotations

import time
from dataclasses import replace

from comfy_api.latest import io
from torch import Tensor

from ..rife.engine.loops import as_loop
from ..rife.engine.seams import Seam
from ..rife.model import InferenceOptions
from ..rife.timeline.clock import Clock, exact_rate
from ..rife.timeline.cogvideo import cogvideo_scenes
from ..rife.timeline.parts import Timing, found_in
from ..rife.timeline.plans import ConcatenatedPlan
from ..rife.timeline.report import report
from ..rife.timeline.request import PerPair, Request
from ..rife.timeline.scenes import Scenes
from ..rife.timeline.text import parse_cuts
from . import model_management, run
from .load import described
from .run import RunOptions
from .timing import (
    CHOICES,
    COGVIDEO,
    DROP,
    KEEP,
    OFF,
    Forecast,
    check_timing,
    clip_input,
    finish_inputs,
    frames_per_clip,
    kept_region,
    loop_inputs,
    request,
    result_line,
    steady_input,
    timing_inputs,
)
from .types import (
    ALIASES,
    AUTO,
    batch_size_input,
    check_images,
    ensemble_input,
    model_input,
    paired,
    report_json,
    scale_input,
    speed_inputs,
    timestep_method_input,
    tta_input,
)


class RIFEInterpolate(io.ComfyNode):
    """Gives a clip new frames between each two."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEInterpolate",
            display_name="RIFE Interpolate",
            category="video",
            description="Makes new frames between each two frames of a clip: N frames become "
            "(N-1) x multiplier + 1. The given frames are in the result unchanged.",
            search_aliases=[*ALIASES, "motion blur", "shutter", "subtitle", "logo", "loop", "sharpness"],
            inputs=[
                model_input(),
                io.Image.Input(
                    "images", tooltip="The frames of the clip in order; RGB, RGBA or grey, any size."
                ),
                io.Int.Input(
                    "multiplier",
                    default=2,
                    min=1,
                    max=128,
                    tooltip="Frames out per frame in: 2 doubles the frame rate. N frames become "
                    "(N-1) x multiplier + 1.",
                ),
                io.Float.Input(
                    "fps",
                    default=24.0,
                    min=0.01,
                    max=1000.0,
                    step=1.0,
                    round=0.001,
                    optional=True,
                    tooltip="Frames per second of the given frames. Connect fps of Get Video Components, or type "
                    "what your video model makes: 8 CogVideoX, 16 Wan, 24 Hunyuan and LTX. It only sets the "
                    "output fps.",
                ),
                scale_input(auto=True),
                tta_input(),
                ensemble_input(),
                io.String.Input(
                    "timesteps",
                    default="",
                    optional=True,
                    advanced=True,
                    placeholder="0.25, 0.5, 0.75",
                    tooltip="Times between 0 and 1, such as 0.25, 0.5, 0.75 or 1/3, 2/3: these frames are made "
                    "between each two, and multiplier is not used. Empty: as many even steps as multiplier says.",
                ),
                batch_size_input(),
                *timing_inputs(cogvideo=True),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="A mask per frame, or one for all: moved by the flow of the images, cut and held as they "
                    "are.",
                ),
                clip_input(),
                *speed_inputs(),
                *loop_inputs(),
                steady_input(),
                *finish_inputs(),
                timestep_method_input(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="The given frames with the new ones between them."
                ),
                io.Float.Output(
                    display_name="fps",
                    tooltip="Frames per second at which the result lasts as long as the clip.",
                ),
                io.Int.Output(display_name="frame_count", tooltip="Number of frames in the result."),
                io.String.Output(
                    display_name="report",
                    tooltip="What was done, as JSON: counts, exact rates, timing error, cuts, and for each pair its "
                    "timesteps, motion and what became of it.",
                ),
                io.String.Output(
                    display_name="cuts",
                    tooltip="The frames that begin a scene, such as 24, 60; cut_frames of another node takes them.",
                ),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The given masks with new ones between them; empty without any.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        images: Tensor,
        multiplier: int,
        fps: float = 24.0,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        timesteps: str = "",
        batch_size: int = 0,
        timing: dict | None = None,
        loop: bool = False,
        keep_duration: bool = False,
        cuts: str = "hold",
        cut_frames: str = "",
        repeated_frames: str = "hold",
        mask: Tensor | None = None,
        clip_length: int = 0,
        precision: str = "auto",
        acceleration: str = "off",
        loop_twin: str = KEEP,  # of a prompt made before there was a choice
        loop_drift: str = OFF,
        steady: bool = False,
        shutter: float = 0.0,
        keep: Tensor | None = None,
        overlays: str = OFF,
        timestep_method: str = "direct",
    ) -> io.NodeOutput:
        """Returns (M,H,W,C) of images (N,H,W,C), its frame rate, M, the report, the cuts, (M,H,W) of the mask. Raises
        ValueError for what does not fit, RuntimeError where memory does not suffice."""
        check_images(images, "images")
        mask = _mask_per_frame(mask, images)
        start = time.perf_counter()
        timing = check_timing(cls, timing, (*CHOICES, COGVIDEO))
        images, mask, back = _as_loop(images, mask, loop and not clip_length, loop_twin, loop_drift)
        clock = Clock(frames_per_clip(clip_length, len(images)), exact_rate(fps))
        asked = Timing(
            request(timing, multiplier, timesteps, clock),
            loop,
            keep_duration,
            cuts,
            repeated_frames,
            steady=steady,
            shutter=shutter,
            check=model_management.check_cancel,
        )
        # What cannot be is refused before any work.
        clips = len(images) // (clock.count or 1)
        model_management.check_room((clips * len(asked.plan(clock)), *images.shape[1:]))
        given_cuts = parse_cuts(cut_frames, len(images))
        find = _finder(interp_model, timing, cuts, given_cuts, repeated_frames, scale)
        parts = [
            find(first, images[first : first + clock.count]) for first in range(0, len(images), clock.count)
        ]
        known = [replace(asked, found=found_in(part, clock.count)) for part in parts]
        plan = ConcatenatedPlan([one.plan(clock) for one in known])
        scenes = Scenes.joined(parts, clock.count)
        scale, why = _scale(interp_model, images, scenes, scale)
        options = RunOptions(
            InferenceOptions(scale, tta, ensemble), batch_size, precision, acceleration, timestep_method
        )
        rate = _fps(fps, plan, asked.request)

        forecast = Forecast(cls, len(images), rate)
        finish = run.Finish(shutter, kept_region(keep, overlays, *images.shape[1:3]))
        result, masks = run.interpolate_and_finish(
            interp_model, images, plan, options, mask, finish, parts, forecast
        )
        seconds = time.perf_counter() - start
        line = result_line(len(images), len(result), seconds, rate, len(scenes.cuts))
        model_management.send_status_text(line)
        how = {**run.describe(interp_model, precision), "scale": scale, "scale_reason": why}
        how |= {"back_to_first": back.as_dict()} if back else {}
        facts = {"forecast": forecast.text, **report(plan, scenes), **how, "seconds": seconds}
        return io.NodeOutput(
            result,
            rate,
            result.shape[0],
            report_json(f"{line}; {described(interp_model)}", facts),
            ", ".join(map(str, sorted(scenes.cuts))),
            masks,
        )


def _as_loop(
    images: Tensor, mask: Tensor | None, loop: bool, twin: str, drift: str
) -> tuple[Tensor, Tensor | None, Seam | None]:
    """Images and masks without what is there twice at the end of a loop, and what was found there."""
    if not loop:
        return images, mask, None
    kept_images, seam = as_loop(images, twin == DROP, drift != OFF)
    return kept_images, mask if mask is None else mask[: len(kept_images)], seam


def _mask_per_frame(mask: Tensor | None, images: Tensor) -> Tensor | None:
    """`mask` (N or 1,H,W) as (N,H,W). Raises ValueError where it does not fit the images."""
    if mask is None:
        return None
    n, height, width = images.shape[:3]
    if mask.ndim != 3 or mask.shape[0] not in (1, n) or mask.shape[1:] != (height, width):
        raise ValueError(
            f"mask is {tuple(mask.shape)} (N,H,W), expected {n} or 1 of {height}x{width} as the images are. Resize it, "
            "or leave it unconnected."
        )
    return mask.expand(n, -1, -1)


def _finder(interp_model, timing: dict, cuts: str, given: set[int], repeated: str, scale: str):
    """Tells of a clip and its first frame's number what is known of its scenes: found only where it is heeded."""
    wanted = repeated != OFF or (cuts != OFF and not given)

    def find(first: int, clip: Tensor) -> Scenes:
        found = Scenes()
        if scale == AUTO or wanted:
            found = run.find_scenes(interp_model, clip)
        if wanted and timing.get("timing") == COGVIDEO:
            found = replace(cogvideo_scenes(clip), evidence=found.evidence)
        chosen = {i - first for i in given if 0 <= i - first < len(clip)} if given else found.cuts
        chosen = set() if cuts == OFF else chosen
        return Scenes(chosen, found.repeats - chosen, found.evidence)

    return find


def _fps(fps: float, plan: ConcatenatedPlan, asked: Request) -> float:
    """As the user wrote it times the frames per pair, or the rate that was asked for."""
    return fps * asked.frames_per_pair if isinstance(asked, PerPair) else float(plan.rate)


def _scale(interp_model, images: Tensor, scenes: Scenes, scale: str) -> tuple[float, str]:
    if scale == AUTO:
        return run.choose_scale(interp_model, scenes, *images.shape[1:3])
    return float(scale), "as it was set"


class RIFEInbetween(io.ComfyNode):
    """Gives the frame at one time between two images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEInbetween",
            display_name="RIFE Inbetween",
            category="video",
            description="Makes the image at a chosen time between two images. Batches of the same length are "
            "taken pair by pair.",
            search_aliases=["inbetween", "tween", "middle frame", "morph", "中间帧", "中割り", "중간 프레임"],
            inputs=[
                model_input(),
                io.Image.Input("image0", tooltip="The image at time 0, or a batch of them."),
                io.Image.Input(
                    "image1",
                    tooltip="The image at time 1 in the same size; as many as image0, or one for all.",
                ),
                io.Float.Input(
                    "timestep",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.0001,
                    tooltip="The time of the new image: 0 is image0 itself, 1 is image1, 0.5 is half way.",
                ),
                scale_input(),
                tta_input(),
                ensemble_input(),
                *speed_inputs(),
                timestep_method_input(),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="One new image per pair."),
            ],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        image0: Tensor,
        image1: Tensor,
        timestep: float,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        precision: str = "auto",
        acceleration: str = "off",
        timestep_method: str = "direct",
    ) -> io.NodeOutput:
        """Returns (N,H,W,C), the images at `timestep` (0..1) between image0 and image1 (N,H,W,C). Raises ValueError for
        what does not fit."""
        image0, image1 = paired(image0, image1)
        if not 0 <= timestep <= 1:
            raise ValueError(
                f"timestep is {timestep}, expected a number from 0 (image0) to 1 (image1). For a frame beyond "
                "either, take a later pair of frames."
            )
        if timestep in (0, 1):
            return io.NodeOutput(model_management.as_images(image1 if timestep else image0))
        chosen = InferenceOptions(float(scale), tta, ensemble)
        options = RunOptions(
            chosen, precision=precision, acceleration=acceleration, timestep_method=timestep_method
        )
        return io.NodeOutput(run.between(interp_model, image0, image1, timestep, options))
