"""Moves frames between host and device: plainly, or, for CUDA, while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, cuda

from ..model.device_memory import pinned

Target = Sequence[Tensor]  # a frame of the result: its channels in one tensor (H,W,C), or in parts
Rows = Sequence[Sequence[Target]]  # for each image, the frames of the result that show it

_PIECE = 16 << 20  # bytes that are pinned and copied at once, a power of two: the allocator would round up
# Pieces at most: 224 MB; a batch is 100 MB where the engine chooses it.
_DOWNLOAD_PIECES, _UPLOAD_PIECES = 10, 4


def transfer_between(device: torch.device, result: torch.device) -> Transfer:
    """Chooses how frames go to a model on `device` and from there to a result on another."""
    return OverlappedTransfer(device) if device.type == "cuda" and result.type == "cpu" else Transfer(device)


def write(target: Target, picture: Tensor, rows: slice = slice(None)) -> None:
    """Copies `picture` (h,W,C) into these rows of a frame of the result."""
    for part, given in zip(target, picture.split([part.shape[-1] for part in target], -1), strict=True):
        part[rows].copy_(given)


class Transfer:
    """Makes copies that are done when the call returns."""

    lag = 0  # passes that may be launched before the frames of one are waited for

    def __init__(self, device: torch.device):
        self.device = device
        self.completed = 0  # images that are in the result

    def upload(self, frames: Sequence[Tensor]) -> Tensor:
        """Copies frames (H,W,C) as they are to (N,H,W,C) on the device."""
        return torch.stack(list(frames)).to(self.device)

    def save(self, images: Tensor, rows: Rows) -> None:
        """Writes images (B,C,H,W) of the device into the result. What it raises leaves `completed` as it was."""
        for image, targets in zip(images, rows, strict=True):
            for target in targets:
                write(target, rearrange(image, "c h w -> h w c"))
        self.completed += len(rows)

    def wait(self, count: int) -> None:
        """Returns when the first `count` images are in the result."""


class _InTransit(NamedTuple):
    """A piece of some images on its way into the result: lines `start` and on of all their lines (W,C)."""

    buffer: Tensor
    lines: Tensor
    arrived: cuda.Event
    start: int
    first: int  # number of the first of the images, since the beginning
    rows: Rows


class OverlappedTransfer(Transfer):
    """Makes copies on streams of their own, through pinned memory: the device never waits for the host.

    Pinning the result itself would lock as much memory as the clip has. So frames pass through a few pinned pieces,
    used in turns. When a batch is saved, that before it is written into the result, as the device computes on.
    """

    lag = 1

    def __init__(self, device: torch.device):
        super().__init__(device)
        self._upload_stream, self._download_stream = cuda.Stream(device), cuda.Stream(device)
        self._in_transit: deque[_InTransit] = deque()
        self._uploading: deque[tuple[Tensor, cuda.Event]] = deque()
        self._free: list[Tensor] = []  # pieces for results
        self._saved = 0

    def upload(self, frames: Sequence[Tensor]) -> Tensor:
        """Copies frames (H,W,C) as they are to (N,H,W,C) on the device; the pass that is launched next waits for them
        there."""
        first = frames[0]
        if first.device.type != "cpu":
            return super().upload(frames)
        computing = cuda.current_stream(self.device)
        with cuda.stream(self._upload_stream):
            sent = torch.empty((len(frames), *first.shape), dtype=first.dtype, device=self.device)
            for start, lines in _pieces(sent.flatten(0, 1)):
                buffer = self._free_upload_buffer()
                piece = _view(buffer, lines)
                for i, in_piece, in_frame in _frames_of_piece(start, len(lines), first.shape[0]):
                    piece[in_piece].copy_(frames[i][in_frame])
                lines.copy_(piece, non_blocking=True)
                uploaded = cuda.Event()
                uploaded.record(self._upload_stream)
                self._uploading.append((buffer, uploaded))
        # The pass must not begin before its frames are there.
        computing.wait_stream(self._upload_stream)
        # Allocated on the other stream, which else could give the memory away while the pass reads it.
        sent.record_stream(computing)
        return sent

    def _free_upload_buffer(self) -> Tensor:
        """A piece of pinned memory that nothing is sent from any more."""
        if len(self._uploading) < _UPLOAD_PIECES:
            return pinned((_PIECE,), torch.uint8)
        buffer, uploaded = self._uploading.popleft()
        uploaded.synchronize()
        return buffer

    def save(self, images: Tensor, rows: Rows) -> None:
        """Begins to copy images (B,C,H,W) of the device to the host, and writes those of the batch before into the
        result."""
        images = rearrange(images, "b c h w -> b h w c").to(rows[0][0][0].dtype).contiguous()
        before = len(self._in_transit)
        # Copied not before they are computed, and their memory not given away before they are copied.
        self._download_stream.wait_stream(cuda.current_stream(self.device))
        images.record_stream(self._download_stream)
        with cuda.stream(self._download_stream):
            for start, lines in _pieces(images.flatten(0, 1)):
                if len(self._in_transit) >= _DOWNLOAD_PIECES:
                    self._complete_one()
                    before -= 1
                buffer = self._free.pop() if self._free else pinned((_PIECE,), torch.uint8)
                piece = _view(buffer, lines)
                piece.copy_(lines, non_blocking=True)
                arrived = cuda.Event()
                arrived.record(self._download_stream)
                self._in_transit.append(_InTransit(buffer, piece, arrived, start, self._saved, rows))
        self._saved += len(rows)
        # The batch before this one: the device computes meanwhile.
        for _ in range(before):
            self._complete_one()

    def wait(self, count: int) -> None:
        """Returns when the first `count` images are in the result."""
        while self.completed < count and self._in_transit:
            self._complete_one()

    def _complete_one(self) -> None:
        piece = self._in_transit.popleft()
        piece.arrived.synchronize()
        height = piece.rows[0][0][0].shape[0]
        for i, in_piece, in_frame in _frames_of_piece(piece.start, len(piece.lines), height):
            for target in piece.rows[i]:
                write(target, piece.lines[in_piece], in_frame)
            if in_frame.stop == height:
                # A batch that failed half-way is sent again.
                self.completed = max(self.completed, piece.first + i + 1)
        self._free.append(piece.buffer)


def _pieces(lines: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Lines (L,W,C) in parts of `_PIECE` bytes at most, each with its first line's number."""
    step = max(1, _PIECE // (lines[0].numel() * lines.element_size()))
    for start in range(0, len(lines), step):
        yield start, lines[start : start + step]


def _view(buffer: Tensor, lines: Tensor) -> Tensor:
    """The beginning of `buffer` as a tensor like `lines`."""
    return buffer[: lines.numel() * lines.element_size()].view(lines.dtype).view(lines.shape)


def _frames_of_piece(start: int, count: int, height: int) -> Iterator[tuple[int, slice, slice]]:
    """Which lines of a piece are which lines of which frame: (frame, lines of the piece, lines of the frame)."""
    for i in range(start // height, -(-(start + count) // height)):
        top, bottom = max(start, i * height), min(start + count, (i + 1) * height)
        yield i, slice(top - start, bottom - start), slice(top - i * height, bottom - i * height)
