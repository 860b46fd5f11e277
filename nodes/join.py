"""Makes clips that follow each other, as images or as videos of any length, one."""

from __future__ import annotations

import time
from contextlib import ExitStack

from comfy_api.latest import InputImpl, Types, io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..rife.engine import Joining
from ..rife.engine.joining import SeamSteps, join_images
from ..rife.model import InferenceOptions
from ..rife.timeline.clock import exact_rate
from ..rife.video.codecs import Encoding
from ..rife.video.joined import JoinedVideo, check_clips, join_videos
from . import model_management, run
from .load import described
from .run import RunOptions
from .types import (
    batch_size_input,
    check_images,
    encoding_inputs,
    ensemble_input,
    model_input,
    report_json,
    scale_input,
    speed_inputs,
    tta_input,
)
from .video import opened_clip, temporary_file

FOUND = -1  # of overlap and bridge: to be found


class RIFEJoinClips(io.ComfyNode):
    """Joins two clips or more in a row, without a freeze, a jump of colour or a cross-fade between them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        clip = io.MultiType.Input(
            "clip",
            types=[io.Image, io.Video],
            tooltip="Images or a video; all clips of one kind, size and frame rate, in order.",
        )
        return io.Schema(
            node_id="RIFEJoinClips",
            display_name="RIFE Join Clips",
            category="video",
            description="Makes one clip of several that follow each other: drops the frame that both have, morphs an "
            "overlap by motion, bridges a small gap, matches colours and fades sound over.",
            search_aliases=[
                "join",
                "stitch",
                "extend",
                "concatenate",
                "crossfade",
                "transition",
                "seam",
            ],
            inputs=[
                model_input(),
                io.Autogrow.Input(
                    "clips",
                    template=io.Autogrow.TemplatePrefix(clip, prefix="clip", min=2, max=50),
                    tooltip="The clips in order; another socket appears with each that is connected.",
                ),
                *_seam_inputs(),
                scale_input(),
                tta_input(),
                ensemble_input(),
                batch_size_input(),
                *encoding_inputs(),
                *speed_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The joined clip, of images."),
                io.Video.Output(
                    display_name="video",
                    tooltip="The joined clip: of videos in a temporary file until it is saved, with their sound.",
                ),
                io.Int.Output(display_name="frame_count", tooltip="Number of frames in it."),
                io.String.Output(
                    display_name="report",
                    tooltip="What was found at each seam, as JSON: twin, overlap, gap or cut, how far the colours were "
                    "apart and what is left of it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        clips: dict,
        overlap: int = FOUND,
        match_colors: bool = True,
        fade: int = 16,
        bridge: int = FOUND,
        fps: float = 24.0,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        batch_size: int = 0,
        codec: str = "auto",
        crf: int = -1,
        precision: str = "auto",
        acceleration: str = "off",
    ) -> io.NodeOutput:
        """Returns images, video, number of frames and the report, of images or videos. Raises ValueError for clips that
        do not fit each other."""
        start = time.perf_counter()
        given = [clip for clip in clips.values() if clip is not None]
        shared, between = (None if frames == FOUND else frames for frames in (overlap, bridge))
        asked = Joining(shared, match_colors, fade, between)
        chosen = InferenceOptions(float(scale), tta, ensemble)
        options = RunOptions(chosen, batch_size, precision, acceleration)

        def make(frames: Tensor, plan: SeamSteps) -> Tensor:
            return run.interpolate(interp_model, frames, plan, options)[0]

        if all(isinstance(clip, Tensor) for clip in given):
            images, video, made = _of_images(make, given, asked, fps)
            count, rate, sound = len(images), fps, {}
        elif any(isinstance(clip, Tensor) for clip in given):
            raise ValueError(
                "some clips are images and some are videos, expected one kind. Turn videos into images with Get Video "
                "Components, or images into videos with Create Video."
            )
        else:
            encoding = Encoding(None if codec == "auto" else codec, None if crf < 0 else crf)
            images, video, made = _of_videos(make, given, asked, encoding)
            count, rate = made.frames, float(made.rate)
            sound = {"sound": made.sound, "sound_said": made.sound_said}
        seams = [
            {"frame": first, **seam.as_dict()}
            for seam, first in zip(made.seams, made.starts[1:], strict=True)
        ]
        seconds = time.perf_counter() - start
        line = (
            f"{len(given)} clips → {count} frames, {rate:g} fps, {count / rate:.2f} s; took {seconds:.1f} s"
        )
        model_management.send_status_text(line)
        facts = {"clips": len(given), "frames_out": count, "fps": rate, "seams": seams, **sound}
        facts |= {**run.describe(interp_model, precision), "seconds": seconds}
        return io.NodeOutput(images, video, count, report_json(f"{line}; {described(interp_model)}", facts))


def _seam_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "overlap",
            default=FOUND,
            min=FOUND,
            max=1000,
            optional=True,
            tooltip="Frames that a clip has in common with the one before it: 1 where it was made from the last frame, "
            "more where it was made from several. -1: found at each seam; 0: none.",
        ),
        io.Boolean.Input(
            "match_colors",
            default=True,
            optional=True,
            tooltip="Brings a clip's colours to those of the clip before it where they meet, by what both show.",
        ),
        io.Int.Input(
            "fade",
            default=16,
            min=0,
            max=10_000,
            optional=True,
            tooltip="Frames over which a clip goes back to its own colours after a seam.",
        ),
        io.Int.Input(
            "bridge",
            default=FOUND,
            min=FOUND,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="New frames where clips only nearly meet. -1: as many as the gap wants, up to 8; 0: none.",
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=0.01,
            max=1000.0,
            step=1.0,
            round=0.001,
            optional=True,
            tooltip="Frames per second of the video that is made of images; videos bring their own.",
        ),
    ]


def _of_images(make, clips: list[Tensor], asked: Joining, fps: float):
    for i, clip in enumerate(clips):
        check_images(clip, f"clip{i}")
    made = join_images(
        make, clips, asked, model_management.empty_images, lambda *_: model_management.check_cancel()
    )
    components = Types.VideoComponents(images=made.frames, audio=None, frame_rate=exact_rate(fps))
    return made.frames, InputImpl.VideoFromComponents(components), made


def _of_videos(
    make, videos: list, asked: Joining, encoding: Encoding
) -> tuple[ExecutionBlocker, object, JoinedVideo]:
    with ExitStack() as stack:
        clips = [stack.enter_context(opened_clip(video)) for video in videos]
        check_clips(clips)
        path = temporary_file(".mp4")
        made = join_videos(make, clips, path, asked, encoding, lambda *_: model_management.check_cancel())
    nothing = ExecutionBlocker("The clips are videos, which are never held as images. Take the output video.")
    return nothing, InputImpl.VideoFromFile(str(path)), made
