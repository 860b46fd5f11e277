"""Files with odd times: every frame that ffmpeg decodes, in its order, at the right time, also from the middle on."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from odd_files import CASES, X264, encode, joined, number

from rife.video.reader import Clip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_frame_is_there_at_its_time(tmp_path, case, caplog):
    clip = Clip(case.make(tmp_path / "x"))
    assert "its end is missing" not in caplog.text
    assert [number(frame) for frame in clip.frames()] == list(case.frames)
    assert clip.rate == case.rate
    if case.times:
        assert [float(time) for time in clip.times] == pytest.approx([*map(float, case.times)], abs=0.0006)
    assert float(clip.clock.duration) == pytest.approx(float(case.seconds), rel=0.001, abs=0.002)
    middle = len(case.frames) // 2
    assert [number(frame) for frame in clip.frames(middle, middle + 3)] == list(
        case.frames[middle : middle + 3]
    )


@pytest.mark.parametrize(
    "ending, codec", [("flv", "libx264"), ("nut", "libx264"), ("ivf", "libvpx"), ("asf", "mpeg4")]
)
def test_a_file_behind_the_file_is_told(tmp_path, caplog, ending, codec):
    """FFmpeg reads the first only, and may take the second's head for a damaged frame."""
    one = encode(tmp_path / f"one.{ending}", codec, container=ending, options={"bf": "0"})
    clip = Clip(joined(tmp_path / f"two.{ending}", one, one))
    assert len(list(clip.frames())) == 24 and clip.rate == 25
    assert len(caplog.messages) == 1 and f"another file from byte {one.stat().st_size} on" in caplog.text
    assert Clip(io.BytesIO((tmp_path / f"two.{ending}").read_bytes())).rate == 25


@pytest.mark.parametrize("rates", [(25, 30), (30, 25)])
def test_a_recording_of_another_rate_follows_on(tmp_path, rates):
    """It began 7 ms too early, or too late: decoding runs ahead by frames, which last another time there."""
    parts = [tmp_path / f"{rate}.ts" for rate in rates]
    for part, rate in zip(parts, rates, strict=True):
        encode(part, count=rate, rate=rate, container="mpegts", options=X264)
    clip = Clip(joined(tmp_path / "two.ts", *parts))
    meant = [i / rates[0] for i in range(rates[0])] + [1 + i / rates[1] for i in range(rates[1])]
    assert [float(time) for time in clip.times] == pytest.approx(meant, abs=2e-5)


def test_mp4_of_fragments_is_read_on_and_says_nothing(tmp_path, caplog):
    mux = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    one = encode(tmp_path / "one.mp4", options={"bf": "0", "g": "8"}, mux=mux)
    assert len(list(Clip(one).frames())) == 24 and not caplog.messages


@pytest.mark.parametrize(
    "codec, options", [("libx264", {"bf": "0"}), ("libx264", {}), ("mpeg4", {"bf": "2"})]
)
def test_avi_begins_with_its_sound(tmp_path, codec, options):
    """FFmpeg guesses times of showing there, which are a frame late and more."""
    clip = Clip(encode(tmp_path / "x.avi", codec, sound=True, options=options))
    assert clip.audio and clip.start == 0


def test_an_end_that_is_cut_off_is_missing_and_not_held(tmp_path, caplog):
    whole = encode(tmp_path / "whole.flv", count=96)
    cut = tmp_path / "cut.flv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = Clip(cut)
    assert "its end is missing" in caplog.text and clip.clock.duration < 3


def test_theora_that_shows_a_frame_again():
    """Its recorders write an empty packet for that. Nothing is missing, and frames behind it are there."""
    clip = Clip(Path(__file__).with_name("support") / "repeats.ogv")
    times = [round(25 * time) for time in clip.clock.times]
    assert times == [0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 13, 14]
    assert len(list(clip.frames())) == len(clip) == 12
