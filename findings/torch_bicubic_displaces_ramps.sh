#!/usr/bin/env bash
# Bicubic sampling in PyTorch (2.13.0) moves what it samples by up to a twentieth of a pixel, towards the middle between two pixels.
# `grid_sample` and `interpolate` take Keys' cubic with a = -0.75, which does not give back a ramp: a picture whose value is its
# column, sampled at 10.2, is 10.248, at 10.5 10.5, at 10.8 10.752 (x + x (1 - x) (1 - 2x) / 2). Bilinear sampling is exact, and so is
# `interpolate` with antialias=True, which takes a = -0.5 as Pillow does: the same call in two modes puts pictures at two places.
# Whoever measures positions below a tenth of a pixel (flow, stabilising, even motion of frames between two) sees a wave with
# the period of a pixel. This pack's last warp is bicubic, since that is sharper; how even motion comes out is measured with it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6
cat > run.py <<'PY'
import torch
import torch.nn.functional as F

COLUMNS = 33
ramp = torch.arange(COLUMNS, dtype=torch.float64).expand(1, 1, 5, COLUMNS)


def sampled(at, mode):
    """The ramp's value at a column, of the middle row."""
    grid = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    grid[..., 0] = 2 * at / (COLUMNS - 1) - 1
    return float(F.grid_sample(ramp, grid, mode=mode, align_corners=True))


print("torch", torch.__version__)
for part in (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9):
    bicubic, bilinear = (sampled(10 + part, mode) for mode in ("bicubic", "bilinear"))
    print(f"at {10 + part:.1f}: bicubic {bicubic:.4f}, bilinear {bilinear:.4f}")
    expected = 10 + part + part * (1 - part) * (1 - 2 * part) / 2
    assert abs(bicubic - expected) < 1e-9, "the bicubic kernel is another"
    assert abs(bilinear - 10 - part) < 1e-9

doubled = F.interpolate(ramp, scale_factor=2, mode="bicubic", align_corners=False)[0, 0, 4, 20:24]
true = (torch.arange(20, 24) + 0.5) / 2 - 0.5
print("doubled:", [round(x, 4) for x in doubled.tolist()], "expected", true.tolist())
off = (doubled - true).abs().max()
assert abs(float(off) - 0.25 * 0.75 * 0.5 / 2) < 1e-9, "interpolate has another kernel"
smooth = F.interpolate(ramp, scale_factor=2, mode="bicubic", antialias=True)[0, 0, 4, 20:24]
print("doubled with antialias=True:", [round(x, 4) for x in smooth.tolist()])
assert float((smooth - true).abs().max()) < 1e-9, "antialias=True, which has a = -0.5, is off, too"
PY
env/bin/python run.py
