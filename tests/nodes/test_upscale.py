"""Frames enlarged on their way into the file, with a stand-in for the host's upscale models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from node_clips import Blend, native
from torch import nn
from video_files import make_of, rendered

from rife.video.job import read_frames


class Twice:
    """As spandrel's ImageModelDescriptor: twice the size, each pixel four times; knows where it is."""

    scale = 2

    def __init__(self, most=10**9):
        self.model, self.places, self.seen, self.most = nn.Conv2d(3, 3, 1), [], [], most

    def to(self, device):
        self.places.append(str(device))

    def __call__(self, tile):
        if tile.shape[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.seen.append(tuple(tile.shape))
        return tile.repeat_interleave(2, 2).repeat_interleave(2, 3)


def run(host, path, **options):
    video = host.modules["comfy_api.latest"].InputImpl.VideoFromFile(str(path))
    how = {"multiplier": 2, "cuts": "off", "repeated_frames": "off", **options}
    return host.run("RIFEInterpolateVideo", interp_model=native(Blend()), video=video, **how)


def test_each_frame_of_a_stream_is_enlarged(host, tmp_path):
    path = make_of(tmp_path / "a.mkv", rendered(2, 5))
    plain, upscaler = run(host, path, crf=0), Twice()
    out, _, count, report = run(host, path, crf=0, upscale_model=upscaler)
    small, large = list(read_frames(plain[0].file)), list(read_frames(out.file))
    assert count == len(large) == 9 and json.loads(report)["enlarged"] == 2
    assert large[0].shape[:2] == tuple(2 * side for side in small[0].shape[:2])
    assert np.abs(large[3][::2, ::2].astype(int) - small[3].astype(int)).mean() < 2
    assert len(upscaler.seen) == 2 * 9  # the whole, and the tile that the stand-in looks at
    assert upscaler.places == ["cpu", "cpu"] and host.tiles[0] == (512, 512, 32)


def test_tiles_are_halved_where_memory_runs_out_and_the_model_leaves_the_device_whatever_happens(
    host, tmp_path
):
    path = make_of(tmp_path / "a.mkv", rendered(2, 3))
    upscaler = Twice(most=0)
    with pytest.raises(torch.OutOfMemoryError):
        run(host, path, upscale_model=upscaler)
    assert [side for side, *_ in host.tiles] == [512, 256, 128]
    assert upscaler.places[-1] == "cpu" and len(upscaler.places) == 2


def test_a_frame_that_is_held_is_enlarged_once(host, tmp_path):
    still = rendered(2, 1).expand(4, -1, -1, -1)
    upscaler = Twice()
    run(
        host, make_of(tmp_path / "a.mkv", still), repeated_frames="hold", multiplier=4, upscale_model=upscaler
    )
    assert len(upscaler.seen) == 2 * 4
