import math
import sys
from types import SimpleNamespace

import pytest
import torch

from rife.evaluation.metrics import (
    SSIM_WINDOWS,
    interpolation_error,
    interpolation_error_rms,
    lpips_metric,
    moving,
    psnr,
    ssim,
)


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


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two like pictures (3,24,30) of 8 bit, the same on every machine."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(30.0), indexing="ij")
    image = torch.stack((y * 7 + x * 3, y * x, (x - y) ** 2)) % 256
    target = (image + (y * 31 + x * 17) % 41 - 20).clamp(0, 255)
    return image.floor() / 255, target.floor() / 255


def naive_ssim(x, y, taps, spread: float = 1.0):
    """Wang et al. 2004, equation 13, at one place: of windows x and y with the weights `taps`."""
    mean_x, mean_y = (taps * x).sum(), (taps * y).sum()
    var_x, var_y = (taps * (x - mean_x) ** 2).sum() * spread, (taps * (y - mean_y) ** 2).sum() * spread
    cov = (taps * (x - mean_x) * (y - mean_y)).sum() * spread
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def gaussian_taps() -> torch.Tensor:
    taps = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / 4.5)
    return taps / taps.sum()


def test_ssim_is_that_of_the_paper_written_out():
    image, target = pictures()
    taps = gaussian_taps()
    taps = taps[:, None] * taps
    x, y = image.double(), target.double()
    places = [
        naive_ssim(x[c, i : i + 11, j : j + 11], y[c, i : i + 11, j : j + 11], taps)
        for c in range(3)
        for i in range(14)
        for j in range(20)
    ]
    assert ssim(image, target, "gaussian") == pytest.approx(float(torch.stack(places).mean()), abs=1e-5)


def test_ssim_of_the_interpolation_benchmarks_takes_the_channels_as_depth():
    image, target = pictures()
    taps = gaussian_taps()
    taps = taps[:, None, None] * taps[:, None] * taps
    # Borders repeat, in depth too: channel -5 is channel 0.
    depth, rows, columns = (torch.arange(-5, side + 5).clamp(0, side - 1) for side in image.shape)
    x, y = (a.double()[depth][:, rows][:, :, columns] for a in (image, target))
    places = [
        naive_ssim(x[c : c + 11, i : i + 11, j : j + 11], y[c : c + 11, i : i + 11, j : j + 11], taps)
        for c in range(3)
        for i in range(24)
        for j in range(30)
    ]
    assert ssim(image, target) == pytest.approx(float(torch.stack(places).mean()), abs=1e-5)


def test_ssim_with_sample_covariance():
    image, target = pictures()
    taps = torch.full((7, 7), 1 / 49, dtype=torch.float64)
    x, y = image.double(), target.double()
    places = [
        naive_ssim(x[c, i : i + 7, j : j + 7], y[c, i : i + 7, j : j + 7], taps, 49 / 48)
        for c in range(3)
        for i in range(18)
        for j in range(24)
    ]
    assert ssim(image, target, "uniform") == pytest.approx(float(torch.stack(places).mean()), abs=1e-5)


@pytest.mark.parametrize(
    "window, value", [("volume", 0.953925), ("gaussian", 0.820879), ("uniform", 0.882995)]
)
def test_ssim_has_the_values_of_others(window, value):
    """volume: ECCV2022-RIFE's ssim_matlab. The others: scikit-image 0.26, as the docstring says how."""
    assert ssim(*pictures(), window) == pytest.approx(value, abs=1e-5)


def test_ssim_of_equal_pictures_is_one_whatever_the_window():
    image, _ = pictures()
    assert [ssim(image, image, window) for window in SSIM_WINDOWS] == pytest.approx([1, 1, 1], abs=1e-6)
    with pytest.raises(ValueError, match="is box, expected one of volume"):
        ssim(image, image, "box")


def test_interpolation_error_is_in_8_bit_levels():
    image = torch.full((3, 8, 8), 100 / 255)
    other = image.clone()
    other[0, :, :4] += 12 / 255  # red only, half of the picture
    assert interpolation_error(image, other) == pytest.approx(2)
    assert interpolation_error_rms(image, other) == pytest.approx(math.sqrt(72))
    left = torch.zeros(8, 8, dtype=torch.bool)
    left[:, :4] = True
    assert interpolation_error(image, other, left) == pytest.approx(4)
    assert interpolation_error_rms(image, other, left) == pytest.approx(12)
    assert math.isnan(interpolation_error(image, other, torch.zeros(8, 8, dtype=torch.bool)))


def test_moving_is_where_the_given_frames_differ_and_a_little_around():
    img0 = torch.full((3, 16, 16), 0.5)
    img1 = img0.clone()
    img1[2, 8, 8] += 9 / 255
    img1[:, 0, 0] += 7 / 255
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[6:11, 6:11] = True
    assert torch.equal(moving(img0, img1), expected)


def test_lpips_is_optional(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert lpips_metric() is None


def test_lpips_gets_pictures_from_minus_one_to_one(monkeypatch):
    seen = []

    class Network(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()

        def forward(self, image, target):
            seen.extend((image, target))
            return torch.full((1, 1, 1, 1), 0.25)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network))
    assert lpips_metric()(torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.5)) == 0.25
    assert seen[0].shape == (1, 3, 8, 8) and float(seen[0].max()) == -1
    assert float(seen[1].max()) == pytest.approx(1 / 255, rel=1e-4)  # 127.5 is rounded to 128
