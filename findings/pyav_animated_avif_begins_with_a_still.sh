#!/usr/bin/env bash
# PyAV 18.1.0: the first video stream of an animated AVIF is one still picture; the animation is the second.
# The usual `container.decode(video=0)`, `container.streams.video[0]` and imageio's PyAV plugin read a single frame, without
# an error or a word. `container.streams.best("video")` is the animation. The file here is as Pillow 13.0.0 saves one.
# This pack asks for the best stream, of every file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q av==18.1.0 pillow==13.0.0 numpy==2.2.6
cat > run.py <<'PY'
import sys

import av
from PIL import Image

pictures = [Image.new("RGB", (64, 64), (40 * i, 0, 0)) for i in range(5)]
pictures[0].save("animated.avif", save_all=True, append_images=pictures[1:], duration=100)


def frames(choose):
    with av.open("animated.avif") as container:
        return sum(1 for _ in container.decode(choose(container)))


first = frames(lambda container: container.streams.video[0])
best = frames(lambda container: container.streams.best("video"))
print(f"PyAV {av.__version__}: animated AVIF of 5 frames: first video stream {first}, best video stream {best}")
if (first, best) != (1, 5):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
