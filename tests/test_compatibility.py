"""Graphs made for Fannovel16's pack, on the stand-in and in a real ComfyUI server without that pack."""

from __future__ import annotations

import io
import shutil
from fractions import Fraction

import fake_comfyui as stand_in
import numpy
import pytest
import torch
from PIL import Image

import rife
from rife.checkpoint.catalog import find
from rife.checkpoint.load import load_network
from rife.checkpoint.save import save_checkpoint
from rife.comfyui_workflow import VFI_WIDGETS, convert
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.timeline.clock import Clock
from rife.timeline.plans import plan

pytest_plugins = ["comfyui_server"]

FILE = "rife426.pth"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small 4.26 in a file as his pack has it: a plain state dict."""
    path = tmp_path_factory.mktemp("files") / FILE
    torch.save(stand_in.small_network(IFNet, RELEASES["4.26"]).state_dict(), path)
    return path


@pytest.fixture
def host(tmp_path, checkpoint):
    (tmp_path / "frame_interpolation").mkdir()
    (tmp_path / "rife").mkdir()
    shutil.copy(checkpoint, tmp_path / "rife" / FILE)
    yield from stand_in.installed(tmp_path)


def clip(n=4, h=40, w=56, c=3):
    return torch.rand(n, h, w, c, generator=torch.Generator().manual_seed(1))


def test_the_form_is_his(host):
    form = host.nodes["RIFEVFI"].define_schema().inputs
    names = [one.id for one in form]
    assert names == ["ckpt_name", "frames", *list(VFI_WIDGETS)[1:], "optional_interpolation_states"]
    # Graphs saved before these came do not have them.
    assert [one.id for one in form if one.options.get("optional")] == names[-4:]


def test_frames_come_out_as_of_our_own_node(host, checkpoint):
    frames = clip(c=4)
    result = host.run("RIFEVFI", ckpt_name=FILE, frames=frames, multiplier=3)[0]
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu"), frames[..., :3], 3)
    assert torch.equal(result, expected) and torch.equal(result[::3], frames[..., :3])


def test_skipped_pairs_get_no_frames_and_lists_are_taken_pair_by_pair(host, checkpoint):
    frames = clip()
    states = host.run("RIFEInterpolationStates", frame_indices="1, 7", is_skip_list=True)[0]
    skipped = host.run(
        "RIFEVFI", ckpt_name=FILE, frames=frames, multiplier=2, optional_interpolation_states=states
    )[0]
    listed = host.run("RIFEVFI", ckpt_name=FILE, frames=frames, multiplier=[2, 1])[0]
    times = [0, Fraction(1, 2), 1, 2, Fraction(5, 2), 3]
    steps = plan(Clock(4, 1), times=times)
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu"), frames, plan=steps)
    assert torch.equal(skipped, expected) and torch.equal(listed, expected)
    only = host.run("RIFEInterpolationStates", frame_indices="1", is_skip_list=False)[0]
    assert [only.is_frame_skipped(i) for i in range(3)] == [True, False, True]
    with pytest.raises(ValueError, match="frame_indices"):
        host.run("RIFEInterpolationStates", frame_indices="one", is_skip_list=True)


@pytest.mark.parametrize("torch_compile", [False, True])
def test_torch_compile_is_our_acceleration(host, monkeypatch, torch_compile):
    asked = []
    monkeypatch.setattr(
        host.module("rife.model").Model, "accelerate", lambda model, how: asked.append(how) or model
    )
    host.run("RIFEVFI", ckpt_name=FILE, frames=clip(2), torch_compile=torch_compile)
    assert asked == ["compile" if torch_compile else "off"]


def test_one_frame_stays_one(host):
    assert torch.equal(host.run("RIFEVFI", ckpt_name=FILE, frames=clip(1))[0], clip(1))


HIS = {"RIFE VFI": "RIFEVFI", "Make Interpolation State List": "RIFEInterpolationStates"}


def test_graphs_made_for_his_nodes_just_run_where_his_pack_is_not(host):
    for his, ours in HIS.items():
        a, b = (host.nodes[name].define_schema() for name in (his, ours))
        assert [one.id for one in a.inputs] == [one.id for one in b.inputs]
        assert a.options["display_name"] == his  # also what ComfyUI calls his node by default
    ours = host.run("RIFEVFI", ckpt_name=FILE, frames=clip(2))[0]
    assert torch.equal(host.run("RIFE VFI", ckpt_name=FILE, frames=clip(2))[0], ours)


def test_where_his_pack_has_been_loaded_his_names_are_left_to_it_unless_asked_for(host, monkeypatch):
    host.known.update(dict.fromkeys(HIS, object))
    host.load_pack()
    assert not set(HIS) & set(host.nodes)
    monkeypatch.setenv("RIFE_VFI_ALIAS", "1")
    host.load_pack()
    assert set(HIS) <= set(host.nodes)
    host.known.clear()
    monkeypatch.setenv("RIFE_VFI_ALIAS", "0")
    host.load_pack()
    assert not set(HIS) & set(host.nodes)


def test_the_browser_hears_of_all_inputs_and_the_server_of_those_always_there(host):
    replacement = host.replacements[0]
    assert (replacement.old_node_id, replacement.new_node_id) == ("RIFE VFI", "RIFEVFI")
    assert replacement.old_widget_ids == list(VFI_WIDGETS)
    told = {one["old_id"] for one in replacement.as_dict()["input_mapping"]}
    assert told == {*VFI_WIDGETS, "frames", "optional_interpolation_states"}
    assert {one["old_id"] for one in replacement.input_mapping} == told - {
        "dtype", "torch_compile", "batch_size", "optional_interpolation_states"
    }  # fmt: skip


# In the real ComfyUI.


@pytest.fixture(scope="module")
def files(server, checkpoint):
    his = server.base / "models" / "rife" / FILE
    his.parent.mkdir(exist_ok=True)
    shutil.copy(checkpoint, his)
    # What a converted graph asks for, so that nothing is downloaded.
    converted = server.base / "models" / "frame_interpolation" / find("4.26").file
    save_checkpoint(load_network(checkpoint), converted)
    for i, frame in enumerate(clip(3)):
        Image.fromarray((frame * 255).round().byte().numpy()).save(server.base / "input" / f"old{i}.png")
    yield
    for path in (his, converted):  # other tests have the same server, and look for what is new there
        path.unlink()


def old_prompt(**inputs) -> dict:
    """Exported in 2024: without what his form got later."""
    settings = {
        "ckpt_name": FILE, "frames": ["4", 0], "clear_cache_after_n_frames": 10, "multiplier": 2, "fast_mode": True,
        "ensemble": True, "scale_factor": 1,
    }  # fmt: skip
    return {
        **{str(i): {"class_type": "LoadImage", "inputs": {"image": f"old{i}.png"}} for i in range(3)},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": ["0", 0], "image2": ["1", 0]}},
        "4": {"class_type": "ImageBatch", "inputs": {"image1": ["3", 0], "image2": ["2", 0]}},
        "5": {"class_type": "RIFE VFI", "inputs": {**settings, **inputs}, "_meta": {"title": "RIFE VFI"}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "old"}},
    }


def saved(server, prompt: dict) -> torch.Tensor:
    pictures = [Image.open(io.BytesIO(server.file(f))) for f in server.run(prompt)["6"]["images"]]
    return torch.stack([torch.from_numpy(numpy.array(picture)) for picture in pictures])


def expected(checkpoint, multiplier: int = 2) -> torch.Tensor:
    frames = (clip(3) * 255).round() / 255
    made = rife.interpolate(rife.load_model(checkpoint, device="cpu"), frames, multiplier)
    return (made * 255).clamp(0, 255).byte()


def test_an_old_graph_runs_where_his_pack_is_not_installed(server, files, checkpoint):
    result = saved(server, old_prompt())
    assert int((result.int() - expected(checkpoint).int()).abs().max()) <= 1


def test_an_old_graph_runs_converted(server, files, checkpoint):
    prompt, lines = convert(old_prompt(multiplier=3, dtype="float32"))
    assert lines == ["5: RIFE VFI -> RIFEInterpolate"]
    result = saved(server, prompt)
    assert int((result.int() - expected(checkpoint, 3).int()).abs().max()) <= 1


STATES = {
    "class_type": "Make Interpolation State List",
    "inputs": {"frame_indices": "0", "is_skip_list": True},
    "_meta": {"title": "Make Interpolation State List"},
}


def test_states_run_converted_and_are_not_lost_without_a_word(server, files, checkpoint):
    old = {**old_prompt(optional_interpolation_states=["7", 0]), "7": STATES}
    result = saved(server, convert(old)[0])
    assert (
        len(result) == 4 and int((result.int() - expected(checkpoint)[[0, 2, 3, 4]].int()).abs().max()) <= 1
    )
    assert torch.equal(saved(server, old), result), "an old graph with states runs as it is"
    # As ComfyUI's own replacing leaves it, which drops what is optional.
    replaced = {**old_prompt(), "7": STATES}
    replaced["5"]["class_type"] = "RIFEVFI"
    entry = server.wait(server.queue(replaced))
    assert "is connected to nothing" in server.events(entry)["execution_error"]["exception_message"]


def test_the_server_tells_the_browser_what_replaces_his_nodes(server):
    told = server.get("/node_replacements")
    assert told["RIFE VFI"][0]["new_node_id"] == "RIFEVFI"
    assert told["Make Interpolation State List"][0]["new_node_id"] == "RIFEInterpolationStates"
    node = server.get("/object_info/RIFEVFI")["RIFEVFI"]
    assert node["deprecated"] and list(node["input"]["required"])[:2] == ["ckpt_name", "frames"]
