"""Checkpoints wherever people keep them, in a real ComfyUI server. Skipped, loudly, where there is no ComfyUI."""

from __future__ import annotations

import os
import shutil
import sys

import fake_comfyui as stand_in
import pytest
from PIL import Image

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

pytest_plugins = ["comfyui_server"]


@pytest.fixture(scope="module")
def checkpoint(server, tmp_path_factory):
    """A small RIFE somewhere else; the server has two frames."""
    for i in range(2):
        Image.new("RGB", (64, 64), (90 * i, 60, 60)).save(server.base / "input" / f"frame{i}.png")
    small = stand_in.small_network(IFNet, RELEASES["4.26"])
    return rife.save_checkpoint(small, tmp_path_factory.mktemp("files") / "small.safetensors")


def offered(server) -> list[str]:
    loader = server.get("/object_info/RIFECheckpointLoader")["RIFECheckpointLoader"]
    return loader["input"]["required"]["checkpoint"][1]["options"]


def in_between(checkpoint: str) -> dict:
    nodes = {
        "a": ("LoadImage", {"image": "frame0.png"}),
        "b": ("LoadImage", {"image": "frame1.png"}),
        "model": ("RIFECheckpointLoader", {"checkpoint": checkpoint}),
        "run": (
            "RIFEInbetween",
            {"interp_model": ["model", 0], "image0": ["a", 0], "image1": ["b", 0], "timestep": 0.5},
        ),
        "save": ("PreviewImage", {"images": ["run", 0]}),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


PLACES = {
    "a folder that extra_model_paths.yaml calls frame_interpolation": "drive/interp/one.pkl",
    "a folder that extra_model_paths.yaml calls rife": "drive/rifes/two.pth",
    "the folder of ComfyUI-Frame-Interpolation": "custom_nodes/ComfyUI-Frame-Interpolation/ckpts/rife/rife426.pth",
    "a name that is not ASCII": "models/rife/\u88dc\u9593 \u00e9\u00fc/mod\u00e8le \U0001f39e.safetensors",
    "a sub-folder with a space": "models/frame_interpolation/my models/v 4.26.pt",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_appears_while_the_server_runs_is_listed_and_loads(server, checkpoint, place):
    path = server.base / PLACES[place]
    before = set(offered(server))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(checkpoint, path)
    (name,) = set(offered(server)) - before
    assert os.path.basename(name) == path.name
    assert server.run(in_between(name))["save"]["images"]
    path.unlink()
    assert set(offered(server)) == before
    status, answer = server.post("/prompt", {"prompt": in_between(name)})
    assert status == 400 and "There is no checkpoint" in str(answer["node_errors"])


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_files_and_folders_are_followed_and_dead_ones_left_out(server, checkpoint, tmp_path):
    before = set(offered(server))
    shutil.copy(checkpoint, tmp_path / "real.safetensors")
    rifes = server.base / "models" / "rife"
    rifes.mkdir(exist_ok=True)
    os.symlink(tmp_path, rifes / "linked", target_is_directory=True)
    os.symlink(tmp_path / "real.safetensors", rifes / "link.safetensors")
    os.symlink(tmp_path / "gone.safetensors", rifes / "dead.safetensors")
    new = set(offered(server)) - before
    assert new == {os.path.join("linked", "real.safetensors"), "link.safetensors"}
    for name in new:
        assert server.run(in_between(name))["save"]["images"]
    for link in ("linked", "link.safetensors", "dead.safetensors"):
        (rifes / link).unlink()


def test_a_file_that_cannot_be_used_stops_with_its_name_cause_and_remedy(server):
    path = server.base / "models" / "frame_interpolation" / "page.safetensors"
    path.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    entry = server.wait(server.queue(in_between("page.safetensors")))
    message = server.events(entry)["execution_error"]["exception_message"]
    path.unlink()
    assert "page.safetensors is a web page, not a checkpoint" in message and "Download it again" in message
