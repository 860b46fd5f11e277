"""The perceptual loss: its layers, its file, its gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_runs import SHORT, source, tiny

from rife.losses.perceptual import VGGLoss, _vgg19, gram_loss
from rife.training.trainer import Trainer


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


def test_gram_matrices_see_what_occurs_together_and_not_where():
    x = torch.rand(2, 4, 6, 5)
    assert gram_loss(x, x.flip(2, 3)) < 1e-10
    other = torch.rand(2, 4, 6, 5)
    total = 0.0
    for a, b in zip(x, other, strict=True):
        for i in range(4):
            for j in range(4):
                total += float(((a[i] * a[j]).mean() - (b[i] * b[j]).mean()) ** 2) / 32
    assert float(gram_loss(x, other)) == pytest.approx(total, rel=1e-5)


def test_the_form_of_the_late_recipe(weights):
    """Features of the frames as they are, by layer 1/32 to 1, with their Gram matrices."""
    loss = VGGLoss(weights, "4.25")
    image, target = (torch.rand(1, 3, 32, 32) for _ in range(2))
    x, y, total = image, target, 0.0
    shares = iter((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0))
    for i, layer in enumerate(loss.features):
        x, y = layer(x), layer(y)
        if i in (1, 6, 11, 20, 29):
            total += next(shares) * ((x - y).abs().mean() + gram_loss(x, y))
    torch.testing.assert_close(loss(image, target), total)
    assert loss(image, target) != VGGLoss(weights)(image, target)


def test_other_files_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is not VGG19"):
        VGGLoss(tmp_path / "x.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(
        ValueError, match="cannot be read as plain weights.*vgg19-dcbb9e9d"
    ):  # not PyTorch's EOFError
        VGGLoss(tmp_path / "empty.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="is not VGG19"):
        VGGLoss(tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match="vgg19-dcbb9e9d"):
        VGGLoss(tmp_path / "y.pth")


def test_a_run_with_it(weights):
    settings = replace(SHORT, steps=1, perceptual_weight=0.5)
    result = Trainer(tiny(), source(), settings, perceptual=VGGLoss(weights)).run()
    assert result.history[0].losses["loss_perceptual"] > 0
    with pytest.raises(ValueError, match="both or neither"):
        Trainer(tiny(), source(), settings)
