"""Beside the packs that most users of videos have: no name clashes, and graphs mix. Skipped, loudly, without them.

    BESIDE=~/packs COMFYUI_PATH=~/ComfyUI pytest tests/test_comfyui_beside.py

where ~/packs holds clones of ComfyUI-Frame-Interpolation and ComfyUI-VideoHelperSuite, and ComfyUI's environment what
these need (opencv-python-headless, imageio-ffmpeg, kornia).
"""

from __future__ import annotations

import os
import time
import warnings
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import torch
from comfyui_server import Server, node
from find_comfyui import comfyui_or_reason
from workflow_files import write_clip

from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.video.reader import probe, read_frames

NAMES = ("ComfyUI-Frame-Interpolation", "ComfyUI-VideoHelperSuite")
RATE, FRAMES = Fraction(24000, 1001), 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """ComfyUI with all three packs, a clip, and one checkpoint, which lies where Fannovel16's pack keeps its own."""
    comfyui, folder = comfyui_or_reason(), Path(os.environ.get("BESIDE", "")).expanduser()
    missing = [name for name in NAMES if not (folder / name / "__init__.py").is_file()]
    if isinstance(comfyui, str) or not os.environ.get("BESIDE") or missing:
        reason = comfyui if isinstance(comfyui, str) else f"BESIDE names no folder with {', '.join(NAMES)}"
        warnings.warn(f"Not tested beside other packs: {reason}", stacklevel=1)
        pytest.skip(reason)
    packs = [folder / name for name in NAMES]
    with Server(*comfyui, tmp_path_factory.mktemp("beside"), packs=packs) as running:
        checkpoints = running.other_pack / "ckpts" / "rife"
        checkpoints.mkdir(parents=True, exist_ok=True)
        torch.save(network_of_426(), checkpoints / "rife426.pth")
        write_clip(running.base / "input" / "clip.mp4", RATE, FRAMES)
        yield running


def network_of_426() -> dict[str, torch.Tensor]:
    """Weights of 4.26's shape, random but with flows of a few pixels."""
    torch.manual_seed(0)
    weights = IFNet(RELEASES["4.26"]).state_dict()
    return {key: value * 0.3 if "lastconv" in key else value for key, value in weights.items()}


def loaded_by_vhs() -> dict:
    """VideoHelperSuite's Load Video and Video Info, and our loader."""
    options = {"force_rate": 0, "custom_width": 0, "custom_height": 0}
    options |= {"frame_load_cap": 0, "skip_first_frames": 0, "select_every_nth": 1}
    return {
        "clip": node("VHS_LoadVideo", video="clip.mp4", **options),
        "info": node("VHS_VideoInfoLoaded", video_info=["clip", 3]),
        "model": node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)"),
    }


def combined(**inputs) -> dict:
    """VideoHelperSuite's Video Combine, without loss."""
    options = {"loop_count": 0, "pingpong": False, "save_output": True, "filename_prefix": "beside"}
    return node("VHS_VideoCombine", format="video/ffv1-mkv", level="3", coder="1", context="1", gop_size=1,
                slices="16", slicecrc="1", pix_fmt="bgra", save_metadata=False, **options, **inputs)  # fmt: skip


def test_all_packs_load_and_every_node_is_its_own_packs(server):
    assert "IMPORT FAILED" not in server.log and "Cannot import" not in server.log, server.log
    owner = {name: info["python_module"] for name, info in server.get("/object_info").items()}
    ours = {name for name, module in owner.items() if module == "custom_nodes.ComfyUI-RIFE"}
    assert ours and all(name.startswith("RIFE") and " " not in name for name in ours)
    for name in ("RIFE VFI", "Make Interpolation State List", "FILM VFI"):
        assert owner[name] == f"custom_nodes.{NAMES[0]}"
    for name in ("VHS_LoadVideo", "VHS_VideoCombine", "VHS_BatchManager"):
        assert owner[name] == f"custom_nodes.{NAMES[1]}"


def test_our_pack_adds_no_routes_and_one_script(server):
    """What there is nothing of cannot clash; help pages are files under our own name."""
    ours = [path for path in server.get("/extensions") if "ComfyUI-RIFE" in path]
    assert ours == ["/extensions/ComfyUI-RIFE/old_graphs.js"]
    help_page = server.get("/extensions/ComfyUI-RIFE/docs/RIFEInterpolate.md", raw=True)
    assert help_page.startswith(b"# RIFE Interpolate")


def pictures(server, saved: dict, path) -> list[numpy.ndarray]:
    """The frames of a saved video."""
    path.write_bytes(server.file({key: saved[key] for key in ("filename", "subfolder", "type")}))
    return list(read_frames(path))


def whole() -> dict:
    """Load Video of VideoHelperSuite, RIFE Interpolate, Video Combine."""
    prompt = loaded_by_vhs()
    prompt["run"] = node(
        "RIFEInterpolate", interp_model=["model", 0], images=["clip", 0], multiplier=2, fps=["info", 0]
    )
    prompt["save"] = combined(images=["run", 0], frame_rate=["run", 1], audio=["clip", 2])
    return prompt


def test_a_clip_goes_from_vhs_through_ours_to_vhs(server, tmp_path):
    (saved,) = server.run(whole())["save"]["gifs"]
    frames = pictures(server, saved, tmp_path / "out.mkv")
    assert len(frames) == 2 * FRAMES - 1 and frames[0].shape[:2] == (64, 96)
    video = probe(tmp_path / "out.mkv")
    assert video.has_audio and abs(video.rate - 2 * RATE) < Fraction(1, 50)


def last_of_the_loop(server, before: int, seconds: float = 120) -> dict:
    """The outputs of the run that ended a loop of Meta Batch Manager, which queues itself anew after each chunk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for entry in list(server.get("/history").values())[before:]:
            assert entry["status"]["status_str"] == "success", entry["status"]
            if entry["outputs"].get("save", {}).get("gifs"):
                return entry["outputs"]
        time.sleep(0.2)
    raise AssertionError(f"no video after {seconds} s:\n{server.log[-3000:]}")


def test_chunks_of_vhs_are_the_frames_of_the_whole_clip(server, tmp_path):
    (saved,) = server.run(whole())["save"]["gifs"]
    prompt, before = loaded_by_vhs(), len(server.get("/history"))
    prompt["batch"] = node("VHS_BatchManager", frames_per_batch=12)
    prompt["clip"]["inputs"]["meta_batch"] = ["batch", 0]
    prompt["run"] = node("RIFEInterpolateChunks", interp_model=["model", 0], images=["clip", 0],
                         meta_batch=["batch", 0], fps=["info", 0], multiplier=2)  # fmt: skip
    prompt["save"] = combined(images=["run", 0], frame_rate=["run", 1], meta_batch=["batch", 0])
    server.queue(prompt)
    (joined,) = last_of_the_loop(server, before)["save"]["gifs"]
    one, other = (pictures(server, s, tmp_path / f"{i}.mkv") for i, s in enumerate((saved, joined)))
    assert len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))
    assert sum("requeue" in str(entry["prompt"][2]) for entry in server.get("/history").values()) >= 2


def test_fannovels_node_and_ours_in_one_graph_give_the_same_frames(server):
    """The same file: his by name, ours from the folder of his pack."""
    prompt = loaded_by_vhs()
    prompt["model"]["inputs"]["checkpoint"] = "rife426.pth"
    prompt["size"] = node(
        "ImageScale", image=["clip", 0], upscale_method="bilinear", width=128, height=64, crop="disabled"
    )
    prompt["his"] = node("RIFE VFI", ckpt_name="rife426.pth", frames=["size", 0], clear_cache_after_n_frames=10,
                         multiplier=3, fast_mode=True, ensemble=True, scale_factor=1.0, dtype="float32",
                         torch_compile=False, batch_size=1)  # fmt: skip
    prompt["ours"] = node("RIFEInterpolate", interp_model=["model", 0], images=["size", 0], multiplier=3,
                          cuts="off", repeated_frames="off")  # fmt: skip
    prompt["score"] = node("RIFEScore", images=["his", 0], compared=["ours", 0])
    prompt["psnr"] = node("PreviewAny", source=["score", 1])
    assert float(server.run(prompt, 300)["psnr"]["text"][0]) > 60
