"""Files in, networks out: detection in every spelling, safe reading, whole writing."""

from __future__ import annotations

import json
import os
import pickle

import golden_recipe as golden
import pytest
import safetensors
import torch
from safetensors.torch import save_file

import rife
from rife.checkpoint import clean_keys, load_network
from rife.config import AMBIGUOUS, RELEASES
from rife.ifnet import IFNet

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
        return IFNet(RELEASES[name]).state_dict()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", RELEASES)
def test_release_is_read_back_from_its_own_tensors(name, spelling):
    twins = next((group for group in AMBIGUOUS if name in group), (name,))
    found = rife.detect(SPELLINGS[spelling](_meta(name)))
    expected = RELEASES[twins[0]]
    assert found == rife.IFNetConfig(**{**expected.__dict__, "teacher": RELEASES[name].teacher})


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

    monkeypatch.setattr("safetensors.torch.save_file", fail)
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


def test_every_architecture_is_detected_in_every_spelling():
    """Both tables: the single networks in all spellings, the three-network families in all but `flownet.`."""
    from rife.legacy import LEGACY_RELEASES, LegacyRIFE

    wrong, count = [], 0
    for name in (*RELEASES, *LEGACY_RELEASES):
        if name in RELEASES:
            state_dict, expected = _meta(name), RELEASES[name]
        else:
            with torch.device("meta"):
                state_dict, expected = LegacyRIFE(LEGACY_RELEASES[name]).state_dict(), LEGACY_RELEASES[name]
        twins = next((group for group in AMBIGUOUS if name in group), ())
        accepted = [RELEASES[twin].channels for twin in twins] or [expected.channels]
        for spelling, spell in SPELLINGS.items():
            if name in LEGACY_RELEASES and spelling in ("flownet", "ComfyUI"):
                continue
            found = rife.detect(spell(state_dict))
            count += 1
            if found.channels not in accepted or not set(found.versions) & {name, *twins}:
                wrong.append((name, spelling, found.versions))
    assert wrong == []
    assert count >= 420
