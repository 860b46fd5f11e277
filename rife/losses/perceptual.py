"""Computes the perceptual loss of RIFE's training, for those who have VGG's weights; nobody needs it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .objective import recipe_of

# Output channels of VGG19's convolutions up to the last that is looked at; "M": maximum over 2x2.
_LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)


def gram_loss(features: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared difference of the Gram matrices of two feature maps (B,C,H,W), per pixel (scalar).

    Which features occur together, wherever: texture. Gatys et al. (arXiv:1508.06576), for interpolation as in FILM
    (arXiv:2202.04901).
    """

    def gram(x: Tensor) -> Tensor:
        rows = x.flatten(2)
        return rows @ rows.transpose(1, 2) / rows.shape[2]

    return ((gram(features) - gram(target)) ** 2).mean()


class VGGLoss(nn.Module):
    """Computes the L1 distance of VGG19's features of two frames (B,3,H,W) in 0..1 (scalar).

    recipe "paper": `VGGPerceptualLoss` of ECCV2022-RIFE model/loss.py, after Ledig et al. (arXiv:1609.04802): five
    layers, weights as there, times 0.1. "4.25": other weights, `gram_loss` of the same layers with the same weights,
    and frames that are not normalised. path: torchvision's vgg19-dcbb9e9d.pth, or any state dict with its `features.`
    keys. Raises FileNotFoundError, ValueError.
    """

    def __init__(self, path: str | os.PathLike, recipe: str = "paper"):
        super().__init__()
        rules = recipe_of(recipe)
        self.weights, self.textures = rules.vgg_weights, rules.vgg_textures
        self.features = _vgg19()
        self._load(Path(path))
        self.features.requires_grad_(False).eval()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1))
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1))

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no file at {path}. Give torchvision's vgg19-dcbb9e9d.pth.")
        content = io.BytesIO(path.read_bytes())  # PyTorch's own reader does not say why a drive failed
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - the many ways a file can be broken all mean the same to the user
            raise ValueError(
                f"{path} cannot be read as plain weights ({type(error).__name__}). Give torchvision's "
                "vgg19-dcbb9e9d.pth."
            ) from error
        wanted = self.features.state_dict()
        found = {k: state.get(f"features.{k}") if isinstance(state, Mapping) else None for k in wanted}
        wrong = [k for k, v in found.items() if not isinstance(v, Tensor) or v.shape != wanted[k].shape]
        if wrong:
            raise ValueError(
                f"{path} is not VGG19: {len(wrong)} of {len(wanted)} tensors are missing or of another shape, such as "
                f"features.{wrong[0]}. Give torchvision's vgg19-dcbb9e9d.pth."
            )
        self.features.load_state_dict(found)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Returns the loss (scalar) of image and target, both (B,3,H,W) in 0..1; gradients go to the image only."""
        x, y = image.float(), target.detach().float()
        if not self.textures:
            x, y = ((frame - self.mean) / self.std for frame in (x, y))
        total = x.new_zeros(())
        for i, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if i in self.weights:
                distance = (x - y).abs().mean() + (gram_loss(x, y) if self.textures else 0)
                total = total + self.weights[i] * distance
        return total


def _vgg19() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in _LAYERS:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)
