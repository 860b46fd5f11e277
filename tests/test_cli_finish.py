"""The command line has what the nodes have."""

from __future__ import annotations

import argparse
import inspect

import fake_comfyui as stand_in
import numpy as np
import pytest
import torch
from video_files import make_of, rendered

from rife.cli import interpolate as command
from rife.cli import main
from rife.video import interpolate_video
from rife.video.codecs import Encoding
from rife.video.job import read_frames, to_bytes, write_png
from rife.video.reader import Clip

# Input of RIFE Interpolate Video and RIFE Interpolate -> option of `rife interpolate`, keyword of
# `rife.video.interpolate_video`; "": by its plan or model instead.
SAME = {
    "interp_model": ("--model", "model"),
    "video": ("input", "source"),
    "multiplier": ("--multi", "multiplier"),
    "scale": ("--scale", "scale"),
    "tta": ("--tta", "TTA"),
    "ensemble": ("--ensemble", "ensemble"),
    "batch_size": ("--batch-size", "batch_size"),
    "timing.target_fps": ("--fps", "rate"),
    "timing.speed": ("--slow", "slow"),
    "timing.times": ("--timesteps", ""),
    "timing.curve": ("--curve", ""),
    "loop": ("--loop", "loop"),
    "keep_duration": ("--keep-duration", "keep_duration"),
    "cuts": ("--cuts", "cuts"),
    "cut_frames": ("--cut-frames", ""),
    "repeated_frames": ("--repeats", "repeats"),
    "codec": ("--codec", "encoding"),
    "crf": ("--crf", "crf"),
    "precision": ("--precision", ""),
    "timestep_method": ("--timestep-method", ""),
    "acceleration": ("--acceleration", ""),
    "loop_twin": ("--loop-twin", "loop_twin"),
    "loop_drift": ("--loop-drift", "loop_drift"),
    "steady": ("--steady", "steady"),
    "shutter": ("--shutter", "shutter"),
    "keep": ("--keep", "keep"),
    "overlays": ("--keep", "keep"),
    "deinterlace": ("--deinterlace", "deinterlace"),
    "longest_gap": ("--longest-gap", "longest_gap"),
    "mask": ("--mask", "masks"),
    "images": ("input", "source"),
    "fps": ("--input-fps", ""),
    "timesteps": ("--timesteps", ""),
    "timing.exp": ("--multi", "multiplier"),  # 2 to its power
    "clip_length": ("", ""),  # of clips behind each other in one batch; a file is one clip
    "upscale_model": ("", ""),  # of ComfyUI's own models; `rife.video.job.render` takes any as `enlarge`
}


def test_nodes_python_and_command_have_the_same_options(tmp_path):
    generator = stand_in.installed(tmp_path)
    nodes = next(generator).nodes
    inputs = set()
    kinds = ("RIFEInterpolateVideo", "RIFEInterpolate")
    for one in (one for kind in kinds for one in nodes[kind].define_schema().inputs):
        inner = [i.id for option in one.options.get("options", ()) for i in getattr(option, "inputs", ())]
        inputs |= {f"{one.id}.{name}" for name in inner} or {one.id}
    generator.close()
    assert inputs == set(SAME)
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    options = {name for action in parser._actions for name in (action.option_strings or [action.dest])}
    assert {option for option, _ in SAME.values() if option} <= options
    keywords = set(inspect.signature(interpolate_video).parameters)
    assert {keyword for _, keyword in SAME.values() if keyword} <= keywords


@pytest.fixture(scope="module")
def film():
    return rendered(1, 12)


@pytest.fixture
def source(tmp_path, film):
    return make_of(tmp_path / "in.mkv", film)


def run(source, tmp_path, *options):
    assert main(["interpolate", str(source), str(tmp_path / "out.mkv"), "--codec", "ffv1", *options]) == 0
    return list(read_frames(tmp_path / "out.mkv"))


@pytest.mark.parametrize(
    ("options", "frames"),
    [(["--from", "3f", "--to", "7f"], range(3, 7)), (["--from", "0.13", "--to", "0.3"], range(4, 8)),
     (["--to", "2f"], range(2))],
)  # fmt: skip
def test_a_part_is_what_it_was_called(tmp_path, source, film, options, frames):
    found = run(source, tmp_path, "--multi", "1", *options)
    assert len(found) == len(frames)
    assert all(np.array_equal(a, to_bytes(film[i])) for a, i in zip(found, frames, strict=True))


def test_curves_times_and_cuts_by_hand(tmp_path, source, film):
    frames = run(source, tmp_path, "--curve", "0:0, 0.25:0.125")
    assert len(frames) == 6 and np.array_equal(frames[0], to_bytes(film[0]))
    assert np.array_equal(frames[2], to_bytes(film[1]))
    assert len(run(source, tmp_path, "--timesteps", "1/3,2/3")) == 34
    held = run(source, tmp_path, "--cut-frames", "6")
    assert np.array_equal(held[11], to_bytes(film[5]))


def test_scale_is_chosen_and_said(tmp_path, source, capsys):
    assert len(run(source, tmp_path, "--scale", "auto", "--to", "4f")) == 7
    assert "scale 1: 9 of 10 pairs move" in capsys.readouterr().out


def test_what_a_picture_masks_is_kept(tmp_path, source, film):
    mask = torch.zeros(64, 96, 3)
    mask[20:40, 30:60] = 1
    write_png(tmp_path / "mask.png", to_bytes(mask))
    found = run(source, tmp_path, "--to", "4f", "--keep", str(tmp_path / "mask.png"), "--cuts", "off")
    assert np.array_equal(found[3][22:38, 32:58], to_bytes(film[2])[22:38, 32:58])


def test_finish_and_loops(tmp_path, film, capsys):
    closed = torch.cat([film[:4], film[:3].flip(0)])
    source = make_of(tmp_path / "in.mkv", closed)
    options = ["--loop", "--cuts", "off", "--steady", "--shutter", "90", "--loop-drift", "auto"]
    assert len(run(source, tmp_path, *options)) == 12
    assert "the last frame is the first again" in capsys.readouterr().out
    # So few frames in milliseconds do not tell 48 from 48000/1001.
    assert abs(Clip(tmp_path / "out.mkv").rate - 2 * Clip(source).rate) < 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--from", "9", "--to", "3"], "is not after"), (["--from", "99f"], "from 0f to 11f"),
     (["--shutter", "400"], "0 (no motion blur) to 360"), (["--keep", "logo.png"], "logo.png")],
)  # fmt: skip
def test_what_cannot_be_is_said(tmp_path, source, capsys, options, said):
    assert main(["interpolate", str(source), str(tmp_path / "out.mkv"), *options]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.mkv").exists() and Encoding().audio
