"""Interlaced video and telecined film: found by looking, and put together again."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rife.video.deinterlace import AUTO, BWDIF, FILM, OFF, Combing, deinterlaced
from rife.video.reader import Clip
from tests.support.moving_clips import disc_at, picture, steps, telecined, unevenness, woven, write

RATE = Fraction(30000, 1001)


def decoded(path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def looked(frames: list[av.VideoFrame]) -> Combing:
    combing = Combing()
    for frame in frames:
        combing.look(frame)
    return combing


def moving(n: int, step: float) -> np.ndarray:
    return np.stack([picture(i, step=step, pan=1) for i in range(n)])


@pytest.fixture(params=[True, False], ids=["top first", "bottom first"])
def top_first(request) -> bool:
    return request.param


def test_interlaced_video_is_seen_and_each_frame_is_its_first_field(tmp_path, top_first):
    path = write(tmp_path / "i.mkv", woven(moving(50, 2), top_first), RATE, pix_fmt="yuv422p")
    frames = decoded(path)
    combing = looked(frames)
    assert (combing.kind, combing.top_first, combing.flagged) == (BWDIF, top_first, 0)
    assert "not flagged" in combing.warning("x.mkv", "--deinterlace {}")
    times = [f.pts for f in frames]
    whole = list(deinterlaced(frames, BWDIF, combing.top_first))
    assert [f.pts for f in whole] == times
    places = [disc_at(f.to_ndarray(format="rgb24")) for f in whole]
    assert np.abs(np.array(places) - (np.arange(25) * 4 + 30)).max() < 0.1


def test_telecined_film_is_seen_and_its_frames_are_put_together_again(tmp_path, top_first):
    path = write(tmp_path / "t.mkv", telecined(moving(24, 4), top_first), RATE, pix_fmt="yuv422p")
    frames = decoded(path)
    combing = looked(frames)
    assert (combing.kind, combing.top_first) == (FILM, top_first)
    assert "telecined film: 12 of 29" in combing.warning("x.mkv", "--deinterlace {}")
    times = [f.pts for f in frames]
    whole = list(deinterlaced(frames, FILM, combing.top_first))
    assert [f.pts for f in whole] == times
    places = np.array([disc_at(f.to_ndarray(format="rgb24")) for f in whole])
    assert np.abs((places - 30) / 4 - ((places - 30) / 4).round()).max() < 0.05
    drawings = list(dict.fromkeys(((places - 30) / 4).round().astype(int).tolist()))
    assert drawings == list(range(len(drawings))) and unevenness(steps(drawings)) == 0


def test_progressive_video_is_left_alone(tmp_path):
    path = write(tmp_path / "p.mkv", moving(30, 3), RATE, pix_fmt="yuv422p")
    combing = looked(decoded(path))
    assert combing.kind == OFF and combing.combed == [] and combing.warning("x", "{}") == ""


@pytest.mark.parametrize("down, right", [(0, 2), (1, 0), (2, 0), (3, 1)])
def test_fine_lines_that_move_are_no_comb(tmp_path, down, right):
    page = np.full((200, 300, 3), 230, np.uint8)
    page[np.random.default_rng(0).choice(200, 60, replace=False), 40:200] = 20
    frames = np.stack([page[100 - down * i :, 100 - right * i :][:96, :160] for i in range(30)])
    path = write(tmp_path / "lines.mkv", frames, RATE, pix_fmt="yuv422p")
    assert looked(decoded(path)).kind == OFF


def test_a_flag_alone_is_told(tmp_path):
    frames = [picture(0) for _ in range(20)]
    path = write(
        tmp_path / "f.mp4", np.stack(frames), codec="libx264", pix_fmt="yuv420p",
        options={"x264-params": "tff=1"},
    )  # fmt: skip
    combing = looked(decoded(path))
    assert combing.flagged == 20 and combing.kind == OFF
    assert "flagged as interlaced" in combing.warning("x.mp4", "--deinterlace {}")


def test_a_clip_is_read_deinterlaced_from_any_frame_on(tmp_path):
    path = write(tmp_path / "t.mkv", telecined(moving(48, 2)), RATE, pix_fmt="yuv422p")
    whole = list(Clip(path, deinterlace=FILM).frames())
    assert len(whole) == 60
    for start in (0, 7, 31, 55):
        part = list(Clip(path, deinterlace=FILM).frames(start, start + 5))
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[start : start + 5], strict=True))
    assert Clip(path, deinterlace=AUTO).deinterlace == FILM
    assert (
        Clip(write(tmp_path / "p.mkv", moving(30, 3), pix_fmt="yuv422p"), deinterlace=AUTO).deinterlace == OFF
    )


def test_interlaced_frames_are_told_once_with_the_way_out(tmp_path, caplog):
    clip = Clip(write(tmp_path / "i.mkv", woven(moving(60, 2)), RATE, pix_fmt="yuv422p"))
    list(clip.frames())
    list(clip.frames())
    (record,) = caplog.records
    assert "is interlaced" in record.message and "--deinterlace bwdif" in record.message
    caplog.clear()
    list(Clip(tmp_path / "i.mkv", deinterlace=BWDIF).frames())
    assert not caplog.records


@pytest.mark.parametrize("film", [False, True])
def test_what_moves_counts_where_a_flag_says_otherwise(tmp_path, caplog, film, top_first):
    """It was believed: motion went two fields on and one back."""
    fields = telecined(moving(34, 3), top_first) if film else woven(moving(50, 2), top_first)
    path = write(tmp_path / "i.mp4", fields, RATE, codec="libx264", pix_fmt="yuv422p",
                 options={"x264-params": "bff=1", "qp": "0"})  # fmt: skip
    clip = Clip(path, deinterlace=AUTO)
    assert (clip.deinterlace, clip.combing.said) == (FILM if film else BWDIF, False)
    assert ("flagged as lower field first" in caplog.text) == top_first
    places = np.array([disc_at(frame) for frame in clip.frames()])
    step = np.diff(places)
    assert step.min() > (-0.05 if film else 3.8) and step.max() < 4.2, step
