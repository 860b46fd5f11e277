"""Chooses how pictures become a file: a table of encoders, their pixel formats, what quality means.

A build of FFmpeg has some of them; `choose` takes the first that it has, and says what is there where it has none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.codec import Codec
from av.video.codeccontext import VideoCodecContext

from ..timeline.numbers import shortened

log = logging.getLogger(__name__)

FLOAT = 32  # bits of pictures whose channels are floats, which may lie above 1


class VideoError(ValueError):
    """Is raised where a video cannot be read or written; the message names the file, the cause and the way out."""


@dataclass(frozen=True)
class Encoder:
    """Describes an encoder of FFmpeg. formats: (bits, alpha, pixel format), the best first of those that hold a
    picture.

    quality: its option for constant quality and the value that is hard to tell from the source.
    """

    name: str
    codec: str
    formats: tuple[tuple[int, bool, str], ...]
    quality: tuple[str, int] | None = None
    options: tuple[tuple[str, str], ...] = ()
    hardware: bool = False
    lossless: bool = (
        False  # takes the source's own pixel format, if it can, so that given frames stay bit for bit
    )


_YUV = (8, False, "yuv420p")
_YUV10 = (10, False, "yuv420p10le")
_NV12 = (8, False, "nv12")
_P010 = (10, False, "p010le")

ENCODERS = (
    # Looking ahead by 20 frames instead of 40: same size and PSNR at constant quality, 18% less work, 20 frames less
    # to hold.
    Encoder("libx264", "h264", (_YUV, _YUV10), ("crf", 18), (("rc-lookahead", "20"),)),
    Encoder("libx265", "h265", (_YUV, _YUV10), ("crf", 20), (("x265-params", "log-level=error"),)),
    Encoder("libsvtav1", "av1", (_YUV, _YUV10), ("crf", 25), (("preset", "8"),)),
    Encoder("libaom-av1", "av1", (_YUV, _YUV10), ("crf", 25), (("cpu-used", "6"), ("row-mt", "1"))),
    Encoder(
        "libvpx-vp9",
        "vp9",
        (_YUV, _YUV10, (8, True, "yuva420p")),
        ("crf", 24),
        (("b", "0"), ("row-mt", "1"), ("cpu-used", "4")),
    ),
    Encoder(
        "prores_ks",
        "prores",
        ((10, False, "yuv422p10le"), (10, True, "yuva444p10le")),
        None,
        (("vendor", "apl0"),),
    ),
    # RGB for arrays, so that what is read is what was written, bit for bit.
    Encoder(
        "ffv1",
        "ffv1",
        ((8, False, "bgr0"), (8, True, "bgra"), (16, False, "gbrp16le"), (16, True, "gbrap16le")),
        None,
        (("level", "3"), ("slicecrc", "1")),
        lossless=True,
    ),
    # In Ogg alone; its quality is one of FFmpeg's numbers, 118 times that of its own scale of 0 to 10.
    Encoder("libtheora", "theora", (_YUV,), None, (("flags", "+qscale"), ("global_quality", "944"))),
    Encoder("gif", "gif", ((8, False, "pal8"), (8, True, "pal8"))),
    Encoder("libwebp_anim", "webp", ((8, True, "yuva420p"), (8, False, "yuv420p")), ("quality", 90)),
    Encoder(
        "apng",
        "apng",
        ((8, False, "rgb24"), (8, True, "rgba"), (16, False, "rgb48be"), (16, True, "rgba64be")),
    ),
    Encoder(
        "png", "png", ((8, False, "rgb24"), (8, True, "rgba"), (16, False, "rgb48be"), (16, True, "rgba64be"))
    ),
    Encoder("mjpeg", "jpg", ((8, False, "yuvj444p"),), ("qscale", 2)),
    Encoder(
        "tiff",
        "tiff",
        ((8, False, "rgb24"), (8, True, "rgba"), (16, False, "rgb48le"), (16, True, "rgba64le")),
    ),
    Encoder("libwebp", "webp_still", ((8, True, "yuva420p"), (8, False, "yuv420p")), ("quality", 90)),
    Encoder("bmp", "bmp", ((8, False, "bgr24"), (8, True, "bgra"))),
    Encoder(
        "exr",
        "exr",
        ((FLOAT, False, "gbrpf32le"), (FLOAT, True, "gbrapf32le")),
        None,
        (("compression", "zip16"),),
    ),
    Encoder(
        "dpx",
        "dpx",
        (
            (8, False, "rgb24"),
            (10, False, "gbrp10be"),
            (12, False, "gbrp12be"),
            (16, False, "rgb48be"),
            (8, True, "rgba"),
            (16, True, "rgba64be"),
        ),
    ),  # fmt: skip
    Encoder("h264_nvenc", "h264", (_YUV,), ("cq", 19), (("preset", "p5"),), True),
    Encoder("hevc_nvenc", "h265", (_YUV, _P010), ("cq", 21), (("preset", "p5"),), True),
    Encoder("av1_nvenc", "av1", (_YUV, _P010), ("cq", 26), (("preset", "p5"),), True),
    Encoder("h264_qsv", "h264", (_NV12,), ("global_quality", 19), (), True),
    Encoder("hevc_qsv", "h265", (_NV12, _P010), ("global_quality", 21), (), True),
    Encoder("av1_qsv", "av1", (_NV12, _P010), ("global_quality", 26), (), True),
    Encoder("h264_amf", "h264", (_YUV,), ("qp_p", 20), (("rc", "cqp"), ("qp_i", "18")), True),
    Encoder("hevc_amf", "h265", (_YUV, _P010), ("qp_p", 22), (("rc", "cqp"), ("qp_i", "20")), True),
    Encoder("av1_amf", "av1", (_YUV, _P010), ("qp_p", 26), (("rc", "cqp"), ("qp_i", "24")), True),
    Encoder("h264_videotoolbox", "h264", (_NV12,), ("q", 70), (), True),
    Encoder("hevc_videotoolbox", "h265", (_NV12, _P010), ("q", 70), (), True),
)
# Formats that cameras and capture cards have, and the one with the same samples in planes, which encoders take.
IN_PLANES = {
    **dict.fromkeys(("yuyv422", "uyvy422", "yvyu422", "nv16"), "yuv422p"),
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    **dict.fromkeys(("nv24", "nv42", "vuyx", "vyu444"), "yuv444p"),
    **dict.fromkeys(("vuya", "ayuv"), "yuva444p"),
    **dict.fromkeys(("p210le", "y210le", "nv20le"), "yuv422p10le"),
    **dict.fromkeys(("p410le", "xv30le", "v30xle"), "yuv444p10le"),
    **dict.fromkeys(("p212le", "y212le"), "yuv422p12le"),
    **dict.fromkeys(("p412le", "xv36le"), "yuv444p12le"),
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
}
CODECS = tuple(dict.fromkeys(encoder.codec for encoder in ENCODERS))

# For a file's ending: its codec, the one for more than 8 bits, the one for alpha.
_USUAL = {
    ".mp4": ("h264", "h265", "h264"),
    ".m4v": ("h264", "h265", "h264"),
    ".mov": ("h264", "h265", "prores"),
    ".mkv": ("h264", "h265", "ffv1"),
    ".webm": ("vp9", "av1", "vp9"),
    ".ogv": ("theora",) * 3,
    ".ogg": ("theora",) * 3,
    ".gif": ("gif",) * 3,
    ".webp": ("webp",) * 3,
    ".apng": ("apng",) * 3,
    ".png": ("png",) * 3,
    ".jpg": ("jpg",) * 3,
    ".jpeg": ("jpg",) * 3,
    ".tif": ("tiff",) * 3,
    ".tiff": ("tiff",) * 3,
    ".bmp": ("bmp",) * 3,
    ".exr": ("exr",) * 3,
    ".dpx": ("dpx",) * 3,
}
PATTERN = re.compile(r"(.*?)%(0?)(\d*)d(.*)")


def is_pattern(path: Path) -> bool:
    """Tells whether a name such as %05d.png stands for many files; "50% off.mp4" does not."""
    return PATTERN.fullmatch(path.name) is not None


@dataclass(frozen=True)
class Hdr:
    """Holds what HDR10 files say besides their transfer function.

    display: of the display they were graded on, x and y of red, green, blue and white, darkest and brightest in cd/m2.
    content: brightest pixel and brightest mean of a frame, cd/m2.
    """

    display: tuple[float, ...] | None = None
    content: tuple[int, int] | None = None

    def settings(self, encoder: str) -> dict[str, str]:
        """Returns how an encoder is told; nothing, for one that cannot be."""
        if encoder not in _HDR:
            return {}
        option, display, content, whole = _HDR[encoder]
        said = []
        if self.display:
            xy, light = (50000, 10000) if whole else (1, 1)
            values = [v * (xy if i < 8 else light) for i, v in enumerate(self.display)]
            r, g, b, w = (_pair(values[i : i + 2], whole) for i in (0, 2, 4, 6))
            said.append(f"{display}=G{g}B{b}R{r}WP{w}L{_pair(values[:7:-1], whole)}")
        if self.content:
            said.append(f"{content}={self.content[0]},{self.content[1]}")
        return {option: ":".join(said)}


# Option, names of both in it, whether it counts in whole 1/50000 and 1/10000 cd/m2.
_HDR = {
    "libx264": ("x264-params", "mastering-display", "cll", True),
    "libx265": ("x265-params", "master-display", "max-cll", True),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", False),
}


def _pair(values: Sequence[float], whole: bool) -> str:
    a, b = (str(round(v)) if whole else f"{v:.6g}" for v in values)
    return f"({a},{b})"


@dataclass(frozen=True)
class Encoding:
    """Says how a file is encoded. None is what suits the file's ending and its source.

    codec: one of `CODECS`, or an encoder by FFmpeg's name; crf: its quality, lower is better (of qualities that rise,
    such as WebP's, higher is); options: the encoder's own, (name, value); audio: whether sound is copied.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    hardware: bool = False
    options: tuple[tuple[str, str], ...] = ()
    audio: bool = True

    def settings(self, encoder: Encoder, hdr: Hdr | None = None) -> dict[str, str]:
        """Returns options for `encoder`, as FFmpeg takes them."""
        settings = dict(encoder.options)
        if encoder.quality:
            name, usual = encoder.quality
            settings[name] = str(usual if self.crf is None else self.crf)
        if self.preset:
            settings["preset"] = self.preset
        for name, value in [*(hdr.settings(encoder.name).items() if hdr else ()), *self.options]:
            lists = name.endswith("-params") and name in settings
            settings[name] = f"{settings[name]}:{value}" if lists else value
        return settings


def choose(
    path: Path, encoding: Encoding, bits: int = 8, alpha: bool = False, like: str = "", warn: bool = True
) -> tuple[Encoder, str]:
    """Returns the encoder and pixel format for a file of `path`'s ending whose pictures have `bits` and perhaps alpha.

    like: their pixel format, which an encoder without loss keeps. warn: of bits, alpha or light above 1 that are lost.
    Raises VideoError where there is no such encoder.
    """
    named = encoding.codec or _usual_codec(path, bits, alpha)
    row = next((row for row in ENCODERS if row.name == named), None)
    rows = (
        [row] if row else [row for row in ENCODERS if (row.codec, row.hardware) == (named, encoding.hardware)]
    )
    here = [row for row in rows if codec_here(row)]
    if not here and row is None and named not in CODECS and _codec(named):
        here = [Encoder(named, named, tuple((8, False, name) for name in _pixel_formats(named)))]
    if not here and encoding.codec is None and not encoding.hardware:
        raise VideoError(
            f"{path.suffix} holds {named}, and there is no encoder for it here. Write to .mkv, .webm or .mp4."
        )
    if not here:
        raise VideoError(_missing(named, encoding.hardware))
    if encoding.pix_fmt and not _is_pixel_format(encoding.pix_fmt):
        raise VideoError(
            f"pix_fmt is {shortened(encoding.pix_fmt)}, expected a pixel format of FFmpeg; {named} takes "
            f"{', '.join(_pixel_formats(here[0].name)[:8])}. Leave it out to have it chosen."
        )
    return here[0], encoding.pix_fmt or _pixel_format(here[0], bits, alpha, like, warn)


def _is_pixel_format(name: str) -> bool:
    try:
        return bool(av.VideoFormat(name))
    except ValueError:
        return False


def _usual_codec(path: Path, bits: int, alpha: bool) -> str:
    ending = path.suffix.lower()
    if ending == ".webp" and is_pattern(path):
        return "webp_still"  # one file a picture, not one that moves
    eight, deep, transparent = _USUAL.get(ending, _USUAL[".mp4"])
    return transparent if alpha else deep if bits > 8 else eight


def _pixel_formats(name: str) -> list[str]:
    codec = _codec(name)
    return [form.name for form in codec.video_formats or ()] if codec else []


def _pixel_format(encoder: Encoder, bits: int, alpha: bool, like: str, warn: bool) -> str:
    here = _pixel_formats(encoder.name)
    # JPEG has names of its own for full range, which the tags say too.
    like = IN_PLANES.get(like, like).replace("yuvj", "yuv")
    if encoder.lossless and bits != FLOAT and like in here:
        return like
    # An encoder that names none takes any, as rawvideo does.
    rows = [row for row in encoder.formats if not here or row[2] in here] or list(encoder.formats) or [_YUV]
    # Alpha first, then all the bits, then no more than are needed.
    best = min(rows, key=lambda row: (row[1] != alpha, row[0] < bits, abs(row[0] - bits)))
    if warn:
        _tell_losses(encoder, best, bits, alpha)
    return best[2]


def _tell_losses(encoder: Encoder, best: tuple[int, bool, str], bits: int, alpha: bool) -> None:
    if alpha and not best[1]:
        log.warning(
            "%s has no alpha here: it is left out. ProRes (.mov), VP9 (.webm), FFV1 (.mkv) and EXR have.",
            encoder.codec,
        )
    if bits == FLOAT != best[0]:
        log.warning(
            "%s has no floats, as the source does: what is below 0 or above 1 is cut off. Write %%05d.exr to keep it.",
            encoder.codec,
        )
    elif best[0] == 8 < bits:
        log.warning("%s has 8 bits here, the source %d. h265 and av1 have 10, ffv1 16.", encoder.codec, bits)


def opens(encoder: Encoder) -> bool:
    """Tells whether it works on this machine: hardware encoders are in builds for machines that lack the hardware."""
    if _codec(encoder.name) is None:
        return False
    try:
        context = av.CodecContext.create(encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = 640, 480, encoder.formats[0][2]
        context.framerate = Fraction(25)
        context.open()
    except (av.error.FFmpegError, ValueError, OSError):
        return False
    return True


def codec_here(encoder: Encoder) -> bool:
    """Tells whether it works on this machine."""
    return opens(encoder) if encoder.hardware else _codec(encoder.name) is not None


def available() -> list[str]:
    """Lists the encoders of the table that work here, by FFmpeg's names."""
    return [row.name for row in ENCODERS if codec_here(row)]


def _codec(name: str) -> Codec | None:
    try:
        return Codec(name, "w")
    except (av.error.FFmpegError, ValueError):
        return None


def _missing(named: str, hardware: bool) -> str:
    kind = "hardware encoder" if hardware else "encoder"
    return (
        f"There is no {kind} for {named} here. These work: {', '.join(available())}. Choose one of them"
        f"{', or leave hardware out' if hardware else ''}."
    )
