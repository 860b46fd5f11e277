"""The stand-in host with a small checkpoint, for all tests of nodes."""

from __future__ import annotations

import os

import fake_comfyui as stand_in
import pytest
import torch

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Tensors this small only wait for each other's threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    network = stand_in.small_network(IFNet, RELEASES["4.26"])
    return rife.save_checkpoint(network, tmp_path_factory.mktemp("files") / "small.safetensors")


@pytest.fixture
def host(tmp_path, checkpoint):
    for folder in ("frame_interpolation", "rife"):
        (tmp_path / folder).mkdir()
    os.link(checkpoint, tmp_path / "frame_interpolation" / "small.safetensors")
    yield from stand_in.installed(tmp_path)


@pytest.fixture
def model(host):
    return host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
