import numpy as np
import pytest
import torch
from video_files import make, picture

from rife.video.frames import clip_frames, read_picture, reduced
from rife.video.job import write_png


def test_a_folder_of_pictures_is_a_clip_in_the_order_of_its_numbers(tmp_path):
    for i in (10, 2, 1):
        write_png(tmp_path / f"frame{i}.png", picture(i))
    (tmp_path / "notes.txt").write_text("no picture")
    frames = list(clip_frames(tmp_path))
    assert [
        torch.equal(f, torch.from_numpy(picture(i))) for f, i in zip(frames, (1, 2, 10), strict=True)
    ] == [True] * 3
    assert len(list(clip_frames(tmp_path, max_frames=2))) == 2


def test_a_video_is_a_clip(tmp_path):
    frames = list(clip_frames(make(tmp_path / "clip.mkv", frames=3), max_width=32))
    assert [tuple(f.shape) for f in frames] == [(24, 32, 3)] * 3


def test_reducing_averages_squares_and_rounds(tmp_path):
    frame = torch.tensor([[0, 1, 9], [2, 4, 9], [9, 9, 9]], dtype=torch.uint8)[..., None].expand(-1, -1, 3)
    assert torch.equal(reduced(frame, 2), torch.full((1, 1, 3), 2, dtype=torch.uint8))  # 1.75
    assert reduced(frame, 1) is frame


def test_a_picture_is_read_as_it_was_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    assert np.array_equal(read_picture(tmp_path / "a.png").numpy(), image)


def test_an_empty_folder_is_no_clip(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        next(clip_frames(tmp_path))


def test_pictures_of_two_sizes_are_no_clip(tmp_path):
    write_png(tmp_path / "1.png", picture(0))
    write_png(tmp_path / "2.png", picture(0, 20, 30))
    with pytest.raises(ValueError, match="frames of 64x48 and of 30x20, expected one size"):
        list(clip_frames(tmp_path))
