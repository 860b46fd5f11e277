"""Frames in, frames out: which pair at which time, in batches, written straight into the result.

Frames are H W C in 0..1, as ComfyUI's IMAGE; the model sees B C H W. Original frames are copied bit-exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

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


def interpolate(
    model: Interpolator,
    frames: Tensor,
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
    out: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    on_progress: Progress | None = None,
    is_oom: Callable[[BaseException], bool] | None = None,
    on_oom: Callable[[], None] | None = None,
) -> Tensor:
    """`frames` (N,H,W,C) with new frames between each two -> contiguous (M,H,W,C), M = (N-1)*multiplier + 1.

    timesteps: times between 0 and 1 exclusive, rising, made for every pair instead of multiplier's even ones;
    then M = (N-1)*(len(timesteps)+1) + 1. scale, TTA, ensemble: see `Model.inference`.
    batch_size: new frames per forward pass; default by size and, on an accelerator, free memory.
    out: a contiguous tensor of the result's shape to write into; out_dtype: of the result, default frames'.
    on_progress(done, total, newest frame or None): before the first and after every batch, counting new frames;
    what it raises ends the run. is_oom tells whether an exception means out of memory (default: torch's own);
    then the batch is halved, after on_oom(). Raises ValueError, or RuntimeError when one frame does not fit.
    """
    times = pair_times(multiplier, timesteps)
    _check_frames(frames)
    n = frames.shape[0]
    step = len(times) + 1
    shape = ((n - 1) * step + 1, *frames.shape[1:])
    out = _output(out, shape, out_dtype or frames.dtype, frames.device)
    for i in range(n):
        out[i * step].copy_(frames[i])

    # Flat list of (pair, time): batches run across pairs, not only within one.
    tasks = [(pair, j) for pair in range(n - 1) for j in range(len(times))]
    options = {"scale": scale, "TTA": TTA, "ensemble": ensemble}
    done = 0
    for count, images in _run_batches(
        model,
        lambda i: frames[i],
        tasks,
        times,
        frames.shape[1:3],
        batch_size,
        options,
        on_progress,
        is_oom,
        on_oom,
    ):
        for (pair, j), image in zip(tasks[done : done + count], images, strict=True):
            out[pair * step + j + 1].copy_(rearrange(image, "c h w -> h w c"))
        done += count
        if on_progress:
            pair, j = tasks[done - 1]
            on_progress(done, len(tasks), out[pair * step + j + 1])
    return out


def interpolate_stream(
    model: Interpolator,
    frames: Iterable[Tensor],
    multiplier: int = 2,
    *,
    timesteps: Sequence[float] | None = None,
    scale: float = 1.0,
    TTA: bool = False,
    ensemble: bool = False,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """As `interpolate`, one frame (H,W,C) float at a time, in constant memory.

    Holds one chunk of source frames (as many as fill a batch). Originals are yielded as they came.
    """
    times = pair_times(multiplier, timesteps)
    options = {"scale": scale, "TTA": TTA, "ensemble": ensemble, "batch_size": batch_size}
    chunk: list[Tensor] = []
    size = None
    for frame in frames:
        frame = torch.as_tensor(frame)
        if size is None:
            size = max(2, 1 + -(-(batch_size or _auto_batch(model, *frame.shape[:2])) // max(1, len(times))))
        chunk.append(frame)
        if len(chunk) == size:
            yield from interpolate(model, torch.stack(chunk), timesteps=times, **options)[:-1]
            chunk = chunk[-1:]
    if chunk:
        yield from interpolate(model, torch.stack(chunk), timesteps=times, **options)


def pair_times(multiplier: int, timesteps: Sequence[float] | None = None) -> list[float]:
    """The times between two frames: timesteps as given, or multiplier-1 even ones. Raises ValueError."""
    if timesteps is None:
        if int(multiplier) != multiplier or multiplier < 1:
            raise ValueError(
                f"multiplier is {multiplier}, expected a whole number of 1 or more. 2 doubles the frame rate."
            )
        return [j / int(multiplier) for j in range(1, int(multiplier))]
    times = [float(t) for t in timesteps]
    if any(not 0 < t < 1 for t in times) or any(a >= b for a, b in zip(times, times[1:], strict=False)):
        raise ValueError(
            f"timesteps are {times}, expected rising values between 0 and 1 exclusive, such as 0.25, 0.5, 0.75. "
            "0 and 1 are the frames themselves and always in the result."
        )
    return times


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
    model, frame_at, tasks, times, size, batch_size, options, on_progress, is_oom, on_oom
) -> Iterator[tuple[int, Tensor]]:
    """Yields (number of tasks done, their frames (B,C,H,W) on the model's device), halving on out of memory."""
    is_oom = is_oom or (lambda error: isinstance(error, torch.OutOfMemoryError))
    batch = batch_size or _auto_batch(model, *size)
    encoded: dict[int, Tensor] = {}
    if on_progress:
        on_progress(0, len(tasks), None)
    done = 0
    while done < len(tasks):
        part = tasks[done : done + batch]
        try:
            images = _forward(model, frame_at, part, times, encoded, options)
        except Exception as error:
            if not is_oom(error):
                raise
            if len(part) == 1:
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                raise RuntimeError(
                    f"Not enough memory for one new frame of {size[1]}x{size[0]} on {model.run_device} ({cause}). "
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
        yield len(part), images


def _forward(model, frame_at, part, times, encoded: dict[int, Tensor], options) -> Tensor:
    """One batch of (pair, time). Each frame is uploaded and encoded once and kept while a later pair needs it."""
    needed = sorted({i for pair, _ in part for i in (pair, pair + 1)})
    for i in [i for i in encoded if i < needed[0]]:
        del encoded[i]
    new = [i for i in needed if i not in encoded]
    if new:
        frames = torch.stack([frame_at(i) for i in new]).to(model.run_device)
        frames = rearrange(frames, "n h w c -> n c h w")
        encoded.update(zip(new, _encode(model, frames, options).split(1), strict=True))
    sources = (_together([encoded[pair + k] for pair, _ in part]) for k in (0, 1))
    timestep = torch.tensor([times[j] for _, j in part])
    if not hasattr(model, "between"):
        return model.inference(*sources, timestep=timestep, **options)
    height, width, channels = frame_at(part[0][0]).shape
    return model.between(*sources, (channels, height, width), timestep=timestep, **options)


def _together(samples: list[Tensor]) -> Tensor:
    return torch.cat(samples) if len(samples) > 1 else samples[0]


def _encode(model, frames: Tensor, options) -> Tensor:
    if not hasattr(model, "encode"):
        return frames
    return model.encode(frames, scale=options["scale"], TTA=options["TTA"], name="the clip")


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
