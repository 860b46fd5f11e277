"""FLIP against figures of its authors' implementation (flip-evaluator 1.7, float32)."""

from __future__ import annotations

import pytest
import torch

from rife.evaluation.flip import flip, flip_map
from rife.training.synthetic import RenderedMotion


@pytest.fixture(scope="module")
def clip():
    return RenderedMotion(128, 160, seed=3, max_motion=8).clip(2, 2)


def test_it_is_that_of_its_authors(clip):
    noise = 0.02 * torch.randn(clip[0].shape, generator=torch.Generator().manual_seed(1))
    noisy = (clip[0] + noise).clamp(0, 1)
    assert flip(clip[1], clip[0]) == pytest.approx(0.0744233, abs=2e-5)
    assert flip(noisy, clip[0]) == pytest.approx(0.0713452, abs=2e-5)
    assert flip((clip[0] + clip[2]) / 2, clip[1]) == pytest.approx(0.0236029, abs=2e-5)


def test_equal_pictures_do_not_differ_and_opposite_ones_do(clip):
    assert flip(clip[0], clip[0]) == 0
    white, black = torch.ones(3, 32, 32), torch.zeros(3, 32, 32)
    far = flip_map(white, black)
    assert far.shape == (32, 32) and 0.8 < float(far.mean()) <= 1


def test_it_grows_with_the_difference(clip):
    near, far = (torch.lerp(clip[0], clip[2], share) for share in (0.05, 0.5))
    assert 0 < flip(near, clip[0]) < flip(far, clip[0]) < 1
