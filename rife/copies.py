"""Frames between host and device: plainly, or, for CUDA, while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, cuda

Rows = Sequence[Sequence[Tensor]]  # for each image, the frames (H,W,C) of the result that show it


def copies(device: torch.device, result: torch.device) -> Copies:
    """How frames go to a model on `device` and from there to a result on another."""
    return Overlapped(device) if device.type == "cuda" and result.type == "cpu" else Copies(device)


class Copies:
    """Copies that are done when the call returns."""

    def __init__(self, device: torch.device):
        self.device = device
        self.landed = 0  # images that are in the result

    def upload(self, frames: Sequence[Tensor]) -> Tensor:
        """Frames (H,W,C) as they are -> (N,H,W,C) on the device."""
        return torch.stack(list(frames)).to(self.device)

    def save(self, images: Tensor, rows: Rows) -> None:
        """Writes images (B,C,H,W) of the device into the result."""
        for image, targets in zip(images, rows, strict=True):
            for row in targets:
                row.copy_(rearrange(image, "c h w -> h w c"))
        self.landed += len(rows)

    def finish(self) -> None:
        """Returns when all is in the result."""


class Overlapped(Copies):
    """Copies on streams of their own, through pinned memory: the device never waits for the host.

    Results pass through pinned buffers of one batch each, at most two at a time. Pinning the result itself would
    lock as much memory as the clip has. Buffers come from PyTorch's caching allocator, which does not hand one out
    again before its copy is done.
    """

    def __init__(self, device: torch.device):
        super().__init__(device)
        self._inward, self._outward = cuda.Stream(device), cuda.Stream(device)
        self._flying: deque[tuple[cuda.Event, Tensor, Rows]] = deque()

    def upload(self, frames: Sequence[Tensor]) -> Tensor:
        first = frames[0]
        if first.device.type != "cpu":
            return super().upload(frames)
        waiting = _pinned((len(frames), *first.shape), first.dtype)
        torch.stack(list(frames), out=waiting)
        computing = cuda.current_stream(self.device)
        with cuda.stream(self._inward):
            sent = waiting.to(self.device, non_blocking=True)
        computing.wait_stream(self._inward)
        sent.record_stream(computing)
        return sent

    def save(self, images: Tensor, rows: Rows) -> None:
        images = rearrange(images, "b c h w -> b h w c").to(rows[0][0].dtype).contiguous()
        self._outward.wait_stream(cuda.current_stream(self.device))
        with cuda.stream(self._outward):
            arriving = _pinned(images.shape, images.dtype)
            arriving.copy_(images, non_blocking=True)
            images.record_stream(self._outward)
            arrived = cuda.Event()
            arrived.record(self._outward)
        self._flying.append((arrived, arriving, rows))
        # The batch before this one: the device computes meanwhile.
        while len(self._flying) > 1:
            self._land()

    def finish(self) -> None:
        while self._flying:
            self._land()

    def _land(self) -> None:
        arrived, images, rows = self._flying.popleft()
        arrived.synchronize()
        for image, targets in zip(images, rows, strict=True):
            for row in targets:
                row.copy_(image)
        self.landed += len(rows)


def _pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
