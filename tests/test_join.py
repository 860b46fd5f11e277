"""Clips that follow each other: what is found at their seams, and what becomes of it."""

from __future__ import annotations

import pytest
import torch
from video_files import Fader, rendered

import rife
from rife.engine.joining import Joining, join_stream
from rife.engine.seams import corrected_colours, find_seam


@pytest.fixture(scope="module")
def clip():
    return rendered(1, 60)


def drifted(frames):
    return (frames * 0.97 + 0.01 * torch.tensor([1.0, 0.0, -1.0])).clamp(0, 1)


def noisy(frames):
    return (frames + 0.01 * torch.randn_like(frames)).clamp(0, 1)


def steps(frames):
    """Mean change from frame to frame, of 255."""
    return [float((b - a).abs().mean()) * 255 for a, b in zip(frames, frames[1:], strict=False)]


@pytest.mark.parametrize(
    "change", [lambda x: x, drifted, lambda x: noisy(drifted(x))], ids=["same", "drift", "noise"]
)
@pytest.mark.parametrize(("begin", "kind", "overlap"), [(29, "twin", 1), (22, "overlap", 8), (30, "meet", 0)])
def test_seams_are_found_for_what_they_are(clip, begin, kind, overlap, change):
    joined = rife.join(Fader(), [clip[:30], change(clip[begin:])])
    (seam,) = joined.seams
    assert (seam.kind, seam.overlap, len(joined.frames), joined.starts) == (kind, overlap, 60, [0, begin])


def test_another_scene_is_a_cut_and_stays_as_it_is(clip):
    other = rendered(9, 12)
    joined = rife.join(Fader(), [clip[:12], other])
    assert joined.seams[0].kind == "cut" and torch.equal(joined.frames, torch.cat([clip[:12], other]))


def test_a_twin_freezes_nothing(clip):
    """One frame twice was two steps of nothing at twice the rate."""
    joined = rife.join(Fader(), [clip[:30], clip[29:]])
    assert torch.equal(joined.frames, clip)


def test_frames_that_are_missing_are_made(clip):
    joined = rife.join(rife.load_model(device="cpu"), [clip[:30], clip[32:]])
    assert (joined.seams[0].kind, joined.seams[0].bridge, len(joined.frames)) == ("gap", 2, 60)
    usual = steps(clip)
    assert max(steps(joined.frames)[28:34]) < 1.2 * max(usual[28:34])
    error = (joined.frames[30:32] - clip[30:32]).square().mean().item()
    assert error < (clip[[29, 32]] - clip[30:32]).square().mean().item() / 3


def test_light_above_one_keeps_its_value_where_colours_are_matched():
    frame = torch.tensor([[[12.0, 0.9, -0.5]]])
    made = corrected_colours(frame, torch.full((3,), 0.5), torch.full((3,), 0.1))
    assert torch.allclose(made, frame * 0.5 + 0.1)
    bounded = corrected_colours(frame.clamp(0, 1), torch.full((3,), 2.0), torch.full((3,), 0.1))
    assert bounded.max() == 1


def test_colours_go_over_smoothly_and_end_as_they_are():
    clip = rendered(3, 60)
    other = drifted(clip[30:])
    joined = rife.join(Fader(), [clip[:30], other], fade=12)
    levels = joined.frames.mean((1, 2)) - clip.mean((1, 2))  # (N,3): nothing but the drift
    jumps = (levels[1:] - levels[:-1]).abs().mean(1) * 255
    plain = (other[0].mean((0, 1)) - clip[30].mean((0, 1))).abs().mean() * 255
    assert plain > 3 and jumps.max() < 0.35 * plain
    assert torch.equal(joined.frames[42:], other[12:]) and torch.equal(joined.frames[:30], clip[:30])
    assert joined.seams[0].jump == pytest.approx(float(plain), abs=1.0) and joined.seams[0].jump_left < 0.1


def test_colours_stay_where_that_is_asked(clip):
    other = drifted(clip[30:])
    joined = rife.join(Fader(), [clip[:30], other], match=False)
    assert torch.equal(joined.frames, torch.cat([clip[:30], other]))


def test_an_overlap_goes_over_at_rising_times():
    old, new = torch.zeros(10, 32, 32, 3), torch.ones(10, 32, 32, 3) * 0.5
    joined = rife.join(Fader(), [old, new], overlap=4, match=False)
    assert len(joined.frames) == 16
    assert joined.frames[5:11].mean((1, 2, 3)).tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_ten_clips_with_an_overlap_each_are_the_film_they_were_cut_from():
    film = rendered(3, 100)
    clips = [film[max(0, 10 * i - 4) : 10 * i + 10] for i in range(10)]
    joined = rife.join(Fader(), clips)
    assert [seam.overlap for seam in joined.seams] == [4] * 9
    assert torch.equal(joined.frames, film) and joined.starts[1:] == [10 * i - 4 for i in range(1, 10)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_stream_gives_the_same_frames_and_holds_few(clip, dtype):
    parts = [clip[:30], drifted(clip[22:45]), clip[45:]]
    if dtype == torch.uint8:
        parts = [(part * 255).round().byte() for part in parts]
    whole = rife.join(Fader(), [part.float() / 255 if dtype == torch.uint8 else part for part in parts])
    seen, given, most = [], 0, 0

    def frames(part):
        nonlocal given
        for frame in part:
            given += 1
            yield frame

    def make(frames, plan):
        return rife.interpolate(Fader(), frames, plan=plan)

    for frame in join_stream(make, map(frames, parts), Joining(), seen.append):
        most = max(most, given - len(seen))
        given -= 1
        assert frame.shape == clip.shape[1:]
    assert most <= 80 and seen == whole.seams


def test_what_does_not_fit_is_told_before_any_work(clip):
    cases = [
        ([clip], {}, "two or more"),
        ([clip[:5], clip[:5, :32]], {}, "one size"),
        ([clip[:5], clip[:20]], {"overlap": 8}, "the clips have 5 and 20"),
        ([clip[:5], clip[:20]], {"fade": -1}, "fade is -1"),
    ]
    for clips, options, said in cases:
        with pytest.raises(ValueError, match=said):
            rife.join(None, clips, **options)


def test_still_clips_have_one_frame_in_common():
    still = rendered(2, 1).expand(6, -1, -1, -1)
    assert find_seam(list(still), list(still)).overlap == 1


def test_flat_frames_have_no_gain():
    joined = rife.join(
        Fader(), [torch.zeros(4, 32, 32, 3), torch.full((4, 32, 32, 3), 0.1)], overlap=0, fade=2
    )
    assert torch.isfinite(joined.frames).all() and float(joined.frames[4].max()) < 0.1
