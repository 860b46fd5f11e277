import pytest
import torch

from rife.ops.grid_sample import sample_by_gather
from rife.ops.warp import conv_of_upsampled, resize, warp


def test_flow_of_one_pixel_fetches_the_right_neighbour_and_repeats_the_border():
    image = torch.arange(4.0).view(1, 1, 1, 4)
    flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    assert warp(image, flow).tolist() == [[[[1, 2, 3, 3]]]]


def test_zero_flow_is_the_identity_in_every_dtype():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        image = torch.rand(2, 3, 5, 7).to(dtype)
        torch.testing.assert_close(warp(image, torch.zeros(2, 2, 5, 7)), image)


def test_clamped_grid_with_zero_padding_is_border_padding():
    """What MPS gets, which has no border padding, against what everybody else gets."""
    import torch.nn.functional as F

    image, points = torch.rand(1, 3, 9, 11), torch.rand(1, 20, 30, 2) * 4 - 2
    options = {"mode": "bilinear", "align_corners": True}
    border = F.grid_sample(image, points, padding_mode="border", **options)
    clamped = F.grid_sample(image, points.clamp(-1, 1), padding_mode="zeros", **options)
    assert torch.equal(border, clamped)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(9, 11), (1, 7), (2, 1)])
def test_sampling_in_plain_operations_is_grid_sample(mode, size):
    """For devices without bicubic, or without a gradient: pictures were off by 9/255 where bicubic became bilinear."""
    import torch.nn.functional as F

    image = torch.rand(2, 3, *size, requires_grad=True)
    points = (torch.rand(2, 20, 30, 2) * 4 - 2).requires_grad_()
    expected = F.grid_sample(image, points, mode=mode, padding_mode="border", align_corners=True)
    plain = sample_by_gather(image, points, mode)
    torch.testing.assert_close(plain, expected, atol=1e-5, rtol=0)
    grad = torch.randn_like(plain)
    for x, y in zip(*(torch.autograd.grad(z, (image, points), grad) for z in (plain, expected)), strict=True):
        torch.testing.assert_close(x, y, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("threads, rows", [(1, 12), (2, 12), (6, 12), (6, 13)])
def test_strips_for_several_threads_are_the_whole(threads, rows, monkeypatch):
    image, flow = torch.rand(1, 3, rows, 9), torch.randn(1, 2, rows, 9) * 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    expected = torch.cat((warp(image.expand(2, -1, -1, -1), flow.expand(2, -1, -1, -1)),))[:1]
    assert torch.equal(warp(image, flow), expected)


def test_half_images_are_sampled_at_float32_positions():
    """A half-precision grid misplaces samples by up to a quarter pixel at 1920 wide."""
    width = 1920
    image = (torch.arange(width) / width).half().expand(1, 1, 2, width)
    moved = warp(image, torch.full((1, 2, 2, width), 0.0).half())
    assert (moved - image).abs().max() <= 1 / width / 16


def test_up_then_down_equals_the_direct_step():
    """The identity that lets blocks hand over at low resolution; it needs a step of at least two."""
    x = torch.rand(1, 2, 4, 6, dtype=torch.float64)
    for up, down in ((16, 8), (8, 2), (4, 2), (16, 1)):
        torch.testing.assert_close(resize(resize(x, up), 1 / down), resize(x, up / down))


@pytest.mark.parametrize("size", [(2, 2), (5, 3), (8, 16)])
def test_convolution_of_doubled_equals_doubling_first(size):
    x, weight = torch.rand(2, 4, *size, dtype=torch.float64), torch.randn(3, 4, 3, 3, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(resize(x, 2), weight, stride=2, padding=1)
    torch.testing.assert_close(conv_of_upsampled(x, weight), expected)


@pytest.mark.parametrize("threads", [1, 4])
def test_halving_is_part_of_the_warp(threads, monkeypatch):
    image, flow = torch.rand(1, 3, 16, 12), torch.randn(1, 2, 16, 12)
    expected = resize(warp(image, flow), 0.5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.testing.assert_close(warp(image, flow, halve=True), expected)


@pytest.mark.parametrize("factor", [1 / 4, 1 / 8, 1 / 16, 1 / 32])
@pytest.mark.parametrize("size", [(64, 96), (70, 100)])
def test_shrinking_reads_the_middle_of_each_cell(factor, size):
    x = torch.rand(1, 2, *size, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(resize(x, factor), expected, atol=1e-12, rtol=0)
