"""Rendered clips whose motion is known, shown at every cadence, and the steps that a result takes.

A red disc crosses a picture that pans. Both move by so many pixels a drawing; drawings are shown for as many frames as
a pattern says. Positions are read back to a hundredth of a pixel: of the disc by its centre of mass, of the
picture by the phase of its one sine wave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate, cycle
from math import ceil, tau
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 96, 160
WAVE = 80  # pixels, of the picture's sine wave

# Frames that one drawing after the other is shown for.
PATTERNS = {
    "2:3 pulldown, film in 60": [2, 3],
    "2:2 pulldown, 30 in 60": [2],
    "each fourth frame twice, film in 30": [1, 1, 1, 2],
    "each fifth frame twice, 25 in 30": [1, 1, 1, 1, 2],
    "25 in 60": [3, 2, 3, 2, 2],
    "film in 25": [1] * 23 + [2],
    "film in 50": [2] * 11 + [3],
    "on twos": [2],
    "on threes": [3],
    "on fours": [4],
    "2:3:3:2 pulldown, film in 60": [2, 3, 3, 2],
}


def shown(pattern: Iterable[int], frames: int, offset: int = 0) -> list[int]:
    """Which drawing each of `frames` frames shows, where the first `offset` frames of the pattern are cut off."""
    drawings: list[int] = []
    for drawing, times in enumerate(cycle(pattern)):
        drawings += [drawing] * times
        if len(drawings) >= offset + frames:
            return drawings[offset : offset + frames]
    return drawings


def sampled(frames: int, per_drawing: Fraction, phase: Fraction = Fraction(0)) -> list[int]:
    """Which drawing each frame shows where one changes to the next at its time; it lasts `per_drawing` frames."""
    return [int((i + phase) // per_drawing) for i in range(frames)]


def picture(
    drawing: float,
    disc: float | None = None,
    *,
    step: float = 3.0,
    pan: float = 0.0,
    start: float = 30.0,
    soft: float = 60.0,
    texture: float = 12.0,
    height: int = HEIGHT,
    width: int = WIDTH,
    dither: int | None = None,
) -> np.ndarray:
    """(H,W,3) uint8: a disc `step` pixels and a picture `pan` pixels further right with each drawing.

    disc: the disc's drawing, if another. soft: strength of the picture's sine wave, in levels; texture: of finer waves.
    dither: seed of the noise by which levels are rounded up or down, so that they are right in the mean: where all rows
    are alike, rounding all of them alike moves the picture by a fiftieth of a pixel.
    """
    y, x = np.mgrid[:height, :width].astype(np.float64)
    moved = x - pan * drawing
    grey = 110 + soft * np.sin(tau * moved / WAVE)
    for i, (period, angle) in enumerate(((13, 0.5), (9, 1.2), (19, -0.7))):
        grey = grey + texture / 3 * np.sin(tau * (moved * np.cos(angle) + y * np.sin(angle)) / period + i)
    image = np.stack((grey, grey, grey), -1)
    radius = height / 8
    distance = np.hypot(x - start - step * (drawing if disc is None else disc), y - height / 2)
    inside = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    image = image * (1 - inside) + np.array([235.0, 20, 20]) * inside
    if dither is None:
        rounded = image.round()
    else:
        rounded = np.floor(image + np.random.default_rng(dither).random((height, width, 1)))
    return np.clip(rounded, 0, 255).astype(np.uint8)


def clip(drawings: Sequence[float], noise: float = 0.0, **options) -> np.ndarray:
    """(N,H,W,3) of these drawings; noise: in levels, another in each frame, as a codec leaves it."""
    made = {drawing: picture(drawing, **options) for drawing in dict.fromkeys(drawings)}
    frames = np.stack([made[drawing] for drawing in drawings])
    if not noise:
        return frames
    noisy = frames + np.random.default_rng(0).normal(0, noise, frames.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)


def disc_at(frame: np.ndarray) -> float:
    """The disc's place along x, of a frame (H,W,3) in levels."""
    red = np.clip(frame[..., 0].astype(np.float64) - frame[..., 1:3].mean(-1) - 25, 0, None)
    return float((red.sum(0) * np.arange(red.shape[1])).sum() / max(red.sum(), 1e-9))


def pan_at(frame: np.ndarray) -> float:
    """How far the picture has moved, modulo `WAVE`, of a frame (H,W,3) in levels: by the rows above the disc."""
    rows = frame[: frame.shape[0] // 4, :, 1].astype(np.float64).mean(0)
    width = len(rows) // WAVE * WAVE
    wave = (rows[:width] * np.exp(-1j * tau * np.arange(width) / WAVE)).sum()
    return float(-(np.angle(wave) + tau / 4) / tau * WAVE) % WAVE


def steps(places: Sequence[float], around: float | None = None) -> np.ndarray:
    """From each place to the next; around: what they are counted modulo of."""
    found = np.diff(np.asarray(places))
    return found if around is None else (found + around / 2) % around - around / 2


def unevenness(found: np.ndarray) -> float:
    """Standard deviation of the steps over their mean."""
    return float(found.std() / abs(found.mean()))


def write(
    path: Path,
    frames: np.ndarray,
    rate: Fraction = Fraction(30),
    codec: str = "ffv1",
    pix_fmt: str = "bgr0",
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict | None = None,
) -> Path:
    """A file of these frames; times: of each, in `time_base`, else one after the other."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = time_base or 1 / rate
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = (i if times is None else times[i]), time_base or 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def read(path: Path) -> list[np.ndarray]:
    """The frames (H,W,3) of a file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def woven(fields: np.ndarray, top_first: bool = True) -> np.ndarray:
    """(2N,H,W,3) at field rate -> (N,H,W,3) interlaced: each frame the lines of two fields."""
    first, second = (0, 1) if top_first else (1, 0)
    frames = np.empty_like(fields[::2])
    frames[:, first::2], frames[:, second::2] = fields[::2, first::2], fields[1::2, second::2]
    return frames


def telecined(film: np.ndarray, top_first: bool = True) -> np.ndarray:
    """Film frames (4N,H,W,3) -> (5N,H,W,3) by 2:3 pulldown into fields: three whole and two combed frames in five."""
    lasts = cycle((2, 3))
    fields = [i for i, times in zip(range(len(film)), lasts, strict=False) for _ in range(times)]
    return woven(film[fields[: len(fields) // 2 * 2]], top_first)


def starts_of(drawings: Sequence[int]) -> list[int]:
    """The frames that begin a drawing."""
    return [i for i, drawing in enumerate(drawings) if not i or drawing != drawings[i - 1]]


def pulldown_times(frames: int, first: int = 3) -> list[int]:
    """Fields after which each frame of soft pulldown is shown: 3, 2, 3, 2 ... fields."""
    lasts = [first if i % 2 == 0 else 5 - first for i in range(frames - 1)]
    return list(accumulate(lasts, initial=0))


def whole(frames: int, drawings: Fraction) -> int:
    """How many drawings there are in so many frames."""
    return ceil(frames / drawings)
