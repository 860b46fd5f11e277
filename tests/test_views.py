"""Light above one and pictures with opacity: the network sees what it knows, the frames keep their values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import rife
from rife.model.views import compressed, expanded
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.timeline.clock import Clock

LAMP = 12.0


def disc(x: float, height: int = 96, width: int = 160) -> Tensor:
    """(H,W) in 0..1."""
    yy, xx = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return (12.5 - torch.hypot(xx - x, yy - 48)).clamp(0, 1)


def lit(x: float) -> Tensor:
    """(H,W,3): a lamp in front of a dim picture."""
    inside = disc(x)[..., None]
    yy, xx = torch.meshgrid(torch.arange(96.0), torch.arange(160.0), indexing="ij")
    dim = 0.3 + 0.1 * torch.sin(xx / 7) + 0.1 * torch.sin(yy / 5)
    return dim[..., None] * (1 - inside) + LAMP * inside * torch.tensor([1.0, 0.8, 0.3])


def title(x: float, colour: tuple[float, ...], hidden: Tensor | None = None) -> Tensor:
    """(H,W,4): a disc of one colour, of which only the opacity moves; hidden: colours where nobody sees them."""
    opacity = disc(x)[..., None]
    rgb = torch.tensor(colour).expand(96, 160, 3)
    if hidden is not None:
        rgb = torch.where(opacity > 0, rgb, hidden)
    return torch.cat((rgb, opacity), 2)


def decibels(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.fixture(scope="module")
def model() -> rife.Model:
    return rife.load_model(device="cpu").eval()


def test_light_is_pressed_into_bounds_and_released_again():
    light = torch.tensor([-30.0, -0.5, 0.0, 0.3, 1.0, 1.01, 12.0, 1000.0])
    assert compressed(light).min() > -0.5 and compressed(light).max() < 1.5
    assert torch.equal(compressed(light)[2:5], light[2:5])
    torch.testing.assert_close(expanded(compressed(light)), light, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"TTA": True}, {"ensemble": True}])
def test_a_lamp_does_not_flicker(model, options):
    frames = torch.stack([lit(40 + 8 * i) for i in range(3)])
    made = rife.interpolate(model, frames, 3, **options)
    assert made.amax((1, 2)) == pytest.approx(frames[:1].amax((1, 2)).expand(7, -1), rel=1e-3)
    assert made.min() >= 0
    assert decibels(made[4].clamp(0, 1), lit(40 + 32 / 3).clamp(0, 1)) > 30
    stream = torch.stack(list(rife.interpolate_stream(model, iter(frames), 3, **options)))
    assert torch.equal(stream, made)


def test_frames_in_range_are_what_they_are_without_light_beside_them(model):
    dim = torch.stack([lit(40 + 8 * i).clamp(0, 1) for i in range(4)])
    made = rife.interpolate(model, torch.cat((dim[:3], lit(64)[None])), batch_size=3)
    # As many frames in both: the rounding of a convolution depends on how a batch is shared among threads.
    assert torch.equal(made[:5], rife.interpolate(model, dim, batch_size=3)[:5])


def test_what_is_below_nothing_and_without_end_is_kept_and_bounded(model):
    frames = torch.stack([lit(40), lit(48)])
    frames[:, :5], frames[:, 5:9, :9] = -0.25, torch.inf
    made = rife.interpolate(model, frames)[1]
    assert made[:3, 20:].min() == pytest.approx(-0.25) and torch.isfinite(made[12:]).all()


@pytest.mark.parametrize("version", ["RIFE", "3.8", "4.6", "4.25"])
def test_every_family_keeps_the_range(version):
    torch.manual_seed(0)
    model = rife.Model.from_network(IFNet(RELEASES[version]).eval())
    frames = torch.stack([lit(40), lit(48)])
    made = rife.interpolate(model, frames)[1]
    assert made.amax() > 6 and made.amax() <= LAMP and made.min() >= 0


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.2, 0.1)])
def test_a_title_whose_opacity_alone_moves_moves(model, colour):
    frames = torch.stack([title(40, colour), title(52, colour)])
    made = rife.interpolate(model, frames)[1]
    assert decibels(frames.mean(0)[..., 3], title(46, colour)[..., 3]) < 21
    assert decibels(made[..., 3], title(46, colour)[..., 3]) > 30
    # As a mask it moves likewise.
    masks = torch.empty(3, 96, 160)
    rife.interpolate(model, frames[..., :3], masks=frames[..., 3].contiguous(), out_masks=masks)
    assert decibels(masks[1], title(46, colour)[..., 3]) > 30


def test_colours_that_nobody_sees_do_not_leak_into_edges(model):
    hidden = torch.rand(96, 160, 3, generator=torch.Generator().manual_seed(0))
    colour = (1.0, 0.2, 0.1)
    made = rife.interpolate(model, torch.stack([title(40, colour, hidden), title(48, colour, hidden)]))[1]
    seen = made[..., 3] > 0.02
    assert (made[..., :3][seen] - torch.tensor(colour)).abs().max() < 0.02
    assert decibels(made[..., 3], title(44, colour)[..., 3]) > 30


def test_nor_do_they_where_frames_are_cross_faded(model):
    red, hidden = torch.tensor([1.0, 0, 0, 1]).expand(1, 2, 4), torch.tensor([0, 1.0, 0, 0]).expand(1, 2, 4)
    frames = torch.stack((red, hidden))
    faded = rife.timeline.plan(Clock(2, 24), multiplier=2, cuts={1}, at_cuts="blend")
    for made in (
        rife.interpolate(model, frames, plan=faded)[1],
        list(rife.interpolate_stream(model, iter(frames), plan_for=lambda _: faded))[1],
    ):
        assert torch.allclose(made[0, 0], torch.tensor([1.0, 0, 0, 0.5]), atol=1e-5)


def test_opaque_frames_are_as_without_opacity(model):
    frames = torch.stack([lit(40), lit(48)]).clamp(0, 1)
    opaque = torch.cat((frames, torch.ones(2, 96, 160, 1)), 3)
    made = rife.interpolate(model, opaque)[1]
    assert torch.equal(made[..., :3], rife.interpolate(model, frames)[1]) and made[..., 3].min() > 1 - 1e-6


def test_bytes_with_opacity_stream_alike(model):
    frames = torch.stack([title(40, (1.0, 0.2, 0.1)), title(48, (1.0, 0.2, 0.1))])
    whole = rife.interpolate(model, (frames * 255).round() / 255)[1]
    stream = list(rife.interpolate_stream(model, iter((frames * 255).round().byte())))[1]
    torch.testing.assert_close(stream, whole, atol=1e-6, rtol=0)
