"""Masks of a video's frames go through the command beside the frames, moved by their flow."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from video_files import frames_of, make_of, rendered

import rife
from rife.cli import main
from rife.engine.in_memory import multiplied
from rife.video import interpolate_video, segments
from rife.video.codecs import Encoding, VideoError
from rife.video.job import to_bytes, write_png
from rife.video.masks import grey_of
from rife.video.writer import VideoWriter


@pytest.fixture(scope="module")
def film():
    return torch.from_numpy(to_bytes(rendered(1, 7))).float() / 255


@pytest.fixture(scope="module")
def masks(film):
    """What is brighter than grey: edges that move."""
    return (film.mean(-1) > 0.5).float() * 0.8


@pytest.fixture
def files(tmp_path, film, masks):
    make_of(tmp_path / "in.mkv", film)
    for i, mask in enumerate(masks):
        write_png(tmp_path / f"m{i:02d}.png", to_bytes(mask[..., None].expand(-1, -1, 3).contiguous()))
    return tmp_path


def run(folder, *options, masks="m%02d.png", to="masks.mkv"):
    command = [
        "interpolate",
        str(folder / "in.mkv"),
        str(folder / "out.mkv"),
        "--codec",
        "ffv1",
        "--cuts",
        "off",
    ]
    return main([*command, "--mask", str(folder / masks), "--mask-to", str(folder / to), *options])


def read(path):
    return torch.stack([grey_of(frame) for frame in frames_of(path)])


def test_they_are_moved_as_in_memory(files, film, masks):
    assert run(files) == 0
    plan = multiplied(7, 2, None)
    expected = torch.empty(len(plan), *masks.shape[1:])
    bytes_of_masks = (masks * 255).round() / 255
    frames = rife.interpolate(rife.load_model(), film, plan=plan, masks=bytes_of_masks, out_masks=expected)
    found = read(files / "masks.mkv")
    assert found.shape == expected.shape
    assert torch.equal(found[::2], bytes_of_masks)  # given ones stay
    assert (found - expected).abs().max() < 1.01 / 255
    made = torch.stack([torch.from_numpy(frame).float() / 255 for frame in frames_of(files / "out.mkv")])
    assert (made - frames).abs().max() < 1.01 / 255
    faded = (bytes_of_masks[1:] + bytes_of_masks[:-1]) / 2
    assert (found[1::2] - faded).abs().max() > 0.2  # moved, not faded over


def test_pictures_come_out_as_they_do_without(files):
    assert run(files) == 0
    main(["interpolate", str(files / "in.mkv"), str(files / "plain.mkv"), "--codec", "ffv1", "--cuts", "off"])
    for a, b in zip(frames_of(files / "out.mkv"), frames_of(files / "plain.mkv"), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "options", ["--loop", "--steady", "--shutter 180", "--keep auto", "--from 2f --to 6f"]
)
def test_there_is_one_for_each_frame(files, options):
    assert run(files, *options.split()) == 0
    assert len(read(files / "masks.mkv")) == len(frames_of(files / "out.mkv")) > 6


def test_they_may_become_pictures(files):
    (files / "to").mkdir()
    assert run(files, "--fps", "60", to="to/%03d.png") == 0
    assert len(list((files / "to").iterdir())) == len(frames_of(files / "out.mkv")) > 12


def test_a_part_takes_the_masks_of_its_frames(files, masks):
    assert run(files, "--from", "2f", "--to", "6f") == 0
    assert torch.allclose(read(files / "masks.mkv")[::2], masks[2:6], atol=0.5 / 255)
    # As many masks as the part has frames are those of the part.
    for i in range(2):
        (files / f"m{i:02d}.png").unlink()
    (files / "m06.png").unlink()
    assert run(files, "--from", "2f", "--to", "6f", masks="m*.png") == 0
    assert torch.allclose(read(files / "masks.mkv")[::2], masks[2:6], atol=0.5 / 255)


def test_one_picture_is_for_all_frames(files, masks):
    assert run(files, masks="m03.png") == 0
    found = read(files / "masks.mkv")
    assert len(found) == 13 and torch.allclose(found[::2], masks[3].expand(7, -1, -1), atol=0.5 / 255)


def test_in_segments_they_are_the_same(files, caplog):
    assert run(files) == 0
    whole = read(files / "masks.mkv")
    (files / "masks.mkv").unlink()
    assert run(files, "--resume") == 0
    assert torch.equal(read(files / "masks.mkv"), whole)
    assert not (files / "out.mkv.parts").exists()


def test_a_segment_whose_masks_are_damaged_is_made_again(files, monkeypatch, caplog):
    monkeypatch.setattr(segments.Segments, "_join", lambda *_: False)
    assert run(files, "--resume") == 0
    parts = files / "out.mkv.parts"
    assert len(json.loads((parts / "00000.json").read_text())["masks"]) == 1
    data = bytearray((parts / "00000.mask.mkv").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (parts / "00000.mask.mkv").write_bytes(data)
    monkeypatch.undo()
    assert run(files, "--resume") == 0
    assert "is damaged" in caplog.text and len(read(files / "masks.mkv")) == 13


def test_other_masks_are_another_job(files, monkeypatch, capsys):
    monkeypatch.setattr(segments.Segments, "_join", lambda *_: False)
    assert run(files, "--resume") == 0
    assert run(files, "--resume", masks="m03.png") == 1
    assert "masks" in capsys.readouterr().err


def test_in_python(files, film, masks):
    done = interpolate_video(
        rife.load_model(), files / "in.mkv", files / "out.mkv", loop=True, encoding=Encoding("ffv1"),
        masks=files / "m%02d.png", masks_to=files / "masks.mkv", loop_twin="drop", loop_drift="auto",
    )  # fmt: skip
    assert done.frames_out == len(read(files / "masks.mkv")) == 14


def test_a_twin_is_dropped_in_python_where_that_is_asked_for(tmp_path):
    film = rendered(1, 4)
    source = make_of(tmp_path / "in.mkv", torch.cat([film, film[:3].flip(0)]))
    model = rife.load_model()
    for twin, frames in (("drop", 12), ("keep", 14)):
        how = {"loop": True, "cuts": "off", "loop_twin": twin}
        assert interpolate_video(model, source, tmp_path / "out.mkv", **how).frames_out == frames
    assert interpolate_video(model, source, tmp_path / "out.mkv", loop=True, cuts="off").frames_out == 14


def test_frames_of_more_than_8_bits_keep_theirs(tmp_path, film):
    values = np.linspace(0, 65535, 64 * 96).round().astype(np.uint16).reshape(64, 96, 1).repeat(3, 2)
    for name, frames in (
        ("in.mkv", (film.numpy() * 65535).round().astype(np.uint16)),
        ("mask.mkv", [values]),
    ):
        encoding = Encoding("ffv1", pix_fmt="gbrp16le")
        with VideoWriter(tmp_path / name, Fraction(24), 96, 64, encoding=encoding) as writer:
            for frame in frames:
                writer.write(frame)
    assert run(tmp_path, masks="mask.mkv") == 0
    found = frames_of(tmp_path / "masks.mkv")
    assert found[0].dtype == np.uint16 and np.abs(found[0].astype(int) - values).max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mask", "m%02d.png"], "give both"),
        (["--mask-to", "masks.mkv"], "give both"),
        (["--mask", "in.mkv", "--mask-to", "in.mkv"], "both input and output"),
        (["--mask", "m00.png", "--mask-to", "m00.png"], "both input and output"),
        (["--mask", "m00.png", "--mask-to", "out.mkv"], "for the pictures and for the masks"),
        (["--mask", "two.mkv", "--mask-to", "masks.mkv"], "are 2, expected 1 or 7"),
        (["--mask", "small.png", "--mask-to", "masks.mkv"], "are 8x4, expected 96x64"),
        (["--mask", "none.mkv", "--mask-to", "masks.mkv"], "none.mkv"),
        (["--mask", "m00.png", "--mask-to", "none/masks.mkv"], "no folder"),
        (["--mask", "m00.png", "--mask-to", "m/%03d.gif", "--resume"], "cannot be joined"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(files, film, capsys, options, said):
    make_of(files / "two.mkv", film[:2])
    write_png(files / "small.png", np.zeros((4, 8, 3), np.uint8))
    named = [str(files / o) if "." in o else o for o in options]
    assert main(["interpolate", str(files / "in.mkv"), str(files / "out.mkv"), *named]) == 1
    assert said in capsys.readouterr().err
    assert not (files / "out.mkv").exists() and not (files / "masks.mkv").exists()


def test_masks_are_of_one_input(files, capsys):
    arguments = ["--mask", "m.mkv", "--mask-to", "o.mkv"]
    both = [str(files / "in.mkv"), str(make_of(files / "b.mkv", rendered(2, 2)))]
    assert main(["interpolate", *both, str(files / "to/"), *arguments]) == 1
    assert "--mask is of one" in capsys.readouterr().err
    with pytest.raises((VideoError, ValueError), match="give both"):
        interpolate_video(rife.load_model(), both[0], files / "o.mkv", masks=both[1])
