#!/usr/bin/env bash
# PyAV 18.1.0: Matroska and WebM lose the shape of pixels unless the codec tells it itself, and so do AVI and NUT.
# `codec_context.sample_aspect_ratio` says here that 720x576 is 16:9, as on a DVD. In MP4 it comes back with every codec; in Matroska
# with H.264, which has it in its own headers; with FFV1, VP9 and ProRes it does not, and in WebM it reads as 1. These muxers of FFmpeg
# take it from the stream (AVStream.sample_aspect_ratio), which the `ffmpeg` tool fills; PyAV copies the encoder's parameters only, and
# has no way to set it: `VideoStream.sample_aspect_ratio` reads the stream's, but assigning to it sets that of the encoder. With square
# pixels 720x576 is 5:4.
# This pack writes it into the finished file.
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

WIDE = Fraction(64, 45)


def told(name, codec, pix_fmt="yuv420p"):
    with av.open(name, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, pix_fmt
        stream.sample_aspect_ratio = WIDE
        assert stream.codec_context.sample_aspect_ratio == WIDE
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((576, 720, 3), 40 * i, "uint8"), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(name) as container:
        return container.streams.video[0].sample_aspect_ratio


kept = {
    ("a.mp4", "libx264"): told("a.mp4", "libx264"),
    ("b.mp4", "ffv1"): told("b.mp4", "ffv1"),
    ("c.mp4", "libvpx-vp9"): told("c.mp4", "libvpx-vp9"),
    ("d.mkv", "libx264"): told("d.mkv", "libx264"),
}
lost = {
    ("e.mkv", "ffv1"): told("e.mkv", "ffv1"),
    ("f.mkv", "libvpx-vp9"): told("f.mkv", "libvpx-vp9"),
    ("g.mkv", "prores_ks"): told("g.mkv", "prores_ks", "yuv422p10le"),
    ("h.webm", "libvpx-vp9"): told("h.webm", "libvpx-vp9"),
    ("i.avi", "ffv1"): told("i.avi", "ffv1"),
    ("j.nut", "ffv1"): told("j.nut", "ffv1"),
}
print(f"PyAV {av.__version__}, sample aspect ratio of the file, {WIDE} given:")
for (name, codec), aspect in {**kept, **lost}.items():
    print(f"  {name[1:]} with {codec}: {aspect}")
if set(kept.values()) != {WIDE} or not set(lost.values()) <= {None, 1}:
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
