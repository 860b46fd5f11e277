"""Holds networks that only 4.25's training has: one guesses the time of a frame, one looks at frames."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..networks.ifblock import Head


class TimePredictor(nn.Sequential):
    """Guesses at which time a frame lies between two others: `caltime` of 4.25.

    Clips do not move evenly, so that the time that a frame's number tells is not where it is seen to be. In 30% of the
    steps 4.25 learned with the guess for a timestep. features: channels that the network's encoder gives per frame.
    The weights are fresh, and always the same.
    """

    def __init__(self, features: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers: list[nn.Module] = []
            widths = (9 + 2 * features, 32, 64, 64, 64)
            for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
                layers += [nn.Conv2d(before, after, 3, 2 if i < 2 else 1, 1), nn.LeakyReLU(0.2, inplace=True)]
            super().__init__(*layers, nn.Conv2d(64, 1, 3, 1, 1), nn.Sigmoid())

    def forward(self, src0: Tensor, src1: Tensor, gt: Tensor) -> Tensor:  # type: ignore[override]
        """Returns a guess (B,1,1,1) in 0..1, from `IFNet.source` of both frames (B,3+f,H,W) and the frame between
        (B,3,H,W)."""
        seen = torch.cat((src0[:, :3], src1[:, :3], gt, src0[:, 3:], src1[:, 3:]), 1)
        return super().forward(seen).float().mean((2, 3), True)


class EncoderLoss(nn.Module):
    """Sums the mean absolute differences of what each layer of a network's encoder makes of two frames (scalar).

    The encoder is a copy that follows the one in training slowly (`follow`), so that it cannot make the task easy.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False).eval()

    def maps(self, x: Tensor) -> list[Tensor]:
        """Returns, of a frame (B,3,H,W), each convolution's output, activated but for the last one's."""
        encoder = self.encoder
        layers: Iterable[nn.Module]
        if isinstance(encoder, Head):
            relu = encoder.relu
            layers = (encoder.cnn0, relu, encoder.cnn1, relu, encoder.cnn2, relu, encoder.cnn3)
        else:
            layers = encoder.children()
        found: list[Tensor] = []
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                found[-1] = x
            else:
                found.append(x)
        return found

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Returns the loss (scalar) of image and target, both (B,3,H,W) in 0..1; gradients go to the image only."""
        with torch.no_grad():
            wanted = self.maps(target)
        differences = ((a - b).abs().mean() for a, b in zip(self.maps(image), wanted, strict=True))
        return sum(differences, image.new_zeros(()))

    @torch.no_grad()
    def follow(self, encoder: nn.Module, share: float = 1e-3) -> None:
        """Takes over `share`, in 0..1, of the weights of the one in training."""
        for mine, its in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            mine.lerp_(its, share)
