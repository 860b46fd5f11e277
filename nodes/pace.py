"""Estimates how long a run will take: as long per pixel as the last one of its kind, or as a small trial pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

from ..rife import engine

_TRIAL_SIDE = 256  # pixels of a trial's frames
_WORTH_A_TRIAL = (
    4_000_000  # pixels of new frames: with fewer the run is over before anyone has read how long it takes
)

# Seconds per pixel of a new frame, by network and kind of pass. A network that is gone takes its own along.
_known: WeakKeyDictionary[torch.nn.Module, dict[tuple, float]] = WeakKeyDictionary()


class Pace:
    """Knows the speed of one kind of run: of a patcher's network with these options, on frames of so many pixels."""

    def __init__(self, patcher, options, pixels: int):
        self._known = _known.setdefault(patcher.model, {}) if patcher is not None else {}
        self._kind = (str(patcher.load_device), options.inference, options.precision, options.acceleration)
        self._options, self._pixels = options, pixels

    def seconds_for(self, model, new: int) -> float | None:
        """Estimates the seconds that `new` frames take; None where nobody knows, or where they are few.

        Compiled passes are made for one size of frames, so that a trial would tell nothing of them.
        """
        work = new * self._pixels
        if self._kind not in self._known:
            if work < _WORTH_A_TRIAL or self._options.acceleration != "off":
                return None
            self._known[self._kind] = self._trial(model)
        return work * self._known[self._kind]

    def _trial(self, model) -> float:
        """Seconds per pixel of the second of two small passes; the first warms the device up."""
        frames = torch.rand(2, _TRIAL_SIDE, _TRIAL_SIDE, 3, generator=torch.Generator().manual_seed(0))
        for _ in range(2):
            begun = time.perf_counter()
            engine.interpolate(model, frames, batch_size=1, **self._options.inference.keywords())
        return (time.perf_counter() - begun) / _TRIAL_SIDE**2

    @contextmanager
    def measured(self, new: int) -> Iterator[None]:
        """Remembers how long the `new` frames took that are made within the block."""
        begun = time.perf_counter()
        yield
        if new:
            self._known[self._kind] = (time.perf_counter() - begun) / (new * self._pixels)
