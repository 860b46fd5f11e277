"""Repeated frames are found where things move: not by the most that changes anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rife.timeline.scenes import find_scenes
from tests.support.moving_clips import clip, picture, write

N = 30


def repeats(frames: np.ndarray) -> set[int]:
    return find_scenes(torch.from_numpy(frames)).repeats


@pytest.mark.parametrize("soft, pan", [(60, 0.47), (40, 0.3), (90, 0.25)])
def test_a_slow_pan_of_a_soft_picture_behind_a_character_on_twos_is_no_repeat(soft, pan):
    frames = [picture(i, i // 2, step=6, pan=pan, soft=soft, texture=0) for i in range(N)]
    assert repeats(np.stack(frames)) == set()


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("part", [slice(None), slice(0, 80)])
def test_frames_around_a_flash_are_no_repeats(length, part):
    frames = np.stack([picture(i, step=0.3, pan=0.47, texture=0) for i in range(N)])
    lit = frames[12 : 12 + length, :, part]
    frames[12 : 12 + length, :, part] = lit * 0.4 + 153
    assert repeats(frames) == set()


def test_frames_around_a_change_of_subtitles_are_no_repeats():
    frames = np.stack([picture(i, step=0, pan=0.25, soft=30, texture=2) for i in range(60)])
    for i in range(60):
        if i // 12 % 2:
            frames[i, 74:84, 40:120:3] = 235
    assert repeats(frames) == set()


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
def test_drawings_are_repeats_through_noise(times, noise):
    drawings = [i // times for i in range(N)]
    assert repeats(clip(drawings, noise, pan=1)) == {i for i in range(N) if i % times}


def test_drawings_behind_a_change_of_subtitles_are_repeats():
    frames = clip([i // 2 for i in range(N)], 1.0)
    frames[13:20, 80:90, 40:120:3] = 235
    assert repeats(frames) == {i for i in range(N) if i % 2} - {13}


@pytest.mark.parametrize("crf", [18, 23])
def test_drawings_are_repeats_through_a_codec_and_a_slow_pan_is_none(tmp_path, crf):
    from rife.video.reader import read_frames

    def coded(name: str, frames: np.ndarray) -> np.ndarray:
        path = write(tmp_path / name, frames, codec="libx264", pix_fmt="yuv420p", options={"crf": str(crf)})
        return np.stack(list(read_frames(path)))

    threes = coded("threes.mp4", clip([i // 3 for i in range(N)], pan=1))
    found, true = repeats(threes), {i for i in range(N) if i % 3}
    assert found <= true and len(true - found) <= (crf > 20)
    pan = [picture(i, i // 2, step=6, pan=0.47, texture=0) for i in range(N)]
    assert repeats(coded("pan.mp4", np.stack(pan))) == set()
