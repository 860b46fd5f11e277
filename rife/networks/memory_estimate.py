"""What a network needs of a device's memory."""

from __future__ import annotations

from typing import NamedTuple

ENCODED_SINGLY = 1 << 21  # pixels; frames of more are encoded one at a time


class Need(NamedTuple):
    """What a network needs, in bytes per pixel of a frame."""

    source: float  # what it wants of one frame
    encode: float  # at the peak of making that of one frame
    forward: float  # at the peak of a pass, beyond its sources
    image: float  # what a pass gives

    def peak(
        self, pixels: int, batch: int = 1, tta: bool = False, reverse: bool = False, maps: int = 0
    ) -> int:
        """Bytes for `batch` new frames of so many pixels made in one pass of the engine, what is uploaded included.

        tta, reverse: whether frames turned by 180 degrees, and in reversed order, make one more pass each; maps:
        channels behind the colours.
        """
        # A pair; in a batch the frames of which pairs are put together, besides.
        frames = 2 if batch == 1 else 3 + 1 / batch
        source = self.source + 4 * maps
        # What the first pass gave waits for the second.
        forward = self.forward + self.image * (tta + reverse) + 28 * maps
        new, encode = 1 + 1 / batch, 4 * source + 24 if tta else self.encode + 8 * maps
        if pixels > ENCODED_SINGLY:
            encode = encode / batch + new * (12 + (1 + tta) * source)
        else:
            encode *= new
        return int(1.08 * batch * pixels * max(frames * (1 + tta) * source + forward, encode))
