"""Puts files of encoded pictures one after the other, without encoding them again."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error

from .codecs import VideoError
from .pixel_aspect import keep_pixel_aspect
from .proof import Proof, sound_seconds
from .reader import Clip
from .spherical import keep_spherical
from .stream_copy import StreamCopier
from .writer import MP4, AtomicVideoFile, last_for

_SOUND_SHORTER = 0.5  # seconds: what containers count of delay and padding


class Joiner(AtomicVideoFile):
    """Makes files of encoded pictures, one after the other, one file without encoding them again.

    with Joiner("out.mp4", parts, clip, times, tick) as joiner:
        joiner.join()

    parts: files as `VideoWriter` makes them, all with the same settings; times(k): when picture k of all is shown,
    seconds after the first; tick: what all times are multiples of.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        parts: Sequence[Path],
        clip: Clip,
        times: Callable[[int], Fraction],
        tick: Fraction,
        copy: bool,
    ):
        super().__init__(path, clip, copy, clip.start if copy else Fraction(0))
        self._parts, self._times, self._tick = parts, times, tick
        self._pictures: list[int] = []  # in each part

    def _add_pictures(self) -> None:
        with av.open(str(self._parts[0])) as first:
            self._stream = self._container.add_stream_from_template(first.streams.video[0], opaque=True)
        if self._stream.codec_context.name == "hevc" and self.path.suffix.lower() in MP4:
            self._stream.codec_context.codec_tag = "hvc1"
        if self._clip and self._clip.look.pixel_aspect != 1:
            self._stream.codec_context.sample_aspect_ratio = self._clip.look.pixel_aspect
        self._stream.time_base = self._tick

    def join(self) -> None:
        """Copies all packets. Raises VideoError."""
        orders = [_order(part) for part in self._parts]
        self._pictures = [len(order) for order in orders]
        # Decoders need so many pictures before the first can be shown: the same in all parts, so that they follow on.
        total = sum(map(len, orders))
        delay = max(i - shown for order in orders for i, shown in enumerate(order))
        for part, order in zip(self._parts, orders, strict=True):
            first = self.count
            with self._explained(), av.open(str(part)) as source:
                packets = (p for p in source.demux(source.streams.video[0]) if p.size)
                for packet, shown in zip(packets, order, strict=True):
                    packet.time_base = self._tick
                    packet.pts = self._at(first + shown)
                    packet.dts = self._at(self.count - delay)
                    packet.duration = self._at(first + shown + 1) - packet.pts
                    if self.count == total - 1 and self.path.suffix.lower() in MP4:
                        begin, end = self._at(0) * self._tick, self._at(total) * self._tick
                        shown_last = self._at(total - 1) * self._tick
                        held = end - shown_last > (shown_last - begin) / max(1, total - 1) + self._tick
                        decoded = self._at(-delay) * self._tick
                        last_for(packet, end - begin, decoded, begin if held else None)
                    packet.stream = self._stream
                    self._mux(packet, packet.dts * self._tick)
                    self.count += 1

    def _closed(self) -> None:
        """Reads the file back, before the parts that it was made of are given up. Raises VideoError."""
        if self._clip:
            keep_spherical(self._temporary, self._clip.first)
            keep_pixel_aspect(self._temporary, self._clip.look.pixel_aspect)
        found = Proof.of(self._temporary)
        fault = found.fault(sum(self._pictures), self._times, self._tick)
        expected = self._copies.seconds_of_sound if isinstance(self._copies, StreamCopier) else None
        if not fault and expected is not None:
            heard = sound_seconds(self._temporary)
            if heard is None or heard < expected - min(_SOUND_SHORTER, expected / 4):
                fault = f"its sound lasts {heard or 0:.1f} s, not {expected:.1f} s"
        if fault:
            raise VideoError(
                f"{self.path.name}, joined and read back, is not whole: {fault}. Nothing was given its name; the parts "
                "are kept. Run the command again."
            )

    def _at(self, k: int) -> int:
        if k < 0:  # before the first picture, as decoding is
            return self._at(0) + k * (self._at(1) - self._at(0))
        return round((self._start + self._times(k)) / self._tick)


def _order(part: Path) -> array:
    """For each packet of a file, the how many-th picture shown it is."""
    try:
        with av.open(str(part)) as source:
            shown = [p.pts for p in source.demux(source.streams.video[0]) if p.size]
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{part} cannot be read back ({error.strerror or error}). The disk is damaged or was away; run the command "
            "again."
        ) from error
    ranks = {pts: i for i, pts in enumerate(sorted(shown))}
    return array("q", (ranks[pts] for pts in shown))
