"""The nodes in a real ComfyUI server, over its HTTP API. Skipped, loudly, where there is no ComfyUI."""

from __future__ import annotations

import io
import json
import shutil
import time
from fractions import Fraction

import fake_comfyui as stand_in
import golden_recipe as golden
import numpy
import pytest
import torch
from comfyui_server import node
from PIL import Image
from web import serve

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.timeline.clock import Clock
from rife.timeline.curve import Curve
from rife.timeline.plans import plan

pytest_plugins = ["comfyui_server"]

FRAMES = 3
SIZE = (72, 88)  # not a multiple of the padding


@pytest.fixture(scope="module", autouse=True)
def checkpoint(server):
    """Puts a small RIFE and the frames where the server looks for them; the checkpoint's path."""
    small = stand_in.small_network(IFNet, RELEASES["4.26"])
    path = rife.save_checkpoint(small, server.base / "models" / "frame_interpolation" / "small.safetensors")
    (server.base / "models" / "rife").mkdir(exist_ok=True)
    shutil.copy(path, server.base / "models" / "rife" / "other.safetensors")
    for i, frame in enumerate(_frames()):
        Image.fromarray((frame * 255).round().byte().numpy()).save(server.base / "input" / f"{i}.png")
    Image.new("RGB", (40, 40)).save(server.base / "input" / "square.png")
    return path


def _frames() -> torch.Tensor:
    """A bright disc that moves over a gradient, as the PNGs hold it: (N,H,W,3) in 0..1."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    frames = []
    for i in range(FRAMES):
        disc = ((x - 20 - 12 * i) ** 2 + (y - 36) ** 2 < 200).float()
        frames.append(torch.stack((disc, x / SIZE[1], y / SIZE[0]), -1))
    return (torch.stack(frames) * 255).round() / 255


def images(count=FRAMES) -> dict:
    """Nodes that load the frames into one batch, called "clip"."""
    nodes = {f"load{i}": node("LoadImage", image=f"{i}.png") for i in range(count)}
    last = ["load0", 0]
    for i in range(1, count):
        nodes[f"batch{i}"] = node("ImageBatch", image1=last, image2=[f"load{i}", 0])
        last = [f"batch{i}", 0]
    nodes["clip"] = node("ImageFromBatch", image=last, batch_index=0, length=count)
    return nodes


def interpolation(loader="ours", runner="ours", **options) -> dict:
    prompt = images()
    if loader == "ours":
        # By itself it takes bfloat16 in part where the CPU multiplies it.
        prompt["model"] = node("RIFECheckpointLoader", checkpoint="small.safetensors", precision="fp32")
    else:
        prompt["model"] = node("FrameInterpolationModelLoader", model_name="small.safetensors")
    kind = "RIFEInterpolate" if runner == "ours" else "FrameInterpolate"
    options = {"multiplier": 4, **options}
    prompt["run"] = node(kind, interp_model=["model", 0], images=["clip", 0], **options)
    prompt["save"] = node("SaveImage", images=["run", 0], filename_prefix=f"{loader}-{runner}")
    return prompt


def saved(server, prompt: dict, node="save") -> torch.Tensor:
    pictures = [Image.open(io.BytesIO(server.file(f))) for f in server.run(prompt)[node]["images"]]
    return torch.stack([torch.from_numpy(numpy.array(picture)) for picture in pictures])


def as_saved(frames: torch.Tensor) -> torch.Tensor:
    """Bytes as ComfyUI's SaveImage makes them: cut off, not rounded."""
    return (frames * 255).clamp(0, 255).byte()


def worst(a: torch.Tensor, b: torch.Tensor) -> int:
    assert a.shape == b.shape
    return int((a.int() - b.int()).abs().max())


def mean_off(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())


def test_the_pack_loads_without_a_complaint(server):
    assert "ComfyUI-RIFE" in server.log
    for complaint in ("IMPORT FAILED", "Error while calling comfy_entrypoint", "Cannot import"):
        assert complaint not in server.log, server.log


def test_the_server_offers_our_nodes_with_their_files(server):
    loader = server.get("/object_info/RIFECheckpointLoader")["RIFECheckpointLoader"]
    options = loader["input"]["required"]["checkpoint"][1]["options"]
    assert options[0] == "rife_comfy (bundled)"
    assert {"other.safetensors", "small.safetensors"} <= set(options)
    assert loader["output"] == ["INTERP_MODEL"]
    interpolate = server.get("/object_info/RIFEInterpolate")["RIFEInterpolate"]
    assert interpolate["output_name"] == ["images", "fps", "frame_count", "report", "cuts", "mask"]
    assert list(interpolate["input"]["required"]) == ["interp_model", "images", "multiplier"]
    assert interpolate["output_tooltips"] and "rife" in interpolate["search_aliases"]


def test_the_frames_are_those_of_the_core(server, checkpoint):
    result = saved(server, interpolation())
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu"), _frames(), 4)
    assert worst(result, as_saved(expected)) <= 1
    assert worst(result[::4], as_saved(_frames())) == 0


@pytest.mark.parametrize(("loader", "runner"), [("ours", "native"), ("native", "ours"), ("native", "native")])
def test_both_loaders_feed_both_nodes(server, loader, runner):
    assert worst(saved(server, interpolation(loader, runner)), saved(server, interpolation())) <= 1


def test_a_model_that_comfyui_unloads_between_two_runs_comes_back(server):
    before = saved(server, interpolation(fps=11.0))
    # fps changes, so that the node runs again, on the same model.
    for i, unload in enumerate(({"unload_models": True}, {"unload_models": True, "free_memory": True})):
        assert server.post("/free", unload)[0] == 200
        time.sleep(1.5)  # the worker unloads when it wakes
        assert torch.equal(saved(server, interpolation(fps=12.0 + i)), before)


def test_precision_and_acceleration_in_the_server(server):
    exact = saved(server, interpolation())
    assert 0 < mean_off(saved(server, interpolation(precision="bf16")), exact) < 1
    assert torch.equal(saved(server, interpolation(acceleration="cuda graphs", fps=13.0)), exact)
    assert "No cuda graphs on this machine" in server.log
    prompt = images()
    prompt["model"] = node("RIFECheckpointLoader", checkpoint="small.safetensors")
    ends = {"image0": ["load0", 0], "image1": ["load1", 0]}
    prompt["run"] = node("RIFEInbetween", interp_model=["model", 0], **ends, timestep=0.25, precision="bf16")
    prompt["save"] = node("SaveImage", images=["run", 0], filename_prefix="between")
    assert mean_off(saved(server, prompt), exact[1:2]) < 1


def test_fps_and_frame_count_come_out(server):
    prompt = interpolation(fps=8.0, timesteps="1/3, 2/3")
    del prompt["save"]
    prompt["fps"] = node("PreviewAny", source=["run", 1])
    prompt["count"] = node("PreviewAny", source=["run", 2])
    outputs = server.run(prompt)
    assert float(outputs["fps"]["text"][0]) == 24.0 and outputs["count"]["text"] == ["7"]


TIMINGS = {
    "a frame rate": (
        {"fps": 16.0, "timing": "frame rate", "timing.target_fps": 59.94, "timing.speed": 1.0},
        {"rate": Fraction(60000, 1001)},
    ),
    "a frame rate without its own inputs": ({"fps": 16.0, "timing": "frame rate"}, {"rate": 60}),
    "a loop": ({"loop": True}, {"multiplier": 4, "loop": True}),
    "a loop at a rate": (
        {"fps": 16.0, "timing": "frame rate", "timing.target_fps": 24.0, "loop": True},
        {"rate": 24, "loop": True},
    ),
    "a kept duration": (
        {"timing": "multiplier", "keep_duration": True},
        {"multiplier": 4, "keep_duration": True},
    ),
    "times": ({"timing": "timesteps", "timing.times": "0.25, 2/3"}, {"timesteps": [0.25, Fraction(2, 3)]}),
    "a curve": (
        {
            "fps": 16.0,
            "timing": "retime curve",
            "timing.curve": "0:0, 1/8:1/8, 1/4:0",
            "timing.target_fps": 24.0,
        },
        {"times": Curve([(0, 0), ("1/8", "1/8"), ("1/4", 0)], 24), "rate": 24},
    ),
}


@pytest.mark.parametrize("name", TIMINGS)
def test_timings_give_the_frames_of_the_core(server, checkpoint, name):
    inputs, asked = TIMINGS[name]
    steps = plan(Clock(FRAMES, 16), **asked)
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu"), _frames(), plan=steps)
    prompt = interpolation(**inputs)
    prompt["count"] = node("PreviewAny", source=["run", 2])
    prompt["report"] = node("PreviewAny", source=["run", 3])
    outputs = server.run(prompt)
    facts = json.loads(outputs["report"]["text"][0])
    assert int(outputs["count"]["text"][0]) == len(steps) == facts["frames_out"]
    assert worst(saved(server, interpolation(**inputs)), as_saved(expected)) <= 1
    assert facts["timing_error_s"] == 0 and Fraction(facts["source_fps"]) == Fraction(inputs.get("fps", 24.0))


def test_a_mask_goes_through_with_the_images(server):
    prompt = interpolation()
    prompt["mask"] = node("ImageToMask", image=["clip", 0], channel="red")
    prompt["run"]["inputs"]["mask"] = ["mask", 0]
    prompt["shown"] = node("MaskToImage", mask=["run", 5])
    prompt["save"] = node("SaveImage", images=["shown", 0], filename_prefix="mask")
    result = saved(server, prompt)
    assert worst(result[::4], as_saved(_frames()[..., :1].expand(-1, -1, -1, 3))) == 0 and len(result) == 9


def test_an_unknown_timing_stops_with_our_message(server):
    entry = server.wait(server.queue(interpolation(timing="from the future")))
    error = server.events(entry)["execution_error"]
    assert "'from the future', expected one of multiplier" in error["exception_message"]


def test_inbetween_in_the_middle_and_at_the_ends(server, checkpoint):
    prompt = images()
    prompt["model"] = node("RIFECheckpointLoader", checkpoint="other.safetensors", precision="fp32")
    for name, t in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
        prompt[name] = node(
            "RIFEInbetween", interp_model=["model", 0], image0=["load0", 0], image1=["load1", 0], timestep=t
        )
    prompt["b1"] = node("ImageBatch", image1=["start", 0], image2=["middle", 0])
    prompt["b2"] = node("ImageBatch", image1=["b1", 0], image2=["end", 0])
    prompt["save"] = node("SaveImage", images=["b2", 0], filename_prefix="between")
    result = saved(server, prompt)
    model = rife.load_model(checkpoint, device="cpu")
    assert worst(result, as_saved(rife.interpolate(model, _frames()[:2], 2))) <= 1
    assert worst(result[::2], as_saved(_frames()[:2])) == 0


def test_wrong_input_stops_with_our_message(server):
    prompt = {
        "a": node("LoadImage", image="0.png"),
        "b": node("LoadImage", image="square.png"),
        "model": node("RIFECheckpointLoader", checkpoint="small.safetensors"),
        "run": node(
            "RIFEInbetween", interp_model=["model", 0], image0=["a", 0], image1=["b", 0], timestep=0.5
        ),
        "save": node("PreviewImage", images=["run", 0]),
    }
    entry = server.wait(server.queue(prompt))
    error = server.events(entry)["execution_error"]
    assert error["node_type"] == "RIFEInbetween" and "Resize one of them" in error["exception_message"]


def test_timesteps_that_mean_nothing_stop_with_our_message(server):
    entry = server.wait(server.queue(interpolation(timesteps="half")))
    assert "expected numbers between 0 and 1" in server.events(entry)["execution_error"]["exception_message"]


def test_a_checkpoint_that_is_not_there_does_not_even_start(server):
    prompt = interpolation()
    prompt["model"]["inputs"]["checkpoint"] = "absent.safetensors"
    status, answer = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    assert (
        "There is no checkpoint 'absent.safetensors'"
        in answer["node_errors"]["model"]["errors"][0]["details"]
    )


def offered(server) -> list[str]:
    loader = server.get("/object_info/RIFECheckpointLoader")["RIFECheckpointLoader"]
    return loader["input"]["required"]["checkpoint"][1]["options"]


def test_a_checkpoint_is_downloaded_when_it_is_chosen(server):
    server.hub.files[
        "/Comfy-Org/frame_interpolation/resolve/main/frame_interpolation/rife_v4.25_lite.safetensors"
    ] = golden.release_file("4.25.lite")
    assert "4.25.lite (download)" in offered(server)
    prompt = interpolation(multiplier=2)
    prompt["model"]["inputs"]["checkpoint"] = "4.25.lite (download)"
    assert len(saved(server, prompt)) == 2 * FRAMES - 1
    assert (server.base / "models" / "frame_interpolation" / "rife_v4.25_lite.safetensors").is_file()
    assert "rife_v4.25_lite.safetensors" in offered(server) and "4.25.lite (download)" not in offered(server)
    # The workflow goes on working as it was saved, and the frames are not made again.
    prompt["save"]["inputs"]["filename_prefix"] = "again"
    entry = server.wait(server.queue(prompt))
    assert entry["status"]["status_str"] == "success"
    assert {"model", "run"} <= set(server.events(entry)["execution_cached"]["nodes"])
    assert len(server.hub.requests) == 1


def test_a_download_that_hangs_can_be_cancelled(server):
    server.hub.script = [serve(data=b"x" * 9000, hang=5000)]
    prompt = interpolation()
    prompt["model"]["inputs"]["checkpoint"] = "4.26-author (download)"
    started, before = server.queue(prompt), len(server.hub.requests)
    for _ in range(300):
        if len(server.hub.requests) > before:
            break
        time.sleep(0.1)
    server.post("/interrupt")
    # Left to itself it would wait for 20 s, four times.
    events = server.events(server.wait(started, 15))
    assert events["execution_interrupted"]["node_type"] == "RIFECheckpointLoader"
    assert "4.26-author (download)" in offered(server)


def test_a_download_that_fails_says_what_to_put_where(server):
    prompt = interpolation()
    prompt["model"]["inputs"]["checkpoint"] = "4.25.heavy (download)"
    entry = server.wait(server.queue(prompt))
    message = server.events(entry)["execution_error"]["exception_message"]
    for part in (
        "404",
        "https://huggingface.co/Comfy-Org/",
        "rife_v4.25_heavy.safetensors",
        str(server.base),
    ):
        assert part in message


def test_a_checkpoint_that_was_overwritten_is_loaded_again(server):
    path = server.base / "models" / "frame_interpolation" / "mine.safetensors"
    prompt = interpolation()
    prompt["model"]["inputs"]["checkpoint"] = "mine.safetensors"
    results = []
    for width in (16, 32):
        rife.save_checkpoint(stand_in.small_network(IFNet, RELEASES["4.26"], (width,) * 5), path)
        results.append(saved(server, prompt))
    assert worst(*results) > 1


def test_cancel_stops_a_long_run_and_the_next_one_is_whole(server):
    prompt = images(2)
    prompt["model"] = node("RIFECheckpointLoader", checkpoint="small.safetensors")
    prompt["many"] = node("RepeatImageBatch", image=["clip", 0], amount=500)
    prompt["run"] = node("RIFEInterpolate", interp_model=["model", 0], images=["many", 0], multiplier=100)
    prompt["save"] = node("PreviewImage", images=["run", 0])
    started = server.queue(prompt)
    time.sleep(2)
    asked = time.monotonic()
    server.post("/interrupt")
    events = server.events(server.wait(started, 30))
    assert time.monotonic() - asked < 5
    assert events["execution_interrupted"]["node_type"] == "RIFEInterpolate"
    assert len(saved(server, interpolation(fps=9.0))) == 9


def test_nothing_was_logged_that_looks_like_a_fault_of_ours(server):
    ours = [
        line
        for line in server.log.splitlines()
        if "RIFE" in line and ("Error" in line or "rror while" in line)
    ]
    # The errors that these tests provoke.
    assert not [line for line in ours if "ValueError" not in line and "DownloadError" not in line], ours
