"""Losses against their formulas, written out slowly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rife.evaluation import metrics
from rife.losses.functional import (
    census_loss,
    distillation_loss,
    epe,
    flow_loss,
    laplacian_loss,
    laplacian_pyramid,
    sobel_loss,
    ssim,
    time_loss,
)
from rife.losses.objective import Objective
from rife.networks.prediction import Prediction


def pictures(height: int = 24, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 3, height, width), torch.rand(2, 3, height, width)


def prediction(image: torch.Tensor, teacher: bool = True) -> Prediction:
    b, _, h, w = image.shape
    flow = torch.full((b, 4, h, w), 2.0)
    tea = {"flow_tea": torch.zeros(b, 4, h, w), "merged_tea": image} if teacher else {}
    return Prediction(image, flow, image[:, :1], [flow, flow], [image + 0.1, image + 0.2], **tea)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (7, 5), (31, 33), (64, 96), (100, 67)])
def test_the_laplacian_loss_takes_any_size(size):
    a, b = (x.requires_grad_() for x in pictures(*size))
    loss = laplacian_loss(a, b)
    loss.backward()
    assert loss > 0 and a.grad.isfinite().all()
    assert laplacian_loss(a, a) == 0


def test_the_laplacian_pyramid_has_five_levels_of_halved_size_and_no_brightness():
    levels = laplacian_pyramid(torch.rand(1, 3, 64, 64))
    assert [x.shape[-1] for x in levels] == [64, 32, 16, 8, 4]
    flat = laplacian_pyramid(torch.full((1, 3, 64, 64), 0.7))
    assert all(x.abs().max() < 1e-6 for x in flat)


def test_the_laplacian_loss_sums_the_levels_means():
    a, b = pictures(32, 32)
    levels = zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True)
    torch.testing.assert_close(laplacian_loss(a, b), sum((x - y).abs().mean() for x, y in levels))


def test_end_point_errors_are_distances():
    flow = torch.zeros(1, 2, 2, 2)
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    torch.testing.assert_close(epe(flow, target), torch.full((1, 1, 2, 2), 5.0))
    valid = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[None, None]
    torch.testing.assert_close(epe(flow, target, valid), 5 * valid)
    # Two directions, two stages, the last one counts most.
    both = torch.cat((target, 2 * target), 1)
    loss = flow_loss([torch.zeros(1, 4, 2, 2), both], both)
    assert float(loss) == pytest.approx(0.8 * 7.5 + 0.001, abs=1e-4)


def test_sobel_edges_of_a_ramp():
    """A horizontal ramp of slope a has edges of 8a across and none down, away from the border."""
    ramp = 0.03 * torch.arange(12.0).expand(1, 3, 10, 12)
    loss = sobel_loss(ramp, torch.zeros_like(ramp))
    assert loss.shape == ramp.shape
    torch.testing.assert_close(loss[..., 1:-1, 1:-1], torch.full((1, 3, 8, 10), 0.24))
    turned = sobel_loss(ramp.transpose(2, 3), torch.zeros(1, 3, 12, 10))
    torch.testing.assert_close(turned, loss.transpose(2, 3))
    a, b = pictures()
    assert sobel_loss(a, a).abs().max() == 0
    torch.testing.assert_close(sobel_loss(a, b), sobel_loss(b, a))


def test_the_census_loss_is_its_formula():
    a, b = (x[:1] for x in pictures(9, 10))
    loss = census_loss(a, b)
    grey = [(0.2989 * x[0, 0] + 0.5870 * x[0, 1] + 0.1140 * x[0, 2]).tolist() for x in (a, b)]

    def at(picture, y, x):
        return picture[y][x] if 0 <= y < 9 and 0 <= x < 10 else 0.0

    def transform(picture, y, x, dy, dx):
        d = at(picture, y + dy, x + dx) - picture[y][x]
        return d / math.sqrt(0.81 + d * d)

    for y in range(9):
        for x in range(10):
            total = 0.0
            for dy in range(-3, 4):
                for dx in range(-3, 4):
                    e = (transform(grey[0], y, x, dy, dx) - transform(grey[1], y, x, dy, dx)) ** 2
                    total += e / (0.1 + e) / 49
            inside = 0 < y < 8 and 0 < x < 9
            assert float(loss[0, 0, y, x]) == pytest.approx(total if inside else 0.0, abs=1e-6)


def test_the_census_loss_hardly_sees_brightness():
    a = 0.5 * torch.rand(1, 3, 20, 20)
    inner = (..., slice(3, -3), slice(3, -3))
    assert census_loss(a, a + 0.3)[inner].max() < 1e-6
    assert census_loss(a, torch.rand(1, 3, 20, 20))[inner].mean() > 0.05


def test_ssim_of_equal_and_of_flat_pictures():
    a, b = pictures()
    assert float(ssim(a, a)) == pytest.approx(1.0)
    scores = [metrics.ssim(x, y, "gaussian", rounded=False) for x, y in zip(a, b, strict=True)]
    assert float(ssim(a, b)) == pytest.approx(sum(scores) / 2, abs=1e-5)
    assert abs(float(ssim(a, b))) < 0.5
    # As 4.25 was trained: every third window of 3x3, at (0,0), (0,3) ... with zeros around the frame.
    x, y = (F.pad(p[0, 0], (1, 1, 1, 1))[3:6, 6:9].reshape(-1) for p in (a, b))
    gauss = torch.tensor([math.exp(-(i * i + j * j) / 4.5) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    w = gauss / gauss.sum()
    mean = [(w * v).sum() for v in (x, y)]
    var = [(w * v * v).sum() - m * m for v, m in zip((x, y), mean, strict=True)]
    cov = (w * x * y).sum() - mean[0] * mean[1]
    one = (2 * mean[0] * mean[1] + 1e-4) * (2 * cov + 9e-4)
    one = one / ((mean[0] ** 2 + mean[1] ** 2 + 1e-4) * (sum(var) + 9e-4))
    window = (slice(0, 1), slice(0, 1), slice(2, 5), slice(5, 8))
    assert float(ssim(a[window], b[window], 3, 3)) == pytest.approx(float(one), abs=1e-6)
    assert ssim(a, b, 3, 3, 1) != ssim(a, b)
    # Without structure only the luminance is compared.
    flat = torch.full((1, 1, 16, 16), 0.5)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert float(ssim(flat, flat / 2)) == pytest.approx(expected, rel=1e-4)
    assert float(ssim(a[..., :5, :5], a[..., :5, :5])) == pytest.approx(1.0)


def test_distillation_counts_where_the_teacher_is_better():
    gt = torch.zeros(1, 3, 4, 4)
    p = prediction(gt)
    # Both stages are off by 2 in all four components, and worse than the teacher everywhere.
    assert float(distillation_loss(p, gt)) == pytest.approx(4.0)
    assert float(distillation_loss(p, gt, mean=False)) == pytest.approx(8.0)
    p.merged[0][:, :, :2] = 0.005
    assert float(distillation_loss(p, gt)) == pytest.approx(3.0)
    assert float(distillation_loss(p, gt, margin=0.0)) == pytest.approx(4.0)
    assert distillation_loss(prediction(gt, teacher=False), gt) == 0


def test_distillation_adds_up_over_both_teachers():
    gt = torch.zeros(1, 3, 4, 4)
    p = prediction(gt)
    alone = distillation_loss(p, gt)
    both = replace(p, flow_mix=torch.full((1, 4, 4, 4), 5.0), merged_mix=gt)
    torch.testing.assert_close(distillation_loss(both, gt), alone + 6.0)
    assert distillation_loss(replace(both, merged_mix=gt + 0.5), gt) == alone


def test_a_guessed_middle_counts_nothing():
    guess = torch.tensor([0.1, 0.4, 0.9]).view(3, 1, 1, 1)
    true = torch.tensor([0.3, 0.5, 0.7])
    assert float(time_loss(guess, true)) == pytest.approx((0.04 + 0.04) / 3)
    assert time_loss(guess, 0.5) == 0
    assert float(time_loss(guess[:1], 0.2)) == pytest.approx(0.01)


def test_distillation_has_a_gradient_where_teacher_and_student_agree():
    gt, flow = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 4, requires_grad=True)
    p = Prediction(gt, flow, gt, [flow], [gt + 1], flow_tea=torch.zeros_like(flow), merged_tea=gt)
    distillation_loss(p, gt).backward()
    assert flow.grad.isfinite().all()


def test_distillation_moves_the_students_and_not_the_teacher():
    gt = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    flow, tea = (torch.rand(1, 4, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss(flow: torch.Tensor) -> torch.Tensor:
        p = Prediction(gt, flow, gt, [flow], [gt + 1], flow_tea=tea, merged_tea=gt)
        return distillation_loss(p, gt)

    assert torch.autograd.gradcheck(loss, flow)
    loss(flow).backward()
    assert tea.grad is None


def test_the_papers_objective():
    gt, image = pictures(32, 32)
    p, target = prediction(image), torch.zeros(2, 4, 32, 32)
    total, parts = Objective(distill=0.02, flow=0.5)(p, gt, target)
    assert list(parts) == ["loss_l1", "loss_tea", "loss_distill", "loss_flow"]
    expected = parts["loss_l1"] + parts["loss_tea"] + 0.02 * parts["loss_distill"] + 0.5 * parts["loss_flow"]
    torch.testing.assert_close(total, expected)
    without, parts = Objective()(prediction(image, teacher=False), gt)
    torch.testing.assert_close(without, parts["loss_l1"])


def test_the_mean_squared_error_is_there_if_asked_for():
    image, gt = torch.rand(2, 1, 3, 32, 32)
    prediction = Prediction(image, torch.zeros(1, 4, 32, 32), torch.zeros(1, 1, 32, 32))
    plain, parts = Objective()(prediction, gt)
    assert "loss_mse" not in parts
    total, parts = Objective(mse=20.0)(prediction, gt)
    torch.testing.assert_close(total - plain, 20 * ((image - gt) ** 2).mean())
    torch.testing.assert_close(parts["loss_mse"], ((image - gt) ** 2).mean())


def test_the_late_objective_and_a_perceptual_loss_of_ones_own():
    gt, image = pictures(32, 32)
    p = prediction(image)
    total, parts = Objective("4.25", perceptual=lambda a, b: (a - b).abs().amax(), perceptual_weight=3.0)(
        p, gt
    )
    torch.testing.assert_close(
        parts["loss_l1"], 0.8 * (image + 0.1 - gt).abs().mean() + (image + 0.2 - gt).abs().mean()
    )
    weights = {"loss_l1": 0.1, "loss_tea": 0.1, "loss_distill": 0.005, "loss_ssim": 0.1, "loss_length": 1e-5}
    weights |= {"loss_flow": 0.01, "loss_perceptual": 3.0}
    assert parts.keys() == weights.keys()
    torch.testing.assert_close(total, sum(weights[k] * v for k, v in parts.items()))
    # The flow is 2 in all four components, everywhere.
    assert float(parts["loss_length"]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="paper, 4.25"):
        Objective("vgg")


def test_the_late_objective_of_a_network_with_all_parts():
    gt, image = pictures(32, 32)
    p = replace(prediction(image), flow_mix=torch.zeros(2, 4, 32, 32), merged_mix=gt + 0.25)
    p = replace(p, time=torch.full((2, 1, 1, 1), 0.4))
    total, parts = Objective("4.25", flow=0.0, encoder=lambda a, b: (a - b).square().mean())(
        p, gt, timestep=torch.tensor([0.2, 0.5])
    )
    torch.testing.assert_close(parts["loss_tea"], (image - gt).abs().mean() + 0.25)
    frames = [(0.8, image + 0.1), (1.0, image + 0.2), (1.0, image), (1.0, gt + 0.25)]
    expected = sum(share * (x - gt).square().mean() for share, x in frames)
    torch.testing.assert_close(parts["loss_encoder"], expected)
    assert float(parts["loss_time"]) == pytest.approx(0.02)
    weights = {"loss_l1": 0.1, "loss_tea": 0.1, "loss_distill": 0.005, "loss_ssim": 0.1, "loss_length": 1e-5}
    weights |= {"loss_encoder": 0.1, "loss_time": 1.0, "loss_flow": 0.0}
    assert parts.keys() == weights.keys()
    torch.testing.assert_close(total, sum(weights[k] * v for k, v in parts.items()))
