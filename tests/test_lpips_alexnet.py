"""The benchmark's LPIPS by a file of arrays."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# Behind all others: some of its files are called as some of tests/support are.
sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from lpips_alexnet import lpips_of

SHAPES = ((11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256))


@pytest.fixture
def weights(tmp_path):
    random = np.random.default_rng(0)
    convolutions = {
        f"Conv_{i}": {
            "kernel": random.normal(0, np.prod(shape[:3]) ** -0.5, shape).astype(np.float32),
            "bias": np.zeros(shape[3], np.float32),
        }
        for i, shape in enumerate(SHAPES)
    }
    weighing = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.full((1, 1, shape[3], 1), 0.1, np.float32)}}
        for i, shape in enumerate(SHAPES)
    }
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps({"AlexNet_0": convolutions, **weighing}, protocol=4))
    return path


def test_the_same_is_at_no_distance_and_more_noise_is_farther(weights):
    distance = lpips_of(weights)
    torch.manual_seed(0)
    true, noise = torch.rand(3, 72, 80), torch.randn(3, 72, 80)
    made = [distance((true + noise * level).clamp(0, 1), true) for level in (0, 0.05, 0.2)]
    assert made[0] == 0 and 0 < made[1] < made[2]


def test_a_file_that_names_more_than_arrays_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(pickle.UnpicklingError, match="expected arrays only"):
        lpips_of(path)
    assert not (tmp_path / "made").exists()
