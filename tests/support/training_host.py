"""A stand-in host with something to train, and a triplet to train it on.

Test modules that want it say `pytest_plugins = ["training_host"]`.
"""

from __future__ import annotations

from collections.abc import Iterator

import fake_comfyui as stand_in
import pytest
import torch
from trainable import patcher_of, tiny

from rife.training.synthetic import RenderedMotion


@pytest.fixture
def host(tmp_path) -> Iterator[stand_in.Host]:
    """With a folder for checkpoints, and one thread: tensors this small only wait for each other's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "frame_interpolation").mkdir()
    yield from stand_in.installed(tmp_path)
    torch.set_num_threads(threads)


@pytest.fixture
def model(host):
    return patcher_of(host, tiny())


@pytest.fixture
def triplet():
    """img0, img1, true middle: IMAGEs of inference mode, as ComfyUI's nodes make them."""
    sample = RenderedMotion(30, 44, 1, max_motion=4.0).sample(2, 0.5)
    with torch.inference_mode():
        return {
            "img0": sample.img0.movedim(1, 3).clone(),
            "img1": sample.img1.movedim(1, 3).clone(),
            "ground_truth": sample.gt.movedim(1, 3).clone(),
        }
