"""Reads pictures in files of their own and animated WebP: clips that no container of FFmpeg holds.

An `ImageSequence` knows when each of its pictures is shown without decoding one, and begins at any of them.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..atomic_write import atomic_write
from .animated_webp import AnimatedWebP, is_animated
from .canvas import TooLargeError, check_canvas, check_size
from .codecs import PATTERN, VideoError
from .codecs import is_pattern as is_pattern

log = logging.getLogger(__name__)

# The one list of endings by which files in folders are told apart; a file that is named is read whatever its ending.
# Those of what FFmpeg reads, as cameras, recorders, discs, downloads and archives call it.
VIDEO_ENDINGS = tuple(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .divx .ts .mts .m2ts .m2t .trp .mod .tod .mpg .mpeg .mpe .m1v .m2v .vob "
    ".vro .evo .wmv .asf .wtv .flv .f4v .3gp .3g2 .ogv .ogm .mxf .gxf .dv .dif .rm .rmvb .amv .nut .y4m .ivf "
    ".h264 .264 .avc .h265 .265 .hevc .mjpeg .mjpg .gif .apng".split()
)
PICTURE_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".webp",
    ".bmp",
    ".exr",
    ".dpx",
    ".tga",
    ".jp2",
    ".avif",
)
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}  # endings of one kind
_USUAL_RATE = Fraction(24)


class ImageSequence(Protocol):
    """Gives pictures with their times: `ticks` of `time_base` seconds each, the last picture shown for `last`
    of them."""

    ticks: array

    @property
    def files(self) -> Sequence[Path]:
        """Lists what it is read from."""

    @property
    def kind(self) -> str:
        """Says what it is, in a word."""

    @property
    def rate(self) -> Fraction | None:
        """Is the number of pictures per second, where that is said."""

    @property
    def time_base(self) -> Fraction:
        """Is the length of a tick in seconds."""

    @property
    def last(self) -> int:
        """Counts the ticks for which the last picture is shown."""

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Yields pictures from `start` on, their ticks as pts; what cannot be decoded is left out."""


def find_image_sequence(source: object, rate: Fraction | None = None) -> ImageSequence | None:
    """Returns the pictures that a path stands for: a folder or glob of pictures, frames/%05d.png, an animated WebP.

    None where it stands for something else. rate: pictures per second, default 24. Raises VideoError.
    """
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source)
    if path.is_file():
        return AnimatedWebP(path) if is_animated(path) else None
    files = picture_files(path)
    return PictureFiles(files, rate or _USUAL_RATE) if files else None


def picture_files(path: Path) -> list[Path]:
    """Lists the pictures of a folder, a printf pattern or a glob, frame2 before frame10. Raises VideoError where they
    are of several kinds."""
    if path.is_dir():
        files = pictures_in(path)
    elif is_pattern(path):
        return _in_order(path)
    else:
        files = _pictures(map(Path, glob.glob(str(path), recursive=True)))
    endings = sorted({_SAME.get(file.suffix.lower(), file.suffix.lower()) for file in files})
    if len(endings) > 1:
        raise VideoError(
            f"{path} has pictures of kind {', '.join(endings)}, expected one kind. Give a pattern such as "
            "frames/%05d.png."
        )
    return files


def pictures_in(folder: Path) -> list[Path]:
    """Lists the pictures in a folder, frame2 before frame10. Raises VideoError where there are none."""
    files = _pictures(folder.iterdir())
    if not files:
        raise VideoError(
            f"{folder} holds no pictures ({', '.join(PICTURE_ENDINGS)}). Give a folder of frames, or a video file."
        )
    return files


def is_video(path: Path) -> bool:
    """Tells whether a file of a folder is a video or an animation, by its ending."""
    ending = path.suffix.lower()
    if is_left_aside(path) or not path.is_file():
        return False
    return ending in VIDEO_ENDINGS or (ending == ".webp" and is_animated(path))


def is_picture(path: Path) -> bool:
    """Tells whether a file of a folder is a picture, by its ending."""
    return path.suffix.lower() in PICTURE_ENDINGS and not is_left_aside(path) and path.is_file()


def is_left_aside(path: Path) -> bool:
    """Tells whether a file is hidden, as are those that macOS puts as ._NAME beside each NAME on disks that are not its
    own: attributes, no picture."""
    return path.name.startswith(".")


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return sorted(filter(is_picture, paths), key=_natural)


def _natural(path: Path) -> list:
    parts = re.split(r"(\d+)", path.name)  # every other one is a number
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _in_order(pattern: Path) -> list[Path]:
    found = numbered(pattern)
    missing = max(found) - min(found) + 1 - len(found) if found else 0
    if missing:
        log.warning("%s: %d pictures are missing in between, the others follow on.", pattern, missing)
    return [found[number] for number in sorted(found)]


def numbered(pattern: Path) -> dict[int, Path]:
    """Returns the files of a printf pattern that are there, whatever number they begin with."""
    folder = pattern.parent
    parts = PATTERN.fullmatch(pattern.name)
    assert parts is not None
    before, zeros, width, after = parts.groups()
    digits = rf"\d{{{width},}}" if zeros and width else r"\d+"
    name = re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")
    names = os.listdir(folder) if folder.is_dir() else []
    return {int(m[1]): folder / m[0] for m in map(name.fullmatch, names) if m}


class PictureFiles:
    """Gives pictures in files, at a constant rate."""

    last = 1

    def __init__(self, files: Sequence[Path], rate: Fraction):
        self.kind = files[0].suffix.lower().lstrip(".")
        self.files, self.rate = files, rate
        self.time_base = 1 / rate
        self.ticks = array("q", range(len(files)))

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Yields the pictures from index `start` on, as `ImageSequence` says. Raises TooLargeError."""
        for tick in range(start, len(self.files)):
            try:
                frame = read_image(self.files[tick])
            except TooLargeError:
                raise
            except (VideoError, OSError) as error:
                log.warning("%s", error)
                continue
            frame.pts, frame.time_base = tick, self.time_base
            yield frame


def read_image(path: Path) -> av.VideoFrame:
    """Reads the picture of a file, RGB(A) and the right way up where Pillow reads it. Raises FileNotFoundError,
    VideoError.

    Pillow reads what has at most 8 bits a channel: for PNG, BMP, TIFF and lossless WebP the pixels are those of FFmpeg,
    for JPEG and WebP better ones (colours of half the size are enlarged smoothly, and 0.5 to 1.1 levels of brightness
    are not lost), CMYK has no alpha then, and a PNG of 1080p takes 85 ms instead of 115. FFmpeg reads the rest: Pillow
    cuts 16-bit RGB down to 8 and knows neither EXR nor DPX.
    """
    try:
        check_canvas(path)
        return _by_pillow(path) or _by_ffmpeg(path)
    except VideoError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no picture at {path}. Give the path of an existing file."
        ) from None
    # SyntaxError: what Pillow raises for a broken PNG.
    except (av.error.FFmpegError, StopIteration, SyntaxError, ValueError, OSError) as error:
        raise VideoError(
            f"{path} cannot be read as a picture ({error or type(error).__name__}). It is damaged or of another kind; "
            "give one that a viewer shows."
        ) from error


def _by_pillow(path: Path) -> av.VideoFrame | None:
    """None for what Pillow does not know, or not to the last bit."""
    try:
        with Image.open(path) as image:
            check_size(path, *image.size)
            if not _is_shallow(image):
                return None
            mode, kind = ("RGBA", "rgba") if image.has_transparency_data else ("RGB", "rgb24")
            upright = ImageOps.exif_transpose(image).convert(mode)
            return av.VideoFrame.from_ndarray(np.asarray(upright), format=kind)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"{path}: {error} Cut or reduce it first.") from error


def _by_ffmpeg(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def _is_shallow(image: Image.Image) -> bool:
    """Whether Pillow reads all bits of a picture: the layout in the file is said by its first tile only."""
    tiles = getattr(image, "tile", [])
    layout = tiles[0].args if tiles else ""
    layout = layout[0] if isinstance(layout, tuple) else layout
    return image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr") and "16" not in str(
        layout
    )


def write_png(path: str | os.PathLike, image: np.ndarray) -> Path:
    """Writes an (H,W,3) uint8 RGB picture; returns its path. Raises OSError.

    Level 1 takes a quarter of the time of FFmpeg's encoder or of Pillow's usual level 6, for a file larger by 14%.
    """
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG", compress_level=1)
    return Path(path)
