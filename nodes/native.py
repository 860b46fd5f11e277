"""Adapts what an INTERP_MODEL holds to the engine: our networks as they are, ComfyUI's RIFE and FILM wrapped.

ComfyUI's networks take padded images, a timestep map and a cache of features (`FrameInterpolate` shows how);
they tell nothing of the flow, so scale is not to be had from them; TTA and ensemble are averages of finished frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..rife.engine import Interpolator
from ..rife.model import Model
from ..rife.model.inputs import pad_to


def adapt(patcher):
    """Returns the `rife.engine.Interpolator` of an INTERP_MODEL value. Raises ValueError for anything else."""
    network = getattr(patcher, "model", None)
    if network is not None and hasattr(patcher, "load_device"):
        if hasattr(network, "config") and hasattr(network, "predict"):
            return Model.from_network(network)
        if hasattr(network, "extract_features") and hasattr(network, "get_dtype"):
            return NativeInterpolator(patcher)
    what = (
        type(patcher).__name__ if network is None else f"{type(patcher).__name__} of {type(network).__name__}"
    )
    raise ValueError(
        f"interp_model is a {what}, expected a frame interpolation model. Connect Load RIFE Checkpoint or "
        "ComfyUI's Load Frame Interpolation Model."
    )


class NativeInterpolator(Interpolator):
    """Gives ComfyUI's own IFNet or FILMNet the interface of `rife.Model` that the engine uses."""

    def __init__(self, patcher):
        self.net = patcher.model
        self._device = patcher.load_device

    @property
    def run_device(self) -> torch.device:
        """Is not the weights' device: a partly loaded network brings them at each call."""
        return self._device

    @property
    def run_dtype(self) -> torch.dtype:
        """Is what the network says that its weights are."""
        return self.net.get_dtype()

    @property
    def middle_first(self) -> bool:
        """Tells that frames far apart are halved."""
        return True

    def memory_estimate(
        self, height: int, width: int, batch: int = 1, scale: float = 1.0, TTA: bool = False,
        ensemble: bool = False, channels: int = 3,
    ) -> int:  # fmt: skip
        """Estimates the bytes of activations for `batch` new frames in one pass; FILM makes them one after the other.

        scale: for the common signature; these networks only know 1. The passes of TTA, ensemble and further channels
        come one after the other: what they gave is kept.
        """
        height, width = (-(-side // self._multiple(height, width)) * self._multiple(height, width)
                         for side in (height, width))  # fmt: skip
        if hasattr(self.net, "memory_used_forward"):
            per_frame = self.net.memory_used_forward((1, height, width, 3), self.run_dtype)
        else:  # ComfyUI 0.20; what later ones say
            per_frame = (1700 if self._one_by_one else 300) * height * width * self.run_dtype.itemsize
        kept = (3 * (TTA + ensemble) + channels - 3) * height * width * self.run_dtype.itemsize
        return int(per_frame * (1 if self._one_by_one else batch)) + max(0, kept) * batch

    @torch.no_grad()
    def inference(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        scale: float = 1,
        TTA: bool = False,
        timestep: float | Tensor = 0.5,
        ensemble: bool = False,
    ) -> Tensor:
        """Does what `rife.Model.inference` does: (B,C,H,W); light outside of 0..1 keeps its values. Raises ValueError
        for scale."""
        self._check(img0, img1, scale)
        times = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1).expand(img0.shape[0]).tolist()
        height, width = img0.shape[-2:]
        multiple = self._multiple(height, width)
        a, b = (x.to(self.run_device).float() for x in (img0, img1))
        light = _LightRange.of(a, b)
        a, b = (pad_to(light.compressed(x).clamp(0, 1).to(self.run_dtype), multiple) for x in (a, b))
        image = self._channels(a, b, times, TTA)
        if ensemble:
            image = (image + self._channels(b, a, [1 - t for t in times], TTA)) / 2
        return light.expanded(image[..., :height, :width].clamp(0, 1)).to(img0.device, img0.dtype)

    def _check(self, img0: Tensor, img1: Tensor, scale: float) -> None:
        if scale != 1:
            raise ValueError(
                f"scale {scale:g} asked of a model from ComfyUI's own loader, which only knows scale 1. Use Load RIFE "
                "Checkpoint for it, or leave scale at 1.0."
            )
        if not (torch.isfinite(img0).all() and torch.isfinite(img1).all()):
            raise ValueError(
                "The frames contain NaN or infinity, expected numbers. The step that made them failed "
                "(often a VAE decode in half precision): repair that first."
            )

    @property
    def _one_by_one(self) -> bool:
        """FILM computes the flow of one pair, then all its timesteps."""
        return hasattr(self.net, "forward_multi_timestep")

    def _multiple(self, height: int, width: int) -> int:
        if hasattr(self.net, "pad_align"):
            return self.net.pad_align
        # FILM halves six times and takes any size that survives it.
        smallest = 2 ** (getattr(self.net, "pyramid_levels", 1) - 1)
        return 1 if min(height, width) >= smallest else smallest

    def _channels(self, a: Tensor, b: Tensor, times: list[float], tta: bool) -> Tensor:
        """Grey as RGB; alpha and other maps as grey images of their own, unless both frames have the same."""
        if a.shape[1] == 3:
            return self._with_tta(a, b, times, tta)
        if a.shape[1] == 1:
            return self._with_tta(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1), times, tta).mean(1, True)
        colours = 1 if a.shape[1] < 3 else 3
        parts = [self._channels(a[:, :colours], b[:, :colours], times, tta)]
        for map0, map1 in zip(a[:, colours:].split(1, 1), b[:, colours:].split(1, 1), strict=True):
            parts.append(map0 if torch.equal(map0, map1) else self._channels(map0, map1, times, tta))
        return torch.cat(parts, 1)

    def _with_tta(self, a: Tensor, b: Tensor, times: list[float], tta: bool) -> Tensor:
        image = self._run_network(a, b, times)
        if not tta:
            return image
        return (image + self._run_network(a.flip(2, 3), b.flip(2, 3), times).flip(2, 3)) / 2

    def _run_network(self, a: Tensor, b: Tensor, times: list[float]) -> Tensor:
        if not self._one_by_one:
            t = torch.tensor(times, device=a.device, dtype=a.dtype).view(-1, 1, 1, 1)
            return self.net(a, b, timestep=t.expand(-1, 1, *a.shape[-2:]), cache=None)
        parts, last_frame, last_features = [], None, None
        for start, end in _same_pairs(a, b):
            img0, img1 = a[start : start + 1], b[start : start + 1]
            known = last_frame is not None and torch.equal(last_frame, img0)
            features0 = last_features if known else self.net.extract_features(img0)
            last_frame, last_features = img1, self.net.extract_features(img1)
            cache = {"img0": features0, "img1": last_features}
            parts.append(self.net.forward_multi_timestep(img0, img1, times[start:end], cache=cache))
        return torch.cat(parts)


class _LightRange(NamedTuple):
    """The range of the colours of each pair that are not in 0..1, (B,1,1,1) each; others are left as they are."""

    low: Tensor
    span: Tensor  # of the logarithm
    beyond: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> _LightRange:
        """Of both frames (B,C,H,W)."""
        colours = torch.cat((a, b), 2)[:, : 1 if a.shape[1] < 3 else 3]
        low, high = (end.view(-1, 1, 1, 1) for end in (colours.amin((1, 2, 3)), colours.amax((1, 2, 3))))
        return cls(low, torch.log1p(high - low), (low < 0) | (high > 1))

    def compressed(self, x: Tensor) -> Tensor:
        """Colours (B,C,H,W) by their logarithm in 0..1, which a network gives as finely as what is in range."""
        return self._colours(x, torch.log1p((x - self.low).clamp(min=0)) / self.span.clamp(min=1e-6))

    def expanded(self, x: Tensor) -> Tensor:
        """What `compressed` made `x` of."""
        return self._colours(x.float(), torch.expm1(x.float() * self.span) + self.low)

    def _colours(self, x: Tensor, other: Tensor) -> Tensor:
        """`other` of pairs beyond 0..1, but for the maps behind the colours."""
        colours = 1 if x.shape[1] < 3 else 3
        return torch.cat((torch.where(self.beyond, other, x)[:, :colours], x[:, colours:]), 1)


def _same_pairs(a: Tensor, b: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive samples that are the same pair at different times."""
    start = 0
    for i in range(1, a.shape[0] + 1):
        if i == a.shape[0] or not (torch.equal(a[i], a[start]) and torch.equal(b[i], b[start])):
            yield start, i
            start = i
