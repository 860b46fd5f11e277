"""Finds what chroma loses in RGB, in given frames, and puts it back into new ones.

Pixels that share chroma, and whole areas of strong colours, may have colours that RGB cannot hold. It cuts them off,
and the mean of Cb or Cr moves by up to a tenth of a level. Which channels are cut off at which end says how much is
lost: new frames get, for each such kind of pixel, what the given frame before them lost in the mean.
"""

from __future__ import annotations

import re
from functools import lru_cache

import av
import numpy as np

from .colours import Look, turns_of
from .convert import FromRgb, samples

_SHARED = re.compile(r"yuvj?(420|422)p(10le|12le)?")
_CUT_OFF = 0.001  # share of the pixels that must have a channel cut off to look closer,
_LEAST = 0.01  # and levels of 8 bits that are lost in the mean

LostChroma = np.ndarray  # (2,64) float32: levels of 8 bits of Cb and of Cr, by the bits of `_cut_off`


def lost_chroma(frame: av.VideoFrame, image: np.ndarray, look: Look, kind: str) -> LostChroma | None:
    """Measures what became of a decoded frame's chroma in its `image`, (H,W,3) by `to_rgb`; None: nothing to speak of.

    kind: of the image, see `rife.video.colours.kind_of`.
    """
    found = _SHARED.fullmatch(frame.format.name)
    if found is None or turns_of(frame) or _cut_off(image[4::8, 4::8]).astype(bool).mean() < _CUT_OFF:
        return None
    pix_fmt, size = frame.format.name.replace("yuvj", "yuv"), (frame.width, frame.height)
    back = FromRgb(kind, pix_fmt, size, look.yuv(frame.height), frame)(image)
    step = max(1, frame.height // 270)  # some of the rows tell as much as all of them
    cut = _of_chroma(image, pix_fmt, step).ravel()
    count = np.maximum(np.bincount(cut, minlength=64), 1)
    level = 1 << int((found[2] or "8le")[:-2]) - 8
    lost = np.zeros((2, 64), np.float32)
    mean = 0.0
    for k in (1, 2):
        there, here = (samples(f.planes[k], np.uint16 if level > 1 else np.uint8) for f in (frame, back))
        difference = (there[::step].astype(np.float32) - here[::step]).ravel() / level
        lost[k - 1] = np.bincount(cut, difference, minlength=64) / count
        mean = max(mean, abs(float(difference.mean())))
    lost[:, 0] = 0  # nothing is cut off there
    return lost if mean >= _LEAST else None


def put_back(lost: LostChroma, image: np.ndarray, frame: av.VideoFrame) -> None:
    """Adds what was lost to the chroma of a YUV frame, in place, that was made of `image`, (H,W,3) or (H,W,4).

    Fractions of a level are spread as a fine pattern. A frame of 4:4:4, of a rarer format or of float32 stays as it is.
    """
    found = _SHARED.fullmatch(frame.format.name)
    if found is None or image.dtype == np.float32:
        return
    bits = int((found[2] or "8le")[:-2])
    cut = _of_chroma(image, frame.format.name)
    at = cut != 0
    kinds, spread = cut[at], _pattern(*cut.shape)[at]
    for k in (1, 2):
        plane = samples(frame.planes[k], np.uint16 if bits > 8 else np.uint8)[: cut.shape[0], : cut.shape[1]]
        plane[at] = (plane[at] + (1 << bits - 8) * lost[k - 1][kinds] + spread).clip(0, (1 << bits) - 1)


def _of_chroma(image: np.ndarray, pix_fmt: str, step: int = 1) -> np.ndarray:
    """Takes `_cut_off` of two of the pixels that share each sample of chroma; step: between the rows of it."""
    rows = 2 if "420" in pix_fmt else 1
    cut = _cut_off(image[:: rows * step, ::2, :3])
    other = _cut_off(image[rows - 1 :: rows * step, 1::2, :3])
    cut[: other.shape[0], : other.shape[1]] |= other
    return cut


def _cut_off(image: np.ndarray) -> np.ndarray:
    """Gives (H,W) bits of the channels at 0, and of those at the top; grey, which has no chroma to lose, has none."""
    top = np.iinfo(image.dtype).max
    bits = np.zeros(image.shape[:2], np.uint8)
    for channel in range(3):
        table = np.zeros(top + 1, np.uint8)
        table[0], table[top] = 1 << channel, 8 << channel
        bits |= table[image[..., channel]]
    bits[(bits == 7) | (bits == 56)] = 0
    return bits


@lru_cache(maxsize=2)
def _pattern(height: int, width: int) -> np.ndarray:
    """Gives (H,W) of 0..1, of which each part is as even as the whole: the sequence R2, of the plastic number."""
    y, x = np.ogrid[:height, :width]
    return ((x * 0.7548776662466927 + y * 0.5698402909980532) % 1).astype(np.float32)
