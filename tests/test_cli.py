"""The command line, in this process."""

from __future__ import annotations

import json
import os
import tempfile
from fractions import Fraction

import golden_recipe as golden
import numpy as np
import pytest
import torch
from video_files import make, picture

from rife.cli import app as cli
from rife.model.model import BUNDLED_CHECKPOINT
from rife.video.job import VideoWriter, probe
from rife.video.reader import Clip


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "small.pkl"
    torch.save(golden.state_dict("4.22.lite"), path)
    return path


def test_info_says_what_a_file_is(checkpoint, capsys):
    assert cli.main(["info", str(checkpoint), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"] == ["4.22.lite"]
    assert facts["parameters"] == 4866052
    assert facts["decided by"] == "names and shapes of its tensors"
    assert len(facts["sha256"]) == 64


def test_info_of_the_bundled_checkpoint(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "the file's metadata" in out and "any" in out


def test_the_bundled_checkpoint_is_small_enough_to_ship():
    assert BUNDLED_CHECKPOINT.stat().st_size < 12_000_000


def test_interpolate_writes_the_video(tmp_path, checkpoint, capsys):
    source = make(tmp_path / "in.mkv", frames=3)
    args = [
        "interpolate",
        source,
        tmp_path / "out.mp4",
        "--multi",
        "3",
        "--model",
        checkpoint,
        "--device",
        "cpu",
    ]
    assert cli.main([str(a) for a in args]) == 0
    assert "3 -> 7 frames" in capsys.readouterr().out
    assert probe(tmp_path / "out.mp4").rate == 3 * probe(source).rate


@pytest.mark.parametrize(
    "options, rate, count",
    [(["--fps", "60"], 60, 6), (["--fps", "59.94"], Fraction(60000, 1001), 6), (["--loop"], Fraction(48000, 1001), 6),
     (["--fps", "24000/1001", "--keep-duration"], Fraction(24000, 1001), 3),
     (["--multi", "3", "--keep-duration", "--cuts", "off"], Fraction(72000, 1001), 9)],
)  # fmt: skip
def test_interpolate_to_a_rate_as_a_loop_or_for_the_whole_duration(
    tmp_path, checkpoint, capsys, options, rate, count
):
    source = make(tmp_path / "in.mkv", frames=3, rate=Fraction(24000, 1001))
    args = ["interpolate", source, tmp_path / "out.mp4", *options, "--model", checkpoint, "--device", "cpu"]
    assert cli.main([str(a) for a in args]) == 0
    assert f"3 -> {count} frames" in capsys.readouterr().out
    assert probe(tmp_path / "out.mp4").rate == rate and probe(tmp_path / "out.mp4").frames == count


def test_a_rate_that_is_none_is_one_line(tmp_path, capsys):
    source = make(tmp_path / "in.mkv", frames=3)
    assert cli.main(["interpolate", str(source), str(tmp_path / "out.mp4"), "--fps", "fast"]) == 1
    assert "'fast', expected a number such as" in capsys.readouterr().err


def test_errors_are_one_line_and_exit_code_1(tmp_path, capsys):
    assert cli.main(["interpolate", str(tmp_path / "no.mp4"), str(tmp_path / "out.mp4")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("rife: There is no video file") and error.count("\n") == 1
    (tmp_path / "x.pkl").write_bytes(b"junk")
    assert cli.main(["info", str(tmp_path / "x.pkl")]) == 1
    assert "x.pkl" in capsys.readouterr().err


def test_interrupt_is_exit_code_130_and_leaves_nothing(tmp_path, checkpoint, monkeypatch):
    source = make(tmp_path / "in.mkv", frames=3)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("rife.video.writer.VideoWriter.write", interrupt)
    args = ["interpolate", source, tmp_path / "out.mp4", "--model", checkpoint, "--device", "cpu"]
    assert cli.main([str(a) for a in args]) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "small.pkl"]


def test_demo_beats_frame_averaging_by_2_dB(tmp_path, capsys):
    """The promise of the bundled checkpoint, on a scene and a film that it never saw."""
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PSNR")]
    assert len(lines) == 2
    for line in lines:
        ours, average = (
            float(word) for word in line.replace(",", "").split() if word.replace(".", "").isdigit()
        )
        assert ours >= average + 2
    files = ["before_after.png", "demo.mp4", "real_clip.mp4", "real_clip.png"]
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == files
    assert [probe(tmp_path / "demo" / name).width for name in files if name.endswith("mp4")] == [1024, 768]


def interpolate(*args) -> int:
    return cli.main(["interpolate", *map(str, args), "--device", "cpu"])


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    source = make(tmp_path / "in.mkv", frames=10, rate=Fraction(25), audio="aac")
    assert interpolate(source, tmp_path / "out.mp4", "--fps", "60", "--slow", "2", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "64x48, 8 bits, 10 frames at 25 fps" in out and "44 frames at 60 fps" in out
    assert "libx264" in out and "sound left out" in out
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize("name", ["00001.MTS", "a.m2t", "b.vob", "c.ts", "d.mxf", "e.OGV"])
def test_a_folder_of_a_camcorder_has_videos_and_what_a_mac_left_is_none(tmp_path, capsys, name):
    folder = tmp_path / "AVCHD"
    folder.mkdir()
    make(tmp_path / "in.mkv", frames=3).rename(folder / name)
    (folder / f"._{name}").write_bytes(b"\0\5\26\7")
    for source in (folder, folder / "*"):
        assert interpolate(source, f"{tmp_path / 'out'}/", "--dry-run") == 0
        assert capsys.readouterr().out.count("3 frames at") == 1


def test_globs_and_folders_give_one_file_each_and_one_that_fails_does_not_stop_the_rest(
    tmp_path, checkpoint, capsys
):
    clips = tmp_path / "clips"
    clips.mkdir()
    make(clips / "a.mkv", frames=2)
    make(clips / "b.avi", frames=2, codec="mjpeg", pix_fmt="yuvj420p")
    (clips / "c.mp4").write_text("no video")
    assert interpolate(clips / "*", tmp_path / "out", "--model", checkpoint) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mkv", "b.mp4"]
    error = capsys.readouterr().err
    assert "c.mp4 cannot be read" in error and error.count("rife:") == 1
    assert interpolate(clips, tmp_path / "out" / "x.mp4") == 1
    assert "Give a folder as output" in capsys.readouterr().err
    assert interpolate(tmp_path / "none*.mp4", tmp_path / "out") == 1


def test_slow_motion_by_a_factor_and_codec_options(tmp_path, checkpoint):
    source = make(tmp_path / "in.mkv", frames=4, rate=Fraction(10))
    options = ["--slow", "2.5", "--codec", "ffv1", "--encoder-option", "slices=4", "--precision", "fp32"]
    assert interpolate(source, tmp_path / "out.mkv", *options, "--model", checkpoint) == 0
    clip = Clip(tmp_path / "out.mkv")
    assert (clip.rate, len(clip)) == (10, 8)  # 0, 0.04, ... 0.28 s of 0.3


def test_resume_takes_what_a_broken_run_left(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("rife.video.segments._PER_PROCESS", 100)
    source, target = make(tmp_path / "in.mkv", frames=40), tmp_path / "out.mkv"
    args = [source, target, "--resume", "--codec", "ffv1", "--model", checkpoint]
    write, left = VideoWriter.write, [40]

    def breaking(self, frame, *time):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, frame, *time)

    monkeypatch.setattr(VideoWriter, "write", breaking)
    assert interpolate(*args) == 130
    finished = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out.mkv.parts").glob("*.mkv")}
    assert finished and not target.exists() and not list((tmp_path / "out.mkv.parts").glob("*.claim"))
    monkeypatch.setattr(VideoWriter, "write", write)
    assert interpolate(*args[:3], "--scale", "0.5", *args[3:]) == 1
    assert "network differ" in capsys.readouterr().err
    assert interpolate(*args) == 0
    assert len(Clip(target)) == 79 and not (tmp_path / "out.mkv.parts").exists()


def test_pictures_in_pictures_out(tmp_path, checkpoint):
    folder = tmp_path / "in"
    folder.mkdir()
    with VideoWriter(folder / "%03d.png", Fraction(12), 64, 48) as writer:
        for i in range(3):
            writer.write(picture(i))
    (tmp_path / "out").mkdir()
    assert interpolate(folder, tmp_path / "out" / "%03d.png", "--input-fps", "12", "--model", checkpoint) == 0
    assert len(Clip(tmp_path / "out")) == 5
    assert (next(Clip(tmp_path / "out").frames()) == picture(0)).all()


def test_globs_of_pictures_are_one_clip_and_animations_are_many(tmp_path, checkpoint, capsys):
    numbered = tmp_path / "shot"
    numbered.mkdir()
    with VideoWriter(numbered / "%d.png", Fraction(12), 64, 48) as writer:
        for i in range(11):
            writer.write(picture(i))
    assert interpolate(numbered / "*.png", f"{tmp_path / 'out'}/", "--dry-run") == 0
    assert interpolate(numbered / "*.png", tmp_path / "out", "--dry-run") == 1
    assert "out names no known container" in capsys.readouterr().err
    assert interpolate(numbered / "%d.png", f"{tmp_path / 'out'}/", "--model", checkpoint) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shot.mp4"]
    assert interpolate(numbered / "1.png", numbered / "2.png", tmp_path / "x.mp4") == 1
    assert "'frames/*.png' in quotes" in capsys.readouterr().err
    for name in "ab":
        with VideoWriter(tmp_path / f"{name}.webp", Fraction(10), 64, 48) as writer:
            for i in range(3):
                writer.write(picture(i))
    for source in (tmp_path / "*.webp", tmp_path / "a.webp"):
        assert interpolate(source, f"{tmp_path / 'moving'}/", "--model", checkpoint) == 0
    assert sorted(p.name for p in (tmp_path / "moving").iterdir()) == ["a.webp", "b.webp"]
    assert len(Clip(tmp_path / "moving" / "b.webp")) == 5


def test_pictures_resume_too(tmp_path, checkpoint):
    with VideoWriter(tmp_path / "%d.png", Fraction(12), 64, 48) as writer:
        for i in range(4):
            writer.write(picture(i))
    options = ["--resume", "--codec", "ffv1", "--model", checkpoint]
    assert interpolate(tmp_path / "%d.png", tmp_path / "out.mkv", *options) == 0
    assert len(Clip(tmp_path / "out.mkv")) == 7


@pytest.mark.parametrize(
    "words", [["train", "out"], ["score", "clip"], ["info"], ["join", "a", "b", "c"], ["download"], ["demo"]]
)
def test_debug_stands_before_or_behind_every_command(words):
    """`rife --debug train` and `rife train --debug` were unrecognized arguments."""
    parse = cli.make_parser().parse_args
    assert parse(["--debug", *words]).debug and parse([words[0], "--debug", *words[1:]]).debug
    assert not parse(words).debug


@pytest.mark.parametrize("command", [row[0] for row in cli.COMMANDS])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main([command, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: rife {command}" in out and "--debug" in out


@pytest.mark.parametrize(
    "broken",
    [
        lambda: torch.zeros(2) + torch.zeros(3),
        lambda: {}["x"],
        lambda: np.zeros(2).reshape(3),
        lambda: int("x"),
    ],
)
def test_an_error_of_ours_says_where_its_traceback_is(tmp_path, monkeypatch, capsys, broken):
    """A RuntimeError of PyTorch's, from a call that should not have been made, was one line without a trace."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("rife.cli.checkpoints.read_checkpoint", lambda *_: broken())
    assert cli.main(["info"]) == 1
    error = capsys.readouterr().err
    (log,) = tmp_path.glob("rife-error-*.txt")
    assert str(log) in error and "--debug" in error and "not in what you gave it" in error
    assert "Traceback" in log.read_text() and "_info" in log.read_text()
    with pytest.raises(Exception):  # noqa: B017 - whichever it is
        cli.main(["info", "--debug"])


def test_what_a_user_can_mend_is_said_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_):
        os.close(-1)  # an OSError from the system

    monkeypatch.setattr("rife.cli.checkpoints.read_checkpoint", full)
    assert cli.main(["info"]) == 1
    assert cli.main(["info", "--variant", "4.26"]) == 1
    monkeypatch.undo()
    assert cli.main(["info", str(tmp_path / "none.pkl")]) == 1
    assert capsys.readouterr().err.count("\n") == 3 and not list(tmp_path.glob("rife-error-*"))


@pytest.mark.parametrize(
    "asked, expected", [("auto", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_precision_auto_is_what_the_device_is_good_at(tmp_path, checkpoint, monkeypatch, asked, expected):
    """It always ran float32."""
    monkeypatch.setattr("rife.model.model.good_dtype", lambda device: torch.float16)
    found = []
    monkeypatch.setattr(
        "rife.cli.interpolate._one", lambda args, job, target, model: found.append(model.run_dtype)
    )
    source = make(tmp_path / "in.mkv", frames=3)
    args = [
        "interpolate",
        source,
        tmp_path / "out.mp4",
        "--model",
        checkpoint,
        "--device",
        "cpu",
        "--precision",
        asked,
    ]
    assert cli.main([str(a) for a in args]) == 0
    assert found == [expected]
