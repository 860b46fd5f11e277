"""Says what a decoded picture is to look like: matrix, range, depth, alpha, turns, HDR10."""

from __future__ import annotations

import logging
import re
import struct
from dataclasses import dataclass, replace
from fractions import Fraction

import av

from .codecs import FLOAT, Hdr

log = logging.getLogger(__name__)

# FFmpeg's numbers of matrices (AVCOL_SPC_*) and of ranges (AVCOL_RANGE_*).
RGB, BT709, UNSPECIFIED, BT470BG, SMPTE170M = 0, 1, 2, 5, 6
LIMITED, FULL = 1, 2
# Of encoders whose files know one matrix and range each, whatever they say: JPEG (JFIF) and WebP.
FIXED_COLOURS = {"mjpeg": (BT470BG, FULL), "libwebp": (BT470BG, LIMITED), "libwebp_anim": (BT470BG, LIMITED)}


@dataclass(frozen=True)
class Look:
    """Says how pictures are to be shown: FFmpeg's numbers for colours, the shape of a pixel, depth, alpha."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = 0
    pixel_aspect: Fraction = Fraction(1)
    bits: int = 8
    alpha: bool = False
    premultiplied: bool = False  # colours are multiplied by alpha, as EXR has them
    rgb: bool = False  # the file holds RGB, of which matrix and range say nothing
    hdr: Hdr | None = None
    pix_fmt: str = ""  # of the decoded frames

    def yuv(self, height: int) -> tuple[int, int]:
        """Returns matrix and range to compute with: what a player assumes where nothing is said, BT.709 from 720 lines
        on."""
        matrix = self.matrix
        if matrix in (RGB, UNSPECIFIED):
            matrix = BT709 if height >= 720 or self.rgb else SMPTE170M
        return matrix, FULL if self.range == FULL and not self.rgb else LIMITED

    def of_planes(self, height: int) -> tuple[int, int]:
        """Returns matrix and range of the decoded planes as they are: grey ones have a range, though they hold RGB's
        numbers."""
        matrix, range_ = self.yuv(height)
        return matrix, FULL if self.range == FULL and self.pix_fmt.startswith(("gray", "ya")) else range_

    def turned(self, turns: int) -> Look:
        """Returns the look after `turns` quarters of a turn."""
        return replace(self, pixel_aspect=1 / self.pixel_aspect) if turns % 2 else self


def look_of(frame: av.VideoFrame, container: str = "", pixel_aspect: Fraction = Fraction(1)) -> Look:
    """Returns what a decoded frame says of itself; its container, by FFmpeg's name, where that is needed to understand
    it."""
    kind = frame.format
    alpha = any(c.is_alpha for c in kind.components)
    if alpha and container in ("gif", "webp", "webp_pipe"):  # decoded with alpha, always
        alpha = see_through(frame)
    range_ = FULL if kind.name.startswith("yuvj") else int(frame.color_range)
    bits = max(c.bits for c in kind.components)
    return Look(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=range_,
        pixel_aspect=pixel_aspect,
        bits=FLOAT if is_float(kind.name) else max(8, bits),
        alpha=alpha,
        premultiplied=alpha and container in ("exr", "exr_pipe"),
        rgb=kind.is_rgb
        or kind.name == "pal8"
        or is_float(kind.name)
        or (len(kind.components) < 3 and range_ == FULL),
        hdr=_hdr(frame),
        pix_fmt=kind.name,
    )


def see_through(frame: av.VideoFrame) -> bool:
    """Tells whether any pixel of a decoded frame with alpha is not opaque."""
    return bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())


def is_float(pix_fmt: str) -> bool:
    """Tells whether a pixel format of FFmpeg holds floats."""
    return re.search(r"f(16|32)(le|be)?$", pix_fmt) is not None


def kind_of(look: Look) -> str:
    """Returns FFmpeg's RGB(A) format that holds all of a picture."""
    if look.bits == FLOAT:
        return "gbrapf32le" if look.alpha else "gbrpf32le"
    if look.bits > 8:
        return "rgba64le" if look.alpha else "rgb48le"
    return "rgba" if look.alpha else "rgb24"


def _hdr(frame: av.VideoFrame) -> Hdr | None:
    """From FFmpeg's AVMasteringDisplayMetadata, ten fractions and two flags, and AVContentLightMetadata."""
    try:
        said = {data.type.name: bytes(data) for data in frame.side_data}  # type: ignore[attr-defined, arg-type]
    except ValueError as error:  # PyAV 18 knows no Exif, and then lists nothing
        log.debug("side data that PyAV does not know: %s", error)
        return None
    display = content = None
    if "MASTERING_DISPLAY_METADATA" in said:
        *numbers, has_colours, has_light = struct.unpack_from("=22i", said["MASTERING_DISPLAY_METADATA"])
        if has_colours and has_light:
            display = tuple(a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    if "CONTENT_LIGHT_LEVEL" in said:
        content = struct.unpack_from("=2I", said["CONTENT_LIGHT_LEVEL"])
    return Hdr(display, content) if display or content else None


def turns_of(frame: av.VideoFrame) -> int:
    """Counts the quarters of a turn, counter-clockwise as rot90 counts, that the file asks to show a frame with."""
    return round(getattr(frame, "rotation", 0) / 90) % 4
