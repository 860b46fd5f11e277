"""Videos that follow each other as one file: pictures, sound, the command."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from video_files import Fader, make, rendered

import rife
from rife.cli import main
from rife.engine.joining import Joining
from rife.video.codecs import Encoding
from rife.video.job import VideoWriter, probe, read_frames, to_bytes
from rife.video.joined import join_videos, open_clips

RATE = Fraction(24)


def write(path, frames, pitch, rate=48000, channels=1):
    """Frames without loss, with a tone of `pitch` Hz."""
    wave = 0.4 * np.sin(np.arange(len(frames) * rate // 24) * 2 * np.pi * pitch / rate).astype(np.float32)
    sound = (wave[None].repeat(channels, 0), rate) if channels else None
    with VideoWriter(path, RATE, *frames.shape[2:0:-1], encoding=Encoding("ffv1"), sound=sound) as out:
        for frame in frames:
            out.write(to_bytes(frame))
    return path


def sound_of(path):
    with av.open(str(path)) as file:
        return np.concatenate([part.to_ndarray()[0] for part in file.decode(audio=0)])


def loudness(wave, pitch, begin, end):
    """Of one tone, in seconds begin to end."""
    part = wave[round(begin * 48000) : round(end * 48000)]
    return 2 * abs(np.mean(part * np.exp(-2j * np.pi * pitch * np.arange(len(part)) / 48000)))


@pytest.fixture(scope="module")
def short():
    return rendered(4, 12)


@pytest.fixture
def clips(tmp_path):
    film = rendered(4, 84)
    return film, [write(tmp_path / "a.mkv", film[:48], 400), write(tmp_path / "b.mkv", film[36:], 900)]


def make_by(model):
    return lambda frames, plan: rife.interpolate(model, frames, plan=plan)


def test_an_overlap_of_files_is_found_and_its_sound_fades_over(tmp_path, clips):
    film, files = clips
    target = tmp_path / "out.mkv"
    made = join_videos(make_by(Fader()), open_clips(files, target), target, Joining(), Encoding("ffv1"))
    assert (made.frames, made.rate, made.sound, made.starts) == (84, RATE, True, [0, 36])
    assert all(np.array_equal(a, to_bytes(b)) for a, b in zip(read_frames(target), film, strict=True))
    wave = sound_of(target)
    assert len(wave) / 48000 == pytest.approx(3.5, abs=0.05)
    # Frames 36 to 48, 1.5 to 2 s, are both; the one tone falls while the other rises.
    assert [loudness(wave, 400, *span) for span in ((0.5, 1.4), (1.7, 1.8), (2.1, 3))] == pytest.approx(
        [0.4, 0.2, 0], abs=0.03
    )
    assert [loudness(wave, 900, *span) for span in ((0.5, 1.4), (1.7, 1.8), (2.1, 3))] == pytest.approx(
        [0, 0.2, 0.4], abs=0.03
    )


@pytest.mark.parametrize(
    ("ending", "codec"),
    [(".webm", "opus"), (".avi", "mp3float"), (".ts", "aac"), (".gif", ""), (".webp", ""), ("_%05d.png", "")],
)
def test_sound_is_what_the_file_holds(tmp_path, short, ending, codec):
    """It was AAC everywhere, which ended in an error where a file holds none."""
    files = [
        write(tmp_path / "a.mkv", short[:6], 400, 44100),
        write(tmp_path / "b.mkv", short[6:], 900, 22050),
    ]
    target = tmp_path / f"out{ending}"
    made = join_videos(make_by(Fader()), open_clips(files, target), target, Joining())
    assert made.frames == 12 and made.sound == bool(codec)
    if not codec:
        assert made.sound_said == f"no sound: {target.suffix} holds none"
        return
    assert made.sound_said.startswith("sound faded over and encoded as")
    with av.open(str(target)) as file:
        assert file.streams.audio[0].codec_context.name == codec
    wave = sound_of(target)
    assert loudness(wave, 400, 0.05, 0.2) == pytest.approx(0.4, abs=0.05) if codec == "opus" else len(wave)


@pytest.mark.parametrize("channels", [(0, 1), (1, 0), (1, 2), (2, 6), (8, 1)])
def test_clips_of_other_channels_have_those_of_the_widest(tmp_path, short, channels):
    files = [
        write(tmp_path / f"{i}.mkv", short[6 * i :][:6], 400, channels=n) for i, n in enumerate(channels)
    ]
    target = tmp_path / "out.webm"
    assert join_videos(make_by(Fader()), open_clips(files, target), target, Joining()).sound
    with av.open(str(target)) as file:
        assert file.streams.audio[0].channels == max(channels)


def test_clips_without_sound_are_told_of_none(tmp_path, short, capsys):
    files = [write(tmp_path / f"{i}.mkv", short[6 * i :][:6], 400, channels=0) for i in range(2)]
    assert main(["join", *map(str, files), str(tmp_path / "out.mp4")]) == 0
    assert "sound" not in capsys.readouterr().out.replace(str(tmp_path), "")


def test_the_command_says_what_it_found_and_writes_it(tmp_path, clips, capsys):
    _, files = clips
    report = tmp_path / "report.json"
    assert main(["join", *map(str, files), str(tmp_path / "out.mp4"), "--report", str(report)]) == 0
    said = capsys.readouterr().out
    assert (
        "at frame 36: 12 frames were in both" in said
        and "84 frames, sound faded over and encoded as AAC" in said
    )
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["frames"] == 84 and found["seams"][0]["kind"] == "overlap"
    assert probe(tmp_path / "out.mp4").has_audio


def test_clips_that_do_not_fit_are_refused_with_the_way_out(tmp_path, clips, capsys):
    _, files = clips
    make(tmp_path / "small.mkv", height=32)
    make(tmp_path / "fast.mkv", height=64, width=96, rate=Fraction(30))
    for other, said in (("small.mkv", "expected one size"), ("fast.mkv", "rife interpolate --fps 24")):
        assert main(["join", str(files[0]), str(tmp_path / other), str(tmp_path / "out.mp4")]) == 1
        assert said in capsys.readouterr().err
    assert main(["join", str(files[0]), str(files[1]), str(files[1])]) == 1
    assert "both input and output" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
