"""The shape of pixels (a DVD's 16:9 in 720x576) is told by all files that can tell it; where not, it is said."""

from __future__ import annotations

import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from video_files import Fader, packets, picture

from rife.cli import main
from rife.video import segments
from rife.video.codecs import Encoding
from rife.video.colours import Look
from rife.video.job import Job, Timing
from rife.video.masks import look_of_masks
from rife.video.matroska import shown_size
from rife.video.reader import Clip
from rife.video.segments import Segments
from rife.video.writer import VideoWriter

WIDE = Fraction(4, 3)


def told(path) -> set[Fraction]:
    """What our reader and FFmpeg's take from a file."""
    with av.open(str(path)) as container:
        return {Clip(path).look.pixel_aspect, Fraction(container.streams.video[0].sample_aspect_ratio or 1)}


def write(path, aspect=WIDE, codec=None, size=(64, 48)):
    with VideoWriter(
        path, Fraction(25), *size, look=Look(rgb=True, pixel_aspect=aspect), encoding=Encoding(codec)
    ) as writer:
        for _ in range(12):  # fewer are no MPEG-TS to FFmpeg
            writer.write(np.full((*size[::-1], 3), 90, np.uint8))
    return path


@pytest.mark.parametrize(
    ("ending", "codecs"),
    [(".mkv", "h264 h265 av1 vp9 ffv1 prores mjpeg mpeg4"), (".webm", "av1 vp9"), (".mov", "h264 prores mjpeg"),
     (".mp4", "h264 h265 av1 vp9 ffv1"), (".avi", "h264 vp9 ffv1 mpeg4 huffyuv"), (".mpg", "mpeg2video"),
     (".ts", "h264"), (".wmv", "wmv2"), (".mxf", "prores"), (".nut", "h264"), (".ogv", "libvpx"), (".apng", "apng")],
)  # fmt: skip
def test_every_file_tells_it(tmp_path, caplog, ending, codecs):
    for codec in codecs.split():
        path = write(tmp_path / f"{codec}{ending}", codec=codec)
        assert told(path) == {WIDE}, codec
        assert len(list(Clip(path).frames())) == 12
    assert "will be shown" not in caplog.text


@pytest.mark.parametrize("aspect", [Fraction(64, 45), Fraction(32, 27), Fraction(10, 11), Fraction(118, 81)])
def test_the_shapes_of_tapes_and_discs_are_exact_in_matroska(tmp_path, aspect):
    assert told(write(tmp_path / "x.mkv", aspect, "ffv1", (720, 480))) == {aspect}


@pytest.mark.parametrize(
    ("width", "height", "aspect", "shown"),
    [(720, 576, Fraction(64, 45), (1024, 576)), (720, 576, Fraction(16, 15), (768, 576)),
     (720, 480, Fraction(32, 27), (848, 477)), (720, 576, Fraction(118, 81), (1049, 576))],
)  # fmt: skip
def test_browsers_show_it_in_about_its_size(width, height, aspect, shown):
    assert shown_size(width, height, aspect) == shown


@pytest.mark.parametrize("name", ["x.mkv", "x.webm"])
def test_the_rest_of_a_matroska_file_stays_as_it_was(tmp_path, name):
    square, wide = (write(tmp_path / f"{k.numerator}-{name}", k, "vp9") for k in (Fraction(1), WIDE))
    before, after = square.read_bytes(), wide.read_bytes()
    assert len(before) == len(after) and packets(square, "video") == packets(wide, "video")
    segment = after.index(b"\x18\x53\x80\x67") + 12
    for element in (b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67", b"\x1c\x53\xbb\x6b"):
        listed = (
            after.index(b"\x53\xab\x84" + element) + 9
        )  # then one byte of the place's length, and the place
        place = int.from_bytes(after[listed + 1 : listed + 1 + (after[listed] & 127)], "big")
        assert after[segment + place :].startswith(element)
    if name == "x.mkv":  # WebM has no check sums
        for at in (segment, after.index(b"\x16\x54\xae\x6b", 200)):
            length = 9 - after[at + 4].bit_length()
            size = int.from_bytes(after[at + 4 : at + 4 + length], "big") - (1 << 7 * length)
            content = after[at + 4 + length :][:size]
            assert content[:2] == b"\xbf\x84" and content[2:6] == zlib.crc32(content[6:]).to_bytes(
                4, "little"
            )


@pytest.mark.parametrize("name, codec", [("x.webp", None), ("x_%03d.png", None), ("x.nut", "ffv1")])
def test_what_cannot_tell_it_is_said_once_with_the_way_out(tmp_path, caplog, name, codec):
    write(tmp_path / name, WIDE, codec)
    assert caplog.text.count("will be shown too narrow") == 1 and "Write .mp4, .mov or .mkv" in caplog.text
    caplog.clear()
    write(tmp_path / "square.webp", Fraction(1))
    assert "will be shown" not in caplog.text


@pytest.mark.parametrize(
    "name, codec", [("out.mkv", "ffv1"), ("out.mp4", "vp9"), ("out.avi", "ffv1"), ("out.mp4", "h264")]
)
def test_it_outlives_segments_and_masks_have_it_too(tmp_path, monkeypatch, caplog, name, codec):
    monkeypatch.setattr(segments, "_PER_PROCESS", 100)
    with VideoWriter(
        tmp_path / "in.mkv", Fraction(25), 64, 48, look=Look(pixel_aspect=WIDE), encoding=Encoding("h264")
    ) as writer:
        for i in range(40):
            writer.write(picture(i))
    timing = Timing(at_cuts="off", at_repeats="off")
    job = Job(Clip(tmp_path / "in.mkv"), timing, encoding=Encoding(codec))
    assert look_of_masks(job.clip).pixel_aspect == WIDE
    work = Segments(job, tmp_path / name, {})
    assert len(work.parts) > 1 and work.run(Fader())
    assert told(tmp_path / name) == {WIDE} and len(Clip(tmp_path / name)) == 79
    assert "will be shown" not in caplog.text


def test_joined_videos_have_that_of_the_first(tmp_path):
    for name in ("a.mkv", "b.mkv"):
        write(tmp_path / name, codec="ffv1")
    out = tmp_path / "out.mkv"
    assert main(["join", str(tmp_path / "a.mkv"), str(tmp_path / "b.mkv"), str(out), "--codec", "ffv1"]) == 0
    assert told(out) == {WIDE}
