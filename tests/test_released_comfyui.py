"""Released weights in a real ComfyUI: `pytest --released=all tests/test_released_comfyui.py`."""

from __future__ import annotations

import io
import shutil

import numpy
import pytest
import torch
from comfyui_server import node
from PIL import Image
from released import RELEASED, brought

import rife
from rife.training.synthetic import RenderedMotion

pytest_plugins = ["comfyui_server"]


@pytest.mark.parametrize("version", ["4.0", "4.6", "4.26"])
def test_a_graph_runs_with_the_file_as_it_was_released(server, request, version):
    release = next(r for r in RELEASED if r.version == version)
    wanted = request.config.getoption("--released")
    if wanted == "off" or (wanted == "some" and not release.always):
        pytest.skip(f"RIFE {version}: --released={wanted}")
    folder = brought(release)
    if isinstance(folder, str):
        pytest.skip(folder)
    name = f"released_{version}.pkl"
    (server.base / "models" / "rife").mkdir(exist_ok=True)
    shutil.copy(folder / release.path, server.base / "models" / "rife" / name)
    clip = (RenderedMotion(128, 160, seed=5, max_motion=8.0).clip(2) * 255).round().byte()
    for i, frame in enumerate(clip):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(server.base / "input" / f"released{i}.png")
    prompt = {
        "a": node("LoadImage", image="released0.png"),
        "b": node("LoadImage", image="released1.png"),
        "clip": node("ImageBatch", image1=["a", 0], image2=["b", 0]),
        "model": node("RIFECheckpointLoader", checkpoint=name, precision="fp32"),
        "run": node("RIFEInterpolate", interp_model=["model", 0], images=["clip", 0], multiplier=4),
        "save": node("SaveImage", images=["run", 0], filename_prefix=f"released-{version}"),
    }
    made = [Image.open(io.BytesIO(server.file(f))) for f in server.run(prompt)["save"]["images"]]
    frames = torch.stack([torch.from_numpy(numpy.array(picture)) for picture in made])
    expected = rife.interpolate(
        rife.load_model(folder / release.path), clip.permute(0, 2, 3, 1).float() / 255, 4
    )
    assert frames.shape == expected.shape
    assert int((frames.int() - (expected * 255).clamp(0, 255).byte().int()).abs().max()) <= 1
