"""Finds, of H.264 whose packets hold one field each, which are the second field of a frame that another one began.

Interlaced H.264 may code each picture as a frame or as two fields (PAFF). In transport and raw streams, and in what was
copied from them, each field is a packet, of which FFmpeg's decoder makes one frame of two. Syntax by ITU-T H.264, 7.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from av.packet import Packet
from av.video.stream import VideoStream

_SLICE, _IDR, _SPS = 1, 5, 7  # kinds of NAL units
_CHROMA_SAID = {
    100,
    110,
    122,
    244,
    44,
    83,
    86,
    118,
    128,
    138,
    139,
    134,
    135,
}  # profiles that name a chroma format
_HEAD = 2048  # bytes of a packet in which its first slice usually begins
_START = re.compile(b"\x00\x00\x01")


class _Bits:
    """Reads numbers from the payload of a NAL unit."""

    def __init__(self, data: bytes):
        data = data.replace(b"\0\0\3", b"\0\0")
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of so many bits. Raises ValueError at the end."""
        if count > self._left:
            raise ValueError("the NAL unit is too short")
        self._left -= count
        return self._bits >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class FieldPictures:
    """Looks at one packet of a stream after the other."""

    def __init__(self, stream: VideoStream):
        context = stream.codec_context
        self._applies = context is not None and context.name == "h264"
        extra = (self._applies and context.extradata) or b""
        self._length = (
            (extra[4] & 3) + 1 if extra[:1] == b"\1" and len(extra) > 6 else 0
        )  # of avcC's sizes, in bytes
        self._frame_num_bits = 0  # 0: all pictures are frames
        self._separate_planes = False
        self._waits: tuple[int, int] | None = None  # number and parity of a first field
        if self._applies:
            self._look_for_sps([extra[8:]] if self._length else _units(extra))

    def is_second(self, packet: Packet) -> bool:
        """Tells whether a packet holds only the second field of the frame that the one before began."""
        if not self._applies:
            return False
        try:
            return self._second(packet)
        except (ValueError, IndexError):  # damaged, of which the decoder will tell
            return False

    def _second(self, packet: Packet) -> bool:
        data = memoryview(packet)
        for part in (data[:_HEAD], data):
            for unit in self._units_of(bytes(part)):
                self._look_for_sps([unit])
                if unit[0] & 31 in (_SLICE, _IDR):
                    field = self._field(unit)
                    second = field is not None and self._waits == (field[0], 1 - field[1])
                    self._waits = None if second else field
                    return second
        return False

    def _units_of(self, data: bytes) -> Iterator[bytes]:
        if not self._length:
            yield from _units(data)
            return
        at = 0
        while at + self._length < len(data):
            size = int.from_bytes(data[at : at + self._length], "big")
            at += self._length
            yield data[at : at + size]
            at += size

    def _field(self, unit: bytes) -> tuple[int, int] | None:
        """Frame number and parity of a slice of a field; None: of a frame."""
        if not self._frame_num_bits:
            return None
        bits = _Bits(unit[1:24])
        for _ in range(3):  # first macroblock, type, picture parameter set
            bits.golomb()
        if self._separate_planes:
            bits.take(2)
        number = bits.take(self._frame_num_bits)
        return (number, bits.take(1)) if bits.take(1) else None

    def _look_for_sps(self, units: list[bytes] | Iterator[bytes]) -> None:
        for unit in units:
            if unit and unit[0] & 31 == _SPS:
                self._read_sps(_Bits(unit[1:]))

    def _read_sps(self, bits: _Bits) -> None:
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.golomb()
        self._separate_planes = False
        if profile in _CHROMA_SAID:
            chroma = bits.golomb()
            self._separate_planes = chroma == 3 and bool(bits.take(1))
            bits.golomb(), bits.golomb(), bits.take(1)  # depths, lossless
            if bits.take(1):
                self._skip_scaling(bits, 12 if chroma == 3 else 8)
        frame_num_bits = bits.golomb() + 4
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.take(1), bits.signed(), bits.signed()
            for _ in range(bits.golomb()):
                bits.signed()
        bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()  # references, gaps, width, height
        only_frames = bits.take(1)
        self._frame_num_bits = 0 if only_frames else frame_num_bits

    @staticmethod
    def _skip_scaling(bits: _Bits, lists: int) -> None:
        for i in range(lists):
            if not bits.take(1):
                continue
            last = scale = 8
            for _ in range(16 if i < 6 else 64):
                if scale:
                    scale = (last + bits.signed()) % 256
                last = scale or last


def _units(data: bytes) -> Iterator[bytes]:
    """NAL units between start codes."""
    begins = [match.end() for match in _START.finditer(data)]
    for begin, after in zip(begins, [*begins[1:], len(data) + 3], strict=True):
        yield data[begin : after - 3]
