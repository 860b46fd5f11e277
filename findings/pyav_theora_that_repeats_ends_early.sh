#!/usr/bin/env bash
# PyAV 18.1.0: Theora that shows a frame again, as recorders write it, ends with an error at the first such place.
# A packet of no bytes is valid there: it stands for a frame like the one before (Theora specification, section 7). Here a file of
# FFmpeg's libtheora, which leaves frames out at a low bit rate, gets such packets in their places: 100 for 100 frames, 38 of them
# empty. `container.decode(video=0)` gives 2 frames, then an ArgumentError ("Invalid argument", avcodec_send_packet()), which sounds
# like damage. FFmpeg's own tool (7.0.2, 5.1) shows all 62 others without a word, and so does PyAV once the empty packets are left out.
# This pack leaves them out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q av==18.1.0 numpy==2.2.6 imageio-ffmpeg==0.6.0
cat > run.py <<'PY'
import struct
import subprocess
import sys

import av
import imageio_ffmpeg

FRAMES = 100
made = "testsrc2=size=64x48:rate=25:duration=4"
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
encoder = ["-c:v", "libtheora", "-b:v", "20k", "-g", "64"]
subprocess.run([*ffmpeg, "-f", "lavfi", "-i", made, *encoder, "left_out.ogv"], check=True)


def check_sum(data):
    """Ogg's: a CRC of 32 bits, the highest first, that begins with 0."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def page(number, packet, granule, kind=0):
    sizes = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, kind, granule, 1, number, 0, len(sizes)) + sizes
    head = head[:22] + struct.pack("<I", check_sum(head + packet)) + head[26:]
    return head + packet


with av.open("left_out.ogv") as container:
    stream = container.streams.video[0]
    extra, headers = bytes(stream.codec_context.extradata), []
    while extra:
        size = int.from_bytes(extra[:2], "big")
        headers.append(extra[2 : 2 + size])
        extra = extra[2 + size :]
    tick = stream.time_base * 25
    kept = {round(p.pts * tick): (bytes(p), p.is_keyframe) for p in container.demux(stream) if p.size}
shift = int.from_bytes(headers[0][40:42], "big") >> 5 & 31  # of the last key's number in the place of a frame
with open("repeats.ogv", "wb") as file:
    for i, header in enumerate(headers):
        file.write(page(i, header, 0, 2 if i == 0 else 0))
    for i in range(FRAMES):
        data, is_key = kept.get(i, (b"", False))
        key = i if is_key else key
        place = (key + 1 << shift) + i - key
        file.write(page(len(headers) + i, data, place, 4 if i == FRAMES - 1 else 0))


def packets(container):
    return [p for p in container.demux(video=0) if p.pts is not None]


with av.open("repeats.ogv") as container:
    sizes = [p.size for p in packets(container)]
first = sizes.index(0)
plain, error = 0, None
with av.open("repeats.ogv") as container:
    try:
        for _ in container.decode(video=0):
            plain += 1
    except av.error.FFmpegError as caught:
        error = caught
with av.open("repeats.ogv") as container:
    left_out = [frame.pts for p in packets(container) if p.size for frame in p.decode()]
print(f"PyAV {av.__version__}: {len(sizes)} packets, {sizes.count(0)} of them empty, the first is number {first}")
print(f"decode(video=0): {plain} frames, then {error!r}")
print(f"without the empty packets: {len(left_out)} frames")
whole = [*ffmpeg, "-i", "repeats.ogv", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
shown = subprocess.run(whole, check=True, capture_output=True, text=True)
by_tool = sum(line[:1] != "#" for line in shown.stdout.splitlines())
print(f"FFmpeg's own tool: {by_tool} frames, said: {shown.stderr or 'nothing'}")
ends = plain == first and isinstance(error, av.error.ArgumentError)
if not (len(sizes) == FRAMES and ends and plain < len(left_out) == len(kept) == by_tool and not shown.stderr):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
