#!/usr/bin/env bash
# PyAV 18.1.0: a yuv420p frame that is turned into RGB and back is one level of luma darker, each time.
# `reformat`, and with it `to_ndarray` and `to_image`, converts by FFmpeg's fast ways, which round down. One level is
# 47 dB, on frames that nobody touched, and a clip that went through four tools has lost four. With
# BICUBIC | ACCURATE_RND | FULL_CHR_H_INT | FULL_CHR_H_INP nothing is lost; accurate rounding alone is worse than none.
# So of given frames that were read and written this way, a PSNR of 47 dB is the conversion's. This pack hands the decoded
# planes of given frames to the encoder as they are, and converts the new ones with all four flags.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q av==18.1.0 numpy==2.2.6
cat > run.py <<'PY'
import sys

import av
import numpy as np
from av.video.reformatter import Interpolation

HEIGHT, WIDTH = 240, 320
rows, cols = np.mgrid[:HEIGHT, :WIDTH]
# Soft waves in each colour, far from black and from white.
waves = [128 + 60 * np.sin(rows / (7 + k) + cols / (11 - k)) for k in range(3)]
given = av.VideoFrame.from_ndarray(np.stack(waves, -1).astype("uint8"), "rgb24").reformat(format="yuv420p")


def luma(frame):
    return frame.to_ndarray()[:HEIGHT].astype(float)


def lost(passes, *flags):
    how = {"interpolation": int(sum(int(getattr(Interpolation, name)) for name in flags))} if flags else {}
    frame = given
    for _ in range(passes):
        frame = frame.reformat(format="rgb24", **how).reformat(format="yuv420p", **how)
    return (luma(frame) - luma(given)).mean()


exact = ("BICUBIC", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")
rounded = ("BICUBIC", "ACCURATE_RND")
found = {passes: lost(passes) for passes in (1, 2, 4)}
print(f"PyAV {av.__version__}, change of the mean luma of yuv420p by passes through rgb24:")
print("  as it comes:", ", ".join(f"{passes}: {value:+.3f}" for passes, value in found.items()))
print(f"  4 passes with {' | '.join(rounded)}: {lost(4, *rounded):+.3f}")
print(f"  4 passes with {' | '.join(exact)}: {lost(4, *exact):+.3f}")
if not (found[1] < -0.8 and found[4] < -3.2 and lost(4, *rounded) < found[4] and abs(lost(4, *exact)) < 0.1):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
