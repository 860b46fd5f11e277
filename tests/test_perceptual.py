"""The perceptual loss: its layers, its file, its gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import SHORT, source, tiny

from rife.perceptual import VGGLoss, _vgg19
from rife.training import Trainer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights in torchvision's spelling."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    tensors = {f"features.{k}": v for k, v in _vgg19().state_dict().items()}
    torch.save({**tensors, "classifier.0.bias": torch.zeros(1)}, path)
    return path


def test_the_layers_are_those_of_vgg19(weights):
    """Names and shapes as in torchvision's vgg19().features, to layer 29."""
    shapes = {k: tuple(v.shape) for k, v in VGGLoss(weights).features.state_dict().items()}
    assert [k for k in shapes if k.endswith("weight")] == [
        f"{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    ]
    assert shapes["0.weight"] == (64, 3, 3, 3) and shapes["28.weight"] == (512, 512, 3, 3)


def test_it_is_zero_for_equal_frames_and_has_a_gradient(weights):
    loss = VGGLoss(weights)
    image, target = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    assert loss(image, image) == 0
    loss(image, target).backward()
    assert image.grad.abs().sum() > 0 and target.grad is None
    assert all(p.grad is None for p in loss.parameters())


def test_other_files_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is not VGG19"):
        VGGLoss(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="vgg19-dcbb9e9d"):
        VGGLoss(tmp_path / "y.pth")


def test_a_run_with_it(weights):
    settings = replace(SHORT, steps=1, perceptual_weight=0.5)
    result = Trainer(tiny(), source(), settings, perceptual=VGGLoss(weights)).run()
    assert result.history[0].losses["loss_perceptual"] > 0
    with pytest.raises(ValueError, match="both or neither"):
        Trainer(tiny(), source(), settings)
