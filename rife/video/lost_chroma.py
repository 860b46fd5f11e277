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
_ENOUGH = 540  # of so many rows and more only some bands are looked at,
_BANDS, _BAND, _BORDER = 8, 16, 4  # so many, so many rows high, without so many at each border

LostChroma = np.ndarray  # (2,64) float32: levels of 8 bits of Cb and of Cr, by the bits of `_cut_off`


class ChromaLoss:
    """Measures what given frames of one clip lose of their chroma where they become RGB.

    kind: of their images, see `rife.video.colours.kind_of`.
    """

    def __init__(self, look: Look, kind: str):
        self._look, self._kind = look, kind
        self._back: FromRgb | None = None

    def of(self, frame: av.VideoFrame, image: np.ndarray) -> LostChroma | None:
        """Measures what became of a decoded frame's chroma in its `image`, (H,W,3) by `to_rgb`; None: nothing to speak
        of."""
        found = _SHARED.fullmatch(frame.format.name)
        if found is None or turns_of(frame):
            return None
        some = image[min(4, len(image) // 2) :: 8, min(4, image.shape[1] // 2) :: 8]
        if _cut_off(some).astype(bool).mean() < _CUT_OFF:
            return None
        pix_fmt = frame.format.name.replace("yuvj", "yuv")
        bands, rows, rows_of_bands = _bands(frame.height, 2 if found[1] == "420" else 1)
        part = image if len(bands) == 1 else np.concatenate([image[band] for band in bands])
        if self._back is None:
            size = frame.width, part.shape[0]
            self._back = FromRgb(self._kind, pix_fmt, size, self._look.yuv(frame.height), frame)
        back = self._back(part)
        cut = _of_chroma(part, pix_fmt)[rows_of_bands].ravel()
        count = np.maximum(np.bincount(cut, minlength=64), 1)
        level = 1 << int((found[2] or "8le")[:-2]) - 8
        lost = np.zeros((2, 64), np.float32)
        mean = 0.0
        for k in (1, 2):
            there, here = (samples(f.planes[k], np.uint16 if level > 1 else np.uint8) for f in (frame, back))
            difference = (there[rows].astype(np.float32) - here[rows_of_bands]).ravel() / level
            lost[k - 1] = np.bincount(cut, difference, minlength=64) / count
            mean = max(mean, abs(float(difference.mean())))
        lost[:, 0] = 0  # nothing is cut off there
        return lost if mean >= _LEAST else None


@lru_cache(maxsize=4)
def _bands(height: int, lines: int) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """Gives the bands of a picture that tell as much as all of it, and which rows of chroma, `lines` of the picture
    each, are to be looked at: of the picture's, and of those of the bands put one below the other.

    Rows at a band's borders are left out: they are made of what is beyond it, too.
    """
    if height < _ENOUGH:
        every = np.arange(-(-height // lines))
        return (slice(0, height),), every, every
    tops = np.linspace(0, (height - _BAND) // 2, _BANDS).astype(int) * 2
    inner = np.arange(_BORDER, _BAND - _BORDER, lines) // lines
    rows = (tops[:, None] // lines + inner).ravel()
    rows_of_bands = (np.arange(_BANDS)[:, None] * (_BAND // lines) + inner).ravel()
    return tuple(slice(top, top + _BAND) for top in tops.tolist()), rows, rows_of_bands


def put_back(lost: LostChroma, image: np.ndarray, frame: av.VideoFrame) -> None:
    """Adds what was lost to the chroma of a YUV frame, in place, that was made of `image`, (H,W,3) or (H,W,4).

    Fractions of a level are spread as a fine pattern. A frame of 4:4:4, of a rarer format or of float32 stays as it is.
    """
    found = _SHARED.fullmatch(frame.format.name)
    if found is None or image.dtype == np.float32:
        return
    bits = int((found[2] or "8le")[:-2])
    cut = _of_chroma(image, frame.format.name)
    at = np.flatnonzero(cut)
    kinds, spread = cut.ravel()[at], _pattern(*cut.shape).ravel()[at]
    for k in (1, 2):
        plane = samples(frame.planes[k], np.uint16 if bits > 8 else np.uint8)[: cut.shape[0], : cut.shape[1]]
        values = plane.ravel()
        more = (np.float32(1 << bits - 8) * lost[k - 1])[kinds] + spread
        values[at] = (values[at] + more).clip(0, (1 << bits) - 1)
        plane[:] = values.reshape(plane.shape)


def _of_chroma(image: np.ndarray, pix_fmt: str) -> np.ndarray:
    """Takes `_cut_off` of two of the pixels that share each sample of chroma."""
    rows = 2 if "420" in pix_fmt else 1
    cut = _cut_off(image[::rows, ::2, :3])
    other = _cut_off(image[rows - 1 :: rows, 1::2, :3])
    cut[: other.shape[0], : other.shape[1]] |= other
    return cut


def _cut_off(image: np.ndarray) -> np.ndarray:
    """Gives (H,W) bits of the channels at 0, and of those at the top; grey, which has no chroma to lose, has none."""
    top = np.iinfo(image.dtype).max
    bits = np.zeros(image.shape[:2], np.uint8)
    for channel in range(3):
        values = image[..., channel]
        bits |= (values == 0).view(np.uint8) << channel
        bits |= (values == top).view(np.uint8) << channel + 3
    bits[(bits == 7) | (bits == 56)] = 0
    return bits


@lru_cache(maxsize=2)
def _pattern(height: int, width: int) -> np.ndarray:
    """Gives (H,W) of 0..1, of which each part is as even as the whole: the sequence R2, of the plastic number."""
    y, x = np.ogrid[:height, :width]
    return ((x * 0.7548776662466927 + y * 0.5698402909980532) % 1).astype(np.float32)
