"""ComfyUI's model management: patcher, precision, memory estimate, back-off, progress, cancel.

The only file that touches comfy.model_management, comfy.model_patcher and comfy.utils; the devices, dtypes and
limits that the user set for ComfyUI are all read here.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.utils
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor, nn

from ..rife import engine
from ..rife.engine.chunks import Chunks, Part
from ..rife.evaluation.charts import flow_picture
from ..rife.model import Motion
from ..rife.model.acceleration import most_per_pass
from ..rife.model.device_memory import is_out_of_memory, largest_fitting_batch
from ..rife.model.devices import named_dtype
from ..rife.ops.memory_format import memory_format
from ..rife.timeline import scenes
from ..rife.timeline.plans import Clips, Clock, Plan
from ..rife.timeline.plans import plan as make_plan
from ..rife.timeline.scenes import Scenes
from ..rife.video import job as video
from ..rife.video.job import Job
from .native import adapt

log = logging.getLogger(__name__)

# New frames per pass fill a large GPU with about this many pixels: 24 at 720x480, 4 at 1080p, 1 at 4K.
_PIXELS_PER_BATCH = 8 * 1024 * 1024
_MAX_BATCH = 32
_PREVIEW_SIDE = 512  # ComfyUI scales larger previews down anyway
_SECONDS_PER_PREVIEW = 1.0


def make_patcher(network: nn.Module, precision: str | torch.dtype = "auto", disable_dynamic: bool = False):
    """`network` cast and handed to ComfyUI's model management: the value of an INTERP_MODEL socket.

    precision: a dtype or a key of `rife.model.PRECISIONS`; auto is the half that ComfyUI trusts the device with, fp16
    first, else float32. disable_dynamic: with the plain patcher, which ComfyUI asks for when it rebuilds a model for
    another device.
    """
    device = comfy.model_management.get_torch_device()
    dtype = (
        precision if isinstance(precision, torch.dtype) else named_dtype(precision) or _trusted_dtype(device)
    )
    # By attribute: ComfyUI rebinds CoreModelPatcher at start.
    patcher_class = comfy.model_patcher.CoreModelPatcher
    if disable_dynamic:
        patcher_class = comfy.model_patcher.ModelPatcher
    patcher = patcher_class(
        network.to(dtype=dtype, memory_format=memory_format(device, dtype)),
        load_device=device,
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_LOAD, _finish_load)
    return patcher


def _trusted_dtype(device: torch.device) -> torch.dtype:
    if comfy.model_management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


def with_precision(patcher, precision: str):
    """`patcher`, or one of a copy of its network where another precision is named than it has."""
    dtype = named_dtype(precision)
    network = getattr(patcher, "model", None)
    if dtype is None or not hasattr(network, "get_dtype") or network.get_dtype() == dtype:
        return patcher  # what is no model is refused by `adapt`
    with torch.inference_mode(False), torch.no_grad():
        network = copy.deepcopy(network).to(patcher.offload_device)
        return make_patcher(network, precision)


def _finish_load(patcher, device: torch.device, *_) -> None:
    """ComfyUI calls this after loading, also for its own FrameInterpolate, which would not move the strays."""
    move_strays(patcher.model, device)


def move_strays(network: nn.Module, device: torch.device) -> None:
    """Moves the weights to `device` that a partial load leaves behind.

    With --novram or little free memory, ComfyUI loads only layers of its comfy.ops, which bring their weights at
    each call. Plain layers, and parameters beside submodules (`ResConv.beta`), stay on the CPU: a few MB at most
    for ComfyUI's networks, 10 to 90 MB for ours. They go back when ComfyUI unloads the model.
    """
    # Outside of inference mode, or the weights would become inference tensors, which nobody can train.
    with torch.inference_mode(False), torch.no_grad():
        for module in network.modules():
            if hasattr(module, "comfy_cast_weights"):
                continue
            for name, weight in module._parameters.items():
                if weight is not None and weight.device != device:
                    module._parameters[name] = nn.Parameter(
                        weight.to(device), requires_grad=weight.requires_grad
                    )
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device != device:
                    module._buffers[name] = buffer.to(device)


def interpolate(
    patcher,
    frames: Tensor,
    times: Sequence[float] = (),
    *,
    plan: Plan | Clips | None = None,
    scale: float = 1.0,
    tta: bool = False,
    ensemble: bool = False,
    batch_size: int = 0,
    precision: str = "auto",
    acceleration: str = "off",
    masks: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`frames` (N,H,W,C) with new ones at `times` between each two, or as `plan` says, on ComfyUI's devices.

    times: as `rife.engine.pair_times` gives them; batch_size 0: as many new frames per pass as fit.
    precision: of the network in this run; acceleration: see `rife.acceleration`.
    Returns contiguous (M,H,W,C) on the intermediate device and in its dtype, M = (N-1)*(len(times)+1) + 1, or the
    plan's length; with masks (N,H,W), which follow the flow of the frames, also theirs, (M,H,W).
    """
    plan = plan or make_plan(Clock(frames.shape[0], 1), timesteps=times)
    total = sum(step.kind == "new" for step in plan)
    shape = len(plan), *frames.shape[1:]
    outs = {"out": empty_images(shape)}
    if masks is not None:
        outs |= {"masks": masks, "out_masks": empty_images(shape[:3])}
    if not total:
        engine.interpolate(None, frames, plan=plan, batch_size=1, **outs)
    else:
        options = {"scale": scale, "TTA": tta, "ensemble": ensemble}
        model, batch = load(
            with_precision(patcher, precision),
            *shape[1:3],
            wanted=min(batch_size or most_per_pass(total, acceleration), total),
            auto=not batch_size,
            channels=shape[3] + (masks is not None),
            **options,
        )
        accelerate(model, acceleration)
        engine.interpolate(
            model,
            frames,
            plan=plan,
            batch_size=batch,
            on_progress=Progress(total),
            **options,
            **outs,
            **back_off(),
        )
    return outs["out"] if masks is None else (outs["out"], outs["out_masks"])


def render(
    patcher, job: Job, path: Path, *, scale: float, tta: bool, ensemble: bool, batch_size: int,
    precision: str = "auto", acceleration: str = "off",
) -> tuple[int, list[int]]:  # fmt: skip
    """Computes a whole job into the file `path`: its number of frames, and those of the clip that begin a scene.

    batch_size 0: as many per pass as fit.
    """
    clip, patcher = job.clip, with_precision(patcher, precision)
    options = {"scale": scale, "TTA": tta, "ensemble": ensemble}
    model, batch = load(
        patcher, clip.height, clip.width, wanted=batch_size or _MAX_BATCH, auto=not batch_size,
        channels=4 if clip.look.alpha else 3, **options,
    )  # fmt: skip
    accelerate(model, acceleration)
    progress, finder = Progress(len(job.plan)), job.timing.finder()
    with job.writer(path) as writer:
        video.render(
            model, job, job.part(), writer, lambda done, frame: progress(done, progress.total, frame),
            finder=finder, batch_size=batch, **options, **back_off(),
        )  # fmt: skip
    return writer.count, job.timing.cuts_among(finder)


def make_chunk(
    patcher, chunks: Chunks, part: Part, last: bool, shape: Sequence[int], *, scale: float, tta: bool,
    ensemble: bool, batch_size: int, precision: str = "auto", acceleration: str = "off",
) -> Tensor:  # fmt: skip
    """The frames (M,H,W,C) of a part of a clip that comes in chunks of frames of `shape` (H,W,C)."""
    out = empty_images((part.last - part.first, *shape))
    patcher = with_precision(patcher, precision)
    options = {"scale": scale, "TTA": tta, "ensemble": ensemble}
    model, batch = load(
        patcher, *shape[:2], wanted=batch_size or len(out), auto=not batch_size, channels=shape[2], **options
    )
    accelerate(model, acceleration)
    progress = Progress(len(out))
    frames = chunks.make(model, part, last, batch_size=batch, **options, **back_off())
    for k, frame in enumerate(frames):
        out[k].copy_(frame)
        progress(k + 1, len(out), frame)
    return out


def find_scenes(patcher, frames: Tensor) -> Scenes:
    """Cuts and repeats of `frames` (N,H,W,C), made small where they are and compared where the model runs."""

    def watched() -> Iterator[Tensor]:
        for frame in frames:
            comfy.model_management.throw_exception_if_processing_interrupted()
            yield frame

    return scenes.find_scenes(watched(), getattr(patcher, "load_device", None))


def choose_scale(patcher, found: Scenes, height: int, width: int) -> tuple[float, str]:
    """`rife.scenes.choose_scale` for this model; ComfyUI's own only know 1."""
    reach = getattr(getattr(patcher.model, "config", None), "reach", None)
    if not reach:
        return 1.0, "models of ComfyUI's own loader only know scale 1"
    return scenes.choose_scale(found, height, width, reach)


def describe(patcher, precision: str = "auto") -> dict[str, str]:
    """Where and how precisely the model runs, for a report."""
    dtype = named_dtype(precision) or patcher.model_dtype()
    return {
        "device": str(patcher.load_device),
        "precision": str(dtype).removeprefix("torch."),
    }


def between(
    patcher,
    image0: Tensor,
    image1: Tensor,
    timestep: float,
    *,
    scale: float = 1.0,
    tta: bool = False,
    ensemble: bool = False,
    precision: str = "auto",
    acceleration: str = "off",
) -> Tensor:
    """The images (N,H,W,C) at 0 < `timestep` < 1 between the pairs of image0 and image1 (N,H,W,C)."""
    result = empty_images(image0.shape)
    options = {"scale": scale, "TTA": tta, "ensemble": ensemble}
    patcher = with_precision(patcher, precision)
    model, _ = load(patcher, *image0.shape[1:3], channels=image0.shape[3], **options)
    accelerate(model, acceleration)
    progress = Progress(len(image0))
    for i, pair in enumerate(zip(image0, image1, strict=True)):
        progress.before = i
        made = engine.interpolate(
            model, torch.stack(pair), timesteps=[timestep], batch_size=1, on_progress=progress, **options,
            **back_off(),
        )  # fmt: skip
        result[i].copy_(made[1])
    return result


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """`network`, which ComfyUI does not manage, moved to `device` in the layout that is fastest there."""
    return network.to(device, memory_format=memory_format(device, next(network.parameters()).dtype))


@contextmanager
def room_to_train(device: torch.device, advice: str) -> Iterator[None]:
    """All of the device's memory, as ComfyUI's own training takes it, and none of inference mode.

    Raises RuntimeError with `advice` where that is not enough.
    """
    comfy.model_management.free_memory(1e30, device)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except Exception as error:
        if not is_oom(error):
            raise
        raise RuntimeError(f"The training does not fit into the memory of {device}. {advice}") from error
    finally:
        comfy.model_management.soft_empty_cache()


def motion(patcher, image0: Tensor, image1: Tensor, timestep: float, scale: float = 1.0) -> Motion:
    """`rife.Model.motion` of each pair of image0 and image1 (N,H,W,C), on the CPU. Raises ValueError, RuntimeError."""
    if not hasattr(adapt(patcher), "motion"):
        raise ValueError(
            f"interp_model is ComfyUI's own {type(patcher.model).__name__}, which gives finished frames and tells "
            "nothing of the flow. Load the same file with Load RIFE Checkpoint; FILM cannot be looked into."
        )
    model, _ = load(patcher, *image0.shape[1:3], scale=scale)
    progress = Progress(len(image0))
    found = []
    for i, pair in enumerate(zip(image0, image1, strict=True)):
        check_cancel()
        img0, img1 = (frame[None].permute(0, 3, 1, 2) for frame in pair)
        found.append([part.cpu() for part in model.motion(img0, img1, timestep, scale)])
        progress.show(i + 1, lambda: to_picture(flow_picture(found[-1][0][0])))
    return Motion(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def accelerate(model, how: str) -> None:
    """Turns `rife.acceleration` on where the model has it: ComfyUI's own networks do not, which is said."""
    if hasattr(model, "accelerate"):
        model.accelerate(how)
    elif how != "off":
        log.warning("No %s for a network of ComfyUI's own loader. Going on without.", how)


def back_off() -> dict:
    """The engine's arguments for running out of memory."""
    return {"is_oom": is_oom, "on_oom": comfy.model_management.soft_empty_cache}


def load(patcher, height: int, width: int, *, wanted: int = 1, auto: bool = True, **options):
    """Loads the model for frames of height x width: (its `rife.engine.Interpolator`, new frames per pass).

    wanted: new frames there are to make at once; with `auto` it is a limit, else it is taken as it is. options: scale,
    TTA, ensemble, channels, as far as the memory for them is asked for.
    """
    model = adapt(patcher)
    device = patcher.load_device

    def estimate(frames: int) -> int:
        return model.memory_estimate(height, width, frames, **options)

    batch = _plan(device, height, width, estimate, wanted) if auto else wanted
    # A RIFE is small beside its activations: all of it or nothing.
    comfy.model_management.load_models_gpu([patcher], memory_required=estimate(batch), force_full_load=True)
    move_strays(patcher.model, device)
    if auto and device.type != "cpu":
        batch = largest_fitting_batch(batch, 0.9 * comfy.model_management.get_free_memory(device), estimate)
    log.debug(
        "%s: %d new frames of %dx%d per pass, %d MB", device, batch, width, height, estimate(batch) >> 20
    )
    return model, batch


def _plan(device: torch.device, height: int, width: int, estimate: Callable[[int], int], wanted: int) -> int:
    """New frames per pass to ask memory for: enough to fill a GPU, never more than half of its memory."""
    if device.type == "cpu":
        return 1  # one frame's working set already exceeds the caches
    batch = min(wanted, _MAX_BATCH, _PIXELS_PER_BATCH // (height * width))
    return largest_fitting_batch(batch, comfy.model_management.get_total_memory(device) / 2, estimate)


def is_oom(error: BaseException) -> bool:
    """Whether `error` means that memory ran out, on any kind of device."""
    # Of some errors ComfyUI looks at the code; it also clears what CUDA remembers of them.
    return comfy.model_management.is_oom(error) or is_out_of_memory(error)


def empty_images(shape: Sequence[int]) -> Tensor:
    """An uninitialised IMAGE where ComfyUI keeps them. Raises RuntimeError that says what to do instead."""
    dtype, device = comfy.model_management.intermediate_dtype(), comfy.model_management.intermediate_device()
    try:
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    except Exception as error:
        if not is_oom(error):
            raise
        size = torch.Size(shape).numel() * dtype.itemsize / 1e9
        raise RuntimeError(
            f"The result of {shape[0]} frames of {shape[2]}x{shape[1]} takes {size:.1f} GB, more than {device} has "
            "left. Interpolate the clip in parts, with a smaller multiplier, or start ComfyUI with "
            "--fp16-intermediates."
        ) from error


def as_images(images: Tensor) -> Tensor:
    """`images` on the intermediate device, in its dtype, contiguous."""
    return images.to(
        comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
    ).contiguous()


def check_cancel() -> None:
    """Raises what `cancelled` catches, once for each press of ComfyUI's cancel button."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def cancelled() -> type[BaseException]:
    """ComfyUI's exception for it. By a call: the class is looked up when it is needed, not when this is imported."""
    return comfy.model_management.InterruptProcessingException


class Progress:
    """`on_progress` of the engine: ComfyUI's bar with a picture about once a second, and the cancel button."""

    def __init__(self, total: int):
        self.total = total
        self.before = 0  # new frames of earlier runs, where one node makes several
        self._bar = comfy.utils.ProgressBar(total)
        self._last_preview = time.monotonic()

    def __call__(self, done: int, total: int, frame: Tensor | None) -> None:
        self.show(done, None if frame is None else lambda: to_picture(frame))

    def show(
        self, done: int, picture: Callable[[], Image.Image] | None, seconds: float = _SECONDS_PER_PREVIEW
    ):
        """Moves the bar; the picture is made only if the last one is `seconds` old."""
        check_cancel()
        preview = None
        if picture is not None and time.monotonic() - self._last_preview >= seconds:
            preview = ("JPEG", picture(), _PREVIEW_SIDE)
            self._last_preview = time.monotonic()
        self._bar.update_absolute(self.before + done, self.total, preview)


class TransferProgress:
    """`on_progress` of a download: ComfyUI's bar, in bytes, and the cancel button."""

    def __init__(self):
        self._bar = comfy.utils.ProgressBar(1)

    def __call__(self, done: int, total: int | None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Of unknown size: half way, always.
        self._bar.update_absolute(done, total or max(1, 2 * done))


def say(text: str) -> None:
    """A line of text on the face of the node that runs, in every browser that shows it."""
    context = get_executing_context()
    if context is not None and (server := _server()):
        server.send_progress_text(text, context.node_id)


def has_server() -> bool:
    """Whether ComfyUI serves anyone, or is only used as a library."""
    return _server() is not None


def _server():
    # ComfyUI's, which is long there when its server asks for nodes or runs one.
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def to_picture(frame: Tensor) -> Image.Image:
    """A small RGB picture of one frame (H,W,C), by leaving out pixels."""
    step = max(1, max(frame.shape[:2]) // _PREVIEW_SIDE)
    small = frame[::step, ::step, : 3 if frame.shape[2] > 2 else 1]
    if small.is_floating_point():
        small = small.float().clamp(0, 1).mul(255).round()
    small = small.to("cpu", torch.uint8)
    return Image.fromarray(small.expand(-1, -1, 3).contiguous().numpy())
