"""The networks that only 4.25's training has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import rife
from rife.losses.auxiliary import EncoderLoss, TimePredictor
from rife.networks.ifnet import IFNet

HEADS = {name: rife.RELEASES[name] for name in ("4.7", "4.10", "4.25")}


def encoder(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return IFNet(replace(HEADS[name], channels=(16,) * len(HEADS[name].channels))).encode


def test_the_time_predictor_has_the_layers_of_the_authors_files():
    """`caltime.{0,2,4,6,8}` of 4.26's file: 17 channels in, of which 8 are features."""
    shapes = {k: tuple(v.shape) for k, v in TimePredictor(4).state_dict().items() if k.endswith("weight")}
    assert shapes == {
        "0.weight": (32, 17, 3, 3),
        "2.weight": (64, 32, 3, 3),
        "4.weight": (64, 64, 3, 3),
        "6.weight": (64, 64, 3, 3),
        "8.weight": (1, 64, 3, 3),
    }


def test_the_time_predictor_gives_a_time_per_pair_and_leaves_chance_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = TimePredictor(4), TimePredictor(4)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    src0, src1 = torch.rand(2, 2, 7, 32, 48)
    time = first(src0, src1, torch.rand(2, 3, 32, 48))
    assert time.shape == (2, 1, 1, 1) and ((time > 0) & (time < 1)).all()


@pytest.mark.parametrize(("name", "layers"), [("4.7", 2), ("4.10", 4), ("4.25", 4)])
def test_the_encoder_loss_compares_every_layer(name, layers):
    plain = encoder(name)
    loss = EncoderLoss(plain)
    image, target = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    maps = loss.maps(image)
    assert len(maps) == layers
    torch.testing.assert_close(maps[-1], plain(image))  # not activated, unlike those before
    if layers == 4:
        negative = [float((x < 0).float().mean()) for x in maps[:-1]]
        first = torch.nn.functional.leaky_relu(plain[0](image) if name == "4.10" else plain.cnn0(image), 0.2)
        torch.testing.assert_close(maps[0], first)
        assert all(0 < share < 1 for share in negative)
    expected = sum((a - b).abs().mean() for a, b in zip(loss.maps(image), loss.maps(target), strict=True))
    torch.testing.assert_close(loss(image, target), expected)
    assert loss(image, image) == 0
    loss(image, target).backward()
    assert image.grad.abs().sum() > 0 and target.grad is None
    assert all(p.grad is None for p in loss.parameters()) and all(p.grad is None for p in plain.parameters())


def test_the_encoder_loss_follows_slowly():
    plain = encoder("4.25")
    loss = EncoderLoss(plain)
    before = loss.encoder.cnn1.weight.clone()
    with torch.no_grad():
        plain.cnn1.weight += 1.0
    loss.follow(plain, 0.25)
    torch.testing.assert_close(loss.encoder.cnn1.weight, before + 0.25)
    assert plain.cnn1.weight.requires_grad and not loss.encoder.cnn1.weight.requires_grad
