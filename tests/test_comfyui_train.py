"""The nodes that train and save, in a real ComfyUI server. Skipped, loudly, where there is no ComfyUI."""

from __future__ import annotations

import io
import json

import host as stand_in
import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import rife
from rife.config import RELEASES
from rife.data import RenderedMotion
from rife.ifnet import IFNet
from rife.model import pad_to

pytest_plugins = ["comfyui_server"]

TRIPLET = ("img0", "img1", "ground_truth")


@pytest.fixture(scope="module", autouse=True)
def checkpoint(server):
    """Puts a small RIFE and a triplet where the server looks for them; the checkpoint's path."""
    small = stand_in.small_network(IFNet, RELEASES["4.26"], (16,) * 5)
    for name, image in zip(TRIPLET, triplet(), strict=True):
        Image.fromarray((image * 255).round().byte().numpy()).save(server.base / "input" / f"{name}.png")
    return rife.save_checkpoint(small, server.base / "models" / "frame_interpolation" / "learner.safetensors")


def triplet() -> list[torch.Tensor]:
    """img0, img1 and the true image between them (H,W,3), as the PNGs hold them."""
    sample = RenderedMotion(40, 56, 1, max_motion=4.0).sample(1, 0.5)
    return [(x[0].movedim(0, 2) * 255).round() / 255 for x in (sample.img0, sample.img1, sample.gt)]


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def step(model: list, **options) -> dict:
    return node("RIFETrainStep", interp_model=model, **{x: [x, 0] for x in TRIPLET},
                **{"steps": 1, "learning_rate": 1e-4, "timestep": 0.5, **options})  # fmt: skip


def beginning() -> dict:
    """The images and the model."""
    prompt = {name: node("LoadImage", image=f"{name}.png") for name in TRIPLET}
    return {**prompt, "model": node("RIFECheckpointLoader", checkpoint="learner.safetensors")}


def saving(model: list, prefix: str) -> dict:
    return node("RIFECheckpointSave", interp_model=model, filename_prefix=f"frame_interpolation/{prefix}",
                precision="fp32")  # fmt: skip


def weights(server, prefix: str, at: int = -1) -> dict[str, torch.Tensor]:
    files = sorted((server.base / "output" / "frame_interpolation").glob(f"{prefix}_*.safetensors"))
    return load_file(files[at])


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], **tolerance) -> None:
    assert set(a) == set(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=name, **tolerance or {"atol": 0, "rtol": 0})


def core_steps(checkpoint, count: int) -> dict[str, torch.Tensor]:
    """The weights after `count` steps of `Model.update`."""
    model = rife.load_model(checkpoint, device="cpu")
    img0, img1, gt = (pad_to(x.movedim(2, 0)[None].contiguous(), 64) for x in triplet())
    for _ in range(count):
        model.update(torch.cat((img0, img1), 1), gt, 1e-4, max_grad_norm=1.0)
    return model.net.state_dict()


def test_a_chain_of_steps_trains_and_again_when_it_is_queued_again(server, checkpoint):
    prompt = beginning()
    for i, model in enumerate(("model", "step0", "step1")):
        prompt[f"step{i}"] = step([model, 0])
    prompt["plot"] = node("LossGraphNode", loss=["step0", 3], filename_prefix="loss")  # of a single step
    prompt["report"] = node("PreviewAny", source=["step2", 5])
    prompt["frames"] = node("PreviewImage", images=["step2", 1])
    prompt["teacher"] = node("PreviewImage", images=["step2", 2])
    prompt["save"] = saving(["step2", 0], "chain")
    outputs = server.run(prompt)
    assert outputs["save"]["text"][0].startswith("output/frame_interpolation/chain_00001_3_steps.safetensors")
    report = json.loads(outputs["report"]["text"][0])
    assert report["steps"] == 3 and report["after"]["loss_l1"] < report["before"]["loss_l1"]
    assert len(outputs["plot"]["images"]) == 1
    assert_same(weights(server, "chain"), core_steps(checkpoint, 3), atol=2e-6, rtol=0)

    entry = server.wait(server.queue(prompt))
    cached = set(server.events(entry)["execution_cached"]["nodes"])
    assert "model" in cached and not cached & {"step0", "step1", "step2", "save"}
    assert_same(weights(server, "chain", 0), weights(server, "chain", 1))


def test_a_loop_trains_as_the_chain_does(server, checkpoint):
    if not server.testing_pack.is_dir():
        pytest.skip("this ComfyUI has no tests/, which hold its loop nodes")
    prompt = beginning()
    prompt["open"] = node("TestForLoopOpen", remaining=3, initial_value1=["model", 0])
    prompt["step"] = step(["open", 2])
    prompt["close"] = node("TestForLoopClose", flow_control=["open", 0], initial_value1=["step", 0])
    prompt["save"] = saving(["close", 0], "loop")
    prompt["chain"] = step(["model", 0], steps=3)
    prompt["save2"] = saving(["chain", 0], "same")
    server.run(prompt)
    assert_same(weights(server, "loop"), weights(server, "same"))
    assert_same(weights(server, "loop"), core_steps(checkpoint, 3), atol=2e-6, rtol=0)


def pictures(server, outputs: dict) -> torch.Tensor:
    images = [Image.open(io.BytesIO(server.file(f))) for f in outputs["images"]]
    return torch.stack([torch.from_numpy(numpy.array(image)) for image in images])


def test_a_saved_model_is_in_the_list_and_makes_the_same_frames_here_and_in_comfyuis_own_node(server):
    prompt = beginning()
    prompt["step"] = step(["model", 0], steps=2, learning_rate=1e-3)
    prompt["save"] = saving(["step", 0], "again")
    prompt["clip"] = node("ImageBatch", image1=["img0", 0], image2=["img1", 0])
    runs = {"run": ("RIFEInterpolate", "interp_model"), "native": ("FrameInterpolate", "interp_model")}
    for name, (kind, socket) in runs.items():
        prompt[name] = node(kind, **{socket: ["step", 0]}, images=["clip", 0], multiplier=2)
        prompt[f"{name}_out"] = node("PreviewImage", images=[name, 0])
    first = server.run(prompt)
    listed = server.get("/object_info/RIFECheckpointLoader")["RIFECheckpointLoader"]
    name = "again_00001_2_steps.safetensors"
    assert name in listed["input"]["required"]["checkpoint"][1]["options"]

    again = {k: prompt[k] for k in ("img0", "img1", "clip", "run", "native", "run_out", "native_out")}
    again["model"] = node("RIFECheckpointLoader", checkpoint=name)
    again["native_model"] = node("FrameInterpolationModelLoader", model_name=name)
    again["run"]["inputs"]["interp_model"] = ["model", 0]
    again["native"]["inputs"]["interp_model"] = ["native_model", 0]
    second = server.run(again)
    for run, worst in (("run_out", 0), ("native_out", 1)):
        difference = pictures(server, first[run]).int() - pictures(server, second[run]).int()
        assert difference.abs().max() <= worst, run


def test_a_model_of_comfyuis_loader_is_not_trained(server):
    prompt = beginning()
    prompt["model"] = node("FrameInterpolationModelLoader", model_name="learner.safetensors")
    prompt["step"] = step(["model", 0])
    prompt["save"] = saving(["step", 0], "never")
    error = server.events(server.wait(server.queue(prompt)))["execution_error"]
    assert "Load the same file there" in error["exception_message"]


def test_a_model_of_comfyuis_loader_is_saved(server, checkpoint):
    prompt = {"model": node("FrameInterpolationModelLoader", model_name="learner.safetensors")}
    prompt["save"] = saving(["model", 0], "converted")
    server.run(prompt)
    assert_same(weights(server, "converted"), load_file(checkpoint))


def test_nothing_outside_the_output_folder_is_written(server):
    prompt = {"model": node("RIFECheckpointLoader", checkpoint="learner.safetensors")}
    prompt["save"] = saving(["model", 0], "../../../elsewhere")
    entry = server.wait(server.queue(prompt))
    assert "outside the output folder" in server.events(entry)["execution_error"]["exception_message"]
    assert not list(server.base.glob("*elsewhere*"))
