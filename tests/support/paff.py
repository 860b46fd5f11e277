"""H.264 whose frames are coded as two fields, which FFmpeg has no encoder for: macroblocks of plain samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Bits:
    """Numbers after each other, as NAL units hold them."""

    def __init__(self) -> None:
        self._text = ""

    def plain(self, *pairs: tuple[int, int]) -> Bits:
        """(bits, value) each."""
        for count, value in pairs:
            self._text += format(value, f"0{count}b")
        return self

    def golomb(self, *values: int) -> Bits:
        """Unsigned Exp-Golomb numbers."""
        for value in values:
            digits = format(value + 1, "b")
            self._text += "0" * (len(digits) - 1) + digits
        return self

    def filled(self) -> bytes:
        """Zeros up to a whole byte."""
        text = self._text + "0" * (-len(self._text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")


def unit(kind: int, body: bytes) -> bytes:
    """A NAL unit with its start code; bytes that look like one are escaped."""
    escaped, zeros = bytearray(), 0
    for byte in body:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([3 << 5 | kind]) + bytes(escaped)


def parameters(width: int, height: int, rate: int) -> bytes:
    """Sequence and picture parameter sets: Main profile, frames of two fields, CAVLC, no reordering."""
    sps = Bits().plain((8, 77), (8, 0), (8, 30)).golomb(0, 0, 0, 4, 1).plain((1, 0)).golomb(width // 16 - 1)
    sps.golomb(height // 32 - 1).plain(
        (1, 0), (1, 0), (1, 1), (1, 0), (1, 1)
    )  # no frames only, ..., direct, crop, VUI
    sps.plain((4, 0), (1, 1), (32, 1), (32, 2 * rate), (1, 1), (1, 0), (1, 0), (1, 0), (1, 1), (1, 1))
    sps.golomb(0, 0, 10, 10, 0, 1).plain((1, 1))
    pps = (
        Bits().golomb(0, 0).plain((2, 0)).golomb(0, 0, 0).plain((3, 0)).golomb(0, 0, 0).plain((3, 4), (1, 1))
    )
    return unit(7, sps.filled()) + unit(8, pps.filled())


def field(number: int, bottom: int, planes: Iterable[np.ndarray]) -> bytes:
    """One field of frame `number`, whose Y, Cb and Cr these are, of 16x32 macroblocks a frame."""
    idr = number == 0 and not bottom
    bits = Bits().golomb(0, 7, 0).plain((4, number % 16), (1, 1), (1, bottom))
    if idr:
        bits.golomb(0)
    bits.plain((8, (2 * number + bottom) % 256), (2 if idr else 1, 0)).golomb(0, 1)
    luma, *chroma = (plane[bottom::2] for plane in planes)
    body = b""
    for y in range(0, luma.shape[0], 16):
        for x in range(0, luma.shape[1], 16):
            small = (plane[y // 2 : y // 2 + 8, x // 2 : x // 2 + 8] for plane in chroma)
            samples = [luma[y : y + 16, x : x + 16], *small]
            body += bits.golomb(25).filled() + b"".join(part.tobytes() for part in samples)
            bits = Bits()
    return unit(5 if idr else 1, body + b"\x80")


def frames(
    pictures: Iterable[Iterable[np.ndarray]], width: int, height: int, rate: int
) -> list[tuple[bytes, bytes]]:
    """Both fields of each frame, as a stream that begins with its parameters has them."""
    coded = [(field(i, 0, planes), field(i, 1, planes)) for i, planes in enumerate(pictures)]
    return [(parameters(width, height, rate) + coded[0][0], coded[0][1]), *coded[1:]]
