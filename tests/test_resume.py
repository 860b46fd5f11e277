"""A resume is the same film: whatever a crash left behind, damaged or of something else, is seen and made again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import golden_recipe as golden
import numpy as np
import pytest
import torch
from video_files import Fader, frames_of, job_of, make, picture, same

from rife.cli import app as cli
from rife.cli import interpolate
from rife.cli.identity import identity_of
from rife.evaluation.checkpoint_names import checkpoint_digest
from rife.video import segments, temporary
from rife.video.codecs import VideoError
from rife.video.job import VideoWriter, render
from rife.video.proof import Proof
from rife.video.segments import Segments
from rife.video.temporary import make_temporary


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Segments of 16 frames."""
    monkeypatch.setattr(segments, "_PER_PROCESS", 100)


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "in.mkv", frames=70, audio="aac")


def job_as_it_is(path):
    """Every frame between two is a new one."""
    return job_of(path, at_cuts="off", at_repeats="off")


class Counting(Fader):
    """Counts the frames that it makes, and breaks after some."""

    def __init__(self, left: int = 10**9):
        self.made, self.left = 0, left

    def inference(self, img0, img1, **options):
        self.made += len(img0)
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().inference(img0, img1, **options)


@pytest.fixture
def broken_off(tmp_path, source):
    """A run that ended after some segments: the target, its folder, the file that one run writes."""
    with job_as_it_is(source).writer(tmp_path / "one.mkv") as writer:
        render(Fader(), job_as_it_is(source), job_as_it_is(source).part(), writer)
    with pytest.raises(KeyboardInterrupt):
        Segments(job_as_it_is(source), tmp_path / "out.mkv", {}).run(Counting(40))
    folder = tmp_path / "out.mkv.parts"
    assert 1 < len(list(folder.glob("*.mkv"))) < 5
    return tmp_path / "out.mkv", folder, tmp_path / "one.mkv"


def gone_on(source, target, one) -> int:
    """Resumes; the frames made for it, once the film is that of one run."""
    model = Counting()
    assert Segments(job_as_it_is(source), target, {}).run(model)
    assert same(target, one) and len(frames_of(target)) == 139
    assert not target.with_name("out.mkv.parts").exists()
    return model.made


def test_what_is_whole_is_not_made_again(source, broken_off):
    assert gone_on(source, broken_off[0], broken_off[2]) < 50


@pytest.mark.parametrize("how", ["half", "empty", "a bit", "gone", "other pictures", "older version"])
def test_a_damaged_segment_is_made_again_and_said(tmp_path, source, broken_off, caplog, how):
    """Half a segment gave a film of 128 frames instead of 159, and its parts were deleted."""
    target, folder, one = broken_off
    path = sorted(folder.glob("*.mkv"))[0]
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "other pictures":
        with VideoWriter(path, Fraction(48), 64, 48) as writer:
            for i in range(31):
                writer.write(picture(i))
    elif how == "older version":
        path.with_suffix(".json").unlink()
    else:
        place = data.index(b"\xa3", len(data) // 2) + 40
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        path.write_bytes({"half": data[: len(data) // 2], "empty": b"", "a bit": flipped}[how])
    gone_on(source, target, one)
    assert ("damaged" in caplog.text and "made again" in caplog.text) == (how != "older version")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": {}}', '{"job": 3, "bounds": [0, 1]}', "\0" * 50])
def test_a_damaged_description_is_written_again_and_no_segment_is_lost(source, broken_off, caplog, text):
    """An empty job.json, as a crash leaves it, ended every further run with a JSONDecodeError."""
    target, folder, one = broken_off
    (folder / "job.json").write_text(text)
    assert gone_on(source, target, one) < 50
    assert "job.json is damaged" in caplog.text


def test_segments_of_another_job_are_not_taken_where_the_description_is_lost(source, broken_off, caplog):
    target, folder, one = broken_off
    (folder / "job.json").unlink()
    for record in folder.glob("*.json"):
        record.write_text(json.dumps({**json.loads(record.read_text()), "job": "another"}))
    assert gone_on(source, target, one) == 69
    assert caplog.text.count("it is not what was written") > 1


def test_a_source_that_changes_while_it_is_read_is_no_job(tmp_path, source, broken_off):
    target, folder, _ = broken_off

    class Changing(Fader):
        def inference(self, *args, **kwargs):
            os.utime(source, (1, 1))
            return super().inference(*args, **kwargs)

    with pytest.raises(VideoError, match="was changed while it was read"):
        Segments(job_as_it_is(source), target, {}).run(Changing())
    assert not target.exists() and folder.exists()
    make(source, frames=70, height=50)
    with pytest.raises(VideoError, match="another job .*input.* differ"):
        Segments(job_as_it_is(source), target, {})


def test_parts_are_kept_until_the_joined_file_was_read_back(source, broken_off, monkeypatch):
    target, folder, one = broken_off
    whole = Proof.of

    def short(path):
        found = whole(path)
        return found if path.parent == folder else Proof(**{**vars(found), "pictures": found.pictures - 1})

    monkeypatch.setattr("rife.video.concat.Proof.of", short)
    with pytest.raises(VideoError, match="holds 138 of 139 pictures"):
        Segments(job_as_it_is(source), target, {}).run(Fader())
    monkeypatch.setattr("rife.video.concat.sound_seconds", lambda path: 0.1)
    monkeypatch.setattr("rife.video.concat.Proof.of", whole)
    with pytest.raises(VideoError, match="its sound lasts 0.1 s"):
        Segments(job_as_it_is(source), target, {}).run(Fader())
    assert not target.exists() and len(list(folder.glob("*.mkv"))) > 3
    monkeypatch.undo()
    monkeypatch.setattr(segments, "_PER_PROCESS", 100)
    assert gone_on(source, target, one) == 0


def dead(made: Path) -> Path:
    """`made` as a run has left it that was killed."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return made.rename(made.with_name(made.name.replace(f"-{os.getpid()}-", f"-{process.pid}-")))


def test_folders_of_dead_runs_are_removed_and_those_of_others_are_not(tmp_path):
    left, alive, elsewhere = (
        dead(make_temporary(tmp_path)),
        make_temporary(tmp_path),
        tmp_path / ".rife-1-00000000-x",
    )
    older = tmp_path / ".rife-abcdefgh"
    for folder in (elsewhere, older):
        folder.mkdir()
    (alive / "out.mkv").write_bytes(b"half")
    make_temporary(tmp_path).rmdir()
    assert not left.exists() and alive.exists() and elsewhere.exists() and older.exists()
    os.utime(elsewhere, (1, 1))
    os.utime(older, (1, 1))
    with VideoWriter(tmp_path / "out.mkv", Fraction(24), 64, 48) as writer:
        writer.write(picture(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "out.mkv"]


def test_parts_that_a_killed_run_was_deleting_are_deleted_by_the_next(tmp_path, monkeypatch):
    """They had got a name that nobody knew, and stayed for ever."""
    target = tmp_path / "out.mkv"
    with monkeypatch.context() as killed:
        killed.setattr("shutil.rmtree", lambda *args, **kwargs: None)
        temporary.take_away(make_folder(tmp_path / "out.mkv.parts"))
    (left,) = tmp_path.iterdir()
    left = dead(left)
    with VideoWriter(target, Fraction(24), 64, 48) as writer:
        writer.write(picture(0))
    assert list(tmp_path.iterdir()) == [target]


def make_folder(path: Path) -> Path:
    path.mkdir()
    (path / "00000.mkv").write_bytes(b"a segment")
    return path


def test_pictures_appear_together_or_as_soon_as_the_next_run_comes(tmp_path, monkeypatch):
    """A run that is killed while it gives its pictures their names: the next one gives the rest theirs."""
    names = [tmp_path / f"{i}.png" for i in range(1, 5)]
    for name in names:
        name.write_bytes(b"old")

    class Killed(BaseException):
        pass

    replace, left = os.replace, [2]

    def killed(source, target):
        if str(target).endswith(".png"):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        replace(source, target)

    def write():
        with VideoWriter(tmp_path / "%d.png", Fraction(24), 64, 48) as writer:
            for i in range(4):
                writer.write(picture(i))

    monkeypatch.setattr(temporary.os, "replace", killed)
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # as a process that is killed does not
    with pytest.raises(Killed):
        write()
    monkeypatch.undo()
    assert [name.read_bytes() == b"old" for name in names] == [False, False, True, True]
    (folder,) = tmp_path.glob(".rife-*")
    folder = dead(folder)
    make_temporary(tmp_path)
    assert not folder.exists()
    shown = [frames_of(name)[0] for name in names]
    assert all(np.array_equal(a, picture(i)) for i, a in enumerate(shown))


def test_pictures_whose_names_cannot_be_given_wait_for_the_next_run(tmp_path, monkeypatch):
    """What had no name yet was deleted: some pictures were new, the others old or not there."""
    replace, left = os.replace, [2]

    def fails(source, target):
        if str(target).endswith(".png"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(temporary.os, "replace", fails)
    with (
        pytest.raises(VideoError, match="2 of 4 pictures have their names"),
        VideoWriter(tmp_path / "%d.png", Fraction(24), 64, 48) as writer,
    ):
        for i in range(4):
            writer.write(picture(i))
    monkeypatch.undo()
    make_temporary(tmp_path).rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}.png" for i in range(1, 5)]


@pytest.mark.parametrize(
    "option", [["--tta"], ["--crf", "3"], ["--cut-frames", "12"], ["--loop-drift", "auto"]]
)
def test_a_job_is_all_that_its_film_depends_on(tmp_path, capsys, monkeypatch, option):
    """A checkpoint was known by name and size, and many options were not looked at."""
    source = make(tmp_path / "in.mkv", frames=20)
    checkpoint = tmp_path / "small.pkl"
    torch.save(golden.state_dict("4.22.lite"), checkpoint)

    def run(*more):
        words = [
            "interpolate",
            source,
            tmp_path / "out.mkv",
            "--resume",
            "--model",
            checkpoint,
            "--device",
            "cpu",
        ]
        return cli.main([str(word) for word in (*words, *more)])

    monkeypatch.setattr("rife.cli.interpolate.Segments.run", lambda *args, **kwargs: False)
    assert run() == 0 and run("--batch-size", "2") == 0
    assert run(*option) == 1
    assert "another job" in capsys.readouterr().err
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    os.utime(checkpoint, (1, 1))
    monkeypatch.setattr("rife.cli.interpolate.load", lambda *args, **kwargs: None)
    assert run() == 1 and "checkpoint differ" in capsys.readouterr().err


# Where a film goes, how it is told, and what gives the same frames faster or slower.
NO_PART = {"help", "input", "output", "debug", "resume", "dry_run", "device", "batch_size"}


def options_of_the_command() -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    interpolate.add_options(parser)
    return parser._actions


def another_value(action: argparse.Action, folder: Path) -> str | None:
    """What an option may be given that is not its default; None where it takes no value."""
    if action.nargs == 0:
        return None
    if action.dest in ("model", "keep"):
        (folder / action.dest).write_bytes(b"another file")
        return str(folder / action.dest)
    if action.choices:
        return next(str(c) for c in action.choices if c not in (action.default, action.const))
    return {"encoder_option": "g=3", "multi": "3"}.get(action.dest, "1")


@pytest.mark.parametrize("action", options_of_the_command(), ids=lambda action: action.dest)
def test_every_option_is_part_of_what_a_film_is(tmp_path, action):
    """By the command's own table, so that none is forgotten that comes later."""
    parser = argparse.ArgumentParser()
    interpolate.add_options(parser)
    if not action.option_strings or action.dest == "help":
        assert action.dest in NO_PART
        return
    value = another_value(action, tmp_path)
    usual = parser.parse_args(["in.mkv", "out.mkv"])
    asked = parser.parse_args(["in.mkv", "out.mkv", action.option_strings[-1], *([value] if value else [])])
    assert getattr(asked, action.dest) != getattr(usual, action.dest)
    scale = asked.scale if action.dest == "scale" else 1.0
    assert (identity_of(asked, scale) == identity_of(usual, 1.0)) == (action.dest in NO_PART)


@pytest.mark.parametrize("option", ["model", "keep"])
def test_files_that_are_named_count_by_what_they_hold(tmp_path, option):
    def identity() -> dict:
        parser = argparse.ArgumentParser()
        interpolate.add_options(parser)
        return identity_of(parser.parse_args(["in.mkv", "out.mkv", f"--{option}", str(tmp_path / "it")]), 1.0)

    (tmp_path / "it").write_bytes(b"one")
    one = identity()
    (tmp_path / "it").write_bytes(b"two")
    assert identity() != one
    (tmp_path / "it").write_bytes(b"one")
    assert identity() == one


@pytest.mark.parametrize("ending", [".pkl", ".pth", ".pt", ".safetensors"])
def test_a_folder_of_a_checkpoint_counts_by_all_of_its_files(tmp_path, ending):
    """Only those that end in .pkl were looked at: another network in a .safetensors was taken for the same."""
    (tmp_path / f"flownet{ending}").write_bytes(b"one")
    one = checkpoint_digest(tmp_path)
    (tmp_path / f"flownet{ending}").write_bytes(b"two")
    assert checkpoint_digest(tmp_path) != one


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_end_a_run_leave_nothing(tmp_path, number):
    """A closed terminal (SIGHUP) and Ctrl-\\ (SIGQUIT) left temporary folders."""
    source = make(tmp_path / "in.mkv", frames=200)
    process = subprocess.Popen(
        [sys.executable, "-m", "rife", "interpolate", str(source), str(tmp_path / "out.mkv"), "--device", "cpu"],
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
        # What a shell starts in the background ignores some, which stays so in all that it starts.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(tmp_path.glob(".rife-*/out.mkv")):
        time.sleep(0.05)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130 and "interrupted" in told
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
