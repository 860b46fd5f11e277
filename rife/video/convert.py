"""Converts decoded frames to RGB(A) arrays and back without a loss that adds up, chroma where the source has it.

FFmpeg's fast ways lose a level of luma each time (-1.03 of 255, 47 dB). Bicubic with accurate rounding and full
horizontal chroma loses nothing to speak of: mean luma to 0.01 of a level, 68 dB; chroma 60 to 66 dB, where it is put
back to where it was taken from (`FromRgb`), else 55.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from .colours import FULL, LIMITED, Look, is_float, turns_of

# Exact only together: accurate rounding with halved chroma is worse than neither (-1.66 levels), as is bilinear.
_FLAGS = ("BICUBIC", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")
_EXACT: dict[str, Any] = {}
if hasattr(Interpolation, "ACCURATE_RND"):  # PyAV 17 on; before that there is no way to ask for it
    _EXACT["interpolation"] = int(sum(int(getattr(Interpolation, name)) for name in _FLAGS))

_SITES = ("left", "center", "topleft", "top", "bottomleft", "bottom")


def to_rgb(frame: av.VideoFrame, look: Look, kind: str) -> np.ndarray:
    """Converts a decoded frame to (H,W,C), turned as it is to be shown, its colours by `look`.

    kind: FFmpeg's RGB format, see `rife.video.colours.kind_of`: uint8, uint16 over all its range, or float32.
    """
    if frame.format.is_rgb or look.rgb:
        image = _of_rgb(frame, kind)
    else:
        matrix, range_ = look.yuv(frame.height)
        if range_ == FULL and (limited := _limited(frame)) is not None:
            frame, range_ = limited, LIMITED
        options = {"src_colorspace": matrix, "src_color_range": range_, "dst_color_range": FULL, **_EXACT}
        image = _with_alpha(frame, options) if kind == "rgba" else _of_yuv(frame, kind, options)
    turns = turns_of(frame)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


_PLANAR = re.compile(r"yuvj?(420|422|444)p(10le|12le)?")


def _limited(frame: av.VideoFrame) -> av.VideoFrame | None:
    """A frame of full range as one of limited range and 16 bits, exactly; None where FFmpeg's own way is as exact, or
    the pixel format is not common.

    From more than 8 bits of full range FFmpeg gains a quarter of a level of luma.
    """
    found = _PLANAR.fullmatch(frame.format.name)
    if found is None or found[2] is None or not _EXACT:
        return None
    bits = int(found[2][:-2])
    # FFmpeg copies what else there is to know, such as where chroma lies, and moves all bits to the top.
    deep = frame.reformat(format=f"yuv{found[1]}p16le", src_color_range=FULL, dst_color_range=FULL)
    for k, plane in enumerate(deep.planes):
        values = samples(plane, np.uint16)
        span, low, middle = (219, 16, 0) if k == 0 else (224, 128, 1 << bits - 1)
        scale = np.float32(span * 256 / ((1 << bits) - 1))
        raw = (values >> (16 - bits)).astype(np.float32)
        values[:] = ((raw - middle) * scale + np.float32(low * 256 + 0.5)).astype(np.uint16)
    return deep


def _full(frame: av.VideoFrame, pix_fmt: str) -> av.VideoFrame:
    """Of limited range and 16 bits to full range: the way back of `_limited`."""
    found = _PLANAR.fullmatch(pix_fmt)
    bits = int((found and found[2] or "8le")[:-2])
    full = av.VideoFrame(frame.width, frame.height, pix_fmt)
    for k, (plane, deep) in enumerate(zip(full.planes, frame.planes, strict=True)):
        span, low, middle = (219, 16, 0) if k == 0 else (224, 128, 1 << bits - 1)
        largest = (1 << bits) - 1
        scale = np.float32(largest / (span * 256))
        values = (samples(deep, np.uint16).astype(np.float32) - np.float32(low * 256)) * scale
        values += np.float32(middle + 0.5)
        samples(plane, np.uint16 if bits > 8 else np.uint8)[:] = values.clip(0, largest)
    return full


def samples(plane: Any, kind: Any) -> np.ndarray:
    """Returns the samples of a plane as (H,W) of `kind`, such as uint8: what is written into them is in the frame."""
    return np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]


# FFmpeg computes whole planes of colours with vector instructions, but colours side by side one by one.
_PLANAR_RGB = {"rgb24": "gbrp", "rgb48le": "gbrp16le", "rgba64le": "gbrap16le"}


def _of_yuv(frame: av.VideoFrame, kind: str, options: dict[str, Any]) -> np.ndarray:
    """A YUV frame as (H,W,C) of `kind`: the values of FFmpeg's way in one step, in less than half the time."""
    planes = frame.reformat(format=_PLANAR_RGB.get(kind, kind), **options)
    image: np.ndarray = planes.to_ndarray(format=kind)
    return image


def _of_rgb(frame: av.VideoFrame, kind: str) -> np.ndarray:
    if is_float(frame.format.name) or is_float(kind):
        return _of_floats(frame, kind)
    image: np.ndarray = frame.to_ndarray(format=kind)
    bits = [part.bits for part in frame.format.components][:3]
    if image.dtype == np.uint8 and frame.format.name != "pal8" and 1 < min(bits) and max(bits) < 8:
        # FFmpeg leaves the low bits of RGB555 and its like at 0, so that white would be 247.
        for channel, size in enumerate(bits):
            image[..., channel] |= image[..., channel] >> size
    return image


def _of_floats(frame: av.VideoFrame, kind: str) -> np.ndarray:
    """A frame of floats as `kind`, or one of whole numbers as a kind of floats."""
    channels = 4 if "a" in kind else 3
    if not is_float(frame.format.name):
        whole: np.ndarray = frame.to_ndarray(format="rgba64le" if channels == 4 else "rgb48le")
        return whole.astype(np.float32) / np.float32(65535)
    image = _floats(frame, channels)
    if is_float(kind):
        return image
    top = 65535 if kind.endswith("le") else 255
    return (np.nan_to_num(image).clip(0, 1) * top).round().astype(np.uint16 if top > 255 else np.uint8)


def _floats(frame: av.VideoFrame, channels: int) -> np.ndarray:
    """(H,W,3 or 4) float32 of any format of floats, half, grey or side by side: FFmpeg's scaler cuts off what is above
    1, and it and PyAV know few of them."""
    name, planes = frame.format.name, frame.planes
    kind = np.dtype((">" if name.endswith("be") else "<") + ("f2" if "f16" in name else "f4"))
    if len(planes) > 1:
        image = np.dstack([samples(planes[k], kind) for k in (2, 0, 1, 3)[: len(planes)]])  # of G, B, R, A
    else:
        rows = np.frombuffer(memoryview(planes[0]), kind).reshape(planes[0].height, -1)
        count = len(frame.format.components)
        image = rows[:, : frame.width * count].reshape(frame.height, frame.width, count)
    image = image.astype(np.float32)
    if image.shape[-1] < 3:  # grey, perhaps with alpha
        image = np.dstack((*[image[..., 0]] * 3, image[..., 1:]))
    if image.shape[-1] < channels:
        image = np.dstack((image, np.ones_like(image[..., :1])))
    return image[..., :channels]


def _with_alpha(frame: av.VideoFrame, options: dict[str, Any]) -> np.ndarray:
    """A frame of 8-bit planes, the fourth one of them alpha, as (H,W,4).

    Not by FFmpeg's "rgba": for some widths, such as 852, that leaves the last columns as they were in memory.
    """
    colours = _of_yuv(frame, "rgb24", options)
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    if len(frame.planes) == 4:
        plane = frame.planes[3]
        alpha = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width, None]
    return np.concatenate((colours, alpha), -1)


class FromRgb:
    """Converts RGB(A) arrays (H,W,C) of one kind to frames of a pixel format, with chroma where `like` has it.

    kind: FFmpeg's name of the arrays' layout; size: width and height of the frames, at least the arrays', whose last
    row and column fill the rest; yuv: matrix and range, None for RGB; like: a decoded frame of the source.
    """

    def __init__(
        self,
        kind: str,
        pix_fmt: str,
        size: tuple[int, int],
        yuv: tuple[int, int] | None,
        like: av.VideoFrame | None,
    ):
        self._kind, self._pix_fmt, self._size, self._yuv = kind, pix_fmt, size, yuv
        self._canvas = _canvas(kind, size, like) if yuv else None

    def __call__(self, image: np.ndarray) -> av.VideoFrame:
        below, right = self._size[1] - image.shape[0], self._size[0] - image.shape[1]
        if below or right:
            image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        if self._canvas is None:
            return _framed(np.ascontiguousarray(image), self._kind).reformat(format=self._pix_fmt)
        # The canvas, of which FFmpeg knows where chroma is to lie, is filled anew for each picture.
        plane = self._canvas.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : image.shape[1] * image.shape[2] * image.itemsize] = (
            np.ascontiguousarray(image).view(np.uint8).reshape(image.shape[0], -1)
        )
        assert self._yuv is not None
        matrix, range_ = self._yuv
        found = _PLANAR.fullmatch(self._pix_fmt)
        if range_ == FULL and found and _EXACT:
            limited = self._canvas.reformat(
                format=f"yuv{found[1]}p16le",
                dst_colorspace=matrix,
                src_color_range=FULL,
                dst_color_range=LIMITED,
                **_EXACT,
            )
            return _full(limited, self._pix_fmt)
        return self._canvas.reformat(
            format=self._pix_fmt,
            dst_colorspace=matrix,
            src_color_range=FULL,
            dst_color_range=range_,
            **_EXACT,
        )


def _framed(image: np.ndarray, kind: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format=kind)


def _canvas(kind: str, size: tuple[int, int], like: av.VideoFrame | None) -> av.VideoFrame:
    """An RGB frame that says where chroma belongs: as `like` has it, else on the left as MPEG-2 and H.264 do."""
    if like is not None and not like.format.is_rgb and like.format.name != "pal8":
        return like.reformat(width=size[0], height=size[1], format=kind)
    return _sited(kind, size, "left")


def _sited(kind: str, size: tuple[int, int], site: str) -> av.VideoFrame:
    blank = av.VideoFrame(*size, kind)
    try:
        graph = av.filter.Graph()
        source = graph.add_buffer(width=size[0], height=size[1], format=blank.format, time_base=Fraction(1))
        said, sink = graph.add("setparams", f"chroma_location={site}"), graph.add("buffersink")
        source.link_to(said)
        said.link_to(sink)
        graph.configure()
        source.push(blank)
        frame = graph.pull()
    except (av.error.FFmpegError, ValueError):  # before FFmpeg 7.1
        return blank
    assert isinstance(frame, av.VideoFrame)
    frame.make_writable()
    return frame


def chroma_site(like: av.VideoFrame | None) -> str | None:
    """Returns where a decoded frame has its chroma, by FFmpeg's name, None where it has all of it. PyAV does not tell:
    it is seen from what becomes of a slope of colours."""
    if like is None or like.format.is_rgb or len(like.format.components) < 3 or like.format.name == "pal8":
        return None
    if like.format.chroma_width(16) == 16:
        return None
    y, x = np.mgrid[:16, :16].astype(np.uint8)
    slope = np.dstack((x * 16, y * 16, 255 - x * 8 - y * 8))
    yuv = (1, FULL)
    kind = np.uint16 if like.format.components[0].bits > 8 else np.uint8
    wanted = FromRgb("rgb24", like.format.name.replace("yuvj", "yuv"), (16, 16), yuv, like)(slope)
    for site in _SITES:
        one = FromRgb("rgb24", wanted.format.name, (16, 16), yuv, None)
        one._canvas = _sited("rgb24", (16, 16), site)
        # Samples, as behind the bytes of a row lies whatever was in memory.
        planes = zip(one(slope).planes, wanted.planes, strict=True)
        if all(np.array_equal(samples(a, kind), samples(b, kind)) for a, b in planes):
            return site
    return None


def ready_frames(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """Yields the frames that a filter graph has ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame
