#!/usr/bin/env bash
# PyAV 18.1.0: how long the last frame lasts is not written, and the flag that is meant for it helps without B-frames only.
# The last of five frames shall last two seconds, as its `duration` says; the file ends a frame's time after it began,
# whatever codec and container. In between, the next frame's time tells; so it is the end of a clip that is cut short: a
# still, a title, the last pause of an animation, as a GIF has it. With the codec flag `frame_duration` libx264 keeps it, but
# in MP4, whose length is that of the packets in the order of decoding, it is lost again as soon as there are B-frames, which
# libx264 has unless it is told otherwise: the last packet is that of another frame.
# This pack gives what is left of the clip's length to the last packet, whichever frame that is.
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
from av.codec.context import Flags

RATE, LAST = 25, 50  # frames per second; of what the last frame lasts, two seconds


def written(name, codec, *, flag=False, b_frames=0):
    with av.open(name, "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"bf": str(b_frames)}
        if flag:
            stream.codec_context.flags |= Flags.frame_duration
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, "uint8"), "rgb24")
            frame.pts, frame.time_base, frame.duration = i, Fraction(1, RATE), LAST if i == 4 else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(name) as container:
        return container.duration / 1e6


expected = (4 + LAST) / RATE
kinds = (("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.webm", "libvpx-vp9"))
plain = {name: written(name, codec) for name, codec in kinds}
flagged = {b_frames: written("b.mp4", "libx264", flag=True, b_frames=b_frames) for b_frames in (0, 3)}
print(f"PyAV {av.__version__}, seconds, {expected} expected: {plain}")
print(f"MP4 with the flag frame_duration, by B-frames: {flagged}")
if any(seconds > 0.3 for seconds in (*plain.values(), flagged[3])) or abs(flagged[0] - expected) > 0.05:
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
