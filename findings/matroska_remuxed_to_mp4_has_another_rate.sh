#!/usr/bin/env bash
# Matroska remuxed into MP4 (PyAV 18.1.0): 23.976 fps becomes 240000/10009, and no two times are as far apart as they were.
# Matroska keeps whole milliseconds, and gives the real rate beside them. MP4 has a fine clock of its own (1/16000 s here), on
# which the frames, copied without decoding, stay at those milliseconds: 656 or 672 ticks apart instead of 667 1/3, and the
# mean is all that is left as a rate. Whoever compares times with the clock's own ticks takes such a file for a recording of a
# variable rate; whoever trusts `average_rate` multiplies 240000/10009 and ends up with a film that drifts from its sound.
# This pack takes times within one millisecond of an even rate for that rate, on any clock.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q av==18.1.0 numpy==2.2.6
cat > run.py <<'PY'
import sys
from fractions import Fraction

import av
import numpy as np

RATE = Fraction(24000, 1001)
with av.open("film.mkv", "w") as container:
    stream = container.add_stream("libx264", rate=RATE)
    stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", {"bf": "0"}
    for i in range(240):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, "uint8"), "rgb24")
        frame.pts, frame.time_base = i, 1 / RATE
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
with av.open("film.mkv") as source, av.open("film.mp4", "w") as target:
    copied = target.add_stream_from_template(source.streams.video[0])
    for packet in source.demux(video=0):
        if packet.dts is not None:
            packet.stream = copied
            target.mux(packet)


def told(name):
    with av.open(name) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        return stream.average_rate, stream.time_base, sorted(set(np.diff(times).tolist()))


for name in ("film.mkv", "film.mp4"):
    rate, clock, steps = told(name)
    print(f"PyAV {av.__version__}, {name}: average rate {rate}, clock {clock}, steps of {steps} ticks")
rate, clock, steps = told("film.mp4")
if told("film.mkv")[0] != RATE or rate == RATE or any(step * clock == 1 / RATE for step in steps):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
