"""Valid files with properties that people met in the wild, made here, each frame of which bears its number."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import paff
from PIL import Image

WIDTH, HEIGHT, BITS = 96, 64, 7
NTSC = Fraction(24000, 1001)


def numbered(i: int) -> np.ndarray:
    """(64,96,3) uint8: a slope, and the number in light and dark squares."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frame = np.stack((x * 2 % 256, (y * 3 + i * 4) % 256, (x + y) % 256), 2).astype(np.uint8) // 2 + 60
    for bit in range(BITS):
        frame[4:16, 4 + 12 * bit : 14 + 12 * bit] = 235 if i >> bit & 1 else 20
    return frame


def number(frame: np.ndarray) -> int:
    """What `numbered` wrote, whatever was lost on the way."""
    scale = 257 if frame.dtype == np.uint16 else 1
    squares = [frame[7:13, 7 + 12 * bit : 11 + 12 * bit, :3].mean() / scale for bit in range(BITS)]
    return sum(int(level > 128) << bit for bit, level in enumerate(squares))


def encode(
    path: Path,
    codec: str = "libx264",
    count: int = 24,
    rate: Fraction | int = 25,
    *,
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    tick: Fraction | None = None,
    lasts: int | None = None,
    container: str | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    first: int = 0,
) -> Path:
    """Numbered frames first, first + 1 ..., at a rate or at `ticks` of `tick` seconds, the last shown for `lasts`."""
    with av.open(str(path), "w", format=container, options=mux or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        tick = tick or 1 / Fraction(rate)
        stream.codec_context.time_base = tick
        ticks = range(count) if ticks is None else ticks
        audio = (
            file.add_stream("mp2" if container == "mpegts" else "aac", rate=48000, layout="mono")
            if sound
            else None
        )
        for i, at in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(numbered(first + i), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = at, tick
            frame.duration = (
                lasts if lasts and i == len(ticks) - 1 else (ticks[1] - ticks[0] if len(ticks) > 1 else 1)
            )
            for packet in stream.encode(frame):
                if lasts and packet.pts == ticks[-1]:
                    packet.duration = lasts
                file.mux(packet)
        for packet in stream.encode(None):
            if lasts and packet.pts == ticks[-1]:
                packet.duration = lasts
            file.mux(packet)
        if audio is not None:
            seconds = float((ticks[-1] + 1) * tick)
            for k in range(int(seconds * 48000 / 1152)):
                wave = np.sin(np.arange(k * 1152, (k + 1) * 1152) * 0.05).astype(np.float32)[None] * 0.3
                sample = av.AudioFrame.from_ndarray(
                    (wave * 32767).astype(np.int16) if container == "mpegts" else wave,
                    format="s16" if container == "mpegts" else "fltp", layout="mono",
                )  # fmt: skip
                sample.sample_rate, sample.pts = 48000, k * 1152
                file.mux(audio.encode(sample))
            file.mux(audio.encode(None))
    return path


def remux(source: Path, path: Path, change: Callable | None = None, container: str | None = None) -> Path:
    """The packets of a file in another one, as they are but for what `change(number, packet)` does; None leaves out."""
    with av.open(str(source)) as before, av.open(str(path), "w", format=container) as after:
        stream = before.streams.video[0]
        target = after.add_stream_from_template(stream, opaque=True)
        packets = (p for p in before.demux(stream) if p.size)
        for k, packet in enumerate(packets):
            if change is None or change(k, packet) is not None:
                packet.stream = target
                after.mux(packet)
    return path


def without_ctts(path: Path) -> Path:
    """An MP4 that only says when each packet is decoded."""
    path.write_bytes(path.read_bytes().replace(b"ctts", b"free"))
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Bytes after bytes, as `cat` puts recordings together."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_pts(path: Path, at: int, ticks: int) -> Path:
    """A transport stream, the `at`-th of whose pictures claims another presentation and decode time."""
    data = bytearray(path.read_bytes())
    found = 0
    for begin in range(0, len(data), 188):
        packet = data[begin : begin + 188]
        start = packet.find(b"\x00\x00\x01\xe0")
        if packet[1] & 0x40 and start > 0:
            if found == at:
                flags = packet[start + 7] >> 6
                data[begin + start + 9 : begin + start + 14] = _stamp(3 if flags == 3 else 2, ticks)
                if flags == 3:
                    data[begin + start + 14 : begin + start + 19] = _stamp(1, ticks)
            found += 1
    path.write_bytes(data)
    return path


def _stamp(mark: int, ticks: int) -> bytes:
    return struct.pack(
        ">BHH",
        mark << 4 | (ticks >> 30 & 7) << 1 | 1,
        (ticks >> 15 & 0x7FFF) << 1 | 1,
        (ticks & 0x7FFF) << 1 | 1,
    )


@dataclass
class Case:
    """A kind of file: how it is made, and what is right, which are its frames' numbers, rate and seconds.

    rate None: it varies. times: seconds after the first frame, where they are more than the rate says.
    """

    name: str
    make: Callable[[Path], Path]
    frames: Sequence[int]
    rate: Fraction | None
    seconds: Fraction
    times: Sequence[Fraction] | None = None


def _case(name: str, ending: str, make: Callable, frames, rate, seconds=None, times=None, **options) -> Case:
    frames = range(frames) if isinstance(frames, int) else frames
    rate = None if rate is None else Fraction(rate)
    seconds = len(frames) / rate if seconds is None else Fraction(seconds)
    return Case(name, lambda path: make(path.with_suffix(ending), **options), frames, rate, seconds, times)


B = {"bf": "2", "g": "12"}
X264 = {"x264-params": "bframes=3:b-adapt=0:keyint=12:scenecut=0"}
OPEN = {"x264-params": "bframes=3:b-adapt=0:keyint=12:scenecut=0:open-gop=1"}
RADL = {
    "x265-params": "log-level=error:bframes=3:b-adapt=0:keyint=16:min-keyint=16:scenecut=0:no-open-gop=1:radl=3"
}
LEADING = Path(__file__).with_name("leading.266")
X265 = {"x265-params": "log-level=error:bframes=3:b-adapt=0:keyint=12"}


def _ts(path: Path, count: int = 24, first: int = 0, **more) -> Path:
    return encode(path, count=count, first=first, container="mpegts", options=X264, **more)


def _cat(
    path: Path, counts: Sequence[int], codec: str = "libx264", container: str = "mpegts", sound: bool = False
) -> Path:
    parts, first = [], 0
    for k, count in enumerate(counts):
        part = path.with_suffix(f".{k}")
        options = X264 if codec == "libx264" else B
        encode(part, codec, count, first=first, container=container, sound=sound, options=options)
        parts.append(part)
        first += count
    return joined(path, *parts)


def _cut_and_joined(path: Path) -> Path:
    """Two transport streams, the first cut off behind a frame that is shown after two that were to follow."""
    options = {"g": "48", "bf": "2", "b-adapt": "0"}
    first, second = (
        encode(path.with_suffix(f".{k}"), count=40, first=40 * k, container="mpegts", options=options)
        for k in range(2)
    )
    cut = remux(first, path.with_suffix(".cut"), lambda k, packet: packet if k < 14 else None, "mpegts")
    return joined(path, cut, second)


def _later(path: Path, ticks: int) -> Path:
    """A transport stream whose second half is `ticks` later: a reconnected recording."""
    _ts(path.with_suffix(".a"), 24)

    def change(k, packet):
        if k >= 12:
            packet.pts += ticks
            packet.dts += ticks
        return packet

    return remux(path.with_suffix(".a"), path, change, "mpegts")


def _milliseconds(path: Path, codec: str, rated: Fraction) -> Path:
    first = path.with_suffix(".mkv")
    return remux(encode(first, codec, 48, rated), path)


def _cut_at_open_gop(path: Path) -> Path:
    """From the second key frame on, before which frames are shown that need others before it."""
    first, keys = encode(path.with_suffix(".a.mp4"), count=48, options=OPEN), []

    def change(k, packet):
        keys.extend([k] * packet.is_keyframe)
        return packet if len(keys) > 1 else None

    return remux(first, path, change)


def _cut_at_leading(path: Path, container: str) -> Path:
    """From the second key frame on, before which frames are shown that need only it (RADL of H.265)."""
    first, keys = encode(path.with_suffix(".a.mp4"), "libx265", 48, options=RADL), []

    def change(k, packet):
        keys.extend([k] * packet.is_keyframe)
        return packet if len(keys) > 1 else None

    return remux(first, path, change, container)


def _leading(path: Path, container: str) -> Path:
    """H.266 of which the first packet is the key frame, shown as number 31; FFmpeg has no encoder for it. A raw stream
    has no times: they are those of the order in which the decoder shows them."""

    def change(k, packet):
        packet.time_base, packet.duration = Fraction(1, 25), 1
        packet.pts, packet.dts = shown.index(k) + later, k + later - 31
        return packet

    later = 0 if container == "matroska" else 31
    with av.open(str(LEADING)) as file:
        stream = file.streams.video[0]
        decoder, shown, count = stream.codec_context, [], 0
        for packet in file.demux(stream):
            packet.pts = packet.dts = count
            shown += [frame.pts for frame in decoder.decode(packet if packet.size else None)]
            count += 1
    return remux(LEADING, path, change, container)


def _paff(path: Path, container: str, together: bool) -> Path:
    """H.264 in fields; together: both of a frame in one packet, else each in its own."""
    pictures = []
    for i in range(24):
        frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format="yuv420p")
        pictures.append(
            [np.frombuffer(memoryview(p), np.uint8).reshape(p.height, -1)[:, : p.width] for p in frame.planes]
        )
    fields = paff.frames(pictures, WIDTH, HEIGHT, 25)
    raw = path.with_suffix(".a.h264")
    raw.write_bytes(b"".join(first + second for first, second in fields))
    if container == "h264":
        return raw.rename(path)
    with av.open(str(raw)) as source, av.open(str(path), "w", format=container) as file:
        stream = file.add_stream_from_template(source.streams.video[0], opaque=True)
        packets = [first + second for first, second in fields] if together else sum(fields, ())
        for k, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = (
                stream,
                Fraction(1, 25 if together else 50),
                k == 0,
            )
            packet.pts = packet.dts = k
            packet.duration = 1
            file.mux(packet)
    return path


def _stray(path: Path, at: int, container: str) -> Path:
    first = encode(path.with_suffix(".a.mkv"), count=24, options={"bf": "0"})

    def change(k, packet):
        if k == at:
            packet.pts += 10**9  # a muxer takes no decode time that falls
        return packet

    return remux(first, path, change, container)


def _bare(path: Path, codec: str, options: dict[str, str], **more) -> Path:
    return without_ctts(encode(path, codec, options=options, **more))


def _back(path: Path) -> Path:
    late, early = path.with_suffix(".a"), path.with_suffix(".b")
    return joined(path, _ts(late, ticks=range(9000, 9024)), _ts(early, first=24))


def _gif_without_delays(path: Path) -> Path:
    """As Pillow writes it where no duration is given."""
    pictures = [Image.fromarray(numbered(i)) for i in range(8)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    assert b"\x21\xf9\x04" not in path.read_bytes()
    return path


def _apng_without_delays(path: Path) -> Path:
    """As Pillow writes it where no duration is given: delays of 0."""
    pictures = [Image.fromarray(numbered(i)) for i in range(8)]
    pictures[0].save(path, "PNG", save_all=True, append_images=pictures[1:])
    return path


def _one_off(path: Path) -> Path:
    return with_pts(_ts(path), 9, 8_000_000_000)


HOUR = 3600 * 90000
RATES = {"24000/1001": NTSC, "30000/1001": Fraction(30000, 1001), "60000/1001": Fraction(60000, 1001)}
GIF = {"codec": "gif", "pix_fmt": "rgb8"}
HELD = {"count": 8, "rate": 10, "lasts": 30}
TELECINE = [k * 5 // 2 * 1001 for k in range(24)]
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}
LEFT_OUT = [0, 3, 6, 15, 18, 19, 30, 33, 36, 39, 51, 54, 57, 84, 87, 90, 93, 96]
GAPS = {"ticks": LEFT_OUT, "tick": Fraction(1, 90)}
GAPS_AT = [Fraction(at, 90) for at in LEFT_OUT]
CASES = (
    _case("H.264 with B-frames, MP4 without ctts", ".mp4", _bare, 24, 25, codec="libx264", options=X264),
    _case("H.265 with B-frames, MP4 without ctts", ".mp4", _bare, 24, 25, codec="libx265", options=X265),
    _case("MPEG-4 with B-frames, MP4 without ctts", ".mp4", _bare, 24, 25, codec="mpeg4", options=B),
    _case("H.264 with B-frames in AVI", ".avi", encode, 24, 25, options=X264),
    _case("MPEG-4 with B-frames in AVI", ".avi", encode, 24, 25, codec="mpeg4", options=B),
    _case("MPEG-2 with B-frames in AVI", ".avi", encode, 24, 25, codec="mpeg2video", options=B),
    _case("AVI whose end is held", ".avi", lambda path: encode(path, "mpeg4", **HELD), 8, 10, "3.7"),
    _case("FLV whose end is held", ".flv", lambda path: encode(path, **HELD), 8, 10, "3.7"),
    _case("WMV whose end is held", ".wmv", lambda path: encode(path, "wmv2", container="asf", **HELD), 8, 10, "3.7"),
    _case("two FLV joined", ".flv", _cat, 24, 25, counts=(24, 12), container="flv"),
    _case("two NUT joined", ".nut", _cat, 24, 25, counts=(24, 12), container="nut"),
    _case("two IVF joined", ".ivf", _cat, 24, 25, counts=(24, 12), codec="libvpx", container="ivf"),
    _case("H.264 in AVI that leaves frames out", ".avi", encode, 7, None, Fraction(33, 90),
          ticks=[0, 3, 6, 15, 18, 19, 30], tick=Fraction(1, 90), options={"bf": "0"}, lasts=3),
    *(
        _case(f"such {name} with B-frames", ".avi", encode, 18, None, Fraction(100, 90), GAPS_AT, codec=codec,
              options=options, **GAPS)
        for name, codec, options in (("H.264", "libx264", X264), ("MPEG-4", "mpeg4", B))
    ),
    _case("H.264 that leaves frames out, MP4 without ctts", ".mp4", _bare, 18, None, Fraction(996, 900), GAPS_AT,
          codec="libx264", options=X264, **GAPS),
    _case("fields of H.264 in packets, raw", ".h264", _paff, 24, 25, container="h264", together=False),
    _case("fields of H.264, transport stream", ".ts", _paff, 24, 25, container="mpegts", together=False),
    _case("fields of H.264, two with one time", ".ts", _paff, 24, 25, container="mpegts", together=True),
    _case("fields of H.264 in MP4", ".mp4", _paff, 24, 25, container="mp4", together=False),
    _case("fields of H.264 in AVI", ".avi", _paff, 24, 25, container="avi", together=False),
    _case("raw H.264", ".h264", encode, 24, 25, container="h264", options=X264),
    _case("raw H.265", ".hevc", encode, 24, 25, codec="libx265", container="hevc", options=X265),
    _case("raw MPEG-2", ".m2v", encode, 24, 25, codec="mpeg2video", container="mpeg2video", options=B),
    _case("H.264 in a program stream", ".mpg", encode, 24, 25, container="mpeg", options=X264),
    _case("two transport streams joined", ".ts", _cat, 48, 25, counts=(24, 24)),
    _case("three joined, with sound", ".ts", _cat, 60, 25, counts=(24, 12, 24), sound=True),
    _case("MPEG-2 transport streams joined", ".ts", _cat, 48, 25, counts=(24, 24), codec="mpeg2video"),
    _case("two joined, the first cut off", ".ts", _cut_and_joined, [*range(13), 15, *range(40, 80)], None,
          Fraction(56, 25)),
    _case("program streams joined", ".mpg", _cat, 48, 25, counts=(24, 24), codec="mpeg2video", container="mpeg"),
    _case("a clock that jumps by an hour", ".ts", _later, 24, 25, ticks=HOUR),
    _case("a clock that jumps by a day", ".ts", _later, 24, 25, ticks=22 * HOUR),
    _case("a clock that jumps back", ".ts", _back, 48, 25),
    _case("one stray time in a transport stream", ".ts", _one_off, 24, 25),
    _case("one stray time in Matroska", ".mkv", _stray, 24, 25, at=9, container="matroska"),
    _case("a stray last time in Matroska", ".mkv", _stray, 24, 25, at=23, container="matroska"),
    _case("cut at an open-GOP key frame", ".mp4", _cut_at_open_gop, range(12, 48), 25),
    _case("cut at a key frame that is shown after others", ".mkv", _cut_at_leading, range(13, 48), 25,
          container="matroska"),
    _case("cut at such a one, transport stream", ".ts", _cut_at_leading, range(13, 48), 25, container="mpegts"),
    _case("H.266 whose key frame is shown as number 31", ".mkv", _leading, 48, 25, container="matroska"),
    _case("such H.266 in a transport stream", ".ts", _leading, 48, 25, container="mpegts"),
    *(
        _case(f"whole milliseconds in MP4, {name}", ".mp4", _milliseconds, 48, rate, codec="libx264", rated=rate)
        for name, rate in RATES.items()
    ),
    _case("whole milliseconds of VP9 in MP4", ".mp4", _milliseconds, 48, NTSC, codec="libvpx-vp9", rated=NTSC),
    _case("GIF of 1/100 s", ".gif", lambda path: encode(path, rate=100, **GIF), 24, 10),
    _case("GIF of 30 ms", ".gif", encode, 24, Fraction(100, 3), ticks=range(0, 72, 3), tick=Fraction(1, 100), lasts=3,
          **GIF),
    _case("GIF whose end is held", ".gif", lambda path: encode(path, **GIF, **HELD), 8, 10, "3.7"),
    _case("GIF that says nothing of delays", ".gif", _gif_without_delays, 8, 10),
    _case("APNG of 1/100 s", ".apng", lambda path: encode(path, "apng", rate=100, pix_fmt="rgb24"), 24, 10),
    _case("APNG that says nothing of delays", ".apng", _apng_without_delays, 8, 10),
    _case("APNG whose end is held", ".apng", lambda path: encode(path, "apng", 8, 10, pix_fmt="rgb24",
          mux={"final_delay": "3"}), 8, 10, "3.7"),
    _case("MP4 whose end is held", ".mp4", lambda path: encode(path, options={"bf": "0"}, **HELD), 8, 10, "3.7"),
    _case("MKV whose end is held", ".mkv", lambda path: encode(path, **HELD), 8, 10, "3.7"),
    _case("AVI of 33 ms", ".avi", lambda path: encode(path, "mpeg4", 60, Fraction(1000, 33)), 60, Fraction(1000, 33)),
    _case("AVI of 66 ms", ".avi", lambda path: encode(path, "mjpeg", 24, Fraction(500, 33), pix_fmt="yuvj420p"), 24,
          Fraction(500, 33)),
    _case("119.88 in a transport stream", ".ts", lambda path: encode(path, rate=Fraction(120000, 1001)), 24,
          Fraction(120000, 1001)),
    _case("a frame every hour", ".mkv", encode, 3, Fraction(1, 3600), ticks=[0, 3600, 7200], tick=Fraction(1),
          **LOSSLESS),
    _case("soft telecine in time stamps", ".mp4", lambda path: encode(path, rate=60, ticks=TELECINE,
          tick=Fraction(1, 60000)), 24, NTSC),
    _case("edit list that leaves frames out", ".mp4", encode, range(8, 24), 25, ticks=range(-8, 16), options=X264),
    _case("a variable rate stays variable", ".mp4", encode, 7, None, Fraction(33, 90), ticks=[0, 3, 6, 15, 18, 19, 30],
          tick=Fraction(1, 90), options={"bf": "0"}, lasts=3),
)  # fmt: skip
