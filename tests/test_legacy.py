"""The three-network families; their outputs are held to the official code in test_golden.py."""

from __future__ import annotations

import golden_recipe as golden
import pytest
import torch

import rife
from rife.checkpoint import load_network
from rife.legacy import LEGACY_RELEASES, LegacyConfig

FILES = {"flownet": "flownet.pkl", "contextnet": "contextnet.pkl", "fusionnet": "unet.pkl"}


def _unpack(folder, state_dict, parts=FILES, prefix=""):
    for part in parts:
        tensors = {
            prefix + k.removeprefix(f"{part}."): v for k, v in state_dict.items() if k.startswith(f"{part}.")
        }
        torch.save(tensors, folder / FILES[part])


@pytest.mark.parametrize("arch", LEGACY_RELEASES)
def test_family_is_read_from_its_tensors(arch):
    state_dict = {k: torch.empty(s, device="meta") for k, s in golden.shapes(arch).items()}
    assert rife.detect(state_dict) == LEGACY_RELEASES[arch]
    assert rife.detect({f"module.{k}": v for k, v in state_dict.items()}) == LEGACY_RELEASES[arch]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_folder_of_three_files_loads(tmp_path, prefix):
    state_dict = golden.state_dict("arXiv-2F")
    _unpack(tmp_path, state_dict, prefix=prefix)
    network = load_network(tmp_path)
    assert network.config == LEGACY_RELEASES["arXiv-2F"]
    assert torch.equal(network.state_dict()["fusionnet.conv.weight"], state_dict["fusionnet.conv.weight"])


@pytest.mark.parametrize("arch", ["1.8", "2.4", "3.1", "arXiv-RIFE"])
def test_a_lone_flownet_names_the_missing_files(tmp_path, arch):
    _unpack(tmp_path, golden.state_dict(arch), ["flownet"])
    for source in (tmp_path, tmp_path / "flownet.pkl"):
        with pytest.raises(rife.UnknownCheckpointError, match="contextnet.pkl and unet.pkl are missing"):
            load_network(source)


def test_a_missing_part_is_named(tmp_path):
    _unpack(tmp_path, golden.state_dict("3.1"), ["flownet", "contextnet"])
    with pytest.raises(rife.UnknownCheckpointError, match="unet.pkl are missing"):
        load_network(tmp_path)


def test_round_trip_through_safetensors(tmp_path):
    network = load_network(golden.state_dict("1.8"))
    again = load_network(rife.save_checkpoint(network, tmp_path / "hd"))
    assert isinstance(again.config, LegacyConfig) and again.config.versions == ("1.5", "1.6", "1.7", "1.8")
    before, after = network.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before | after)


@pytest.mark.parametrize("arch", ["1.8", "2.4", "3.1", "arXiv-2F"])
@pytest.mark.parametrize("scale", [0.5, 2])
def test_scale_odd_sizes_and_recursion(arch, scale):
    model = rife.load_model(golden.state_dict(arch), device="cpu")
    img0, img1 = (golden.frame(40, 50, d, 1) for d in (0, 1))
    assert model.inference(img0, img1, scale=scale, timestep=0.25, TTA=True).shape == img0.shape
    with pytest.raises(ValueError, match="cannot be trained"):
        model.update(torch.cat((img0, img1), 1), img0)
