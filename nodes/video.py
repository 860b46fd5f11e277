"""Defines video in, video out, without ever holding the clip; and chunks of other packs' batch loops."""

from __future__ import annotations

import io as stdio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..rife.engine.chunks import Chunks
from ..rife.model import InferenceOptions
from ..rife.timeline.clock import Clock, exact_rate
from ..rife.timeline.parts import Timing
from ..rife.timeline.request import Request
from ..rife.timeline.text import parse_cuts
from ..rife.video.codecs import Encoding
from ..rife.video.colours import Look
from ..rife.video.job import Job, as_loop, to_pixels
from ..rife.video.reader import Clip
from ..rife.video.writer import VideoWriter
from . import model_management, run
from .load import described
from .run import RunOptions
from .timing import (
    COGVIDEO,
    DROP,
    KEEP,
    OFF,
    Forecast,
    check_timing,
    finish_inputs,
    kept_region,
    loop_inputs,
    request,
    result_line,
    seconds_of,
    steady_input,
    timing_inputs,
)
from .types import (
    ALIASES,
    batch_size_input,
    check_images,
    deinterlace_input,
    encoding_inputs,
    ensemble_input,
    model_input,
    report_json,
    scale_input,
    speed_inputs,
    timestep_method_input,
    trim_window,
    tta_input,
)

BatchManager = io.Custom("VHS_BatchManager")


def _network_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "multiplier",
            default=2,
            min=1,
            max=128,
            tooltip="Frames out per frame in: 2 doubles the frame rate. N frames become (N-1) x multiplier + 1. Not "
            "used where timing says otherwise.",
        ),
        scale_input(),
        tta_input(),
        ensemble_input(),
        batch_size_input(),
        *timing_inputs(),
    ]


class RIFEInterpolateVideo(io.ComfyNode):
    """Gives a video new frames between each two, as a stream from file to file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEInterpolateVideo",
            display_name="RIFE Interpolate Video",
            category="video",
            description="Makes new frames between each two of a video of any length: decoded, interpolated and encoded "
            "as a stream, so that memory does not grow with it. Sound, subtitles, chapters and colours are kept.",
            search_aliases=[
                *ALIASES,  # a search from a VIDEO link finds it alone
                "long video",
                "stream",
                "out of memory",
                "video frame interpolation",
                "video fps",
                "motion blur",
                "shutter",
                "logo",
            ],
            inputs=[
                model_input(),
                io.Video.Input("video", tooltip="From Load Video, Create Video, Trim Video and the like."),
                *_network_inputs(),
                *encoding_inputs(),
                *speed_inputs(),
                *loop_inputs(),
                steady_input(),
                *finish_inputs(),
                deinterlace_input(),
                io.Float.Input(
                    "longest_gap",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    round=0.001,
                    optional=True,
                    advanced=True,
                    tooltip="In a video of a variable rate, such as a screen recording, a picture shown for more "
                    "seconds than this is a pause: it is held, and then moves on as fast as all else. 0: four times as "
                    "long as usual, 0.2 s at least.",
                ),
                timestep_method_input(),
                io.UpscaleModel.Input(
                    "upscale_model",
                    optional=True,
                    tooltip="From Load Upscale Model: enlarges each frame on its way into the file, tile by tile, so "
                    "that memory does not grow with the video.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The result, in a temporary file until it is saved."
                ),
                io.Float.Output(display_name="fps", tooltip="Its frames per second, on the whole."),
                io.Int.Output(display_name="frame_count", tooltip="Number of frames in it."),
                io.String.Output(
                    display_name="report",
                    tooltip="What was done, as JSON: frames, exact rates, sound, cuts, device, seconds.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        video,
        multiplier: int,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        batch_size: int = 0,
        timing: dict | None = None,
        loop: bool = False,
        keep_duration: bool = False,
        cuts: str = "hold",
        cut_frames: str = "",
        repeated_frames: str = "hold",
        codec: str = "auto",
        crf: int = -1,
        precision: str = "auto",
        acceleration: str = "off",
        loop_twin: str = KEEP,  # of a prompt made before there was a choice
        loop_drift: str = OFF,
        steady: bool = False,
        shutter: float = 0.0,
        keep: Tensor | None = None,
        overlays: str = OFF,
        deinterlace: str = "off",
        longest_gap: float = 0.0,
        timestep_method: str = "direct",
        upscale_model=None,
    ) -> io.NodeOutput:
        """Returns the VIDEO that was made of a VIDEO, its frame rate, number of frames, the report. keep: a mask
        (N,H,W). Raises ValueError for inputs that do not fit, VideoError for what cannot be read or written."""
        start = time.perf_counter()
        encoding = Encoding(None if codec == "auto" else codec, None if crf < 0 else crf)
        with opened_clip(video, deinterlace) as clip:
            back = None
            if loop:
                clip, back = as_loop(clip, loop_twin == DROP, loop_drift != OFF)
            asked = _request(cls, timing, multiplier, clip.clock)
            given = frozenset(parse_cuts(cut_frames, len(clip)))
            gap = seconds_of("longest_gap", longest_gap).limit_denominator(1000) or None
            when = Timing(
                asked,
                loop,
                keep_duration,
                cuts,
                repeated_frames,
                given,
                steady,
                shutter,
                longest_gap=gap,
                check=model_management.check_cancel,
            )
            larger = 1 if upscale_model is None else int(upscale_model.scale)
            job = Job(clip, when, encoding, drift=back, enlarged=larger)
            path = temporary_file(".mp4")
            chosen = InferenceOptions(float(scale), tta, ensemble)
            options = RunOptions(chosen, batch_size, precision, acceleration, timestep_method)

            forecast = Forecast(cls, len(clip), float(job.rate))
            region = kept_region(keep, overlays, clip.height, clip.width)
            with model_management.enlarging(upscale_model, clip.height, clip.width) as enlarge:
                done = run.render(interp_model, job, path, options, forecast, region, enlarge)
        seconds = time.perf_counter() - start
        line = result_line(len(clip), done.frames, seconds, float(job.rate), len(done.cuts))
        model_management.send_status_text(line)
        made = {
            "forecast": forecast.text,
            "frames_in": len(clip),
            "frames_out": done.frames,
            "source_fps": str(clip.clock.mean_rate),
            "variable": clip.rate is None,
            "fps": str(job.rate),
            "sound": done.sound,
            "sound_said": done.sound_said,
            "cuts": done.cuts,
            "cadence": done.cadence.described(clip.rate) or clip.flagged_cadence,
            "pauses": job.plan.clock.pauses,
            "enlarged": larger,
            "longest_gap_s": float(job.plan.clock.gap_limit or 0),
            "deinterlaced": clip.deinterlace,
            "warning": clip.look_at_fields(),
            **run.describe(interp_model, precision),
            "seconds": seconds,
            **({"back_to_first": back.as_dict()} if back else {}),
        }
        report = report_json(f"{line}; {described(interp_model)}", made)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), float(job.rate), done.frames, report)


def _request(node, timing: dict | None, multiplier: int, clock: Clock) -> Request:
    """What the form asks for. Raises ValueError."""
    timing = check_timing(node, timing)
    if timing.get("timing") == COGVIDEO:
        raise ValueError(
            "timing is cogvideo demo, which compares clips as a whole; this is a stream. Choose another timing, or "
            "use RIFE Interpolate."
        )
    return request(timing, multiplier, "", clock)


def temporary_file(ending: str) -> Path:
    """Returns a new name in ComfyUI's folder for what is not saved."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"rife_{uuid.uuid4().hex}{ending}"


@contextmanager
def opened_clip(video, deinterlace: str = "off") -> Iterator[Clip]:
    """Gives the frames of a VIDEO, read where they are: from its file, the part that Trim Video left, or from
    memory."""
    if isinstance(video, InputImpl.VideoFromComponents):
        path = temporary_file(".mp4")
        try:
            _write_components(video, path)
            yield Clip(path, deinterlace=deinterlace)
        finally:
            path.unlink(missing_ok=True)
        return
    source = video.get_stream_source()
    if not isinstance(source, stdio.BytesIO):
        source = Path(source)
    yield Clip(source, deinterlace=deinterlace, **_window(video))


def _window(video) -> dict[str, Fraction]:
    start, duration = trim_window(video)
    if start < 0:
        start = max(0.0, float(Clip(video.get_stream_source()).clock.duration) + start)
    return {"start": Fraction(start), "duration": Fraction(duration)}


def _write_components(video, path: Path) -> None:
    """Images and sound in memory to a file, without loss."""
    parts = video.get_components()
    images = parts.images
    check_images(images, "video")
    height, width, channels = images.shape[1:]
    bits = 16 if getattr(video, "get_bit_depth", lambda: 8)() > 8 else 8
    sound = None
    if parts.audio:
        sound = parts.audio["waveform"][0].float().cpu().numpy(), int(parts.audio["sample_rate"])
    look = Look(bits=bits, alpha=channels == 4, rgb=True)
    rate = exact_rate(float(parts.frame_rate)) if parts.frame_rate.denominator > 1001 else parts.frame_rate
    with VideoWriter(path, rate, width, height, encoding=Encoding("ffv1"), look=look, sound=sound) as writer:
        for image in images:
            writer.write(to_pixels(image.expand(-1, -1, max(3, channels)), bits))


class RIFEInterpolateChunks(io.ComfyNode):
    """Does RIFE Interpolate for the chunks of a batch loop, with nothing lost or doubled between them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEInterpolateChunks",
            display_name="RIFE Interpolate (Meta Batch)",
            category="video",
            description="RIFE Interpolate for VideoHelperSuite's Meta Batch Manager: remembers what the chunks before "
            "ended with, so that all of them together are the frames of the whole clip.",
            search_aliases=["meta batch", "VHS", "chunks"],
            inputs=[
                model_input(),
                io.Image.Input(
                    "images", tooltip="A chunk of the clip, from a Load Video that has the same meta_batch."
                ),
                BatchManager.Input(
                    "meta_batch", tooltip="From Meta Batch Manager, as at Load Video and Video Combine."
                ),
                io.Float.Input(
                    "fps",
                    default=24.0,
                    min=0.01,
                    max=1000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Frames per second of the given frames, from Video Info (loaded).",
                ),
                *_network_inputs(),
                *speed_inputs(),
                steady_input(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The frames that are certain by now; the last chunk gives the rest.",
                ),
                io.Float.Output(display_name="fps", tooltip="Frames per second for Video Combine."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        images: Tensor,
        meta_batch,
        fps: float,
        multiplier: int,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        batch_size: int = 0,
        timing: dict | None = None,
        loop: bool = False,
        keep_duration: bool = False,
        cuts: str = "hold",
        cut_frames: str = "",
        repeated_frames: str = "hold",
        precision: str = "auto",
        acceleration: str = "off",
        steady: bool = False,
    ) -> io.NodeOutput:
        """Returns (M,H,W,C) of a chunk (N,H,W,C), and the frame rate. Raises ValueError for inputs that do not fit and
        for chunks that are too short."""
        check_images(images, "images")
        start, rate = time.perf_counter(), exact_rate(fps)
        asked = _request(cls, timing, multiplier, Clock(len(images), rate))
        given = frozenset(parse_cuts(cut_frames, 1 << 62))
        chunks = cls._chunks(
            meta_batch,
            lambda: Chunks(Timing(asked, loop, keep_duration, cuts, repeated_frames, given, steady), rate),
        )
        last = bool(meta_batch.has_closed_inputs)
        part = chunks.push(list(images), last)
        if part.last == part.first:
            raise ValueError(
                f"a chunk of {len(images)} frames is too short for any frame to be certain. Set frames_per_batch of "
                f"Meta Batch Manager to {chunks.timing.ahead + 2} or more."
            )
        chosen = InferenceOptions(float(scale), tta, ensemble)
        options = RunOptions(chosen, batch_size, precision, acceleration)
        result = run.make_chunk(interp_model, chunks, part, last, images.shape[1:], options)
        made_fps = float(chunks.plan(last).rate)
        model_management.send_status_text(
            result_line(len(images), len(result), time.perf_counter() - start, made_fps)
        )
        return io.NodeOutput(result, made_fps)

    @classmethod
    def _chunks(cls, meta_batch, new) -> Chunks:
        """What this node remembers of the loop, on the loop's own object; a new run begins anew."""
        remembered = meta_batch.__dict__.setdefault("rife_chunks", {})
        prompt = cls.hidden.prompt or {}
        iteration = prompt.get(str(meta_batch.unique_id), {}).get("inputs", {}).get("requeue", 0)
        if iteration == 0:
            remembered[cls.hidden.unique_id] = new()
        if cls.hidden.unique_id not in remembered:
            raise ValueError(
                f"this is chunk {iteration} of the loop and those before it were not seen. Queue the workflow anew."
            )
        return remembered[cls.hidden.unique_id]
