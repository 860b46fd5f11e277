"""Gathers what a training learns from, as users have it: images, videos, a folder in ComfyUI's input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from ..rife.training.datasets import Shot, load_clip, read_folder, shots, split
from .model_management import watched
from .types import as_bytes, check_images, trim_window

NO_FOLDER = "none"


def folders() -> list[str]:
    """Lists the folders directly in ComfyUI's input folder; deeper ones may be a data set's, ten thousands of them."""
    place = folder_paths.get_input_directory()
    if not os.path.isdir(place):
        return []
    return sorted(entry.name for entry in os.scandir(place) if entry.is_dir())


def folder_state(folder: str) -> str:
    """Returns a text that changes when files come, go or are replaced."""
    place = Path(folder_paths.get_input_directory(), folder)
    if folder == NO_FOLDER or not place.is_dir():
        return folder
    return repr(sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in os.scandir(place)))


def gather(
    images: Sequence[Tensor], videos: Iterable, folder: str, held_out: float, limits: tuple[int, int]
) -> tuple[list[Shot], list[Shot]]:
    """Returns shots to learn from, and to be judged by: the last `held_out` (0..0.5) of each one's frames, of images
    (N,H,W,C) and videos.

    images: IMAGE batches, each a clip; single images of one size that follow each other are one clip. videos: VIDEO
    values. folder: one of `folders`, or NO_FOLDER. limits: most frames of a clip and largest width, for videos and
    folders. Raises ValueError where there is nothing.
    """
    clips = [*_joined(images), *(_frames_of(video, limits) for video in videos)]
    learn, validation = split([shot for clip in clips for shot in shots(clip, watch=watched)], held_out)
    if folder != NO_FOLDER:
        more = read_folder(Path(folder_paths.get_input_directory(), folder), held_out, *limits, watched)
        learn, validation = learn + more[0], validation + more[1]
    elif not clips:
        raise ValueError(
            "There is nothing to learn from: images, video and folder are all empty. Connect a clip as images or "
            "video, or put clips into a folder in ComfyUI's input folder and choose it."
        )
    return learn, validation


def _joined(images: Sequence[Tensor]) -> list[Tensor]:
    """Clips (N,H,W,3) uint8 on the CPU."""
    clips: list[list[Tensor]] = []
    single = False
    for batch in images:
        check_images(batch, "images")
        frames = torch.stack([as_bytes(frame) for frame in watched(batch)])
        continues_clip = single and len(frames) == 1 and clips[-1][0].shape == frames.shape
        single = len(frames) == 1
        if continues_clip:
            clips[-1].append(frames)
        else:
            clips.append([frames])
    return [torch.cat(parts) for parts in clips]


def _frames_of(video, limits: tuple[int, int]) -> Tensor:
    """A VIDEO's frames; read one by one where it is a whole file."""
    source = video.get_stream_source()
    if isinstance(source, (str, os.PathLike)) and trim_window(video) == (0, 0):
        return load_clip(source, *limits, watched)
    return _joined([video.get_components().images[: limits[0]]])[0]
