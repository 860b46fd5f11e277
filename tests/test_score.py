"""`rife score`, in this process."""

from __future__ import annotations

import csv

import golden_recipe as golden
import numpy as np
import pytest
import torch
from video_files import make

from rife.cli import app as cli
from rife.evaluation import scoring
from rife.evaluation.baselines import has_opencv
from rife.evaluation.checkpoint_names import checkpoint_names
from rife.video.job import read_frames, write_png


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "small.pkl"
    torch.save(golden.state_dict("4.22.lite"), path)
    return path


def run(*args) -> int:
    return cli.main(["score", *map(str, args)])


def test_a_clip_is_scored_against_averaging(tmp_path, capsys):
    clip = make(tmp_path / "clip.mkv", frames=9)
    assert (
        run(clip, "--device", "cpu", "--tasks", "2", "4", "--true-frames", "3", "--out", tmp_path / "out")
        == 0
    )
    text = capsys.readouterr().out
    assert "clip: 9 frames of 64x48" in text and "bundled is below average on" in text
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {"frames.csv", "summary.csv", "psnr.svg"} <= written
    assert len([name for name in written if name.startswith("pictures")]) == 4  # best and worst of both tasks
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert [(r["task"], r["method"]) for r in rows].count(("4x", "bundled")) == 3
    assert all(0 < float(r["ssim"]) <= 1 and float(r["ie"]) >= 0 for r in rows)
    summary = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert summary[0]["method"] == "average" and summary[0]["gain_dB"] == "+0.00"


def test_checkpoints_scales_and_options_are_compared_in_one_run(tmp_path, checkpoint, capsys):
    clip = make(tmp_path / "clip.mkv", frames=3)
    options = ["--scale", "0.5", "1", "--tta", "--ensemble", "--device", "cpu", "--tasks", "2"]
    assert run(clip, "--model", checkpoint, *options) == 0
    text = capsys.readouterr().out
    for name in ("small", "small+TTA", "small+ensemble", "small@0.5", "small@0.5+TTA", "average"):
        assert f" {name} " in text


def test_error_pictures_show_truth_result_and_both_heat_maps(tmp_path):
    clip = make(tmp_path / "clip.mkv", frames=3)
    assert run(clip, "--device", "cpu", "--tasks", "2", "--out", tmp_path / "out") == 0
    (picture,) = [next(read_frames(p)) for p in (tmp_path / "out" / "pictures").glob("*worst*.png")]
    true = list(read_frames(clip))[1]
    assert picture.shape == (96, 128, 3) and np.array_equal(picture[:48, :64], true)


def test_a_protocol_is_scored_and_an_incomplete_set_is_said_to_be_one(tmp_path, capsys):
    for k, value in (("frame_00", 10), ("frame_01_gt", 20), ("frame_02", 30)):
        (tmp_path / "1").mkdir(exist_ok=True)
        write_png(tmp_path / "1" / f"{k}.png", np.full((32, 48, 3), value, np.uint8))
    assert run(tmp_path, "--protocol", "ucf101", "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert "Not comparable: UCF101 has 379 pairs, 1 were found" in text and "100.00" in text


@pytest.mark.parametrize(
    "options, message",
    [(["--lpips"], "pip install lpips"), (["x", "--protocol", "ucf101"], "scores one folder, 2 were given"),
     (["--tasks", "8"], "nothing to score"), (["absent.mp4"], "nothing at absent.mp4"),
     (["--model", "small.pkl", "other/../small.pkl"], "are the same checkpoint")],
)  # fmt: skip
def test_what_cannot_be_scored_is_one_line(tmp_path, checkpoint, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "lpips_metric", lambda: None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "small.pkl").write_bytes(checkpoint.read_bytes())
    clip = make(tmp_path / "clip.mkv", frames=4)
    assert run(clip, *options, "--device", "cpu") == 1
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0 and error.startswith("rife: ")


@pytest.mark.skipif(not has_opencv(), reason="OpenCV is not installed (pip install .[score])")
def test_classical_flow_joins_with_opencv(tmp_path, capsys):
    clip = make(tmp_path / "clip.mkv", frames=3)
    assert run(clip, "--baselines", "dis", "farneback", "--tasks", "2", "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert " dis " in text and " farneback " in text and "motion " in text


def test_released_checkpoints_which_are_all_called_flownet_are_told_apart(tmp_path, checkpoint, capsys):
    """It was refused: "Two checkpoints are called flownet"."""
    clip, files = make(tmp_path / "clip.mkv", frames=3), []
    for folder in ("4.22", "mine"):
        files.append(tmp_path / folder / "flownet.pkl")
        files[-1].parent.mkdir()
        files[-1].write_bytes(checkpoint.read_bytes())
    assert run(clip, "--model", *files, "--device", "cpu", "--tasks", "2") == 0
    text = capsys.readouterr().out
    assert " 4.22/flownet " in text and " mine/flownet " in text


def test_names_of_checkpoints_are_as_long_as_they_must_be(tmp_path):
    def file(name, content=b""):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def named(*paths, taken=()):
        return checkpoint_names(paths, ["4.26"] * len(paths), taken)

    a, b = file("a/flownet.pkl", b"1"), file("b/flownet.pkl", b"2")
    assert named(a) == ["flownet"] and named(None, a) == ["bundled", "flownet"]
    assert named(a, b, file("c/rife49.pth")) == ["a/flownet", "b/flownet", "rife49"]
    assert named(file("x/w/flownet.pkl"), file("y/w/flownet.pkl")) == ["x/w/flownet", "y/w/flownet"]
    assert named(a.parent, b.parent) == ["a", "b"], "folders with flownet.pkl"
    # In one folder, under different endings: version and digest.
    one, two = named(a, file("a/flownet.safetensors", b"2"))
    assert one.startswith("flownet 4.26 ") and two.startswith("flownet 4.26 ") and one != two
    assert named(file("average.pkl"), taken={"average"}) == ["average 4.26 e3b0c442"]
