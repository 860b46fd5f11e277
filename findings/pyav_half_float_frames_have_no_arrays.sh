#!/usr/bin/env bash
# PyAV 18.1.0: a half-float EXR is decoded, and its frame has no array; through `reformat` its lights are cut off.
# Its FFmpeg gives a picture of 16-bit floats as gbrpf16le; `to_ndarray()` raises a ValueError ("Conversion to numpy
# array with format `gbrpf16le` is not yet supported"). Half is what EXRs of renderers and film scanners mostly hold; with 32-bit floats the
# same picture is an array. `reformat` to gbrpf32le has one, too, but all above 1 is 1 in it, which is what floats are kept for.
# The planes, read as float16, have all of it. This pack reads these.
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


def decoded(kind):
    """The frame of an EXR with floats of that kind, half or float."""
    name = f"{kind}_%d.exr"
    values = np.linspace(0, 2, 48 * 64 * 3, dtype=np.float32).reshape(48, 64, 3)
    with av.open(name, "w", format="image2") as container:
        stream = container.add_stream("exr", rate=1, options={"format": kind})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gbrpf32le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="gbrpf32le")))
        container.mux(stream.encode())
    with av.open(name % 1) as container:
        return values, next(container.decode(video=0))


values, frame = decoded("half")
_, whole = decoded("float")
try:
    said = f"an array {frame.to_ndarray().shape}"
except ValueError as error:
    said = f"ValueError: {error}"
through = frame.reformat(format="gbrpf32le").to_ndarray()
planes = [np.frombuffer(plane, np.float16).reshape(48, -1)[:, :64] for plane in frame.planes]
print(f"PyAV {av.__version__}, half floats, {frame.format.name}: {said}")
print(f"32-bit floats, {whole.format.name}: an array {whole.to_ndarray().shape}")
from_planes = np.stack([planes[i] for i in (2, 0, 1)], -1)
off = [float(abs(found - values).max()) for found in (through, from_planes)]
print(f"brightest: {values.max():.3f}, through gbrpf32le {through.max():.3f}, in the planes {from_planes.max():.3f}")
print(f"off by at most: through gbrpf32le {off[0]:.5f}, in the planes {off[1]:.5f}")
if "f16" not in frame.format.name or not said.startswith("ValueError") or off[0] < 0.9 or off[1] > 0.001:
    sys.exit("This behaviour has changed.")
if abs(whole.to_ndarray() - values).max() > 0:
    sys.exit("32-bit floats are no longer read as they were.")
PY
env/bin/python run.py
