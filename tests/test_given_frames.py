"""Given frames stay as they are in videos too, and new ones are as bright and as coloured."""

from __future__ import annotations

import av
import numpy as np
import pytest
from odd_files import encode, numbered
from video_files import Fader

from rife.engine.joining import Joining
from rife.video.codecs import Encoding
from rife.video.colours import Look
from rife.video.convert import _EXACT, chroma_site, to_rgb
from rife.video.job import interpolate_video
from rife.video.joined import join_videos, open_clips
from rife.video.reader import Clip


class First(Fader):
    """New frames are the given ones, through RGB and back."""

    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        return img0.clone()


def planes(path) -> list[list[np.ndarray]]:
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            kind = np.uint16 if "10" in frame.format.name else np.uint8
            found.append([np.frombuffer(memoryview(p), kind).reshape(p.height, -1)[:, : p.width].astype(float)
                          for p in frame.planes])  # fmt: skip
    return found


def source(path, pix_fmt: str, matrix: int, range_: int, site: str):
    """Soft colours that RGB can hold, with all tags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"qp": "0", "chroma_sample_location": site})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range_
        for i in range(3):
            soft = av.VideoFrame.from_ndarray(numbered(i) // 2 + 60, format="rgb24")
            container.mux(stream.encode(soft.reformat(
                format=pix_fmt, dst_colorspace=matrix, src_color_range=2, dst_color_range=range_)))  # fmt: skip
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("range_", [1, 2])
@pytest.mark.parametrize("site", ["left", "topleft"])
def test_given_frames_are_bit_for_bit_and_new_ones_match_them(tmp_path, pix_fmt, matrix, range_, site):
    path = source(tmp_path / "in.mkv", pix_fmt, matrix, range_, site)
    interpolate_video(
        First(), path, tmp_path / "out.mkv", 2, cuts="off", repeats="off", encoding=Encoding("ffv1")
    )
    before, after = planes(path), planes(tmp_path / "out.mkv")
    for given, kept in zip(before, after[::2], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))
    level = 4 if "10" in pix_fmt else 1
    for given, new in zip(before, after[1::2], strict=False):
        for k, (a, b) in enumerate(zip(given, new, strict=True)):
            assert abs((a - b).mean()) / level < 0.05
            assert np.sqrt(((a - b) ** 2).mean()) / level < (0.25 if k == 0 else 1.0)


@pytest.mark.parametrize(
    ("pix_fmt", "second", "kept"),
    [
        ("yuv420p", (1, 1), True),
        ("yuv420p10le", (1, 1), True),
        ("yuv444p", (1, 1), True),
        ("yuv420p", (6, 2), False),
    ],
)
def test_a_join_leaves_given_planes_alone_too(tmp_path, pix_fmt, second, kept):
    """They went through RGB; where a clip means other colours by them, they have to."""
    files = [
        source(tmp_path / "a.mkv", pix_fmt, 1, 1, "left"),
        source(tmp_path / "b.mkv", pix_fmt, *second, "left"),
    ]
    target, asked = tmp_path / "out.mkv", Joining(overlap=0, match=False, bridge=0)
    clips = open_clips(files, target)
    assert join_videos(None, clips, target, asked, Encoding("ffv1")).frames == 6
    before, after = planes(files[0]) + planes(files[1]), planes(target)
    same = [all(map(np.array_equal, a, b)) for a, b in zip(before, after, strict=True)]
    assert same == [True] * 3 + [kept] * 3
    shown, meant = Clip(target).frames(), [*clips[0].frames(), *clips[1].frames()]
    apart = [np.abs(a.astype(float) - b).mean() for a, b in zip(shown, meant, strict=True)]
    assert max(apart) < 1.5 * (257 if "10" in pix_fmt else 1)


@pytest.mark.parametrize("codec", ["mjpeg", "ffv1", "libx264"])
def test_a_lossy_target_gets_the_planes_untouched_too(tmp_path, monkeypatch, codec):
    """Of JPEG's own names for full range as well: what the encoder is given is what the decoder gave."""
    fmt = {"mjpeg": "yuvj420p", "ffv1": "yuv420p", "libx264": "yuv420p"}[codec]
    path = encode(tmp_path / "in.mkv", codec, 3, pix_fmt=fmt)
    interpolate_video(First(), path, tmp_path / "out.mkv", 2, cuts="off", repeats="off",
                      encoding=Encoding("ffv1", pix_fmt="yuv420p"))  # fmt: skip
    for given, kept in zip(planes(path), planes(tmp_path / "out.mkv")[::2], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))


@pytest.mark.parametrize("height", [128, 542])  # of which all rows are looked at, and some
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_colours_that_rgb_cannot_hold_lose_nothing_in_the_mean(tmp_path, pix_fmt, height):
    """Chroma beside dark lines and in bright red: RGB cuts off what is below 0 or above the top."""
    path, bits = tmp_path / "in.mkv", 10 if "10" in pix_fmt else 8
    y, x = np.mgrid[:height, :192]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 192, height, pix_fmt
        for i in range(2):
            frame = av.VideoFrame(192, height, pix_fmt)
            luma = np.where((x + i) % 16 < 5, 18, 60 + (x + y) % 40)
            for k, plane in enumerate(frame.planes):
                values = (luma, 112 - x // 16, 150 + y * 16 // height)[k] << bits - 8
                into = np.frombuffer(memoryview(plane), np.uint16 if bits > 8 else np.uint8)
                into.reshape(plane.height, -1)[:, : plane.width] = values[: plane.height, : plane.width]
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    interpolate_video(
        First(), path, tmp_path / "out.mkv", 2, cuts="off", repeats="off", encoding=Encoding("ffv1")
    )
    given, new, _ = planes(tmp_path / "out.mkv")
    for a, b in zip(given[1:], new[1:], strict=True):
        assert abs((a - b).mean()) / (1 << bits - 8) < 0.05


@pytest.mark.parametrize("width, height", [(64, 48), (65, 49), (852, 36)])
@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv411p", "nv12", "yuv420p10le", "p010le"]
)
def test_colours_by_planes_are_those_of_one_step(pix_fmt, width, height):
    frame, noise = av.VideoFrame(width, height, pix_fmt), np.random.default_rng(0)
    for plane in frame.planes:
        wide, shift = (1024, 6 if pix_fmt == "p010le" else 0) if "10" in pix_fmt else (256, 0)
        values = np.frombuffer(memoryview(plane), np.uint16 if wide > 256 else np.uint8)
        values[:] = noise.integers(0, wide, values.shape) << shift
    kind = "rgb48le" if "10" in pix_fmt else "rgb24"
    options = {"src_colorspace": 1, "src_color_range": 1, "dst_color_range": 2, **_EXACT}
    assert np.array_equal(
        to_rgb(frame, Look(matrix=1, range=1), kind), frame.to_ndarray(format=kind, **options)
    )


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("site", ["left", "center", "topleft"])
def test_where_chroma_lies_is_found_and_told_again(tmp_path, pix_fmt, site):
    """By what conversions make of it, which must not hang on what lies in memory behind a row."""
    path = source(tmp_path / "in.mkv", pix_fmt, 1, 1, site)
    interpolate_video(First(), path, tmp_path / "out.mkv", 2, encoding=Encoding("ffv1"))
    for file in (path, tmp_path / "out.mkv"):
        for _ in range(5):
            with av.open(str(file)) as container:
                assert chroma_site(next(container.decode(video=0))) == site
