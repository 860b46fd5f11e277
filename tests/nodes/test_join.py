"""RIFE Join Clips on the stand-in for ComfyUI."""

from __future__ import annotations

import io
import json

import pytest
import torch
from node_clips import Blend, native
from video_files import make_of, rendered

from rife.video.job import probe, read_frames


@pytest.fixture
def blend(host):
    return native(Blend())


def test_images_become_one_batch_and_a_video_of_it(host, blend):
    film = rendered(1, 40)
    clips = {"clip0": film[:20], "clip1": film[19:30], "clip2": film[30:]}
    images, video, count, report = host.run("RIFEJoinClips", interp_model=blend, clips=clips, fps=16.0)
    assert count == 40 and torch.equal(images, film)
    assert video.get_components().frame_rate == 16 and torch.equal(video.get_components().images, film)
    seams = json.loads(report)["seams"]
    assert [(seam["kind"], seam["frame"]) for seam in seams] == [("twin", 19), ("meet", 30)]
    assert "3 clips → 40 frames, 16 fps" in host.lines[-1][0]


def test_videos_become_a_video_and_no_images(host, blend, tmp_path):
    film = rendered(1, 40)
    video_of = host.modules["comfy_api.latest"].InputImpl.VideoFromFile
    files = [make_of(tmp_path / f"{i}.mkv", part) for i, part in enumerate((film[:24], film[16:]))]
    clips = {"clip0": video_of(str(files[0])), "clip1": video_of(io.BytesIO(files[1].read_bytes()))}
    images, video, count, report = host.run("RIFEJoinClips", interp_model=blend, clips=clips, crf=1)
    assert count == 40 == len(list(read_frames(video.file))) and "Take the output video" in images.message
    assert json.loads(report)["seams"][0]["overlap"] == 8
    assert probe(video.file).rate == probe(files[0]).rate


def test_what_is_asked_is_done(host, blend):
    film = rendered(1, 40)
    clips = {"clip0": film[:20], "clip1": film[20:] * 0.9}
    options = {"overlap": 4, "match_colors": False}
    images, _, count, _ = host.run("RIFEJoinClips", interp_model=blend, clips=clips, **options)
    assert count == 36 and torch.equal(images[20:], film[24:] * 0.9)


def test_images_and_videos_are_not_mixed(host, blend, tmp_path):
    video = host.modules["comfy_api.latest"].InputImpl.VideoFromFile(
        str(make_of(tmp_path / "a.mkv", rendered(1, 4)))
    )
    with pytest.raises(ValueError, match="Get Video Components"):
        host.run("RIFEJoinClips", interp_model=blend, clips={"clip0": rendered(1, 4), "clip1": video})
