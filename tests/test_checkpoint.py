"""Files in, networks out: detection in every spelling, safe reading, whole writing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import golden_recipe as golden
import pytest
import safetensors
import torch
from safetensors.torch import save_file

import rife
from rife.checkpoint.detection import clean_keys
from rife.checkpoint.files import read_file
from rife.checkpoint.load import load_network, read_checkpoint
from rife.checkpoint.save import convert
from rife.networks.config import AMBIGUOUS, RELEASES
from rife.networks.ifnet import IFNet
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE

SPELLINGS = {
    "plain": lambda sd: dict(sd),
    "ddp": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "ddp with teacher and caltime": lambda sd: {
        **{f"module.{k}": v for k, v in sd.items()},
        "module.teacher.conv0.0.0.weight": torch.zeros(2, 2, 3, 3),
        "module.caltime.0.weight": torch.zeros(2, 2, 3, 3),
    },
    "flownet": lambda sd: {f"flownet.{k}": v for k, v in sd.items()},
    "ComfyUI": lambda sd: {
        (f"blocks.{k[5]}.{k.split('.', 1)[1]}" if k.startswith("block") and k[5].isdigit() else k): v
        for k, v in sd.items()
    },
    "wrapped": lambda sd: {"epoch": 3, "state_dict": dict(sd)},
    "compiled": lambda sd: {f"_orig_mod.{k}": v for k, v in sd.items()},
    "half": lambda sd: {k: v.half() for k, v in sd.items()},
    "a training run's": lambda sd: {
        "step": 3,
        "model": {f"module.{k}": v for k, v in sd.items()},
        "optimizer": {},
    },
}


def _meta(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        if name in LEGACY_RELEASES:
            return LegacyRIFE(LEGACY_RELEASES[name]).state_dict()
        return IFNet(RELEASES[name]).state_dict()


# `flownet.` is one of three prefixes in the three-network families, and ComfyUI has no spelling for them.
DETECTIONS = [(name, spelling) for name in RELEASES for spelling in SPELLINGS] + [
    (name, spelling)
    for name in LEGACY_RELEASES
    for spelling in SPELLINGS
    if spelling not in ("flownet", "ComfyUI")
]


@pytest.mark.parametrize("name, spelling", DETECTIONS)
def test_every_release_is_detected_in_every_spelling(name, spelling):
    found = rife.detect(SPELLINGS[spelling](_meta(name)))
    if name in LEGACY_RELEASES:
        assert found == LEGACY_RELEASES[name]
        return
    twins = next((group for group in AMBIGUOUS if name in group), (name,))
    assert found == replace(RELEASES[twins[0]], teacher=RELEASES[name].teacher)
    assert name in found.versions or name in twins


def test_that_is_both_tables_and_at_least_420_detections():
    assert len(set(DETECTIONS)) == len(DETECTIONS) >= 420
    named = {version for row in LEGACY_RELEASES.values() for version in row.versions} | set(RELEASES)
    assert {"1.0", "1.8", "2.0", "3.0", "arXiv-2F1.5C", "RIFE_m", "3.5", "4.0", "4.26.heavy"} <= named


@pytest.mark.parametrize("arch", [a for a in golden.architectures() if a in RELEASES])
def test_networks_have_exactly_the_tensors_of_the_released_files(arch):
    assert {k: list(v.shape) for k, v in _meta(arch).items()} == golden.shapes(arch)


@pytest.mark.parametrize("name", ["RIFE_2R", "3.8"])
def test_variant_decides_between_twins(name):
    network = load_network(golden.state_dict(name), variant=name)
    assert network.config.versions == (name,)


def test_refinement_in_a_4x_file_is_kept_but_off():
    with torch.device("meta"):
        config = rife.IFNetConfig(**{**RELEASES["4.3"].__dict__, "refine": "unet"})
        state_dict = IFNet(config).state_dict()
    found = rife.detect(state_dict)
    assert (found.refine, found.refine_act, found.refine_default) == ("unet", "leaky", False)


@pytest.mark.parametrize(
    "tensors, said",
    [
        ({}, "not a RIFE"),
        ({"extract.extract_sublevels.convs.0.0.conv.weight": torch.zeros(1)}, "not a RIFE"),
        ({"model.0.weight": torch.zeros(3, 3, 3, 3)}, "not a RIFE"),
        (
            {"conv_first.weight": torch.zeros(1), "body.0.rdb1.conv1.weight": torch.zeros(1)},
            "ESRGAN|upscalers",
        ),
    ],
)
def test_other_networks_are_refused_with_what_was_found(tensors, said):
    with pytest.raises(rife.UnknownCheckpointError, match=said):
        load_network(tensors)


def test_folded_beta_is_refused():
    state_dict = {k: v for k, v in golden.state_dict("4.6").items() if not k.endswith("beta")}
    with pytest.raises(rife.UnknownCheckpointError, match="beta"):
        load_network(state_dict)


def test_missing_tensors_are_named():
    state_dict = golden.state_dict("4.22.lite")
    del state_dict["block2.conv0.0.0.bias"]
    with pytest.raises(rife.UnknownCheckpointError, match="block2.conv0.0.0.bias"):
        load_network(state_dict)


def test_nan_weights_are_refused():
    state_dict = golden.state_dict("4.22.lite")
    state_dict["block0.lastconv.0.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(rife.UnknownCheckpointError, match="NaN"):
        load_network(state_dict)


def test_integer_weights_are_refused():
    state_dict = golden.state_dict("4.22.lite")
    state_dict["encode.cnn0.weight"] = state_dict["encode.cnn0.weight"].to(torch.int8)
    with pytest.raises(rife.UnknownCheckpointError, match="int8"):
        load_network(state_dict)


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    trap = tmp_path / "trap"
    file = tmp_path / "evil.pkl"
    torch.save({"state_dict": _RunsCode(trap)}, file)
    with pytest.raises(rife.UnknownCheckpointError, match="evil.pkl"):
        load_network(file)
    file.write_bytes(pickle.dumps(_RunsCode(trap)))
    with pytest.raises(rife.UnknownCheckpointError, match="refused"):
        load_network(file)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pkl", ".safetensors"])
def test_broken_files_say_their_name(tmp_path, content, suffix):
    file = tmp_path / f"broken{suffix}"
    file.write_bytes(content)
    with pytest.raises(rife.UnknownCheckpointError, match="broken"):
        load_network(file)


def test_missing_file_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_network(tmp_path / "none.pkl")
    with pytest.raises(FileNotFoundError, match="flownet.pkl"):
        load_network(tmp_path)


def test_a_folder_with_flownet_pkl_loads(tmp_path):
    state_dict = golden.state_dict("4.22.lite")
    torch.save({f"module.{k}": v for k, v in state_dict.items()}, tmp_path / "flownet.pkl")
    network = load_network(tmp_path)
    assert network.config == RELEASES["4.22.lite"]
    assert torch.equal(network.state_dict()["encode.cnn0.weight"], state_dict["encode.cnn0.weight"])


@pytest.mark.parametrize("name", ["RIFE_2R", "3.8", "4.22.lite"])
def test_saved_files_say_what_they_are_so_that_nothing_is_guessed(tmp_path, name):
    network = load_network(golden.state_dict(name), variant=name)
    path = rife.save_checkpoint(network, tmp_path / "mine")
    again = load_network(path)
    assert path.name == "mine.safetensors"
    assert again.config == network.config
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["rife_config"])["family"] == network.config.family


def test_a_failing_save_leaves_neither_half_a_file_nor_a_temporary_one(tmp_path, monkeypatch):
    network = load_network(golden.state_dict("4.22.lite"))
    path = rife.save_checkpoint(network, tmp_path / "mine.safetensors")
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        rife.save_checkpoint(network, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_from_a_newer_version_is_explained(tmp_path):
    network = load_network(golden.state_dict("4.22.lite"))
    config = json.dumps({**network.config.to_dict(), "wormholes": 3})
    save_file(network.state_dict(), tmp_path / "new.safetensors", {"rife_config": config})
    with pytest.raises(rife.UnknownCheckpointError, match="wormholes"):
        load_network(tmp_path / "new.safetensors")


def test_metadata_that_asks_for_channels_that_are_not_there_is_refused(tmp_path):
    network = load_network(golden.state_dict("4.6"))
    config = json.dumps({**network.config.to_dict(), "dissolve": True})
    save_file(network.state_dict(), tmp_path / "odd.safetensors", {"rife_config": config})
    with pytest.raises(rife.UnknownCheckpointError, match="dissolve"):
        load_network(tmp_path / "odd.safetensors")


def test_metadata_that_asks_for_a_time_that_the_network_does_not_know_is_refused(tmp_path):
    network = load_network(golden.state_dict("3.6"))
    config = json.dumps({**network.config.to_dict(), "timed_mask": True})
    save_file(network.state_dict(), tmp_path / "odd.safetensors", {"rife_config": config})
    with pytest.raises(rife.UnknownCheckpointError, match="timed_mask"):
        load_network(tmp_path / "odd.safetensors")


def test_loading_copies_the_given_tensors():
    state_dict = golden.state_dict("4.22.lite")
    network = load_network(state_dict)
    with torch.no_grad():
        network.encode.cnn0.weight.zero_()
    assert state_dict["encode.cnn0.weight"].abs().sum() > 0


def test_clean_keys_is_stable():
    state_dict = SPELLINGS["ComfyUI"](golden.state_dict("4.22.lite"))
    once = clean_keys(state_dict)
    assert once.keys() == clean_keys(once).keys() == golden.state_dict("4.22.lite").keys()


@pytest.mark.parametrize("key", ["unet", "fusionnet"])
def test_three_networks_in_one_file_beside_other_entries(tmp_path, key):
    state_dict = golden.state_dict("3.1")
    parts = {"flownet": "flownet.", "contextnet": "contextnet.", key: "fusionnet."}
    content = {
        part: {f"module.{k.removeprefix(prefix)}": v for k, v in state_dict.items() if k.startswith(prefix)}
        for part, prefix in parts.items()
    }
    torch.save({"epoch": 3, **content}, tmp_path / "all.pth")
    network = load_network(tmp_path / "all.pth")
    assert network.config == LEGACY_RELEASES["3.1"]
    assert all(torch.equal(v, state_dict[k]) for k, v in network.state_dict().items())


def test_old_companions_beside_a_new_flownet_are_left_alone(tmp_path):
    """As in a train_log folder that the next version was unpacked into."""
    torch.save(golden.state_dict("4.22.lite"), tmp_path / "flownet.pkl")
    for part, prefix in (("contextnet", "contextnet."), ("unet", "fusionnet.")):
        old = {k.removeprefix(prefix): v for k, v in golden.state_dict("3.1").items() if k.startswith(prefix)}
        torch.save(old, tmp_path / f"{part}.pkl")
    assert load_network(tmp_path).config == RELEASES["4.22.lite"]


def test_two_networks_in_one_file_are_refused():
    state_dict = golden.state_dict("4.22.lite")
    both = {
        **{f"net.{k}": v for k, v in state_dict.items()},
        **{f"model.{k}": v for k, v in state_dict.items()},
    }
    with pytest.raises(rife.UnknownCheckpointError, match="is there twice"):
        load_network(both)


def test_a_network_of_a_hundred_blocks_is_refused():
    state_dict = _meta("4.25")
    extra = {
        k.replace("block4.", f"block{i}."): v
        for i in range(5, 100)
        for k, v in state_dict.items()
        if "block4." in k
    }
    with pytest.raises(rife.UnknownCheckpointError, match="100 blocks"):
        rife.detect({**state_dict, **extra})


# converting


FORMS = {
    "zip": lambda sd, path: torch.save(sd, path),
    "old zip-less": lambda sd, path: torch.save(sd, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda sd, path: save_file(sd, path),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_converting_there_and_back_changes_no_bit(tmp_path, form, dtype):
    before = {k: v.to(dtype) for k, v in golden.state_dict("4.22.lite").items()}
    FORMS[form](SPELLINGS["ddp with teacher and caltime"](before), tmp_path / "flownet.pkl")
    path = convert(tmp_path / "flownet.pkl", tmp_path / "out" / "mine.safetensors")
    after, metadata = read_file(path)
    assert json.loads(metadata["rife_config"])["channels"] == list(RELEASES["4.22.lite"].channels)
    assert after.keys() == before.keys()
    assert all(after[k].dtype == dtype and torch.equal(after[k], before[k]) for k in before)
    again, same_metadata = read_file(convert(path, tmp_path / "again.safetensors"))
    assert same_metadata == metadata and all(torch.equal(again[k], before[k]) for k in before | again)
    assert list((tmp_path / "out").iterdir()) == [path]


@pytest.mark.parametrize("name", [*LEGACY_RELEASES, "RIFE", "3.8", "4.0", "4.25"])
def test_every_family_is_converted_and_known_again_without_guessing(tmp_path, name):
    state_dict = golden.state_dict(name)
    torch.save(state_dict, tmp_path / "a.pth")
    path = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", torch.float16, variant=name)
    found = read_checkpoint(path)
    network = found.network
    assert name in network.config.versions and found.decided_by == "the file's metadata"
    assert found.stored_dtype == torch.float16
    floats = {k: v for k, v in network.state_dict().items() if v.is_floating_point()}
    assert all(torch.equal(v, state_dict[k].half().float()) for k, v in floats.items())


def test_float64_becomes_float32_and_a_dtype_that_is_too_small_is_refused(tmp_path):
    state_dict = {k: v.double() for k, v in golden.state_dict("4.22.lite").items()}
    state_dict["encode.cnn0.weight"][0, 0, 0, 0] = 1e5
    torch.save(state_dict, tmp_path / "a.pth")
    path = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert read_checkpoint(path).stored_dtype == torch.float32
    with pytest.raises(
        ValueError, match=r"encode.cnn0.weight. has values up to 100000.*float16 can hold.*bfloat16"
    ):
        convert(path, tmp_path / "c.safetensors", torch.float16)
    assert not (tmp_path / "c.safetensors").exists()
    state_dict["encode.cnn0.weight"][0, 0, 0, 0] = 1e300
    with pytest.raises(rife.UnknownCheckpointError, match="infinity"):
        load_network(state_dict)


def test_a_result_that_is_no_safetensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")


def test_more_metadata_is_kept_and_cannot_replace_what_the_file_is(tmp_path):
    network = load_network(golden.state_dict("4.22.lite"))
    path = rife.save_checkpoint(network, tmp_path / "a", notes={"steps": "300", "rife_config": "{}"})
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["steps"] == "300"
    assert load_network(path).config == network.config


def test_a_diverged_network_is_not_saved(tmp_path):
    network = load_network(golden.state_dict("4.22.lite"))
    network.encode.cnn0.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="earlier checkpoint"):
        rife.save_checkpoint(network, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_command_converts_and_says_what_it_made(tmp_path):
    torch.save(golden.state_dict("RIFE"), tmp_path / "a.pth")
    command = [sys.executable, "-m", "rife", "convert", "a.pth", "b.safetensors", "--dtype", "fp16"]
    root = os.path.dirname(os.path.dirname(rife.__file__))
    environment = {**os.environ, "PYTHONPATH": root}
    command += ["--variant", "RIFE_2R"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "b.safetensors: RIFE RIFE_2R, float16" in run.stdout
    assert load_network(tmp_path / "b.safetensors").config.versions == ("RIFE_2R",)
