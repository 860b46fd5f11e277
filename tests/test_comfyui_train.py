"""The nodes that train and save, in a real ComfyUI server. Skipped, loudly, where there is no ComfyUI."""

from __future__ import annotations

import io
import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import fake_comfyui as stand_in
import numpy
import pytest
import torch
from comfyui_server import node
from PIL import Image
from safetensors.torch import load_file

import rife
from rife.model.inputs import pad_to
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.training.synthetic import RenderedMotion
from rife.video.writer import VideoWriter

pytest_plugins = ["comfyui_server"]

TRIPLET = ("img0", "img1", "ground_truth")


@pytest.fixture(scope="module", autouse=True)
def checkpoint(server):
    """Puts a small RIFE and a triplet where the server looks for them; the checkpoint's path."""
    small = stand_in.small_network(IFNet, RELEASES["4.26"], (16,) * 5)
    for name, image in zip(TRIPLET, triplet(), strict=True):
        Image.fromarray((image * 255).round().byte().numpy()).save(server.base / "input" / f"{name}.png")
    folder = server.base / "models" / "frame_interpolation"
    tiny = replace(RELEASES["4.26"], scales=(2, 1), pad=32)
    rife.save_checkpoint(stand_in.small_network(IFNet, tiny, (16, 16)), folder / "tiny.safetensors")
    _write_clip(server.base / "input")
    return rife.save_checkpoint(small, folder / "learner.safetensors")


def _write_clip(place) -> None:
    """A clip of 14 frames as clip.mp4, in a folder of clips, and as a folder of pictures."""
    frames = (RenderedMotion(40, 56, 1, max_motion=3.0).clip(14).movedim(1, 3) * 255).round().byte().numpy()
    with VideoWriter(place / "clip.mp4", Fraction(24), 56, 40) as writer:
        for frame in frames:
            writer.write(frame)
    (place / "clips").mkdir()
    shutil.copy(place / "clip.mp4", place / "clips")
    (place / "pictures").mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(place / "pictures" / f"{i:03}.png")


def triplet() -> list[torch.Tensor]:
    """img0, img1 and the true image between them (H,W,3), as the PNGs hold them."""
    sample = RenderedMotion(40, 56, 1, max_motion=4.0).sample(1, 0.5)
    return [(x[0].movedim(0, 2) * 255).round() / 255 for x in (sample.img0, sample.img1, sample.gt)]


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
    assert "save" not in outputs  # a text would be taken for the job's picture
    assert (server.base / "output/frame_interpolation/chain_00001_3_steps.safetensors").is_file()
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
    for name, kind in {"run": "RIFEInterpolate", "native": "FrameInterpolate"}.items():
        prompt[name] = node(kind, interp_model=["step", 0], images=["clip", 0], multiplier=2)
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


# a training

QUICK = {"batch_size": 1, "grad_accumulation_steps": 1, "steps": 4, "learning_rate": 1e-4, "seed": 0,
         "training_dtype": "fp32", "crop": 32, "warm_up": 0, "allow_worse": True}  # fmt: skip


def training(prefix: str, **options) -> dict:
    """A workflow with everything that comes out of the node."""
    prompt = {
        "model": node("RIFECheckpointLoader", checkpoint="tiny.safetensors"),
        "video": node("LoadVideo", file="clip.mp4"),
        "train": node("RIFETrain", interp_model=["model", 0], **{**QUICK, **options}),
        "save": saving(["train", 0], prefix),
        "loss": node("LossGraphNode", loss=["train", 1], filename_prefix="loss"),
        "steps": node("PreviewAny", source=["train", 2]),
        "report": node("PreviewAny", source=["train", 7]),
    }
    for i, name in enumerate(("plot", "before", "after", "truth"), start=3):
        prompt[name] = node("PreviewImage", images=["train", i])
    return prompt


def test_a_training_on_a_video_gives_model_plot_frames_and_report(server):
    outputs = server.run(training("video", video=["video", 0]))
    report = json.loads(outputs["report"]["text"][0])
    assert report["learned_from"] == {"shots": 1, "frames": 11} and report["held_out"]["triplets"] == 1
    assert report["steps"] == 4 and outputs["steps"]["text"] == ["4"] and not report["cancelled"]
    assert pictures(server, outputs["plot"]).shape == (1, 640, 960, 3)
    shapes = {name: tuple(pictures(server, outputs[name]).shape) for name in ("before", "after", "truth")}
    assert set(shapes.values()) == {(1, 40, 56, 3)}
    assert list((server.base / "output/frame_interpolation").glob("video_00001_4_steps*"))
    assert len(outputs["loss"]["images"]) == 1


def test_images_videos_and_folders_of_one_clip_give_one_model(server):
    prompt = training("components", images=["frames", 0])
    prompt["frames"] = node("GetVideoComponents", video=["video", 0])
    server.run(prompt)
    server.run(training("folder", folder="clips"))
    server.run(training("file", video=["video", 0]))
    assert_same(weights(server, "folder"), weights(server, "file"))
    # ComfyUI decodes by another way of converting colours.
    assert_same(weights(server, "components"), weights(server, "file"), atol=1e-3, rtol=0)


def test_a_list_of_pictures_and_a_folder_of_them_are_one_clip(server):
    prompt = training("list", images=["list", 0])
    prompt["frames"] = node("GetVideoComponents", video=["video", 0])
    prompt["list"] = node("RebatchImages", images=["frames", 0], batch_size=1)
    for workflow in (prompt, training("pictures", folder="pictures")):
        report = json.loads(server.run(workflow)["report"]["text"][0])
        assert report["learned_from"] == {"shots": 1, "frames": 11}


def test_a_training_is_not_repeated_unless_something_changed(server):
    prompt = training("cached", folder="clips")
    server.run(prompt)
    entry = server.wait(server.queue(prompt))
    assert "train" in server.events(entry)["execution_cached"]["nodes"]
    shutil.copy(server.base / "input" / "clip.mp4", server.base / "input" / "clips" / "second.mp4")
    entry = server.wait(server.queue(prompt))
    assert "train" not in server.events(entry)["execution_cached"]["nodes"]
    assert json.loads(entry["outputs"]["report"]["text"][0])["learned_from"]["shots"] == 2


def test_cancel_ends_a_training_and_the_workflow_goes_on_with_the_best_so_far(server):
    started = server.queue(training("cancelled", video=["video", 0], steps=1000000, score_every=20))
    end = time.monotonic() + 60
    while "step 20 of 1000000" not in server.log and time.monotonic() < end:
        time.sleep(0.2)
    asked = time.monotonic()
    server.post("/interrupt")
    entry = server.wait(started, 60)
    assert time.monotonic() - asked < 20
    assert entry["status"]["status_str"] == "success", (server.log[-3000:], server.events(entry))
    report = json.loads(entry["outputs"]["report"]["text"][0])
    assert report["cancelled"] and 0 < report["steps"] < 1000000
    assert weights(server, "cancelled")
    server.run(training("after", video=["video", 0]))


def pushed(server, prompt: dict) -> Iterator[bytes]:
    """Runs a workflow; what the server pushes over its websocket until it ends, as bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        line.sendall(
            b"GET /ws?clientId=watcher HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: d2F0Y2hpbmcgYSB0cmFpbg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        stream = line.makefile("rb")
        while stream.readline().strip():
            pass
        status, answer = server.post("/prompt", {"prompt": prompt, "client_id": "watcher"})
        assert status == 200, answer
        while True:
            size = stream.read(2)[1]
            if size > 125:
                size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
            data = stream.read(size)
            yield data
            if b"execution_success" in data or b"execution_error" in data:
                return


def test_a_picture_of_the_training_comes_while_it_runs(server):
    messages = list(pushed(server, training("seen", video=["video", 0], steps=400, seed=5)))
    # A binary message is its kind, the picture's format (1: JPEG), the picture.
    previews = [Image.open(io.BytesIO(x[8:])) for x in messages if x[:8] == bytes((0, 0, 0, 1, 0, 0, 0, 1))]
    assert previews and all(max(picture.size) <= 512 for picture in previews)
    assert b"execution_success" in messages[-1]


def test_what_is_worse_than_the_start_stops_the_workflow(server):
    prompt = training("worse", video=["video", 0], learning_rate=0.05, steps=2, allow_worse=False)
    error = server.events(server.wait(server.queue(prompt)))["execution_error"]
    assert (
        error["node_type"] == "RIFETrain" and "is better than the given model" in error["exception_message"]
    )
    with pytest.raises(IndexError):
        weights(server, "worse")


def test_no_data_stops_the_workflow_with_what_to_do(server):
    error = server.events(server.wait(server.queue(training("none"))))["execution_error"]
    assert "nothing to learn from" in error["exception_message"]
