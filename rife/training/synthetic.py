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


class _Layer(NamedTuple):
    """A moving thing of every scene of a batch: its path, its texture, its outline."""

    centre: Tensor  # (B,2) at t = 0.5, pixels
    shift: Tensor  # (B,2) pixels per unit of time
    angle: Tensor  # (B,) radians at t = 0.5
    turn: Tensor  # (B,) radians per unit of time
    zoom: Tensor  # (B,) log of the scale per unit of time
    tilt: Tensor  # (B,2) perspective per unit of time, per pixel
    bend: Tensor  # (B,2,4) two waves per unit of time: amplitude x and y in pixels, wave vector x and y per pixel
    texture: Tensor  # (B,3,h,w) in 0..1
    offset: Tensor  # (B,2) where in the texture, in pixels
    radius: Tensor  # (B,2) half axes; infinite for the background
    lobes: Tensor  # (B,3) amplitude, count and phase of the outline's waves
    soft: Tensor  # (B,) width of the edge, pixels


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

    def _layer(self, batch: int, base: _Layer | None) -> _Layer:
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
        return _Layer(
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
        chosen = self.textures[torch.randint(len(self.textures), (batch,), generator=self.generator)]
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def _outline(self, batch: int, bound: int) -> Tensor:
        """(B,2) half axes; one object in four is a wire of one to five pixels."""
        axes = bound * (0.05 + 0.3 * self._rand(batch, 2) ** 1.5)
        wire = torch.stack((bound * (0.2 + 0.6 * self._rand(batch)), 0.5 + 2 * self._rand(batch)), 1)
        return torch.where(self._rand(batch, 1) < 0.25, wire, axes)

    def _bend(self, batch: int, bound: int) -> Tensor:
        """(B,2,4) waves, in three batches of ten; so flat that a bent point has one origin (see `_image_points`)."""
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
        layers = [self._placed(_slowed(layer, 1 - still)) for layer in layers]
        gain = torch.exp(0.7 * self._signed(batch) * self._rand(batch) * (self._rand(batch) < self.fades))
        ends = (torch.zeros(batch), torch.ones(batch), times)
        images = [self._render(layers, t, gain ** (t - 0.5)) for t in ends]
        if self.rest:
            veil = self._veil(batch) * still.view(-1, 1, 1, 1).to(self.device)
            fades = [(t - 0.5).view(-1, 1, 1, 1).to(self.device) for t in ends]
            images = [(x + veil * k).clamp(0, 1) for x, k in zip(images, fades, strict=True)]
        img0, img1, gt = self._flawed(images, batch)
        frozen = (still * (self._rand(batch) < 0.5)).bool().view(-1, 1, 1, 1).to(self.device)
        img1, gt = (torch.where(frozen, img0, x) for x in (img1, gt))
        return Sample(img0, img1, gt, self._flow(layers, times), times.to(self.device))

    def _flawed(self, images: list[Tensor], batch: int) -> list[Tensor]:
        """Blur in all frames; codec and noise in the given ones only: where nothing moves, averaging is right."""
        if self._rand(1) < self.flaws:
            images = list(_blurred(torch.stack(images), 0.3 + 1.2 * self._rand(batch)))
        img0, img1, gt = images
        if self._rand(1) < self.flaws:
            step = 0.1 * self._rand(batch) ** 2
            img0, img1 = (_quantised(x, step) for x in (img0, img1))
        noise = (0.02 * self._rand(batch) * (self._rand(batch) < 0.5)).view(-1, 1, 1, 1).to(self.device)
        img0, img1 = (
            (x + noise * torch.randn(x.shape, generator=self.generator).to(self.device)).clamp(0, 1)
            for x in (img0, img1)
        )
        return [img0, img1, gt]

    def _placed(self, layer: _Layer) -> _Layer:
        return _Layer(*(x.to(self.device) for x in layer))

    def _veil(self, batch: int) -> Tensor:
        """(B,3,H,W) another picture, faint, that fades in over what rests: change that is no motion."""
        layer = self._placed(self._layer(batch, None))
        picture = self._texture(layer, self._pixels().expand(batch, -1, -1, -1)) - 0.5
        return 0.3 * self._rand(batch, 1, 1, 1).to(self.device) ** 2 * picture

    def clip(self, frames: int, timesteps: int = 1) -> Tensor:
        """Renders one scene at frames*timesteps evenly spaced times, (M,3,H,W): true in-between frames of a longer
        move."""
        layers = [self._layer(1, None)]
        layers += [self._layer(1, layers[0]) for _ in range(self.objects)]
        # Over many frames what bends would fold, and what tilts would turn its back.
        layers = [self._placed(x._replace(bend=0 * x.bend, tilt=0 * x.tilt)) for x in layers]
        count = (frames - 1) * timesteps + 1
        middle = (frames - 1) / 2
        return torch.cat(
            [
                self._render(layers, torch.full((1,), i / timesteps - middle + 0.5), torch.ones(1))
                for i in range(count)
            ]
        )

    def _pixels(self) -> Tensor:
        x, y = (torch.arange(side, device=self.device) * 1.0 for side in (self.width, self.height))
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)

    def _render(self, layers: Sequence[_Layer], times: Tensor, gain: Tensor) -> Tensor:
        image = torch.zeros((), device=self.device)
        for i, layer in enumerate(layers):
            local = _layer_points(layer, times.to(self.device), self._pixels())
            colour, alpha = self._texture(layer, local), _alpha(layer, local)
            image = torch.lerp(image, colour, alpha) if i else colour
        return (image * gain.view(-1, 1, 1, 1).to(self.device)).clamp(0, 1)

    def _texture(self, layer: _Layer, local: Tensor) -> Tensor:
        size = torch.tensor(self.textures.shape[:1:-1], device=self.device)
        grid = 2 * (local + layer.offset.view(-1, 1, 1, 2)) / size - 1
        return F.grid_sample(layer.texture, grid, padding_mode="reflection", align_corners=False)

    def _flow(self, layers: Sequence[_Layer], times: Tensor) -> Tensor:
        pixels, times = self._pixels(), times.to(self.device)
        total = torch.zeros((), device=self.device)
        for i, layer in enumerate(layers):
            origin = _layer_points(layer, times, pixels)
            flows = [_image_points(layer, torch.full_like(times, end), origin) - pixels for end in (0.0, 1.0)]
            flow = torch.cat(flows, 3).permute(0, 3, 1, 2)
            total = torch.where(_alpha(layer, origin) > 0.5, flow, total) if i else flow
        return total


def _slowed(layer: _Layer, pace: Tensor) -> _Layer:
    """The same scene with all motion times `pace` (B,)."""
    amplitude, waves = layer.bend.chunk(2, 2)
    return layer._replace(
        shift=layer.shift * pace[:, None],
        turn=layer.turn * pace,
        zoom=layer.zoom * pace,
        tilt=layer.tilt * pace[:, None],
        bend=torch.cat((amplitude * pace[:, None, None], waves), 2),
    )


def _placement(layer: _Layer, times: Tensor) -> Tensor:
    """(B,3,3) homographies from the layer's own pixels (origin at its centre) to the image at `times` (B,)."""
    elapsed = times - 0.5
    angle, scale = layer.angle + layer.turn * elapsed, (layer.zoom * elapsed).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    x, y = (layer.centre + layer.shift * elapsed[:, None]).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    place = torch.stack((cos, -sin, x, sin, cos, y, zero, zero, one), 1).view(-1, 3, 3)
    tilt = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    tilt[:, 2, :2] = layer.tilt * elapsed[:, None]
    return place @ tilt


def _layer_points(layer: _Layer, times: Tensor, pixels: Tensor) -> Tensor:
    """(B,H,W,2) the layer's own points that (H,W,2) pixels show at `times`: flattened, then unbent."""
    flat = _apply(torch.linalg.inv(_placement(layer, times)), pixels)
    return flat - _bent(layer, times, flat) if layer.bend[..., :2].any() else flat


def _image_points(layer: _Layer, times: Tensor, origin: Tensor) -> Tensor:
    """(B,H,W,2) where the layer's own points are seen at `times`: the inverse of `_layer_points`.

    flat = origin + bent(flat) has no closed form; the waves' slope is at most 0.7 of which half applies, so each
    round leaves less than four tenths of the error.
    """
    flat = origin
    if layer.bend[..., :2].any():
        for _ in range(6):
            flat = origin + _bent(layer, times, flat)
    return _apply(_placement(layer, times), flat)


def _bent(layer: _Layer, times: Tensor, flat: Tensor) -> Tensor:
    """(B,H,W,2) displacement of flat points by the waves at `times`."""
    total = torch.zeros_like(flat)
    for wave in (layer.bend * 1.0).unbind(1):
        amplitude, number = wave.view(-1, 1, 1, 4).chunk(2, 3)
        total = total + amplitude * (number * flat).sum(3, keepdim=True).sin()
    return total * (times - 0.5).view(-1, 1, 1, 1)


def _apply(matrix: Tensor, pixels: Tensor) -> Tensor:
    """(B,3,3) homographies applied to (H,W,2) or (B,H,W,2) pixels -> (B,H,W,2)."""
    rows = matrix[:, None, None]  # (B,1,1,3,3)
    # Broadcast rather than einsum, which is several times slower for such small matrices.
    point = rows[..., 0] * pixels[..., :1] + rows[..., 1] * pixels[..., 1:] + rows[..., 2]
    return point[..., :2] / point[..., 2:].clamp_min(0.1)


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


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """(K,B,C,H,W) under a Gaussian lens of `sigma` (B,) pixels."""
    k, batch, channels = images.shape[:3]
    offsets = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, True)).to(images.device).repeat_interleave(channels, 0)
    x = F.pad(images.flatten(1, 2), (4, 4, 4, 4), mode="reflect")
    x = F.conv2d(x, kernel[:, None, :, None], groups=batch * channels)
    return F.conv2d(x, kernel[:, None, None, :], groups=batch * channels).unflatten(1, (batch, channels))


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
