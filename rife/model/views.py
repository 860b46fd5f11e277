"""Shows a network frames that it was not trained for: light above one, and pictures with opacity.

A network knows colours of 0..1 without holes. So it is shown a picture that is bounded, and the same where colours are
in 0..1, and opaque over a plain background; the flow and mask that it finds there then move the frames' true values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_HEADROOM = 0.5  # above one and below zero, into which all light beyond is compressed
_HIDDEN = 1e-6  # weight of what nobody sees: it counts where there is nothing else
_LARGEST = 1e30  # of what is infinite: zero times that is zero


def weighed(colours: Tensor, opacity: Tensor) -> Tensor:
    """Returns colours as much as they are seen; where nothing is, nearly none of them."""
    return colours * (opacity + _HIDDEN)


def unweighed(colours: Tensor, opacity: Tensor) -> Tensor:
    """Undoes `weighed`."""
    return colours / (opacity + _HIDDEN)


class View(NamedTuple):
    """Says how a batch of frames is looked at, where it is not as it is.

    background: (B,3) in 0..1, what is seen through transparent pixels; None: the frames have no opacity. premultiplied:
    whether colours are multiplied by it, as in EXR: then light may be added where there is no opacity, as a glow is.
    """

    background: Tensor | None = None
    premultiplied: bool = False

    def part(self, start: int, stop: int) -> View:
        """Returns the view of samples start to stop - 1 of the batch."""
        return self if self.background is None else self._replace(background=self.background[start:stop])

    def to(self, device: torch.device) -> View:
        """Returns the same on a device."""
        return self if self.background is None else self._replace(background=self.background.to(device))

    def carried(self, images: Tensor, colours: int) -> Tensor:
        """Returns what follows the flow, (B,C,H,W) of images (B,C,H,W): colours as much as they are seen, and maps."""
        rgb, maps = images[:, :colours].clamp(-_LARGEST, _LARGEST), images[:, colours:].clamp(0, 1)
        if self._weighs:
            rgb = weighed(rgb, maps[:, :1])
        return torch.cat((rgb, maps), 1)

    @property
    def _weighs(self) -> bool:
        """Whether colours are to be multiplied by opacity before they move."""
        return self.background is not None and not self.premultiplied

    def network_input(self, carried: Tensor, colours: int) -> Tensor:
        """Returns what the network is shown of `carried` (B,C,H,W): (B,3,H,W) within -0.5..1.5, where nothing is beyond
        0..1."""
        if self.background is not None and self.premultiplied:
            behind = self.background[..., None, None].to(carried) * (1 - carried[:, colours : colours + 1])
            return compressed(carried[:, :colours] + behind)
        return self._over(compressed(self.straight(carried, colours)), carried, colours).expand(-1, 3, -1, -1)

    def straight(self, carried: Tensor, colours: int) -> Tensor:
        """Returns the colours of `carried` (B,C,H,W) as the frames have them."""
        rgb = carried[:, :colours]
        return unweighed(rgb, carried[:, colours : colours + 1]) if self._weighs else rgb

    def _over(self, rgb: Tensor, carried: Tensor, colours: int) -> Tensor:
        if self.background is None:
            return rgb
        return torch.lerp(self.background[..., None, None].to(rgb), rgb, carried[:, colours : colours + 1])

    def in_range(self, carried: Tensor, colours: int) -> Tensor:
        """Tells, (B,1,1,1), which frames could as well be shown as they are."""
        low, high = carried[:, :colours].amin((1, 2, 3)), carried[:, :colours].amax((1, 2, 3))
        most = 1.0
        if self.background is not None:
            most = 1.0 + 2 * _HIDDEN
            low = torch.where(carried[:, colours].amin((1, 2)) < 1, -1.0, low)
        return ((low >= 0) & (high <= most)).view(-1, 1, 1, 1)

    def restored(
        self, carried: tuple[Tensor, Tensor], moved: Tensor, image: Tensor, blended: Tensor, colours: int
    ) -> Tensor:
        """Makes the frame (B,C,H,W) of true values.

        carried: of both frames; moved: the two moved by the flow and blended. image: what the network made of what it
        saw, blended: that moved and blended likewise; the difference is what the network corrects.
        """
        in_range = self.in_range(carried[0], colours) & self.in_range(carried[1], colours)
        rgb, maps = self.straight(moved, colours), moved[:, colours:]
        correction = image.clamp(0, 1) - blended.clamp(0, 1)  # some networks end in 0..1
        if self.background is not None:
            correction = correction * maps[:, :1]
        seen = compressed(rgb)
        rgb = rgb + expanded(seen + correction) - expanded(seen)
        ends = [self.straight(x, colours).flatten(2) for x in carried]
        low = torch.minimum(*(x.amin(2) for x in ends))[..., None, None]
        high = torch.maximum(*(x.amax(2) for x in ends))[..., None, None]
        rgb = torch.where(in_range, image.clamp(0, 1), torch.maximum(torch.minimum(rgb, high), low))
        return torch.cat((rgb, maps.clamp(0, 1)), 1)


def compressed(x: Tensor) -> Tensor:
    """Maps light of any strength into -0.5..1.5, in any shape: the same in 0..1, smooth at both ends, and undone by
    `expanded`."""
    beyond = x - x.clamp(0, 1)
    return x.clamp(0, 1) + beyond / (1 + beyond.abs() / _HEADROOM)


def expanded(x: Tensor) -> Tensor:
    """Undoes `compressed`: maps -0.5..1.5, in any shape, to light of any strength."""
    beyond = x - x.clamp(0, 1)
    return x.clamp(0, 1) + beyond / (1 - beyond.abs() / _HEADROOM).clamp(min=1e-6)


def value_range(images: Tensor, name: str) -> tuple[float, float]:
    """Returns the least and the greatest value of images of any shape; raises ValueError, which calls them `name`,
    where one is NaN."""
    low, high = (float(x) for x in torch.stack(torch.aminmax(images)).float().tolist())
    if low != low:
        raise ValueError(
            f"{name} contains NaN, expected numbers. The step that made the frames failed (often a VAE decode in half "
            "precision): repair that first."
        )
    return low, high


def visible_background(images: Tensor, premultiplied: bool = False) -> Tensor:
    """Chooses colours (B,3) that pictures stand out from, of images (B,C,H,W): RGB, opacity and perhaps maps, in 0..1
    or bytes. premultiplied: as in `View`.

    Each is a grey of 0, 0.5 or 1.
    """
    images = images.float() / (1 if images.is_floating_point() else 255)
    alpha = images[:, 3:4].clamp(0, 1)
    seen = images[:, :3].clamp(0, 1) * (1 if premultiplied else alpha)
    mean = seen.sum((2, 3)) / alpha.sum((2, 3)).clamp(min=1e-6)
    away = (mean < 0.5).float()
    return torch.where((mean - 0.5).abs() > 0.25, 0.5, away)
