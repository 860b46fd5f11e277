"""Holds sockets and inputs that several nodes share, and the checks of what comes through them."""

from __future__ import annotations

import json

import torch
from comfy_api.latest import io
from torch import Tensor

from ..rife.model import PRECISIONS, SCALES
from ..rife.model.acceleration import ACCELERATIONS
from ..rife.model.devices import TRAINING_PRECISIONS
from ..rife.model.options import TIMESTEP_METHODS
from ..rife.video.deinterlace import CHOICES, OFF

# ComfyUI's own type: our loader feeds its FrameInterpolate, its loader (RIFE and FILM) feeds our nodes.
InterpModel = io.Custom("INTERP_MODEL")
# What ComfyUI's Plot Loss Graph takes.
LossMap = io.Custom("LOSS_MAP")

# What users look for, in the languages of ComfyUI, when they want more frames. ComfyUI puts a node first whose alias is
# what was typed, and of several such that with the shortest name: so these words belong to RIFE Interpolate alone, and
# other nodes have words of their own. tests/search.json holds which phrase leads where.
ALIASES = [
    *("rife", "frame interpolation", "interpolate", "interpolate frames", "vfi", "in-between frames"),
    *(
        "fps",
        "frame rate",
        "24 fps",
        "30 fps",
        "60 fps",
        "60fps",
        "120 fps",
        "more frames",
        "double frame rate",
    ),
    *("slow motion", "slowmo", "slow-mo", "retime", "speed ramp", "loop", "seamless loop", "smooth video"),
    *("补帧", "插帧", "帧率", "慢动作", "视频补帧"),
    *("フレーム補間", "フレームレート", "スローモーション"),
    *("프레임 보간", "프레임 속도", "슬로우 모션"),
    *("interpolation d'images", "ralenti", "fluidifier"),
    *("interpolación de fotogramas", "cámara lenta"),
    *("Zwischenbilder", "Bildrate", "Zeitlupe"),
]


def model_input() -> io.Input:
    """Returns the input of the network, from our loader or ComfyUI's."""
    return InterpModel.Input(
        "interp_model",
        tooltip="From Load RIFE Checkpoint, or from ComfyUI's Load Frame Interpolation Model (RIFE or FILM).",
    )


AUTO = "auto"


def report_json(summary: str, facts: dict) -> str:
    """Returns a report as JSON that begins with its summary in words: what Preview as Text shows of it when the run is
    over."""
    return json.dumps({"summary": summary, **facts}, indent=1, ensure_ascii=False)


def scale_input(auto: bool = False) -> io.Input:
    """Returns the input of the size at which motion is looked for; with `auto`, it may be chosen by the motion."""
    return io.Combo.Input(
        "scale",
        options=[str(scale) for scale in SCALES] + [AUTO] * auto,
        default="1.0",
        optional=True,
        tooltip="Size at which motion is estimated; the frames keep theirs. 0.5 or 0.25 for 4K or very large "
        "motion (also faster), 2 or 4 for tiny frames or fine detail (slower, more memory)."
        + " auto measures the clip's motion; the report says what was chosen and why."
        * auto,
    )


def tta_input() -> io.Input:
    """Returns the input of test-time augmentation."""
    return io.Boolean.Input(
        "tta",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Test-time augmentation: every frame is also made from the turned images and both are averaged. "
        "Slightly cleaner, twice the time.",
    )


def ensemble_input() -> io.Input:
    """Returns the input of the time-reversed second pass."""
    return io.Boolean.Input(
        "ensemble",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Motion is estimated forward and backward in time and averaged. Slightly steadier, almost twice "
        "the time. RIFE 3.8, 4.0 to 4.20 and 4.24 do it inside, for all others finished frames are averaged.",
    )


def timestep_method_input() -> io.Input:
    """Returns the input that says how other times than the middle are made; last in the form."""
    return io.Combo.Input(
        "timestep_method",
        options=list(TIMESTEP_METHODS),
        default="direct",
        optional=True,
        advanced=True,
        tooltip="How frames at other times than the middle are made. direct: in one pass. recursive: quarters and "
        "eighths as the middle between a given frame and a middle, in two and three passes; other times stay direct.",
    )


def training_dtype_input(**options) -> io.Input:
    """Returns the input of the training nodes, under the name that ComfyUI's own has."""
    return io.Combo.Input(
        "training_dtype",
        options=list(TRAINING_PRECISIONS),
        default="fp32",
        tooltip="What the convolutions compute in. bf16 is faster on recent GPUs and takes less memory; weights, flow "
        "and losses stay in fp32.",
        **options,
    )


def batch_size_input() -> io.Input:
    """Returns the input of new frames per pass."""
    return io.Int.Input(
        "batch_size",
        default=0,
        min=0,
        max=256,
        optional=True,
        advanced=True,
        tooltip="New frames made in one pass. 0 chooses by size and memory; it is halved by itself when memory "
        "runs out.",
    )


def encoding_inputs() -> list[io.Input]:
    """Says how a node writes a video."""
    return [
        io.Combo.Input(
            "codec",
            options=["auto", "h264", "h265", "av1"],
            default="auto",
            optional=True,
            advanced=True,
            tooltip="How the result is encoded. auto: H.264, or H.265 where the video has more than 8 bits. "
            "Save Video takes it over as it is while its own format and codec are auto.",
        ),
        io.Int.Input(
            "crf",
            default=-1,
            min=-1,
            max=63,
            optional=True,
            advanced=True,
            tooltip="Quality, lower is better and larger. -1: hard to tell from the source (18 for H.264).",
        ),
    ]


def deinterlace_input() -> io.Input:
    """Says what is done about interlaced frames."""
    return io.Combo.Input(
        "deinterlace",
        options=list(CHOICES),
        default=OFF,
        optional=True,
        advanced=True,
        tooltip="For interlaced video, whose moving edges look like combs: bwdif makes each frame whole from its first "
        "field; film puts the frames of telecined film together again and undoes their cadence; auto: what the video "
        "looks to want. off: a warning where combs are seen.",
    )


def speed_inputs() -> list[io.Input]:
    """Returns what trades exactness or a slow start for speed; the last inputs of a node."""
    return [
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default="auto",
            optional=True,
            advanced=True,
            tooltip="Of the network in this run; auto: as it was loaded. Motion and sampling are always float32, so "
            "that fp16 and bf16 hardly change the picture. bf16 is faster on newer CPUs, fp16 very slow on CPUs.",
        ),
        io.Combo.Input(
            "acceleration",
            options=list(ACCELERATIONS),
            default="off",
            optional=True,
            advanced=True,
            tooltip="compile: torch.compile, which needs a compiler (and Triton on GPUs) and up to minutes at the "
            "first run per frame size. cuda graphs: NVIDIA and AMD GPUs, pays for small frames. triton: a kernel of "
            "its own on GPUs, for RIFE 4.x, kept where it turns out faster. Where it does not work a warning is "
            "logged and the run is as with off.",
        ),
    ]


def check_images(images: Tensor, name: str) -> None:
    """Raises ValueError unless `images` is an IMAGE (N,H,W,C) of 1, 3 or 4 channels with at least one frame."""
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) != 4 or 0 in shape or shape[3] not in (1, 3, 4):
        raise ValueError(
            f"{name} is {shape or type(images).__name__}, expected images (N,H,W,C) with at least one frame and "
            "1, 3 or 4 channels. Connect a node that gives images, and check that the one before it is not empty."
        )


def as_bytes(images: Tensor) -> Tensor:
    """Returns IMAGEs (...,H,W,C) in 0..1 as (...,H,W,3) uint8 RGB on the CPU, without alpha."""
    rgb = images[..., :3].expand(*images.shape[:-1], 3)
    return (rgb.float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)


def paired(image0: Tensor, image1: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both batches (N,H,W,C) in the longer one's length. Raises ValueError where they do not fit."""
    check_images(image0, "image0")
    check_images(image1, "image1")
    lengths = {len(image0), len(image1)} - {1}
    if image0.shape[1:] != image1.shape[1:] or len(lengths) > 1:
        raise ValueError(
            f"image0 is {tuple(image0.shape)} and image1 {tuple(image1.shape)} (N,H,W,C), expected the same size "
            "and channels, and as many images or one. Resize one of them, or pick the images that belong together."
        )
    n = max(len(image0), len(image1))
    return image0.expand(n, -1, -1, -1), image1.expand(n, -1, -1, -1)


def trim_window(video) -> tuple[float, float]:
    """Says what Trim Video left of a VIDEO: begin and length in seconds; length 0 is to the end, a begin < 0 from
    there."""
    if hasattr(video, "get_active_trim_window"):
        return video.get_active_trim_window()
    # ComfyUI before 0.23 keeps it to itself.
    return getattr(video, "_VideoFromFile__start_time", 0), getattr(video, "_VideoFromFile__duration", 0)
