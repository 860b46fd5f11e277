"""Real frames: what is a shot, what is held out, what an example is, and the layouts on disk."""

from __future__ import annotations

import pytest
import torch
from training_runs import clip, write
from video_files import make_of

from rife.timeline.scenes import Scenes
from rife.training.datasets import (
    Pictures,
    RealFrames,
    Shot,
    load_clip,
    read_folder,
    real_triplets,
    rendered_triplets,
    shots,
    split,
    texture_pool,
    triplets,
)


def counting(frames: int, height: int = 48, width: int = 64, step: int = 10) -> torch.Tensor:
    """Grey step*i in frame i over a texture that is the same in all: the value tells the time."""
    pattern = torch.randint(0, 100, (1, height, width, 3))
    return (pattern + step * torch.arange(frames).view(-1, 1, 1, 1)).byte()


def ranges(found: list[Shot]) -> list[range]:
    return [shot.frames for shot in found]


def test_shots_end_at_cuts_and_leave_out_repeats():
    frames = counting(12)
    assert ranges(shots(frames, Scenes(cuts={5}))) == [range(5), range(5, 12)]
    assert ranges(shots(frames, Scenes(cuts={2, 4}))) == [range(4, 12)]  # two frames are no shot
    # On twos, then a held drawing, then ones: the spacing is even in each shot.
    assert ranges(shots(frames, Scenes(repeats={1, 3, 5, 7}))) == [range(0, 9, 2), range(8, 12)]
    assert ranges(shots(frames, Scenes(repeats={3, 4, 5, 6}))) == [range(3), range(7, 12)]
    assert shots(frames, Scenes(repeats=set(range(1, 12)))) == []


def test_shots_of_a_real_cut_are_found_in_bytes_and_floats():
    both = torch.cat((clip(7, 5), clip(7, 6)))
    assert ranges(shots(both)) == [range(7), range(7, 14)]
    found = shots(both.float() / 255)
    assert ranges(found) == [range(7), range(7, 14)] and torch.equal(found[0].clip, both)


def test_held_out_frames_are_at_the_end_and_in_nothing_else():
    (shot,) = shots(counting(20), Scenes())
    learn, judge = split([shot], 0.2)
    assert ranges(learn) == [range(16)] and ranges(judge) == [range(16, 20)]
    assert ranges(split([shot], 0)[0]) == [range(20)] and split([shot], 0)[1] == []
    short = [shot.part(0, 4)] * 10
    learn, judge = split(short, 0.2)
    assert (len(learn), len(judge)) == (8, 2)


def test_stills_and_halved_windows():
    frames = torch.rand(5, 64, 96, 3).mul(255).byte()
    still = RealFrames(shots(frames, Scenes()), crop=32, stills=1.0).example(0)
    assert torch.equal(still.img0, still.img1) and torch.equal(still.img0, still.gt)
    fine, halved = (RealFrames(shots(frames, Scenes()), crop=32, halved=h).example(3) for h in (0.0, 1.0))
    assert halved.gt.shape == fine.gt.shape == (1, 3, 32, 32)
    assert halved.gt.std() < 0.6 * fine.gt.std()  # of white noise, a mean of four has half the deviation


def test_fades_change_the_light_evenly():
    frames = torch.full((5, 32, 32, 3), 100, dtype=torch.uint8)
    frames[:, :16] = 40  # the shot must not look repeated
    source = RealFrames([Shot(frames, range(5))], crop=32, any_time=True, fades=1.0)
    gains = set()
    for seed in range(20):
        x = source.example(seed)
        light0, light, light1 = (float(image.mean()) for image in (x.img0, x.gt, x.img1))
        t = float(x.timestep)
        assert light == pytest.approx(light0 ** (1 - t) * light1**t, rel=1e-4)
        gains.add(round(light1 / light0, 2))
    assert len(gains) > 10 and 0.5 <= min(gains) < 0.9 and 1.1 < max(gains) <= 2.0


def test_the_truth_is_at_its_time_under_every_augmentation():
    source = RealFrames(shots(counting(9), Scenes()), crop=32, any_time=True)
    times, spans = set(), set()
    for seed in range(80):
        x = source.example(seed)
        assert x.gt.shape == (1, 3, 32, 32) and x.flow is None
        t = float(x.timestep)
        torch.testing.assert_close(torch.lerp(x.img0, x.img1, t), x.gt, atol=1e-5, rtol=0)
        times.add(round(t, 3))
        spans.add(round(float((x.img1 - x.img0).mean()) * 25.5))
    assert times == {0.25, 0.333, 0.5, 0.667, 0.75}
    assert spans == {-4, -3, -2, 2, 3, 4}  # in both directions of time


def test_networks_without_timestep_get_middles():
    source = RealFrames(shots(counting(9), Scenes()), crop=32)
    samples = [source.example(seed) for seed in range(30)]
    assert {float(x.timestep) for x in samples} == {0.5}
    for x in samples:
        torch.testing.assert_close((x.img0 + x.img1) / 2, x.gt, atol=1e-5, rtol=0)


def test_an_example_is_decided_by_its_seed():
    source = RealFrames(shots(clip(), Scenes()), crop=32)
    first = source.example(3).gt
    source.example(4)
    assert torch.equal(source.example(3).gt, first)
    assert not torch.equal(source.example(4).gt, first)


def test_without_augmentation_frames_are_as_they_were():
    frames = counting(3, 32, 32)
    x = RealFrames(shots(frames, Scenes()), crop=32, augment=False).example(0)
    assert torch.equal((x.img0[0] * 255).round().byte(), frames[0].permute(2, 0, 1))


def test_clips_that_give_nothing_say_so():
    with pytest.raises(ValueError, match="No usable frames"):
        RealFrames(shots(counting(2), Scenes()), crop=32)
    with pytest.raises(ValueError, match=r"64x48.*64 pixels"):
        RealFrames(shots(counting(5), Scenes()), crop=64)
    small, large = (shots(counting(5, side, side), Scenes()) for side in (24, 48))
    assert RealFrames([*small, *large], crop=32).shots == large


def test_held_out_triplets_are_spread_and_in_order():
    found = triplets(shots(counting(12), Scenes()), 5)
    assert len(found) == 5 and found[0].shape == (3, 3, 48, 64)
    assert all(torch.equal(x[1] - x[0], x[2] - x[1]) for x in found)
    assert not torch.equal(found[0], found[-1])
    assert len(triplets(shots(counting(12), Scenes()), 100, stride=2)) == 8
    assert len(real_triplets(clip(), stride=2, count=3)) == 3


def test_rendered_triplets_are_pictures():
    (one,) = rendered_triplets(8, 1, 64)
    assert one.shape == (3, 3, 64, 64) and one.dtype == torch.uint8


def test_the_texture_pool_mixes_photographs_and_noise():
    pool = texture_pool([clip()], 4, size=48)
    assert pool.shape == (4, 3, 48, 48) and pool.dtype == torch.uint8
    assert texture_pool([], 3, size=48).shape == (3, 3, 48, 48)


@pytest.mark.parametrize(("name", "length"), [("tri_trainlist.txt", 3), ("sep_trainlist.txt", 7)])
def test_vimeo_layouts(tmp_path, name, length):
    frames = counting(length)
    for i in range(3):
        write(tmp_path / "sequences" / "00001" / f"000{i}", frames)
    (tmp_path / name).write_text("00001/0000\n00001/0001\n\n00001/0002\n")
    learn, judge = read_folder(tmp_path)
    assert (len(learn), len(judge)) == (2, 1)
    assert isinstance(learn[0].clip, Pictures) and learn[0].frames == range(length)
    assert torch.equal(learn[0].clip[[0, 2]], frames[[0, 2]])
    assert RealFrames(learn, 32, reach=6, any_time=True).example(0).gt.shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="smaller crop"):
        RealFrames(learn, 64).example(0)


def test_vimeo_layouts_without_their_pictures(tmp_path):
    (tmp_path / "tri_trainlist.txt").write_text("00001/0001\n")
    with pytest.raises(ValueError, match="Unpack the data set"):
        read_folder(tmp_path)


def test_folders_of_picture_folders_and_a_folder_of_pictures(tmp_path):
    write(tmp_path / "a", clip(9, 5))
    write(tmp_path / "b", clip(9, 6))
    learn, judge = read_folder(tmp_path, held_out=0.34)
    assert ranges(learn) == [range(6)] * 2 and ranges(judge) == [range(6, 9)] * 2
    assert ranges(read_folder(tmp_path / "a", held_out=0)[0]) == [range(9)]
    assert load_clip(tmp_path / "a", max_frames=2, max_width=50).shape == (2, 32, 48, 3)


def test_folders_without_clips_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="tri_trainlist"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_folder(tmp_path / "nothing")


@pytest.mark.parametrize("ending", [".ts", ".m2ts", ".MTS", ".mpg", ".mpeg", ".wmv", ".flv", ".apng", ".vob"])
def test_a_folder_gives_all_videos_that_the_other_commands_take(tmp_path, ending):
    make_of(tmp_path / "in.mkv", clip(9, 5)).rename(tmp_path / f"a{ending}")  # read whatever it is called
    (tmp_path / f"._a{ending}").write_bytes(b"\0\5\26\7")  # as macOS leaves beside it
    learn, _ = read_folder(tmp_path, held_out=0)
    assert ranges(learn) == [range(9)]
