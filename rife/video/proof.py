"""Reads back what a written video holds: the packets of its pictures, when they are shown, its sound."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from .codecs import VideoError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Proof:
    """Describes the pictures of a file: how many, when the first and the last are shown, in seconds, and a digest of
    what they are made of."""

    pictures: int
    first: Fraction
    last: Fraction
    rises: bool  # whether no two are shown at once
    tick: Fraction  # what the file's times are multiples of
    digest: str  # SHA-256 of the packets with their times: what a muxer adds of its own does not count

    @classmethod
    def of(cls, path: Path) -> Proof:
        """Reads the whole file. Raises VideoError where it cannot be read to its end."""
        digest, shown = hashlib.sha256(), array("q")
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                digest.update(stream.codec_context.extradata or b"")
                tick = Fraction(stream.time_base or 1)
                for packet in container.demux(stream):
                    if packet.size:
                        shown.append(packet.pts or 0)
                        digest.update(f"{packet.pts} {packet.size} ".encode())
                        digest.update(memoryview(packet))
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            raise VideoError(
                f"{path.name} cannot be read back ({error}). The disk or the file is damaged."
            ) from error
        if not shown:
            raise VideoError(
                f"{path.name} holds no pictures, expected some. The disk or the file is damaged."
            )
        ordered = sorted(shown)
        rises = all(a < b for a, b in zip(ordered, ordered[1:], strict=False))
        return cls(len(shown), ordered[0] * tick, ordered[-1] * tick, rises, tick, digest.hexdigest())

    def fault(self, pictures: int, time: Callable[[int], Fraction], tick: Fraction) -> str:
        """Says what is wrong with it in words, "" if nothing: so many pictures, picture k shown at `time(k)` seconds,
        as far as multiples of `tick` allow."""
        if self.pictures != pictures:
            return f"it holds {self.pictures} of {pictures} pictures"
        if not self.rises:
            return "pictures in it have the same time"
        wanted = time(pictures - 1) - time(0)
        if abs(self.last - self.first - wanted) > 2 * max(tick, self.tick):
            return f"its last picture is shown after {float(self.last - self.first):g} s, not {float(wanted):g} s"
        return ""


def sound_seconds(path: Path) -> float | None:
    """Returns how many seconds the first sound of a file lasts, by its packets; None where it has none. Raises
    VideoError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            times = [(p.pts, p.pts + (p.duration or 0)) for p in container.demux(stream) if p.pts is not None]
            base = float(stream.time_base or 1)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path.name} cannot be read back ({error}). The disk or the file is damaged."
        ) from error
    return (max(end for _, end in times) - min(begin for begin, _ in times)) * base if times else 0.0


def digest_of(files: Iterable[Path]) -> str:
    """Returns the SHA-256 of the bytes of files, one after the other, with their lengths. Raises OSError."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.stat().st_size} ".encode())
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
