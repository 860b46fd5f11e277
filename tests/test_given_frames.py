"""Given frames stay as they are in videos too, and new ones are as bright and as coloured."""

from __future__ import annotations

import av
import numpy as np
import pytest
from odd_files import encode, numbered
from PIL import Image
from video_files import Fader

from rife.engine.joining import Joining
from rife.video.codecs import Encoding
from rife.video.colours import Look
from rife.video.convert import _EXACT, chroma_site, samples, to_rgb
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
            kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
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


def plain(path, pix_fmt: str, matrix: int, range_: int):
    """One colour, (220, 40, 30), without loss; RGB where there is no matrix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range_
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), (220, 40, 30), np.uint8), format="rgb24")
        options = (
            {"dst_colorspace": matrix, "src_color_range": 2, "dst_color_range": range_} if matrix else {}
        )
        for i in range(3):
            picture = frame.reformat(format=pix_fmt, **options)
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pix_fmt, matrix, range_", [
    ("bgr0", 0, 2), ("yuv420p", 1, 1), ("yuv444p", 1, 1), ("yuv420p", 6, 2), ("yuv444p", 6, 2), ("yuv420p", 6, 1),
    ("yuv420p", 9, 1),
])  # fmt: skip
@pytest.mark.parametrize("name", ["%d.jpg", "%d.webp", "out.webp"])
def test_jpeg_and_webp_have_the_colours_of_the_source(tmp_path, pix_fmt, matrix, range_, name):
    """Both know BT.601 only, JPEG in full range and WebP in limited; given frames were handed over as they are."""
    path = plain(tmp_path / "in.mkv", pix_fmt, matrix, range_)
    (tmp_path / "made").mkdir()
    interpolate_video(First(), path, tmp_path / "made" / name, 2, cuts="off", repeats="off")
    shown = []
    for file in sorted((tmp_path / "made").iterdir()):
        with Image.open(file) as image:
            for i in range(getattr(image, "n_frames", 1)):
                image.seek(i)
                shown.append(np.asarray(image.convert("RGB"))[16, 16].astype(int))
    assert len(shown) == 5 or name == "out.webp"  # which holds equal frames once
    for colour in shown:
        assert np.abs(colour - (220, 40, 30)).max() <= 6, shown


@pytest.mark.parametrize(
    "pix_fmt, range_", [("gray", 2), ("gray", 1), ("gray10le", 2), ("gray16le", 2), ("ya8", 2)]
)
def test_grey_has_its_range_as_it_was(tmp_path, pix_fmt, range_):
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        stream.codec_context.color_range = range_
        slope = np.linspace(16, 235, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
        slope[..., 1] = slope[..., 2] = slope[..., 0]
        frame = av.VideoFrame.from_ndarray(slope, format="rgb24")
        for i in range(3):
            picture = frame.reformat(format=pix_fmt, dst_color_range=range_)
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    made = tmp_path / "out.mkv"
    interpolate_video(
        First(), tmp_path / "in.mkv", made, 2, cuts="off", repeats="off", encoding=Encoding("ffv1")
    )
    before, after = planes(tmp_path / "in.mkv"), planes(made)
    with av.open(str(made)) as container:
        first = next(container.decode(video=0))
        assert (first.format.name, int(first.color_range)) == (pix_fmt, range_)
    one = 256 if "16" in pix_fmt else 4 if "10" in pix_fmt else 1
    for given, kept, new in zip(before, after[::2], after[1::2], strict=False):
        assert np.array_equal(given[0], kept[0])
        assert abs((given[0] - new[0]).mean()) / one < 0.5


def test_an_opaque_animated_webp_has_no_alpha(tmp_path):
    """Pillow writes the flag of one all the same."""
    red, glass = Image.new("RGBA", (32, 32), (255, 0, 0, 255)), Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    blue = Image.new("RGBA", (32, 32), (0, 0, 255, 255))
    red.save(tmp_path / "opaque.webp", save_all=True, append_images=[blue], lossless=True)
    red.save(tmp_path / "later.webp", save_all=True, append_images=[glass], lossless=True)
    assert not Clip(tmp_path / "opaque.webp").look.alpha
    assert Clip(tmp_path / "later.webp").look.alpha


@pytest.mark.parametrize("pix_fmt, there", [
    ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("nv12", "yuv420p"), ("y210le", "yuv422p10le"),
])  # fmt: skip
def test_what_is_not_in_planes_is_held_without_loss(tmp_path, pix_fmt, there):
    """Of capture cards. They were written as 8 bits of the encoder's first format."""
    frames = [
        av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format=pix_fmt) for i in range(3)
    ]
    with av.open(str(tmp_path / "in.nut"), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        for i, frame in enumerate(frames):
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    made = tmp_path / "out.mkv"
    interpolate_video(
        First(), tmp_path / "in.nut", made, 2, cuts="off", repeats="off", encoding=Encoding("ffv1")
    )
    assert Clip(made).look.pix_fmt == there
    with av.open(str(made)) as container:
        given = list(container.decode(video=0))[::2]
    for before, after in zip(frames, given, strict=True):
        before = before.reformat(format=there)
        kind = np.uint16 if before.format.components[0].bits > 8 else np.uint8
        for a, b in zip(before.planes, after.planes, strict=True):
            assert np.array_equal(samples(a, kind), samples(b, kind))
