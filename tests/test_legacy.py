"""The three-network families; their outputs are held to the official code in test_golden.py."""

from __future__ import annotations

import copy
from functools import lru_cache

import golden_recipe as golden
import pytest
import torch

import rife
from rife.checkpoint.load import load_network
from rife.model.model import Model
from rife.networks.three_networks import LEGACY_RELEASES, LegacyConfig, LegacyRIFE, detect_legacy

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


@pytest.mark.parametrize("arch", LEGACY_RELEASES)
def test_a_lone_flownet_names_the_missing_files(tmp_path, arch):
    _unpack(tmp_path, golden.state_dict(arch), ["flownet"])
    for source in (tmp_path, tmp_path / "flownet.pkl"):
        # "but": flownet.pkl itself, whose keys come without a prefix here, must not be called missing.
        with pytest.raises(rife.UnknownCheckpointError, match="but contextnet.pkl and unet.pkl are missing"):
            load_network(source)


def test_a_missing_part_is_named(tmp_path):
    _unpack(tmp_path, golden.state_dict("3.1"), ["flownet", "contextnet"])
    with pytest.raises(rife.UnknownCheckpointError, match="but unet.pkl is missing"):
        load_network(tmp_path)


def test_round_trip_through_safetensors(tmp_path):
    network = load_network(golden.state_dict("1.8"))
    again = load_network(rife.save_checkpoint(network, tmp_path / "hd"))
    assert isinstance(again.config, LegacyConfig) and again.config.versions == ("1.5", "1.6", "1.7", "1.8")
    before, after = network.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before | after)


@pytest.mark.parametrize("arch", ["1.4", "1.4-2F", "1.8", "2.4", "3.1", "arXiv-2F"])
@pytest.mark.parametrize("scale", [0.5, 2])
def test_scale_odd_sizes_and_recursion(arch, scale):
    model = rife.load_model(golden.state_dict(arch), device="cpu")
    img0, img1 = (golden.frame(40, 50, d, 1) for d in (0, 1))
    assert model.inference(img0, img1, scale=scale, timestep=0.25, TTA=True).shape == img0.shape
    with pytest.raises(ValueError, match="cannot be trained"):
        model.update(torch.cat((img0, img1), 1), img0)


@pytest.mark.parametrize("arch", LEGACY_RELEASES)
def test_keys_and_shapes_are_those_of_the_released_files(arch):
    with torch.device("meta"):
        network = LegacyRIFE(LEGACY_RELEASES[arch])
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == golden.shapes(arch)


def test_a_foreign_shape_is_compared_with_the_nearest_release():
    state_dict = {k: torch.empty(s, device="meta") for k, s in golden.shapes("3.1").items()}
    del state_dict["flownet.block1.conv1.weight"]
    with pytest.raises(
        ValueError, match=r"Nearest is 3\.0/3\.1, but 1 of .*block1\.conv1\.weight missing, expected"
    ):
        detect_legacy(state_dict)


@lru_cache(maxsize=2)
def _shared(arch):
    return load_network(golden.state_dict(arch))


def _network(arch):
    return copy.deepcopy(_shared(arch))


# The official code's image and flow (pixels of the full size) in row 40, column 56 of the golden frames at 64x128.
# The arXiv code has no scale.
OFFICIAL_AT_SCALE = {
    ("1.8", 0.5): ([0.662587, 0.194709, 0.44738], [-0.47399, 0.22924, 0.47399, -0.22924]),
    ("1.8", 2): ([0.677238, 0.206637, 0.456969], [-0.04806, -0.07837, 0.04806, 0.07837]),
    ("2.4", 0.5): ([0.684329, 0.245948, 0.371989], [0.18202, 0.14808, 0.33271, -0.13847]),
    ("2.4", 2): ([0.68929, 0.247223, 0.366677], [0.05281, 0.30617, 0.13647, -0.05251]),
    ("3.1", 0.5): ([0.346728, 0.2735, 0.365878], [-9.40003, 23.19184, 60.30912, 3.30044]),
    ("3.1", 2): ([0.499041, 0.566558, 0.402336], [-1.46062, -13.17458, 10.77701, -15.12911]),
}


@pytest.mark.parametrize("arch, scale", OFFICIAL_AT_SCALE)
def test_scale_equals_the_official_code(arch, scale):
    network = _network(arch)
    img0, img1 = (golden.frame(64, 128, d, 1) for d in (0, 1))
    with torch.no_grad():
        found = network.predict(img0, img1, scale_list=[s / scale for s in network.config.scales])
    image, flow = OFFICIAL_AT_SCALE[arch, scale]
    assert found.image[0, :, 40, 56].tolist() == pytest.approx(image, abs=1e-4)
    assert found.flow[0, :, 40, 56].tolist() == pytest.approx(flow, abs=1e-3)
    assert found.flow.shape == (1, 4, 64, 128) and found.mask.shape == (1, 1, 64, 128)


@pytest.mark.parametrize("arch", ["1.4-2F", "1.8", "2.4", "3.1", "arXiv-2F"])
def test_a_batch_is_its_pairs_one_by_one(arch):
    network = _network(arch)
    img0, img1 = (torch.cat([golden.frame(64, 64, d, seed) for seed in (1, 2)]) for d in (0, 1))
    with torch.no_grad():
        batch = network(img0, img1)
        alone = torch.cat([network(img0[i : i + 1], img1[i : i + 1]) for i in range(2)])
    assert (batch - alone).abs().max() < 1e-4


@pytest.mark.parametrize("scale_list", [[4, 4, 1], [4, 2], [4, 2, 1, 1]])
def test_another_pyramid_is_refused(scale_list):
    network = LegacyRIFE(LEGACY_RELEASES["arXiv-RIFE"])
    frame = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="divided by one factor"):
        network(frame, frame, scale_list=scale_list)


@pytest.mark.parametrize("timestep", [0.25, torch.full((1, 1, 32, 32), 1 / 3)])
def test_another_time_than_the_middle_is_refused(timestep):
    network = LegacyRIFE(LEGACY_RELEASES["arXiv-RIFE"])
    frame = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="only knows the middle"):
        network(frame, frame, timestep)


def test_training_mode_changes_neither_frames_nor_batch_norm():
    network = _network("1.8")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    img0, img1 = (golden.frame(64, 64, d, 1) for d in (0, 1))
    with torch.no_grad():
        expected = network(img0, img1)
        network.train()
        assert torch.equal(network(img0, img1), expected)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("arch", ["1.4", "1.8", "3.1", "arXiv-2F"])
def test_flow_stays_float32_in_half_precision(arch):
    network = _network(arch)
    img0, img1 = (golden.frame(64, 64, d, 1) for d in (0, 1))
    with torch.no_grad():
        expected = network.predict(img0, img1)
        prediction = network.bfloat16().predict(img0.bfloat16(), img1.bfloat16())
    assert (prediction.image.dtype, prediction.flow.dtype) == (torch.bfloat16, torch.float32)
    assert (prediction.image.float() - expected.image).abs().mean() < 0.01


def test_alpha_of_half_networks_follows_the_colours():
    with torch.device("meta"):
        model = Model.from_network(LegacyRIFE(LEGACY_RELEASES["2.4"]).half().eval())
        sources = [model.encode(torch.empty(1, 4, 64, 64), name=None) for _ in range(2)]
        assert model.between(*sources, (4, 64, 64)).shape == (1, 4, 64, 64)


def test_memory_estimate_knows_that_full_resolution_costs_more():
    def per_pixel(arch):
        network = LegacyRIFE(LEGACY_RELEASES[arch])
        return network.memory_used_forward((1, 64, 64, 3), torch.float32) / 64**2

    # Measured growth of the process, bytes per pixel.
    measured = {"1.4": 638, "1.4-2F": 1887, "1.8": 415, "arXiv-RIFE": 701, "arXiv-2F": 2025}
    assert all(size < per_pixel(arch) < 1.5 * size for arch, size in measured.items())
