"""Wraps ComfyUI's model management: patcher, precision, memory estimate, back-off, progress, cancel.

The only file that touches comfy.model_management, comfy.model_patcher and comfy.utils; the devices, dtypes and
limits that the user set for ComfyUI are all read here.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.utils
import psutil
import torch
import torch.nn.functional as F
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor, nn

from ..rife.engine import Interpolator
from ..rife.engine.batches import batch_for, to_float
from ..rife.model import InferenceOptions, devices
from ..rife.model.device_memory import is_out_of_memory, largest_fitting_batch
from ..rife.model.devices import fine_dtype, named_dtype, with_fine_dtype
from ..rife.ops.memory_format import memory_format
from .native import adapt

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_OPTIONS = InferenceOptions()
_PREVIEW_SIDE = 512  # ComfyUI scales larger previews down anyway
_SECONDS_PER_PREVIEW = 1.0
REPORT = 3  # which output of RIFE Interpolate and RIFE Interpolate Video is their report


def make_patcher(network: nn.Module, precision: str | torch.dtype = "auto", disable_dynamic: bool = False):
    """Casts `network` and hands it to ComfyUI's model management: the value of an INTERP_MODEL socket.

    precision: a dtype or a key of `rife.model.PRECISIONS`; auto is the half that ComfyUI trusts the device with, fp16
    first, else float32, on some CPUs in part bfloat16 (`rife.model.devices.fine_dtype`). disable_dynamic: with the
    plain patcher, which ComfyUI asks for when it rebuilds a model for another device.
    """
    device = comfy.model_management.get_torch_device()
    dtype = (
        precision if isinstance(precision, torch.dtype) else named_dtype(precision) or _trusted_dtype(device)
    )
    if precision == "auto":
        with_fine_dtype(network, fine_dtype(device))
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
    """Returns `patcher`, or one of a copy of its network where another precision is named than it has. Raises
    ValueError for a name that is none."""
    dtype = named_dtype(precision)
    network = getattr(patcher, "model", None)
    if dtype is None or not hasattr(network, "get_dtype"):
        return patcher  # what is no model is refused by `adapt`
    if network.get_dtype() == dtype and not getattr(network, "fine_dtype", None):
        return patcher
    with torch.inference_mode(False), torch.no_grad():
        network = copy.deepcopy(network).to(patcher.offload_device)
        return make_patcher(with_fine_dtype(network, None), precision)


def _finish_load(patcher, device: torch.device, *_) -> None:
    """ComfyUI calls this after loading, also for its own FrameInterpolate, which would not move the strays."""
    move_unmanaged_weights(patcher.model, device)


def move_unmanaged_weights(network: nn.Module, device: torch.device) -> None:
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


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves `network`, which ComfyUI does not manage, to `device`, in the layout that is fastest there; returns it."""
    return devices.placed(network, device)


@contextmanager
def reserve_training_memory(device: torch.device, advice: str) -> Iterator[None]:
    """Takes all of the device's memory, as ComfyUI's own training does, and leaves inference mode, within the block.

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


def oom_options() -> dict:
    """Returns the engine's arguments for running out of memory."""
    return {"is_oom": is_oom, "on_oom": comfy.model_management.soft_empty_cache}


def load(
    patcher, height: int, width: int, options: InferenceOptions = DEFAULT_OPTIONS, channels: int = 3, *,
    wanted: int = 1, batch_size: int = 0, acceleration: str = "off",
) -> tuple[Interpolator, int]:  # fmt: skip
    """Loads the model for frames of height x width: as the engine wants it, with the number of new frames per pass.

    options, channels, acceleration: of the passes, which the memory is asked for. wanted: new frames that there are to
    make at once; batch_size: as many of them per pass, 0: as many as fit.
    """
    model = adapt(patcher).accelerate(acceleration)
    device = patcher.load_device

    def estimate(frames: int) -> int:
        return model.memory_estimate(height, width, frames, channels=channels, **options.keywords())

    batch = min(batch_size, wanted)
    if not batch_size:
        # What other models hold now can be freed: half of all there is, not of what is free.
        budget = None if device.type == "cpu" else comfy.model_management.get_total_memory(device) / 2
        batch = batch_for(device, height, width, wanted, budget, estimate)
    # A RIFE is small beside its activations: all of it or nothing.
    comfy.model_management.load_models_gpu([patcher], memory_required=estimate(batch), force_full_load=True)
    move_unmanaged_weights(patcher.model, device)
    if not batch_size and device.type != "cpu":
        free = comfy.model_management.get_free_memory(device)
        batch = largest_fitting_batch(batch, 0.9 * free, estimate)
    log.debug(
        "%s: %d new frames of %dx%d per pass, %d MB", device, batch, width, height, estimate(batch) >> 20
    )
    return model, batch


_TILE, _LEAST_TILE, _TILE_OVERLAP = 512, 128, 32
_PER_PIXEL = 384  # values that such models hold per pixel of a tile, by ComfyUI's own estimate


@contextmanager
def enlarging(upscale_model, height: int, width: int) -> Iterator[Callable[[Tensor], Tensor] | None]:
    """Gives what enlarges one frame (H,W,C) with an UPSCALE_MODEL, tile by tile, as ComfyUI's own node does; None for
    None.

    The model is on the device within the block. Frames of bytes or of 0..1 give floats in 0..1; opacity is enlarged
    smoothly. Out of memory halves the tiles, and they stay so. Models that run beside it are loaded after this.
    """
    if upscale_model is None:
        yield None
        return
    device, side = comfy.model_management.get_torch_device(), _TILE
    factor = max(upscale_model.scale, 1)
    needed = comfy.model_management.module_size(upscale_model.model)
    needed += _TILE * _TILE * 3 * 4 * factor * _PER_PIXEL + height * width * 3 * 4 * (1 + factor**2)
    comfy.model_management.free_memory(needed, device)

    def run(colours: Tensor) -> Tensor:
        nonlocal side
        while True:
            try:
                return comfy.utils.tiled_scale(
                    colours, lambda tile: upscale_model(tile.float()), tile_x=side, tile_y=side,
                    overlap=_TILE_OVERLAP, upscale_amount=upscale_model.scale, output_device="cpu",
                )  # fmt: skip
            except Exception as error:
                if not is_oom(error) or side // 2 < _LEAST_TILE:
                    raise
            side //= 2  # not where it was caught: the traceback keeps the failed tile alive
            comfy.model_management.soft_empty_cache()

    def enlarge(frame: Tensor) -> Tensor:
        values = to_float(frame).float()
        planes = values.permute(2, 0, 1)[None]
        large = run(planes[:, :3].to(device)).float()
        if planes.shape[1] > 3:
            rest = F.interpolate(planes[:, 3:].cpu(), size=large.shape[2:], mode="bilinear")
            large = torch.cat((large, rest), 1)
        return large[0].permute(1, 2, 0).clamp(0, 1)

    upscale_model.to(device)
    try:
        yield enlarge
    finally:
        upscale_model.to("cpu")


def is_oom(error: BaseException) -> bool:
    """Tells whether `error` means that memory ran out, on any kind of device."""
    # Of some errors ComfyUI looks at the code; it also clears what CUDA remembers of them.
    return comfy.model_management.is_oom(error) or is_out_of_memory(error)


def empty_images(shape: Sequence[int]) -> Tensor:
    """Allocates an uninitialised IMAGE of `shape`, (N,H,W,C) or (N,H,W), where ComfyUI keeps them. Raises RuntimeError
    that says what to do instead."""
    check_room(shape)
    dtype, device = comfy.model_management.intermediate_dtype(), comfy.model_management.intermediate_device()
    try:
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    except Exception as error:
        if not is_oom(error):
            raise
        raise RuntimeError(_no_room(shape)) from error


def check_room(shape: Sequence[int]) -> None:
    """Raises RuntimeError where there is no memory for an IMAGE of this shape: Linux hands out what it does not have,
    and ends ComfyUI when it is used."""
    dtype, device = comfy.model_management.intermediate_dtype(), comfy.model_management.intermediate_device()
    free = comfy.model_management.get_free_memory(device)
    if device.type == "cpu":
        free += psutil.swap_memory().free
    if math.prod(shape) * dtype.itemsize > free:
        raise RuntimeError(_no_room(shape))


def _no_room(shape: Sequence[int]) -> str:
    dtype, device = comfy.model_management.intermediate_dtype(), comfy.model_management.intermediate_device()
    size = math.prod(shape) * dtype.itemsize / 1e9
    return (
        f"The result of {shape[0]:,} frames of {shape[2]}x{shape[1]} takes {size:,.1f} GB, more than {device} has "
        "left. Interpolate the clip in parts, with a smaller multiplier, use RIFE Interpolate Video, which holds "
        "no clip, or start ComfyUI with --fp16-intermediates."
    )


def as_images(images: Tensor) -> Tensor:
    """Returns `images` (N,H,W,C) on the intermediate device, in its dtype, contiguous."""
    return images.to(
        comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
    ).contiguous()


def check_cancel() -> None:
    """Raises what `cancelled` catches, once for each press of ComfyUI's cancel button."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def watched(items: Iterable[T]) -> Iterator[T]:
    """Yields each of `items`, and raises what `cancelled` catches before the next one."""
    for item in items:
        check_cancel()
        yield item


def cancelled() -> type[BaseException]:
    """Returns ComfyUI's exception for a cancel. By a call: the class is looked up when it is needed, not when this is
    imported."""
    return comfy.model_management.InterruptProcessingException


class Progress:
    """Is `on_progress` of the engine: ComfyUI's bar with a picture about once a second, and the cancel button."""

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
            shown = picture()
            # ComfyUI scales it to the size that is named, up as well, and the browser tells that size.
            preview = ("JPEG", shown, max(shown.size))
            self._last_preview = time.monotonic()
        self._bar.update_absolute(self.before + done, self.total, preview)


class TransferProgress:
    """Is `on_progress` of a download: ComfyUI's bar, in bytes, and the cancel button."""

    def __init__(self):
        self._bar = comfy.utils.ProgressBar(1)

    def __call__(self, done: int, total: int | None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Of unknown size: half way, always.
        self._bar.update_absolute(done, total or max(1, 2 * done))


def send_status_text(text: str) -> None:
    """Shows a line of text on the face of the node that runs, where it was queued.

    Front ends from 1.54 on take it away when the run ends: what is to stay is the report's `summary`, too.
    """
    context, client = get_executing_context(), _client()
    if context is not None and client:
        _server().send_progress_text(text, context.node_id, client)


def send_forecast(node, text: str) -> None:
    """Shows what a run will take on the face of `node`, which runs, and until its report comes where that is shown.

    That is every Preview as Text on its output `report`: told that it was executed, it shows the text, and keeps it
    when the run is cancelled or fails.
    """
    send_status_text(text)
    hidden, context, client = getattr(node, "hidden", None), get_executing_context(), _client()
    if hidden is None or not client:
        return
    for viewer in _viewers_of(hidden.prompt or {}, hidden.unique_id, REPORT):
        shown = {"node": viewer, "display_node": viewer, "output": {"text": [text]}}
        _server().send_sync("executed", {**shown, "prompt_id": context.prompt_id}, client)


def _viewers_of(prompt: dict, node_id: str, output: int) -> list[str]:
    """The nodes of a prompt that show an output as text."""
    return [
        viewer
        for viewer, node in prompt.items()
        if node.get("class_type") == "PreviewAny"
        and node.get("inputs", {}).get("source") == [str(node_id), output]
    ]


def _client() -> str | None:
    """The browser that queued what runs: in all others the node may be another one, in another graph."""
    return getattr(_server(), "client_id", None)


def has_server() -> bool:
    """Tells whether ComfyUI serves anyone, or is only used as a library."""
    return _server() is not None


def _server():
    # ComfyUI's, which is long there when its server asks for nodes or runs one.
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def to_picture(frame: Tensor) -> Image.Image:
    """Makes a small RGB picture of one frame (H,W,C), by leaving out pixels."""
    step = max(1, max(frame.shape[:2]) // _PREVIEW_SIDE)
    small = frame[::step, ::step, : 3 if frame.shape[2] > 2 else 1]
    if small.is_floating_point():
        small = small.float().clamp(0, 1).mul(255).round()
    small = small.to("cpu", torch.uint8)
    return Image.fromarray(small.expand(-1, -1, 3).contiguous().numpy())
