"""Runs the passes of a network that make one batch of frames: padded pairs in, averages and middles of middles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..networks.multiscale import WarpGrids
from ..networks.prediction import Prediction
from ..ops.freed_memory import keep_freed_memory
from ..ops.warp import warp
from .acceleration import Accelerated
from .device_memory import pinned
from .inputs import colour_channels
from .views import View

MAX_BISECTIONS = 6  # a network without timestep reaches j/64 by recursion


class Pair(NamedTuple):
    """Holds what `Passes.encode` made of two padded frames of `channels` channels each, with that `view`."""

    source0: Tensor  # (B,K,H,W)
    source1: Tensor
    channels: int
    view: View | None = None
    # Height and width of what is not padding; None: all of it, or the padding is not at the right and below.
    shown: tuple[int, int] | None = None

    def sample(self, i: int) -> Pair:
        """Returns the pair of sample i of the batch."""
        view = self.view and self.view.part(i, i + 1)
        return self._replace(source0=self.source0[i : i + 1], source1=self.source1[i : i + 1], view=view)

    def swapped(self) -> Pair:
        """Returns the pair in reversed time."""
        return self._replace(source0=self.source1, source1=self.source0)

    def halves(self) -> tuple[Pair, Pair]:
        """Splits it into the frames as they are, and turned, as `Passes.encode` put them together for test-time
        augmentation."""
        (a, turned_a), (b, turned_b) = self.source0.chunk(2, 1), self.source1.chunk(2, 1)
        turned = self._replace(source0=turned_a, source1=turned_b, shown=None)
        return self._replace(source0=a, source1=b), turned


class Passes:
    """Holds a network, the grids of the last frame size, and, where it was asked for, its acceleration."""

    def __init__(self, network: Any):
        self.network = network  # IFNet or LegacyRIFE, whose methods a type checker does not see in a Module
        self.accelerated: Accelerated | None = None
        # By `Pair.shown`, of the last size only, and gone with the model.
        self._grids: dict[tuple[int, int] | None, WarpGrids] = {}

    def encode(self, images: Tensor, tta: bool, view: View | None = None) -> Tensor:
        """Makes of padded frames (B,C,H,W) what `frame` wants of them, (B,K,H,W).

        Along channels: the network's source, the maps behind the colours, with a view all that it carries, and for
        `tta` all this of the turned frame.
        """
        if images.is_cpu:
            keep_freed_memory()
        colours = colour_channels(images.shape[1])
        if view is None:
            rgb, carried = images[:, :colours].expand(-1, 3, -1, -1), images[:, colours:]
        else:
            carried = view.carried(images, colours)
            rgb = view.network_input(carried, colours)
        parts = [self.network.source(rgb)] + ([carried] if carried.shape[1] else [])
        if tta:
            parts.append(self.encode(images.flip(2, 3), False, view))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def times(self, times: Sequence[float], device: torch.device) -> Tensor | None:
        """Returns times (B,) in float32 on `device`, for `frame`; None for a network that has no timestep and makes the
        middle."""
        if not self.network.config.timestep:
            return None
        t = torch.tensor(times, dtype=torch.float32)
        if device.type == "cuda":
            # From pageable memory the copy would wait for all that was launched.
            t = pinned(t.shape, t.dtype).copy_(t)
        return t.to(device, non_blocking=True)

    def frame(
        self, pair: Pair, t: Tensor | None, scales: Sequence[float], tta: bool, ensemble: bool
    ) -> Tensor:
        """Makes the frames (B,C,H,W) at times `t` (B,), or in the middle, still padded, with as many channels as the
        pair.

        An option that the network itself does not have is the average of two frames that are made without it.
        """
        network = self.network
        if ensemble and network.config.ensemble == "no":
            # Blocks that pass features on cannot run backward one by one, but the frames can change places.
            image = self.frame(pair, t, scales, tta, False)
            back = self.frame(pair.swapped(), None if t is None else 1 - t, scales, tta, False)
            return (image + back) / 2
        if tta:
            pair, turned = pair.halves()
            image = self.frame(pair, t, scales, False, ensemble)
            return (image + self.frame(turned, t, scales, False, ensemble).flip(2, 3)) / 2
        # One pass.
        colours = colour_channels(pair.channels)
        follow = pair.channels - (colours if pair.view is None else 0)
        network_channels = pair.source0.shape[1] - follow
        src0, src1 = pair.source0[:, :network_channels], pair.source1[:, :network_channels]
        grids = self._grids_of(src0, pair.shown)
        times = 0.5 if t is None else t
        if self.accelerated is None and colours == 3 and not follow:
            return network.image_from(src0, src1, times, scales, ensemble, grids=grids)
        predict = self.accelerated or network.predict_from
        prediction = predict(src0, src1, times, scales, ensemble, grids=grids)
        image = prediction.image if colours == 3 else prediction.image.mean(1, True)
        if not follow:
            return image
        carried = pair.source0[:, network_channels:], pair.source1[:, network_channels:]
        moved = _warp_and_blend(*carried, prediction, grids)
        if pair.view is None:
            return torch.cat((image, moved), 1)
        seen = _warp_and_blend(src0[:, :colours], src1[:, :colours], prediction, grids)
        return pair.view.restored(carried, moved, image, seen, colours)

    def _grids_of(self, frames: Tensor, shown: tuple[int, int] | None) -> WarpGrids:
        """Grids of such frames, made once for all passes of a size."""
        self._grids = {key: grids for key, grids in self._grids.items() if grids.fits(frames)}
        if shown not in self._grids:
            height, width = frames.shape[-2:]
            self._grids[shown] = WarpGrids(height, width, frames.device, shown)
        return self._grids[shown]

    def bisected(
        self, pair: Pair, t: float, scales: Sequence[float], tta: bool, ensemble: bool, name: str
    ) -> Tensor:
        """Makes the frame (1,C,H,W) at t = j/2^k by k middles of middles.

        name: of the network, in the ValueError for a time that is not reached so.
        """
        if not reached_by_middles(t):
            raise ValueError(
                f"timestep {t:g} cannot be reached by {name}, which has no timestep input and only knows "
                f"the middle; by recursion it reaches j/2^k up to k={MAX_BISECTIONS} (multipliers 2, 4, 8, ...). "
                "Use such a timestep, or a network with timestep: RIFE_m, 3.9, any 4.x or the bundled one."
            )
        while True:
            middle = self.frame(pair, self.times([0.5], pair.source0.device), scales, tta, ensemble)
            if t == 0.5:
                return middle
            # As between two calls: what overshoots is no colour, unless light above 1 is wanted.
            source = self.encode(middle.clamp(0, 1) if pair.view is None else middle, tta, pair.view)
            pair, t = (
                (pair._replace(source1=source), t * 2)
                if t < 0.5
                else (pair._replace(source0=source), t * 2 - 1)
            )


def reached_by_middles(t: float) -> bool:
    """Tells whether middles of middles come to time `t`, 0 < t < 1."""
    return (t * 2**MAX_BISECTIONS).is_integer()


def _warp_and_blend(x0: Tensor, x1: Tensor, prediction: Prediction, grids: WarpGrids) -> Tensor:
    """Further channels (B,M,H,W) of both frames, warped and blended as the colours were."""
    flow0, flow1 = prediction.flow.split(2, 1)
    grid = grids.grid
    return torch.lerp(warp(x1, flow1, grid), warp(x0, flow0, grid), prediction.mask.to(x0.dtype))
