"""RIFE Score and RIFE Flow in a real ComfyUI server. Skipped, loudly, where there is no ComfyUI."""

from __future__ import annotations

import io
import json

import fake_comfyui as stand_in
import numpy
import pytest
import torch
from comfyui_server import node
from node_clips import disc
from PIL import Image

import rife
from rife.evaluation.charts import flow_picture
from rife.evaluation.metrics import psnr
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

pytest_plugins = ["comfyui_server"]

FRAMES = 5


@pytest.fixture(scope="module", autouse=True)
def pictures(server):
    """The frames, where the server looks for them."""
    for i, frame in enumerate(disc(FRAMES)):
        Image.fromarray((frame * 255).round().byte().numpy()).save(server.base / "input" / f"disc{i}.png")


def workflow(loader: dict | None = None) -> dict:
    """The clip as "clip", the bundled checkpoint, or another model, as "model"."""
    prompt = {f"load{i}": node("LoadImage", image=f"disc{i}.png") for i in range(FRAMES)}
    last = "load0"
    for i in range(1, FRAMES):
        last, before = f"batch{i}", last
        prompt[last] = node("ImageBatch", image1=[before, 0], image2=[f"load{i}", 0])
    prompt["clip"] = node("ImageFromBatch", image=[last, 0], batch_index=0, length=FRAMES)
    prompt["model"] = loader or node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    return prompt


def shown(prompt: dict, outputs: dict[str, int]) -> None:
    for name, index in outputs.items():
        prompt[name] = node("PreviewAny", source=["run", index])


def pictures_of(server, result, name: str) -> torch.Tensor:
    files = [Image.open(io.BytesIO(server.file(f))) for f in result[name]["images"]]
    return torch.stack([torch.from_numpy(numpy.array(picture)) for picture in files])


def test_score_of_a_model_in_comfyui(server):
    prompt = workflow()
    prompt["run"] = node("RIFEScore", images=["clip", 0], interp_model=["model", 0], true_frames=0)
    shown(prompt, {"report": 0, "psnr": 1, "ssim": 2})
    prompt["heat"] = node("SaveImage", images=["run", 3], filename_prefix="heat")
    prompt["chart"] = node("SaveImage", images=["run", 4], filename_prefix="chart")
    prompt["table"] = node("PreviewAny", source=["run", 5])
    result = server.run(prompt)
    report = json.loads(result["report"]["text"][0])
    planes = disc(FRAMES).permute(0, 3, 1, 2)
    model = rife.load_model(device="cpu")
    expected = [
        psnr(model.inference(planes[i : i + 1], planes[i + 2 : i + 3])[0], planes[i + 1]) for i in (0, 2)
    ]
    assert float(result["psnr"]["text"][0]) == pytest.approx(sum(expected) / 2, abs=0.02)
    assert report["frames"] == 2 and report["methods"]["average"]["gain_dB"] == 0
    assert 0 < float(result["ssim"]["text"][0]) < 1
    assert pictures_of(server, result, "heat").shape == (2, 64, 96, 3)
    assert pictures_of(server, result, "chart").shape == (1, 320, 860, 3)
    assert result["table"]["text"][0].startswith("set,task,group,pair,time,method,motion_px,psnr,ssim")


def test_score_of_two_clips_in_comfyui(server):
    prompt = workflow()
    prompt["run"] = node("RIFEScore", images=["clip", 0], compared=["clip", 0])
    shown(prompt, {"psnr": 1})
    assert float(server.run(prompt)["psnr"]["text"][0]) == 100


def test_flow_in_comfyui(server):
    prompt = workflow()
    prompt["run"] = node(
        "RIFEFlow", interp_model=["model", 0], image0=["clip", 0], timestep=0.25, max_flow=6.0
    )
    prompt["to1"] = node("SaveImage", images=["run", 1], filename_prefix="flow")
    prompt["mask"] = node("MaskToImage", mask=["run", 2])
    prompt["saved"] = node("SaveImage", images=["mask", 0], filename_prefix="mask")
    shown(prompt, {"report": 6})
    result = server.run(prompt)
    planes = disc(FRAMES).permute(0, 3, 1, 2)
    found = rife.load_model(device="cpu", dtype="auto").motion(planes[:-1], planes[1:], 0.25)
    expected = (flow_picture(found.flow1, 6.0) * 255).byte()
    assert (pictures_of(server, result, "to1").int() - expected.int()).abs().max() <= 2
    weights = (found.mask * 255).byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    assert (pictures_of(server, result, "saved").int() - weights.int()).abs().max() <= 2
    assert len(json.loads(result["report"]["text"][0])["pairs"]) == FRAMES - 1


def test_flow_of_comfyuis_own_model_stops_with_our_message(server):
    path = server.base / "models" / "frame_interpolation" / "own.safetensors"
    rife.save_checkpoint(stand_in.small_network(IFNet, RELEASES["4.26"]), path)
    prompt = workflow(node("FrameInterpolationModelLoader", model_name=path.name))
    prompt["run"] = node("RIFEFlow", interp_model=["model", 0], image0=["clip", 0], timestep=0.5)
    prompt["save"] = node("PreviewImage", images=["run", 0])
    error = server.events(server.wait(server.queue(prompt)))["execution_error"]
    assert "Load the same file with Load RIFE Checkpoint" in error["exception_message"]
    prompt["run"] = node("RIFEScore", images=["clip", 0], interp_model=["model", 0], true_frames=2)
    shown(prompt, {"psnr": 1})
    del prompt["save"]
    assert float(server.run(prompt)["psnr"]["text"][0]) > 0
