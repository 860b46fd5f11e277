"""Load RIFE Checkpoint."""

from __future__ import annotations

import gc
import json
import os
import weakref

import fake_comfyui as stand_in
import pytest
import torch
from node_clips import on_disk


def test_the_bundled_checkpoint_is_the_first_and_default_choice(host):
    combo = host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options
    assert combo["options"][:3] == ["rife_comfy (bundled)", "small.safetensors", "4.25 (download)"]
    assert combo["default"] == "rife_comfy (bundled)"


def test_files_of_both_folders_are_listed_and_twins_carry_their_folder(host, checkpoint):
    (host.models_dir / "rife" / "sub").mkdir()
    (host.models_dir / "rife" / "sub" / "other.pkl").write_bytes(b"")
    (host.models_dir / "rife" / "notes.txt").write_bytes(b"")
    (host.models_dir / "rife" / "small.safetensors").write_bytes(checkpoint.read_bytes())
    options = on_disk(host)
    assert options[1:] == [
        "frame_interpolation/small.safetensors",
        "rife/small.safetensors",
        os.path.join("sub", "other.pkl"),
    ]
    assert host.run("RIFECheckpointLoader", checkpoint="rife/small.safetensors")


def test_one_file_in_both_folders_is_listed_once(host, checkpoint):
    os.link(checkpoint, host.models_dir / "rife" / "small.safetensors")
    options = on_disk(host)
    assert options[1:] == ["small.safetensors"]


def test_the_parts_of_a_three_network_family_are_one_entry(host):
    folder = host.models_dir / "rife" / "RIFE_v2"
    folder.mkdir()
    for part in ("flownet", "contextnet", "unet"):
        (folder / f"{part}.pkl").write_bytes(b"")
    options = on_disk(host)
    assert options[1:] == [os.path.join("RIFE_v2", "flownet.pkl"), "small.safetensors"]


def test_a_folder_that_only_extra_model_paths_names_gets_the_usual_extensions(tmp_path):
    host = stand_in.Host(tmp_path)
    folder_paths = host.modules["folder_paths"]
    folder_paths.add_model_folder_path("rife", str(tmp_path / "elsewhere"))
    folder_paths.folder_names_and_paths["rife"] = ([str(tmp_path / "elsewhere")], set())
    assert folder_paths.folder_names_and_paths["rife"][1] == set()
    generator = stand_in.installed(tmp_path)
    host = next(generator)
    try:
        paths, extensions = host.modules["folder_paths"].folder_names_and_paths["rife"]
        assert ".pkl" in extensions and str(tmp_path / "rife") in paths
    finally:
        generator.close()


@pytest.mark.parametrize("pack", ["ComfyUI-Frame-Interpolation", "comfyui-frame-interpolation"])
def test_files_of_the_other_pack_are_listed_also_those_that_it_fetches_later(tmp_path, checkpoint, pack):
    (tmp_path / "custom_nodes" / pack).mkdir(parents=True)
    for folder in ("frame_interpolation", "rife"):
        (tmp_path / folder).mkdir()
    generator = stand_in.installed(tmp_path)
    host = next(generator)
    try:
        assert on_disk(host) == ["rife_comfy (bundled)"]
        (tmp_path / "custom_nodes" / pack / "ckpts" / "rife").mkdir(parents=True)
        (tmp_path / "custom_nodes" / pack / "ckpts" / "film").mkdir()
        os.link(checkpoint, tmp_path / "custom_nodes" / pack / "ckpts" / "rife" / "rife47.pth")
        os.link(checkpoint, tmp_path / "custom_nodes" / pack / "ckpts" / "film" / "film.pt")
        assert on_disk(host) == ["rife_comfy (bundled)", "rife47.pth"]
        assert host.run("RIFECheckpointLoader", checkpoint="rife47.pth")
    finally:
        generator.close()


def test_the_loader_gives_a_patcher_that_can_be_rebuilt_from_its_recipe(host, model):
    factory, arguments = model.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert again.model is not model.model
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), model.model.parameters(), strict=True)
    )


def test_loading_one_file_twice_shares_its_weights(host, model, tmp_path):
    again = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    assert again.model is model.model
    os.symlink(
        host.models_dir / "frame_interpolation" / "small.safetensors", host.models_dir / "rife" / "link.pth"
    )
    assert host.run("RIFECheckpointLoader", checkpoint="link.pth")[0].model is model.model
    other = host.run("RIFECheckpointLoader", checkpoint="small.safetensors", precision="fp16")[0]
    assert other.model is not model.model and model.model.get_dtype() == torch.float32


def test_a_file_that_was_overwritten_is_not_shared(host, model):
    path = host.models_dir / "frame_interpolation" / "small.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0].model is not model.model


def test_nothing_of_a_model_stays_when_it_is_unloaded(host):
    first = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    second = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    weight = weakref.ref(next(first.model.parameters()))
    del first
    gc.collect()
    assert weight() is not None and second is not None
    del second
    gc.collect()
    assert weight() is None


def test_weights_loaded_in_inference_mode_can_still_be_trained(model):
    assert not any(p.is_inference() for p in model.model.parameters())


@pytest.mark.parametrize(
    ("precision", "half", "expected"),
    [
        ("auto", False, "float32"),
        ("auto", True, "float16"),
        ("fp32", True, "float32"),
        ("bf16", True, "bfloat16"),
    ],
)
def test_precision_follows_the_device_unless_it_is_named(host, precision, half, expected):
    host.half = half
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint="small.safetensors", precision=precision)
    assert patcher.model.get_dtype() == getattr(torch, expected) == patcher.model_dtype()


def test_auto_takes_bf16_where_the_host_trusts_the_device_with_that_only(host):
    host.bf16 = True
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")
    assert patcher.model_dtype() == torch.bfloat16


def test_another_precision_for_one_run_leaves_the_model_as_it_was(host, model):
    images = torch.rand(3, 32, 48, 3)
    exact = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2)[0]
    result, *_, facts, _, _ = host.run(
        "RIFEInterpolate", interp_model=model, images=images, multiplier=2, precision="bf16"
    )
    assert model.model.get_dtype() == torch.float32 and json.loads(facts)["precision"] == "bfloat16"
    assert 0 < (result - exact).abs().mean() < 0.005
    between = {"interp_model": model, "image0": images[:1], "image1": images[1:2], "timestep": 0.5}
    assert torch.equal(host.run("RIFEInbetween", **between, precision="bf16")[0][0], result[1])


def test_acceleration_that_does_not_work_here_is_said_and_changes_nothing(host, model, caplog):
    images = torch.rand(3, 32, 48, 3)
    expected = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2)[0]
    asked = {"interp_model": model, "images": images, "multiplier": 2, "acceleration": "cuda graphs"}
    assert torch.equal(host.run("RIFEInterpolate", **asked)[0], expected)
    assert "No cuda graphs on this machine" in caplog.text


def test_the_fingerprint_changes_when_the_file_is_overwritten(host, checkpoint):
    loader = host.nodes["RIFECheckpointLoader"]
    path = host.models_dir / "frame_interpolation" / "mine.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    first = loader.fingerprint_inputs("mine.safetensors", "auto", "auto")
    assert loader.fingerprint_inputs("mine.safetensors", "auto", "auto") == first
    os.utime(path, ns=(1, 1))
    assert loader.fingerprint_inputs("mine.safetensors", "auto", "auto") != first


def test_a_file_that_is_no_rife_is_refused_with_its_reason(host):
    torch.save({"conv.weight": torch.zeros(1)}, host.models_dir / "rife" / "upscaler.pth")
    with pytest.raises(ValueError, match="not a RIFE"):
        host.run("RIFECheckpointLoader", checkpoint="upscaler.pth")
    with pytest.raises(FileNotFoundError, match="models/frame_interpolation"):
        host.run("RIFECheckpointLoader", checkpoint="absent.pkl")
