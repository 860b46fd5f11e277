"""Models so small that training them takes a moment, and what tells two of them apart."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import fake_comfyui as stand_in
import torch

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet


def patcher_of(host, network, dtype=torch.float32):
    """An INTERP_MODEL as Load RIFE Checkpoint gives it."""
    name = f"test{len(list((host.models_dir / 'frame_interpolation').iterdir()))}.safetensors"
    rife.save_checkpoint(network, host.models_dir / "frame_interpolation" / name)
    precision = {torch.float32: "fp32", torch.float16: "fp16"}[dtype]
    return host.run("RIFECheckpointLoader", checkpoint=name, precision=precision)[0]


# Two blocks of 4.26's kind.
TINY = replace(RELEASES["4.26"], scales=(2, 1), pad=32)


def tiny():
    return stand_in.small_network(IFNet, TINY, (16, 16))


def paper(release="RIFE"):
    """A narrow network of the paper with its teacher."""
    torch.manual_seed(0)
    return IFNet(replace(RELEASES[release], family="custom", teacher=True, channels=(24, 16, 16)))


def digest(patcher) -> str:
    sums = hashlib.sha256()
    for name, tensor in patcher.model.state_dict().items():
        sums.update(name.encode() + tensor.detach().numpy().tobytes())
    return sums.hexdigest()
