"""Clips and networks that tests of nodes share."""

from __future__ import annotations

import json

import fake_comfyui as stand_in
import torch
from torch import nn


def clip(n=3, h=40, w=56, c=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, h, w, c, generator=generator)


class Blend(nn.Module):
    """A model as ComfyUI's own: the frames blended by time, so that every result is known."""

    pad_align = 64

    def __init__(self):
        super().__init__()
        self.conv = stand_in.ComfyOps(3, 3, 1)
        self.beta = nn.Parameter(torch.ones(1))
        self.calls = []

    def get_dtype(self):
        return self.beta.dtype

    def memory_used_forward(self, shape, dtype):
        return 300 * shape[1] * shape[2] * dtype.itemsize

    def extract_features(self, img):
        return img[:, :0]

    def forward(self, img0, img1, timestep=0.5, cache=None):
        assert img0.shape[2] % 64 == 0 and timestep.shape == (len(img0), 1, *img0.shape[2:])
        self.calls.append(len(img0))
        return torch.lerp(img0, img1, timestep)


class Film(nn.Module):
    """As ComfyUI's FILM: one pair, several times; takes every size that can be halved six times."""

    pyramid_levels = 7

    def __init__(self):
        super().__init__()
        self.conv = stand_in.ComfyOps(3, 3, 1)
        self.pairs, self.extracted = [], 0

    def get_dtype(self):
        return self.conv.weight.dtype

    def memory_used_forward(self, shape, dtype):
        return 1700 * shape[1] * shape[2] * dtype.itemsize

    def extract_features(self, img):
        self.extracted += 1
        return img

    def forward(self, img0, img1, timestep=0.5, cache=None):
        raise AssertionError("one pair with all its times is cheaper")

    def forward_multi_timestep(self, img0, img1, timesteps, cache=None):
        assert len(img0) == 1 and min(img0.shape[2:]) >= 64
        assert torch.equal(cache["img0"], img0) and torch.equal(cache["img1"], img1)
        self.pairs.append(list(timesteps))
        return torch.cat([torch.lerp(img0, img1, t) for t in timesteps])


def native(network):
    return stand_in.Patcher(network, torch.device("cpu"), torch.device("cpu"))


def moving(n=9, cuts=(), h=48, w=64):
    """A texture that moves 2 px a frame, another one from each cut on."""
    generator = torch.Generator().manual_seed(4)
    scenes = [torch.rand(h // 4, (w + 120) // 4, 3, generator=generator) for _ in range(len(cuts) + 1)]
    scenes = [scene.repeat_interleave(4, 0).repeat_interleave(4, 1) for scene in scenes]
    return torch.stack([scenes[sum(c <= i for c in cuts)][:, 2 * i : 2 * i + w] for i in range(n)])


def interpolated(host, network, frames, **inputs):
    """(images, fps, the report) of one run."""
    images, fps, count, report, cuts, _ = host.run(
        "RIFEInterpolate", **{"interp_model": native(network), "images": frames, "multiplier": 2, **inputs}
    )
    facts = json.loads(report)
    assert count == len(images) == facts["frames_out"]
    assert facts["passed"] + facts["new"] + facts["held"] + facts["blended"] == count
    assert cuts == ", ".join(map(str, facts["cuts"]))
    return images, fps, facts


def on_disk(host):
    """What the combo lists, but for what it offers to download."""
    options = host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options["options"]
    return [option for option in options if not option.endswith(" (download)")]


def disc(n=9, h=64, w=96):
    """A bright disc that moves right by 4 pixels a frame over a gradient, of 8 bit: (N,H,W,3) in 0..1."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    frames = [
        torch.stack((((x - 20 - 4 * i) ** 2 + (y - 30) ** 2 < 200).float(), x / w, y / h), -1)
        for i in range(n)
    ]
    return (torch.stack(frames) * 255).round() / 255
