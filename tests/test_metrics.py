import math

import pytest
import torch

from rife.metrics import psnr


def test_equal_images_have_no_error():
    image = torch.rand(1, 3, 8, 8)
    assert psnr(image, image) == math.inf


def test_a_step_of_one_in_255_is_48_13_dB():
    image = torch.full((3, 8, 8), 100 / 255)
    assert psnr(image, image + 1 / 255) == pytest.approx(48.13, abs=0.01)


def test_rounding_hides_what_eight_bits_cannot_show():
    image = torch.full((3, 8, 8), 100 / 255)
    assert psnr(image, image + 0.3 / 255) == math.inf
    assert psnr(image, image + 0.3 / 255, rounded=False) == pytest.approx(58.6, abs=0.1)
