"""Reading: times, parts, depth, alpha, turns, damage; with files made here."""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from video_files import NTSC, damage, make, make_at, make_sound, picture

from rife.video.codecs import VideoError
from rife.video.reader import Clip, DamagedError


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize("rate", [NTSC, Fraction(25), Fraction(60000, 1001)])
def test_a_constant_rate_is_exact_however_coarse_the_file_counts(tmp_path, name, rate):
    clip = Clip(make(tmp_path / name, frames=40, rate=rate, codec="libx264", pix_fmt="yuv420p"))
    assert (clip.rate, len(clip)) == (rate, 40)
    assert clip.clock.duration == 40 / rate


def test_a_variable_rate_is_its_presentation_times(tmp_path):
    ticks = [0, 3000, 6000, 15000, 18000, 18500, 30000]
    clip = Clip(make_at(tmp_path / "in.mp4", ticks))
    assert clip.rate is None
    assert list(clip.times) == [Fraction(tick, 90000) for tick in ticks]
    assert clip.clock.at(3) == Fraction(1, 6)


@pytest.mark.parametrize(
    "options", [{"g": "4", "bf": "2"}, {"g": "250"}, {"g": "5", "x264-params": "open-gop=1:bframes=3"}]
)
@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
def test_frames_from_anywhere_are_those_of_the_whole(tmp_path, options, name):
    path = make_at(tmp_path / name, range(0, 22 * 3000, 3000), options=options)
    clip = Clip(path)
    whole = list(clip.frames())
    assert len(whole) == len(clip) == 22
    for start in range(0, 22, 3):
        part = list(clip.frames(start, start + 4))
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[start : start + 4], strict=True))


def test_a_part_begins_and_ends_where_it_is_told_and_memory_is_as_good_as_a_file(tmp_path):
    path = make_at(tmp_path / "in.mkv", range(0, 1000, 100), Fraction(1, 1000), "ffv1", "bgr0")
    clip = Clip(io.BytesIO(path.read_bytes()), start=0.25, duration=0.4)
    assert len(clip) == 4 and clip.start == Fraction(1, 20)
    assert all(np.array_equal(a, picture(i)) for i, a in enumerate(clip.frames(), 3))
    with pytest.raises(VideoError, match="no new frame"):
        Clip(path, start=5)


@pytest.mark.parametrize(
    "codec, pix_fmt, name, dtype, channels",
    [("libx265", "yuv420p10le", "in.mkv", np.uint16, 3), ("ffv1", "bgra", "in.mkv", np.uint8, 4),
     ("libvpx-vp9", "yuva420p", "in.webm", np.uint8, 4), ("prores_ks", "yuva444p10le", "in.mov", np.uint16, 4),
     ("mjpeg", "yuvj420p", "in.avi", np.uint8, 3)],
)  # fmt: skip
def test_depth_and_alpha_are_seen(tmp_path, codec, pix_fmt, name, dtype, channels):
    clip = Clip(make(tmp_path / name, frames=3, codec=codec, pix_fmt=pix_fmt))
    frame = next(clip.frames())
    assert frame.dtype == dtype and frame.shape == (48, 64, channels)
    largest = np.iinfo(dtype).max
    assert abs(frame[..., :3] / largest - picture(0) / 255).mean() < 0.04


def test_a_folder_and_a_pattern_of_pictures_are_clips(tmp_path):
    folder = tmp_path / "a [1]"
    folder.mkdir()
    with av.open(str(folder / "x%03d.png").replace("[1]", "[1]"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for i in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        container.mux(stream.encode(None))
    for source in (folder, folder / "x%03d.png"):
        clip = Clip(source, rate=Fraction(30000, 1001))
        assert (clip.rate, len(clip)) == (Fraction(30000, 1001), 4)
        assert all(np.array_equal(a, picture(i)) for i, a in enumerate(clip.frames()))
    (folder / "y.jpg").write_bytes(b"")
    with pytest.raises(VideoError, match=r"\.jpg, \.png"):
        Clip(folder)


def test_a_turned_video_is_read_upright(tmp_path):
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV writes no display matrix")
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(stream.encode(None))
    clip = Clip(path)
    turns = round(next(clip._decoded(0)).rotation / 90) % 4
    assert turns in (1, 3) and (clip.width, clip.height, clip.look.pixel_aspect) == (48, 64, Fraction(3, 4))
    assert abs(next(clip.frames()).astype(int) - np.rot90(picture(0), turns)).mean() < 4


def test_a_clip_that_was_trimmed_without_encoding_begins_where_its_edit_list_says(tmp_path):
    """Phones and `ffmpeg -ss -c copy` keep the key before the cut, marked as not to be shown."""
    clip = Clip(make_at(tmp_path / "in.mp4", range(-8 * 3000, 12 * 3000, 3000)))
    assert (len(clip), clip.start, clip.rate) == (12, 0, 30)
    for first in (0, 5):
        for i, frame in enumerate(clip.frames(first), first):
            near = [np.abs(frame.astype(int) - picture(8 + i + k)).mean() for k in (-1, 0, 1)]
            assert min(near) == near[1] < 3.5


@pytest.mark.parametrize(
    "name, codec, pix_fmt", [("in.mp4", "libx264", "yuv420p"), ("in.mov", "prores_ks", "yuv422p10le")]
)
def test_a_damaged_frame_is_told_or_concealed(tmp_path, name, codec, pix_fmt):
    path = make(tmp_path / name, frames=12, codec=codec, pix_fmt=pix_fmt)
    damage(path, 6)
    count = 0
    with pytest.raises(DamagedError, match="damaged at"):
        for _ in Clip(path).frames():
            count += 1
    assert 1 < count < 12
    assert len(list(Clip(path, conceal=True).frames())) == 12


def test_a_file_that_was_cut_off_gives_what_is_there_and_says_so(tmp_path, caplog):
    path = make(tmp_path / "in.mkv", frames=60, codec="libx264", pix_fmt="yuv420p", rate=Fraction(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with caplog.at_level(logging.WARNING):
        clip = Clip(path)
        assert 20 < len(list(clip.frames())) < 50
    assert "end is missing" in caplog.text


def test_what_is_no_video_is_called_what_it_is(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    make_sound(tmp_path / "sound.mka")
    cases = {"empty.mp4": "0 bytes", "text.mp4": "damaged or of another kind", "sound.mka": "only audio"}
    for name, said in cases.items():
        with pytest.raises(VideoError, match=said):
            Clip(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="none.mp4"):
        Clip(tmp_path / "none.mp4")
    make(tmp_path / "in.mkv", frames=3).rename(tmp_path / "wrong.avi")
    assert len(Clip(tmp_path / "wrong.avi")) == 3  # the ending does not matter


def test_reading_can_be_left_at_any_time(tmp_path):
    clip = Clip(make(tmp_path / "in.mkv", frames=30))
    assert len(list(islice(clip.frames(), 3))) == 3
