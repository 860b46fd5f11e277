"""Training data: what an example is, and rendered motion without end.

Rendered scenes know everything: the frame at any time and the flow at any time, exactly. Images are (B,3,H,W) in
0..1, flow (B,4,H,W) in pixels, t->0 then t->1, backward: what `warp` needs to fetch the frame at t.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Sample(NamedTuple):
    """One batch of training data."""

    img0: Tensor
    img1: Tensor
    gt: Tensor
    flow: Tensor | None  # None where nobody knows it, as for real frames
    timestep: Tensor  # (B,)


class Source(Protocol):
    """Where examples come from. What is asked for decides the answer, whoever asks, in whatever order: so a run that is
    interrupted goes on with the same data, any number of processes shares a batch, and threads may prepare it.
    """

    def example(self, seed: int, step: int, progress: float) -> Sample:
        """One example, a batch of 1. All of one step are of one size, and have a flow or none.

        seed: decides what is random; step counts from 0, `progress` is the share of the steps done, 0..1.
        """


def concatenated(samples: Sequence[Sample]) -> Sample:
    """One batch of several."""
    return Sample(
        *(None if column[0] is None else torch.cat(column) for column in zip(*samples, strict=True))
    )


def noise_textures(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`count` procedural textures (count,3,size,size) in 0..1: octaves of noise with a random slope, tinted.

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


class _Layer(NamedTuple):
    """A moving thing of every scene of a batch: its path, its texture, its outline."""

    centre: Tensor  # (B,2) at t = 0.5, pixels
    shift: Tensor  # (B,2) pixels per unit of time
    turn: Tensor  # (B,) radians per unit of time
    zoom: Tensor  # (B,) log of the scale per unit of time
    texture: Tensor  # (B,) index
    offset: Tensor  # (B,2) where in the texture, in pixels
    radius: Tensor  # (B,2) half axes; infinite for the background
    lobes: Tensor  # (B,3) amplitude, count and phase of the outline's waves
    soft: Tensor  # (B,) width of the edge, pixels


class RenderedMotion:
    """Scenes of textured layers that move, turn and zoom over each other; endless and seeded.

    textures: (P,3,h,w) in 0..1, for instance crops of photographs; None renders procedural ones.
    max_motion: largest displacement between img0 and img1 in pixels; displacements are log-uniform below it.
    rest: share of the scenes in which nothing moves, though noise, brightness and a fading picture change them.
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
    ):
        self.height, self.width, self.max_motion, self.objects = height, width, max_motion, objects
        self.rest = rest
        self.generator = torch.Generator().manual_seed(seed)
        self.textures = noise_textures(32, 256, self.generator) if textures is None else textures

    def again(self, seed: int, height: int, width: int, max_motion: float) -> RenderedMotion:
        """Scenes of the same textures, of another seed, size and motion; quick to make."""
        scenes = copy.copy(self)
        scenes.generator = torch.Generator().manual_seed(seed)
        scenes.height, scenes.width, scenes.max_motion = height, width, max_motion
        return scenes

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _motion(self, batch: int, limit: float) -> Tensor:
        """(B,2) displacements, log-uniform between half a pixel and the limit; one in ten rests."""
        length = 0.5 * (max(limit, 0.6) / 0.5) ** self._rand(batch)
        length = length * (self._rand(batch) > 0.1)
        angle = 2 * math.pi * self._rand(batch)
        return torch.stack((angle.cos(), angle.sin()), 1) * length[:, None]

    def _layer(self, batch: int, base: _Layer | None) -> _Layer:
        """A background where `base` is None, else an object that also moves with the background."""
        size = torch.tensor((self.width, self.height))
        bound = min(self.width, self.height)
        turning = (self._rand(batch) < 0.5).float()
        if base is None:
            radius = torch.full((batch, 2), math.inf)
            centre = size / 2 + torch.zeros(batch, 2)
            shift = self._motion(batch, self.max_motion * 0.6)
            spin = 0.1
        else:
            axes = 0.05 + 0.3 * self._rand(batch, 2) ** 1.5
            radius = bound * axes
            centre = size * self._rand(batch, 2)
            shift = 0.7 * base.shift + self._motion(batch, self.max_motion * 0.6)
            spin = 0.5
        # What turns or zooms moves fastest at its rim: the limit on pixels is kept there.
        spin = min(spin, 2 * self.max_motion / bound)
        return _Layer(
            centre,
            shift,
            turning * spin * (2 * self._rand(batch) - 1),
            turning * spin * 0.5 * (2 * self._rand(batch) - 1),
            torch.randint(len(self.textures), (batch,), generator=self.generator),
            self._rand(batch, 2) * torch.tensor(self.textures.shape[:1:-1]),
            radius,
            torch.stack(
                (0.35 * self._rand(batch), (2 + 5 * self._rand(batch)).floor(), 6.3 * self._rand(batch)), 1
            ),
            0.5 + self._rand(batch),
        )

    def sample(self, batch: int, timestep: float | Tensor | None = None) -> Sample:
        """A batch of new scenes at `timestep`: float, (B,) tensor, or None for random times in 0.05..0.95."""
        if timestep is None:
            times = 0.05 + 0.9 * self._rand(batch)
        else:
            times = torch.as_tensor(timestep, dtype=torch.float32).expand(batch)
        layers = [self._layer(batch, None)]
        layers += [self._layer(batch, layers[0]) for _ in range(self.objects)]
        still = (self._rand(batch) < self.rest).float() if self.rest else torch.zeros(batch)
        if self.rest:
            layers = [
                x._replace(
                    shift=x.shift * (1 - still)[:, None], turn=x.turn * (1 - still), zoom=x.zoom * (1 - still)
                )
                for x in layers
            ]
        zero, one = torch.zeros(batch), torch.ones(batch)
        gain = 1 + 0.15 * (2 * self._rand(batch) - 1) * (self._rand(batch) < 0.3)
        img0, img1, gt = (self._render(layers, t, gain ** (t - 0.5)) for t in (zero, one, times))
        if self.rest:
            veil = self._veil(batch) * still.view(-1, 1, 1, 1)
            fades = (-0.5, 0.5, (times - 0.5).view(-1, 1, 1, 1))
            img0, img1, gt = (
                (x + veil * k).clamp(0, 1) for x, k in zip((img0, img1, gt), fades, strict=True)
            )
        # Noise of its own in each given frame, none in the true one: where nothing moves, averaging is right.
        noise = (0.02 * self._rand(batch) * (self._rand(batch) < 0.5)).view(-1, 1, 1, 1)
        img0, img1 = (
            (x + noise * torch.randn(x.shape, generator=self.generator)).clamp(0, 1) for x in (img0, img1)
        )
        return Sample(img0, img1, gt, self._flow(layers, times), times)

    def _veil(self, batch: int) -> Tensor:
        """(B,3,H,W) another picture, faint, that fades in over what rests: change that is no motion."""
        picture = self._texture(self._layer(batch, None), self._pixels().expand(batch, -1, -1, -1)) - 0.5
        return 0.3 * self._rand(batch, 1, 1, 1) ** 2 * picture

    def clip(self, frames: int, timesteps: int = 1) -> Tensor:
        """One scene at frames*timesteps evenly spaced times, (M,3,H,W): true in-between frames of a longer move."""
        layers = [self._layer(1, None)]
        layers += [self._layer(1, layers[0]) for _ in range(self.objects)]
        count = (frames - 1) * timesteps + 1
        middle = (frames - 1) / 2
        return torch.cat(
            [
                self._render(layers, torch.full((1,), i / timesteps - middle + 0.5), torch.ones(1))
                for i in range(count)
            ]
        )

    def _pixels(self) -> Tensor:
        y, x = torch.meshgrid(torch.arange(self.height) * 1.0, torch.arange(self.width) * 1.0, indexing="ij")
        return torch.stack((x, y), 2)

    def _render(self, layers: Sequence[_Layer], times: Tensor, gain: Tensor) -> Tensor:
        image = None
        for layer in layers:
            local = _apply(torch.linalg.inv(_placement(layer, times)), self._pixels())
            colour, alpha = self._texture(layer, local), _alpha(layer, local)
            image = colour if image is None else torch.lerp(image, colour, alpha)
        return (image * gain.view(-1, 1, 1, 1)).clamp(0, 1)

    def _texture(self, layer: _Layer, local: Tensor) -> Tensor:
        height, width = self.textures.shape[2:]
        grid = 2 * (local + layer.offset.view(-1, 1, 1, 2)) / torch.tensor((width, height)) - 1
        pool = self.textures[layer.texture]
        pool = pool.float() / 255 if pool.dtype == torch.uint8 else pool
        return F.grid_sample(pool, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _flow(self, layers: Sequence[_Layer], times: Tensor) -> Tensor:
        pixels = self._pixels()
        total = None
        for layer in layers:
            here = torch.linalg.inv(_placement(layer, times))
            flows = []
            for end in (0.0, 1.0):
                there = _placement(layer, torch.full_like(times, end)) @ here
                flows.append(_apply(there, pixels) - pixels)
            flow = torch.cat(flows, 3).permute(0, 3, 1, 2)
            on_top = _alpha(layer, _apply(here, pixels)) > 0.5
            total = flow if total is None else torch.where(on_top, flow, total)
        return total


def _slowed(layer: _Layer, pace: Tensor) -> _Layer:
    """The same scene with all motion times `pace` (B,)."""
    shift, turn, zoom = layer.shift * pace[:, None], layer.turn * pace, layer.zoom * pace
    return layer._replace(shift=shift, turn=turn, zoom=zoom)


def _placement(layer: _Layer, times: Tensor) -> Tensor:
    """(B,3,3) matrices from the layer's own pixels (origin at its centre) to the image at `times` (B,)."""
    elapsed = times - 0.5
    angle, scale = layer.turn * elapsed, (layer.zoom * elapsed).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    x, y = (layer.centre + layer.shift * elapsed[:, None]).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack((cos, -sin, x, sin, cos, y, zero, zero, one), 1).view(-1, 3, 3)


def _apply(matrix: Tensor, pixels: Tensor) -> Tensor:
    """(B,3,3) applied to (H,W,2) pixels -> (B,H,W,2)."""
    rows = matrix[:, :2].unsqueeze(1).unsqueeze(1)  # (B,1,1,2,3)
    # Broadcast rather than einsum, which is several times slower for such small matrices.
    return rows[..., 0] * pixels[..., :1] + rows[..., 1] * pixels[..., 1:] + rows[..., 2]


def _alpha(layer: _Layer, local: Tensor) -> Tensor:
    """(B,1,H,W) coverage: an ellipse whose outline waves, with a soft edge; 1 everywhere for the background."""
    radius = layer.radius.view(-1, 1, 1, 2)
    if torch.isinf(radius).all():
        return torch.ones_like(local[..., 0]).unsqueeze(1)
    unit = local / radius
    length = unit.norm(dim=3)
    amplitude, count, phase = (v.view(-1, 1, 1) for v in layer.lobes.unbind(1))
    outline = 1 + amplitude * torch.cos(count * torch.atan2(unit[..., 1], unit[..., 0]) + phase)
    distance = (outline - length) * radius.amin(3)
    return torch.sigmoid(2 * distance / layer.soft.view(-1, 1, 1)).unsqueeze(1)
