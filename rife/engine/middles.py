"""Makes frames between given frames that lie far apart by way of the frame in the middle, which is made first and kept.

Where drawings on threes and fours are put back to even times, most new frames are at other times than the middle, of
which networks are least sure: with 14 px from drawing to drawing on fours, steps are uneven by 7.6 % with the bundled
network, by 59 with 4.6, 21 with 4.26; by way of the middle by 3.4, 34 and 13 (`benchmarks/middle_first.py`). No frame
is farther from those that it is made of than on twos. The middle is asked for anyway, or is one pass more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_FAR = 3  # frames of the source

Task = tuple[int, int, float]  # two source frames by number, and a time between them
Background = tuple[float, ...]  # colour, empty where frames have no opacity
# What `Interpolator.encode` made of both frames (B,...), times (B,), what each pair is seen over -> frames (B,C,H,W).
MakeFrames = Callable[[Tensor, Tensor, Tensor, Sequence[Background | None]], Tensor]


class _Middle(NamedTuple):
    """A frame (1,C,H,W), and what `Interpolator.encode` made of it."""

    image: Tensor
    encoded: Tensor


class Middles:
    """Keeps the middles of pairs that are far apart, and puts them in place of one frame of such a pair.

    make: see `MakeFrames`; encode: frames (B,C,H,W) and what each is seen over -> what `make` wants of each;
    one_size: whether batches of another size than the others cost more than those filled up.
    """

    def __init__(
        self,
        make: MakeFrames,
        encode: Callable[[Tensor, Sequence[Background | None]], Sequence[Tensor]],
        one_size: bool = False,
    ):
        self._make, self._encode, self._one_size = make, encode, one_size
        self._kept: dict[tuple, _Middle] = {}

    def clear(self) -> None:
        """Gives up what is kept."""
        self._kept.clear()

    def asked_for(self, batch: Sequence[Task], backgrounds: Sequence[Background | None]) -> Tensor | None:
        """Returns the frames (B,C,H,W) of a batch of middles that were made on the way to others; None of any other."""
        keys = _pairs(batch, backgrounds)
        if any(time != 0.5 or key not in self._kept for key, (*_, time) in zip(keys, batch, strict=True)):
            return None
        return torch.cat([self._kept[key].image for key in keys])

    def nearer(
        self,
        batch: Sequence[Task],
        source0: Tensor,
        source1: Tensor,
        backgrounds: Sequence[Background | None],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns both source frames (B,...) and the times (B,) of a batch, the middle in place of one frame where both
        are far apart."""
        keys, times = _pairs(batch, backgrounds), [time for *_, time in batch]
        far = [i for i, (left, right, time) in enumerate(batch) if right - left >= _FAR and time != 0.5]
        kept = self._kept = {key: self._kept[key] for key in keys if key in self._kept}
        if far:
            self._add({keys[i]: i for i in far if keys[i] not in kept}, source0, source1)
            source0, source1 = source0.clone(), source1.clone()
            for i in far:
                (source0 if times[i] > 0.5 else source1)[i : i + 1] = kept[keys[i]].encoded
                times[i] = times[i] * 2 % 1
        return source0, source1, torch.tensor(times)

    def _add(self, missing: dict[tuple, int], source0: Tensor, source1: Tensor) -> None:
        """Makes the middles of these pairs, each a sample of the batch."""
        if not missing:
            return
        picked, count = list(missing.values()), len(missing)
        backgrounds = [seen for *_, seen in missing]
        if self._one_size:
            filling = len(source0) - count
            picked, backgrounds = picked + picked[-1:] * filling, backgrounds + backgrounds[-1:] * filling
        times = torch.full((len(picked),), 0.5)
        images = self._make(source0[picked], source1[picked], times, backgrounds)[:count]
        encoded = self._encode(images, backgrounds[:count])
        self._kept.update(zip(missing, map(_Middle, images.split(1), encoded), strict=True))


def _pairs(batch: Sequence[Task], backgrounds: Sequence[Background | None]) -> list[tuple]:
    """Both frames of each task, and what they are seen over."""
    return [(left, right, seen) for (left, right, _), seen in zip(batch, backgrounds, strict=True)]
