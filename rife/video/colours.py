"""What a decoded picture is to look like (matrix, range, depth, alpha, turns, HDR10), and its way to RGB."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np

from .codecs import Hdr

log = logging.getLogger(__name__)

# FFmpeg's numbers of matrices (AVCOL_SPC_*) and of ranges (AVCOL_RANGE_*).
RGB, BT709, UNSPECIFIED, BT470BG, SMPTE170M = 0, 1, 2, 5, 6
LIMITED, FULL = 1, 2


@dataclass(frozen=True)
class Look:
    """How pictures are to be shown: FFmpeg's numbers for colours, the shape of a pixel, depth, alpha."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = 0
    pixel_aspect: Fraction = Fraction(1)
    bits: int = 8
    alpha: bool = False
    rgb: bool = False  # the file holds RGB, of which matrix and range say nothing
    hdr: Hdr | None = None

    def yuv(self, height: int) -> tuple[int, int]:
        """Matrix and range to compute with: what a player assumes where nothing is said, BT.709 from 720 lines on."""
        matrix = self.matrix
        if matrix in (RGB, UNSPECIFIED):
            matrix = BT709 if height >= 720 or self.rgb else SMPTE170M
        return matrix, FULL if self.range == FULL and not self.rgb else LIMITED

    def turned(self, turns: int) -> Look:
        """After `turns` quarters of a turn."""
        return replace(self, pixel_aspect=1 / self.pixel_aspect) if turns % 2 else self


def look_of(frame, container: str = "", pixel_aspect: Fraction = Fraction(1)) -> Look:
    kind = frame.format
    alpha = any(c.is_alpha for c in kind.components)
    if alpha and container in ("gif", "webp", "webp_pipe"):  # decoded with alpha, always
        alpha = bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())
    range_ = FULL if kind.name.startswith("yuvj") else int(frame.color_range)
    return Look(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=range_,
        pixel_aspect=pixel_aspect,
        bits=max(c.bits for c in kind.components),
        alpha=alpha,
        rgb=kind.is_rgb or kind.name == "pal8" or (len(kind.components) < 3 and range_ == FULL),
        hdr=_hdr(frame),
    )


def _hdr(frame) -> Hdr | None:
    """From FFmpeg's AVMasteringDisplayMetadata, ten fractions and two flags, and AVContentLightMetadata."""
    try:
        said = {data.type.name: bytes(data) for data in frame.side_data}
    except ValueError as error:  # PyAV 18 knows no Exif, and then lists nothing
        log.debug("side data that PyAV does not know: %s", error)
        return None
    display, content = said.get("MASTERING_DISPLAY_METADATA"), said.get("CONTENT_LIGHT_LEVEL")
    if display:
        *numbers, has_colours, has_light = struct.unpack_from("=22i", display)
        display = (
            has_colours
            and has_light
            and tuple(a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
        )
    content = struct.unpack_from("=2I", content) if content else None
    return Hdr(display or None, content) if display or content else None


def turns_of(frame) -> int:
    """Quarters of a turn, counter-clockwise as rot90 counts, that the file asks to show a frame with."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def to_rgb(frame, look: Look, kind: str) -> np.ndarray:
    """A decoded frame as (H,W,C), turned as it is to be shown, its colours by `look`. kind: FFmpeg's RGB format."""
    if frame.format.is_rgb or look.rgb:
        image = frame.to_ndarray(format=kind)
    else:
        matrix, range_ = look.yuv(frame.height)
        if kind == "rgba":
            image = yuv_to_rgba(frame, matrix, range_)
        else:
            image = frame.to_ndarray(
                format=kind, src_colorspace=matrix, src_color_range=range_, dst_color_range=FULL
            )
    turns = turns_of(frame)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def yuv_to_rgba(frame: av.VideoFrame, matrix: int, range_: int) -> np.ndarray:
    """A frame of 8-bit planes, the fourth one of them alpha, as (H,W,4).

    Not by FFmpeg's "rgba": for some widths, such as 852, that leaves the last columns as they were in memory.
    """
    options = {"src_colorspace": matrix, "src_color_range": range_, "dst_color_range": FULL}
    colours = frame.to_ndarray(format="rgb24", **options)
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    if len(frame.planes) == 4:
        plane = frame.planes[3]
        alpha = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width, None]
    return np.concatenate((colours, alpha), -1)
