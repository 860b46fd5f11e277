"""Gives real frames to learn from and to be judged by: clips, and data sets in their published layouts.

A clip is anything with a length whose [list of indices] gives (n,H,W,3) uint8: a tensor, or pictures in a folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..timeline.plans import LONGEST_DRAWING
from ..timeline.scenes import Scenes, find_scenes
from ..video.frames import clip_frames, read_picture
from ..video.images import VIDEO_ENDINGS, is_picture, is_video
from .samples import Sample
from .synthetic import RenderedMotion, noise_textures

# What frames go through one by one, such as one that ends at a user's cancel.
Watch = Callable[[Iterable[Tensor]], Iterable[Tensor]]


class FrameSource(Protocol):
    """Gives the frames of one video, all of one size, (n,H,W,3) uint8 of a list of n indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int]) -> Tensor: ...


class Pictures:
    """Is a clip of picture files, read when they are asked for."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return torch.stack([read_picture(self.files[i]) for i in indices])


class Shot(NamedTuple):
    """Names evenly spaced frames of one scene of a clip, none of them twice."""

    clip: FrameSource
    frames: range

    def part(self, begin: int, end: int | None) -> Shot:
        """Returns, of its frames, those from `begin` to before `end`."""
        return self._replace(frames=self.frames[begin:end])


def shots(clip: Tensor, scenes: Scenes | None = None, watch: Watch = iter) -> list[Shot]:
    """Returns the shots of three frames or more of a clip (N,H,W,3), uint8 or floating in 0..1 (which becomes uint8).

    Cuts divide it (`rife.timeline.scenes`, whose `Scenes` may be given). Repeated frames are left out: animation on
    twos gives every second frame. Where the spacing changes, a new shot begins, so that a frame's time is its place in
    the shot. watch: the frames go through it, as they are looked at.
    """
    if clip.is_floating_point():
        clip = (clip[..., :3].clamp(0, 1) * 255).round().byte()
    found = find_scenes(watch(clip)) if scenes is None else scenes
    runs: list[list[int]] = [[]]
    for i in range(len(clip)):
        run = runs[-1]
        if i in found.cuts:
            runs.append([i])
        elif i not in found.repeats:
            gap = i - run[-1] if run else 0
            even = len(run) < 2 or gap == run[-1] - run[-2]
            if gap <= LONGEST_DRAWING and even:
                run.append(i)
            else:
                # The last of the old spacing is the first of the new one.
                runs.append([run[-1], i] if gap <= LONGEST_DRAWING else [i])
    return [Shot(clip, range(r[0], r[-1] + 1, r[1] - r[0])) for r in runs if len(r) > 2]


def split(all_shots: Sequence[Shot], fraction: float) -> tuple[list[Shot], list[Shot]]:
    """Splits shots into those to learn from, and the last `fraction` of each one's frames to be judged by; no frame is
    in both.

    A shot too short to give three frames to either goes whole to the first; of several such, every n-th to the second.
    """
    training, validation, short = [], [], []
    for shot in all_shots:
        held = max(3, round(len(shot.frames) * fraction)) if fraction else 0
        if not held or len(shot.frames) - held < 3:
            short.append(shot)
            continue
        training.append(shot.part(0, -held))
        validation.append(shot.part(-held, None))
    every = round(1 / fraction) if fraction else 0
    for i, shot in enumerate(short):
        (validation if every and i % every == every - 1 else training).append(shot)
    return training, validation


@dataclass
class RealFrames:
    """Cuts windows of real frames with the true frame between, augmented as in the paper; a `Source`.

    crop: side of the windows, a multiple of the network's padding. reach: largest distance in frames between img0 and
    img1; any_time: whether the true frame is any one between them (for networks with a timestep), else the middle.
    rest: share of windows taken wherever they fall; for the others one is looked for in which something moves, or a
    static camera's clips would teach little else than rest. stills: share that shows the same frame three times.
    halved: share of windows that are taken at twice the side and averaged down, where the clip is that large: finer
    detail. fades: share whose brightness changes evenly from img0 to img1, to half or double at most. Raises ValueError
    where nothing is usable.
    """

    shots: Sequence[Shot]
    crop: int
    reach: int = 4
    any_time: bool = False
    rest: float = 0.25
    augment: bool = True
    halved: float = 0.0
    stills: float = 0.0
    fades: float = 0.0

    def __post_init__(self) -> None:
        sizes = {id(shot.clip): tuple(shot.clip[[0]].shape[1:3]) for shot in self.shots if _in_memory(shot)}
        fits = [s for s in self.shots if min(sizes.get(id(s.clip), (self.crop,))) >= self.crop]
        if self.shots and not fits:
            found = ", ".join(sorted({f"{w}x{h}" for h, w in sizes.values()}))
            raise ValueError(
                f"The clips are {found}, expected at least one of {self.crop} pixels or more on both sides. "
                "Give larger clips, or a smaller crop."
            )
        if not fits:
            raise ValueError(
                "No usable frames: the clips are too short, still, or all cuts. Give clips of at least three frames "
                "of one scene in which something moves."
            )
        self.shots = fits
        # A long shot has more to show than a short one.
        self._until = torch.tensor([len(shot.frames) - 2 for shot in fits]).cumsum(0)

    def example(self, seed: int, step: int = 0, progress: float = 0.0) -> Sample:
        """Gives one example, as `Source` says; its flow is None. Raises ValueError where a picture is smaller than the
        crop."""
        draw = torch.Generator().manual_seed(seed)
        as_it_comes = chance(self.rest, draw)
        for _ in range(1 if as_it_comes else 8):
            window, t = self._window(draw)
            if (window[0] - window[2]).abs().mean() > 2:
                break
        if chance(self.stills, draw):
            window = window[:1].expand(3, -1, -1, -1)
        window = window / 255
        if self.augment:
            window, t = augmented(window, t, draw)
        if chance(self.fades, draw):
            window = faded(window, t, draw)
        img0, gt, img1 = window.unsqueeze(1)
        return Sample(img0, img1, gt, None, torch.tensor([t]))

    def _window(self, draw: torch.Generator) -> tuple[Tensor, float]:
        place = random_index(int(self._until[-1]), draw)
        clip, frames = self.shots[int(torch.searchsorted(self._until, place, right=True))]
        reach = min(self.reach, len(frames) - 1)
        if self.any_time:
            span = 2 + random_index(reach - 1, draw)
            middle = 1 + random_index(span - 1, draw)
        else:
            middle = 1 + random_index(reach // 2, draw)
            span = 2 * middle
        begin = random_index(len(frames) - span, draw)
        chosen = clip[[frames[begin + i] for i in (0, middle, span)]]
        side = min(chosen.shape[1:3])
        if side < self.crop:
            raise ValueError(
                f"A picture has a side of {side} pixels, the crop is {self.crop}. Give a smaller crop or larger ones."
            )
        factor = 2 if chance(self.halved, draw) and side >= 2 * self.crop else 1
        size = factor * self.crop
        top, left = (random_index(side - size + 1, draw) for side in chosen.shape[1:3])
        window = rearrange(chosen[:, top : top + size, left : left + size], "n h w c -> n c h w").float()
        return F.avg_pool2d(window, factor), middle / span


def _in_memory(shot: Shot) -> bool:
    return isinstance(shot.clip, Tensor)


def random_index(count: int, draw: torch.Generator) -> int:
    """Draws an index below `count`."""
    return int(torch.randint(count, (), generator=draw))


def chance(share: float, draw: torch.Generator) -> bool:
    """Draws True in `share`, 0..1, of the cases."""
    return float(torch.rand((), generator=draw)) < share


def augmented(window: Tensor, t: float, draw: torch.Generator) -> tuple[Tensor, float]:
    """Returns img0, truth, img1 (3,3,h,h) and the time t, changed as in the paper (ECCV2022-RIFE dataset.py).

    Channel reversal, vertical and horizontal flip, time swap with even odds each; a quarter turn or two or three.
    """
    for dims in ((1,), (2,), (3,), (0,)):
        if random_index(2, draw):
            window = window.flip(dims)
            t = 1 - t if dims == (0,) else t
    return window.rot90(random_index(4, draw), (2, 3)), t


def faded(window: Tensor, t: float, draw: torch.Generator) -> Tensor:
    """Puts img0, truth, img1 (3,3,h,h) in 0..1 under a light that grows or falls evenly, by a factor of two at most."""
    sign, share = torch.rand(2, generator=draw).tolist()
    gain = math.exp(math.log(2) * (2 * sign - 1) * share)
    lights = window.new_tensor([gain ** (time - 0.5) for time in (0.0, t, 1.0)])
    return (window * lights.view(3, 1, 1, 1)).clamp(0, 1)


def triplets(all_shots: Iterable[Shot], count: int, stride: int = 1) -> list[Tensor]:
    """Returns up to `count` triplets (3,3,H,W) uint8 with their true middle, spread evenly over the shots."""
    middles = [(s, i) for s in all_shots for i in range(stride, len(s.frames) - stride)]
    chosen = middles[:: -(-len(middles) // count) or 1]
    return [
        rearrange(s.clip[[s.frames[i + d] for d in (-stride, 0, stride)]], "n h w c -> n c h w")
        for s, i in chosen
    ]


def real_triplets(clip: Tensor, stride: int, count: int) -> list[Tensor]:
    """Returns up to `count` evenly spread triplets (3,3,H,W) of a clip (N,H,W,3) uint8."""
    return triplets(shots(clip), count, stride)


def rendered_triplets(motion: float, count: int, size: int = 256, seed: int = 10_000) -> list[Tensor]:
    """Renders test scenes of one motion size, in pixels, as triplets (3,3,H,W) uint8: own seed and own textures, never
    drawn in training."""
    scenes = RenderedMotion(size, size, seed + int(motion), max_motion=motion)
    sample = scenes.sample(count, 0.5)
    stacked = torch.stack((sample.img0, sample.gt, sample.img1), 1)
    return list((stacked * 255).round().byte())


def load_clip(
    path: str | os.PathLike, max_frames: int = 400, max_width: int = 480, watch: Watch = iter
) -> Tensor:
    """Reads a clip as (N,H,W,3) uint8, reduced by whole factors to at most `max_width` pixels; 8-bit rounding included.

    path: a video, or a folder of pictures in the order of the numbers in their names. watch: the frames go through it,
    as they are read.
    """
    return torch.stack(list(watch(clip_frames(path, max_frames, max_width))))


def _has_pictures(path: Path) -> bool:
    return path.is_dir() and any(map(is_picture, path.iterdir()))


def read_folder(
    folder: str | os.PathLike,
    held_out: float = 0.1,
    max_frames: int = 400,
    max_width: int = 960,
    watch: Watch = iter,
) -> tuple[list[Shot], list[Shot]]:
    """Returns shots to learn from and to be judged by, of a folder in one of these layouts.

    Vimeo90K: `sequences/*/*/im1.png ...` with `tri_trainlist.txt` (triplets) or `sep_trainlist.txt` (septuplets); the
    last 5% of the list are judged by, as in ECCV2022-RIFE dataset.py, and pictures are read when they are needed.
    Clips: video files and folders of pictures, kept in memory, reduced to `max_width` and their first `max_frames`; the
    last `held_out` of each shot is judged by. watch: frames go through it. Raises FileNotFoundError, ValueError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at {folder}. Give one that holds clips or Vimeo90K.")
    for name, length in (("tri_trainlist.txt", 3), ("sep_trainlist.txt", 7)):
        if (folder / name).is_file():
            return _read_vimeo(folder, name, length)
    entries = [folder] if _has_pictures(folder) else sorted(folder.iterdir())
    clips = [e for e in entries if is_video(e) or _has_pictures(e)]
    if not clips:
        raise ValueError(
            f"{folder} holds no clips, expected videos ({', '.join(VIDEO_ENDINGS[:5])} ...), folders of pictures, or "
            "Vimeo90K's tri_trainlist.txt or sep_trainlist.txt."
        )
    found = [
        shot for path in clips for shot in shots(load_clip(path, max_frames, max_width, watch), watch=watch)
    ]
    return split(found, held_out)


def _read_vimeo(folder: Path, name: str, length: int) -> tuple[list[Shot], list[Shot]]:
    places = [line.strip() for line in (folder / name).read_text().splitlines() if line.strip()]
    files = [[folder / "sequences" / place / f"im{i + 1}.png" for i in range(length)] for place in places]
    if not files or not files[0][0].is_file():
        expected = files[0][0] if files else f"lines such as 00001/0001 in {name}"
        raise ValueError(
            f"{folder} is not Vimeo90K's layout: expected {expected}. Unpack the data set whole."
        )
    found = [Shot(Pictures(row), range(length)) for row in files]
    border = min(len(found) - 1, int(len(found) * 0.95)) or 1
    return found[:border], found[border:]


def texture_pool(clips: Sequence[Tensor], count: int, size: int = 176, seed: int = 0) -> Tensor:
    """Returns textures (count,3,size,size) uint8: half crops of the clips' frames (N,H,W,3), half procedural."""
    generator = torch.Generator().manual_seed(seed)
    pool = [
        (
            noise_textures(count - count // 2 if clips else count, 256, generator)[:, :, :size, :size] * 255
        ).byte()
    ]
    usable = [clip for clip in clips if min(clip.shape[1:3]) >= size]
    for _ in range(count // 2 if usable else 0):
        clip = usable[random_index(len(usable), generator)]
        n, top, left = (
            random_index(limit, generator)
            for limit in (len(clip), clip.shape[1] - size + 1, clip.shape[2] - size + 1)
        )
        pool.append(rearrange(clip[n, top : top + size, left : left + size], "h w c -> 1 c h w"))
    return torch.cat(pool)
