"""Renders motion without end, to learn from.

Rendered scenes know everything: the frame at any time and the flow at any time, exactly. Layers with photographs or
noise on them move, turn, zoom, tilt and bend over each other. Images are (B,3,H,W) in 0..1, flow (B,4,H,W) in pixels,
t->0 then t->1, backward: what `warp` needs to fetch the frame at t.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .layers import (
    WHOLE,
    Layer,
    Points,
    Window,
    colours,
    coverage,
    image_points,
    layer_points,
    pixel_points,
    placement,
    reach,
)
from .samples import Sample


def noise_textures(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Renders `count` procedural textures (count,3,size,size) in 0..1: octaves of noise with a random slope, tinted.

    Natural images have spectra that fall with frequency; a slope between 0.5 and 0.9 per octave spans smooth
    skies and foliage.
    """
    textures = []
    for _ in range(count):
        slope = 0.5 + 0.4 * float(torch.rand((), generator=generator))
        image = torch.zeros(1, 3, size, size)
        for octave in range(int(math.log2(size)) - 1):
            cells = 2 ** (octave + 1)
            noise = torch.randn(1, 3, cells, cells, generator=generator)
            grey = noise.mean(1, True)
            noise = grey + 0.3 * noise
            image += slope**octave * F.interpolate(noise, size=size, mode="bicubic", align_corners=False)
        image = image / image.std()
        tint = 0.5 * (torch.rand((), generator=generator) + torch.rand(1, 3, 1, 1, generator=generator))
        contrast = 0.1 + 0.2 * torch.rand((), generator=generator)
        textures.append((image * contrast + 0.2 + 0.6 * tint).clamp(0, 1))
    return torch.cat(textures)


class RenderedMotion:
    """Renders scenes of textured layers that move, turn, zoom, tilt and bend over each other; endless and seeded.

    textures: (P,3,h,w) in 0..1 or uint8, for instance crops of photographs; None renders procedural ones.
    max_motion: largest displacement between img0 and img1 in pixels; displacements are log-uniform below it.
    rest: share of the scenes in which nothing moves, though noise, brightness and a fading picture change them; half
    of those are stills, the same picture three times.
    fades: share of the scenes whose brightness changes evenly, to half or double at most.
    flaws: share of the batches that a lens blurs, and of those that a codec squeezes.
    device: where the pictures are made; the scenes are the same on all.
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int = 0,
        textures: Tensor | None = None,
        max_motion: float = 24.0,
        objects: int = 3,
        rest: float = 0.0,
        flaws: float = 0.0,
        fades: float = 0.3,
        device: torch.device | str = "cpu",
    ):
        self.height, self.width, self.max_motion, self.objects = height, width, max_motion, objects
        self.rest, self.flaws, self.fades, self.device = rest, flaws, fades, torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.textures = noise_textures(32, 256, self.generator) if textures is None else textures
        self.textures = self.textures.to(self.device)

    def again(self, seed: int, height: int, width: int, max_motion: float) -> RenderedMotion:
        """Returns scenes of the same textures, of another seed, size and motion, in pixels; quick to make."""
        scenes = copy.copy(self)
        scenes.generator = torch.Generator().manual_seed(seed)
        scenes.height, scenes.width, scenes.max_motion = height, width, max_motion
        return scenes

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _signed(self, *shape: int) -> Tensor:
        return 2 * self._rand(*shape) - 1

    def _motion(self, batch: int, limit: float) -> Tensor:
        """(B,2) displacements, log-uniform between half a pixel and the limit; one in ten rests."""
        length = 0.5 * (max(limit, 0.6) / 0.5) ** self._rand(batch)
        length = length * (self._rand(batch) > 0.1)
        angle = 2 * math.pi * self._rand(batch)
        return torch.stack((angle.cos(), angle.sin()), 1) * length[:, None]

    def _layer(self, batch: int, base: Layer | None) -> Layer:
        """A background where `base` is None, else an object that also moves with the background."""
        size = torch.tensor((self.width, self.height))
        bound = min(self.width, self.height)
        if base is None:
            radius = torch.full((batch, 2), math.inf)
            centre = size / 2 + torch.zeros(batch, 2)
            shift, spin = self._motion(batch, self.max_motion * 0.6), 0.1
        else:
            radius = self._outline(batch, bound)
            centre = size * self._rand(batch, 2)
            shift, spin = 0.7 * base.shift + self._motion(batch, self.max_motion * 0.6), 0.5
        # What turns or zooms moves fastest at its rim: the limit on pixels is kept there.
        spin = min(spin, 2 * self.max_motion / bound)
        turning, tilting = ((self._rand(batch) < share).float() for share in (0.5, 0.2))
        return Layer(
            centre,
            shift,
            2 * math.pi * self._rand(batch),
            turning * spin * self._signed(batch),
            turning * spin * 0.5 * self._signed(batch),
            (tilting * 0.5 * min(1.0, self.max_motion / bound) / bound)[:, None] * self._signed(batch, 2),
            self._bend(batch, bound),
            self._pictures(batch),
            self._rand(batch, 2) * torch.tensor(self.textures.shape[:1:-1]),
            radius,
            torch.stack(
                (0.35 * self._rand(batch), (2 + 5 * self._rand(batch)).floor(), 6.3 * self._rand(batch)), 1
            ),
            0.5 + self._rand(batch),
        )

    def _pictures(self, batch: int) -> Tensor:
        places = torch.randint(len(self.textures), (batch,), generator=self.generator)
        # One picture, as all examples of a training are, need not be copied.
        chosen = self.textures[places] if batch > 1 else self.textures[int(places) :][:1]
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def _outline(self, batch: int, bound: int) -> Tensor:
        """(B,2) half axes; one object in four is a wire of one to five pixels."""
        axes = bound * (0.05 + 0.3 * self._rand(batch, 2) ** 1.5)
        wire = torch.stack((bound * (0.2 + 0.6 * self._rand(batch)), 0.5 + 2 * self._rand(batch)), 1)
        return torch.where(self._rand(batch, 1) < 0.25, wire, axes)

    def _bend(self, batch: int, bound: int) -> Tensor:
        """(B,2,4) waves, in three batches of ten; so flat that a bent point has one origin (see `image_points`)."""
        angle = 2 * math.pi * self._rand(batch, 2, 1)
        number = 2 * math.pi / (bound * (0.3 + 0.7 * self._rand(batch, 2, 1)))
        waves = number * torch.cat((angle.cos(), angle.sin()), 2)
        amplitude = torch.minimum(torch.tensor(0.15 * self.max_motion), 0.5 / number) * self._signed(
            batch, 2, 2
        )
        return torch.cat((amplitude * (self._rand(1) < 0.3), waves), 2)

    def sample(self, batch: int, timestep: float | Tensor | None = None) -> Sample:
        """Renders a batch of new scenes at `timestep`: float, (B,) tensor, or None for random times in 0.05..0.95."""
        if timestep is None:
            times = 0.05 + 0.9 * self._rand(batch)
        else:
            times = torch.as_tensor(timestep, dtype=torch.float32).expand(batch)
        layers = [self._layer(batch, None)]
        layers += [self._layer(batch, layers[0]) for _ in range(self.objects)]
        still = (self._rand(batch) < self.rest).float()
        layers = [layer.slowed(1 - still).to(self.device) for layer in layers]
        gain = torch.exp(0.7 * self._signed(batch) * self._rand(batch) * (self._rand(batch) < self.fades))
        # All three times as one batch: a small picture costs more by its many operations than by its pixels.
        moments = torch.cat((torch.zeros(batch), torch.ones(batch), times))
        seen = self._seen([layer.repeated(3) for layer in layers], moments)
        pictures = self._picture(seen, gain.repeat(3) ** (moments - 0.5))
        if self.rest:
            veil = self._veil(still).repeat(3, 1, 1, 1)
            pictures = (
                veil.mul_((moments - 0.5).view(-1, 1, 1, 1).to(self.device)).add_(pictures).clamp_(0, 1)
            )
        img0, img1, gt = self._flawed(pictures.unflatten(0, (3, batch)), batch)
        frozen = (still * (self._rand(batch) < 0.5)).bool().view(-1, 1, 1, 1).to(self.device)
        img1, gt = (torch.where(frozen, img0, x) for x in (img1, gt))
        return Sample(img0, img1, gt, self._flow([part.last(batch) for part in seen]), times.to(self.device))

    def _flawed(self, images: Tensor, batch: int) -> list[Tensor]:
        """Blur in all frames; codec and noise in the given ones only: where nothing moves, averaging is right."""
        if self._rand(1) < self.flaws:
            images = _blurred(images, 0.3 + 1.2 * self._rand(batch))
        img0, img1, gt = images
        if self._rand(1) < self.flaws:
            step = 0.1 * self._rand(batch) ** 2
            img0, img1 = (_quantised(x, step) for x in (img0, img1))
        noise = (0.02 * self._rand(batch) * (self._rand(batch) < 0.5)).view(-1, 1, 1, 1).to(self.device)
        img0, img1 = (
            (x + noise * torch.randn(x.shape, generator=self.generator).to(self.device)).clamp_(0, 1)
            for x in (img0, img1)
        )
        return [img0, img1, gt]

    def _veil(self, still: Tensor) -> Tensor:
        """(B,3,H,W) another picture, faint, that fades in over what rests, which `still` (B,) says: change that is no
        motion."""
        batch = len(still)
        layer = self._layer(batch, None)
        strength = 0.3 * self._rand(batch, 1, 1, 1) ** 2 * still.view(-1, 1, 1, 1)
        if not still.any():
            return torch.zeros(batch, 3, self.height, self.width, device=self.device)
        x, y = torch.broadcast_tensors(*pixel_points(self.height, self.width, WHOLE, self.device))
        return colours(layer.to(self.device), (x, y)).sub_(0.5).mul_(strength.to(self.device))

    def clip(self, frames: int, timesteps: int = 1) -> Tensor:
        """Renders one scene at frames*timesteps evenly spaced times, (M,3,H,W): true in-between frames of a longer
        move."""
        layers = [self._layer(1, None)]
        layers += [self._layer(1, layers[0]) for _ in range(self.objects)]
        # Over many frames what bends would fold, and what tilts would turn its back.
        layers = [x._replace(bend=0 * x.bend, tilt=0 * x.tilt).to(self.device) for x in layers]
        count = (frames - 1) * timesteps + 1
        middle = (frames - 1) / 2
        times = [torch.full((1,), i / timesteps - middle + 0.5) for i in range(count)]
        return torch.cat([self._picture(self._seen(layers, t), torch.ones(1)) for t in times])

    def _seen(self, layers: Sequence[Layer], times: Tensor) -> list[_Seen]:
        """What is seen of each layer at `times` (B,), from the background to the front; nothing of some."""
        times, found = times.to(self.device), []
        for layer in layers:
            matrix = placement(layer, times)
            window = reach(layer, times, matrix, self.height, self.width)
            pixels = pixel_points(self.height, self.width, window, self.device)
            if pixels[0].numel() and pixels[1].numel():
                own = layer_points(layer, times, matrix, pixels)
                found.append(_Seen(layer, window, pixels, own, coverage(layer, own)))
        return found

    def _picture(self, seen: Sequence[_Seen], gain: Tensor) -> Tensor:
        image = torch.zeros((), device=self.device)
        for i, part in enumerate(seen):
            colour = colours(part.layer, part.own)
            if i:
                part.of(image).lerp_(colour, part.alpha)
            else:
                image = colour
        return image.mul_(gain.view(-1, 1, 1, 1).to(self.device)).clamp_(0, 1)

    def _flow(self, seen: Sequence[_Seen]) -> Tensor:
        total = torch.zeros((), device=self.device)
        for i, (layer, _, pixels, own, alpha) in enumerate(seen):
            ends = (torch.full_like(layer.angle, end) for end in (0.0, 1.0))
            planes = [
                there - here
                for end in ends
                for there, here in zip(image_points(layer, end, own), pixels, strict=True)
            ]
            flow = torch.stack(planes, 1)
            if i:
                part = seen[i].of(total)
                part.copy_(torch.where(alpha > 0.5, flow, part))
            else:
                total = flow
        return total


class _Seen(NamedTuple):
    """What a picture shows of a layer, in a window of it: its pixels, the layer's own points there, its coverage."""

    layer: Layer
    window: Window
    pixels: Points
    own: Points
    alpha: Tensor  # (B,1,H,W)

    def of(self, image: Tensor) -> Tensor:
        """The window of an image (...,H,W)."""
        return image[..., self.window[0], self.window[1]]

    def last(self, batch: int) -> _Seen:
        """The same of the last scenes alone."""
        x, y = self.own
        return _Seen(
            self.layer.last(batch), self.window, self.pixels, (x[-batch:], y[-batch:]), self.alpha[-batch:]
        )


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """(K,B,C,H,W) under a Gaussian lens of `sigma` (B,) pixels."""
    offsets = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    weights = (kernel / kernel.sum(1, True)).to(images.device)[..., None, None, None].unbind(1)
    # Sums of shifted pictures: a depthwise convolution takes five times as long.
    height, width = images.shape[3:]
    x = F.pad(images.flatten(1, 2), (4, 4, 4, 4), mode="reflect").unflatten(1, images.shape[1:3])
    x = _weighted(weights, [x[..., i : i + height, :] for i in range(9)])
    return _weighted(weights, [x[..., i : i + width] for i in range(9)])


def _weighted(weights: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
    total = images[0] * weights[0]
    for weight, image in zip(weights[1:], images[1:], strict=True):
        total.addcmul_(image, weight)
    return total


def _quantised(image: Tensor, step: Tensor) -> Tensor:
    """(B,C,H,W) after a codec that rounds the cosine transform of 8x8 blocks, high frequencies more coarsely.

    step: (B,) quantisation step of the lowest frequencies, 0 for none; it grows eightfold as JPEG's tables do.
    """
    n = torch.arange(8.0)
    dct = (math.pi / 8 * (n + 0.5) * n[:, None]).cos() * 0.5
    dct[0] /= math.sqrt(2)
    steps = step.view(-1, 1, 1, 1, 1, 1) * (1 + (n[:, None] + n) / 2).view(1, 1, 1, 8, 1, 8)
    dct, steps = dct.to(image), steps.to(image).clamp_min(1e-6)
    height, width = image.shape[2:]
    x = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = rearrange(x, "b c (h i) (w j) -> b c h i w j", i=8, j=8)
    spectrum = torch.einsum("ui,vj,bchiwj->bchuwv", dct, dct, blocks)
    spectrum = torch.round(spectrum / steps) * steps
    blocks = torch.einsum("ui,vj,bchuwv->bchiwj", dct, dct, spectrum)
    return rearrange(blocks, "b c h i w j -> b c (h i) (w j)")[..., :height, :width].clamp(0, 1)
