"""Releases with the same tensors: what decides between them, and that it says so."""

from __future__ import annotations

import golden_recipe as golden
import pytest
import torch

import rife
from rife.checkpoint import ambiguous as twins
from rife.checkpoint.load import read_checkpoint
from rife.networks import adaptive
from rife.networks.adaptive import build_network
from rife.networks.config import AMBIGUOUS, RELEASES
from rife.networks.ifnet import IFNet
from rife.networks.multiscale import ForwardState
from rife.networks.prediction import Prediction


@pytest.mark.parametrize(
    "name, version",
    [
        ("RIFE_2R.pkl", "RIFE_2R"),
        ("rife-large.pth", "RIFE_2R"),
        ("model38/flownet.pkl", "3.8"),
        ("RIFE_v3.8/flownet.pkl", "3.8"),
        ("train_log_3.6/flownet.pkl", "3.6"),
        ("rife_elexor.pth", "elexor"),
        ("rife47.pth", "4.7"),
        ("flownet_v4.9.pkl", "4.7"),
    ],
)
def test_the_name_of_file_or_folder_decides(tmp_path, name, version):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    architecture = next(group[0] for group in AMBIGUOUS if version in group)
    torch.save(golden.state_dict(architecture), path)
    found = read_checkpoint(path)
    assert version in found.network.config.versions
    assert "name" in found.decided_by and path.name in found.decided_by


@pytest.mark.parametrize("name", ["rife_13.8.pth", "v4.38.pth", "3.61.pth", "2round.pth", "rife.pth"])
def test_a_name_that_only_looks_like_a_version_decides_nothing(name):
    for group in (("3.6", "3.8"), ("RIFE", "RIFE_2R")):
        _, reason = twins.resolve(group, golden.state_dict(group[0]), name)
        assert "name" not in reason


def test_the_variant_wins_over_the_metadata_and_the_metadata_over_the_name(tmp_path):
    network = read_checkpoint(golden.state_dict("3.6"), variant="3.8").network
    path = rife.save_checkpoint(network, tmp_path / "rife36.safetensors")
    again = read_checkpoint(path)
    assert again.network.config.versions == ("3.8",) and again.decided_by == "the file's metadata"
    asked = read_checkpoint(path, variant="3.6")
    assert asked.network.config.versions == ("3.6",) and "asked for" in asked.decided_by


def test_weights_that_interpolate_under_neither_are_taken_for_the_first():
    for group in AMBIGUOUS:
        found = read_checkpoint(golden.state_dict(group[0]))
        assert group[0] in found.network.config.versions
        assert "default" in found.decided_by and "averaging" in found.decided_by


def test_the_probe_takes_the_twin_that_interpolatespick_better_flow(monkeypatch):
    """With a network that finds the true frame under the second twin's computation only."""
    _, truth, _ = twins._moving_textures()

    def predict(self, img0, img1):
        image = truth if self.config.family == "2R" else (img0 + img1) / 2
        return Prediction(image, image, image)

    monkeypatch.setattr(IFNet, "predict", predict)
    found = read_checkpoint(golden.state_dict("RIFE"))
    assert found.network.config.versions == ("RIFE_2R",) and "probe" in found.decided_by


def test_the_textures_of_the_probe_move_as_it_says():
    img0, truth, img1 = twins._moving_textures()
    x, y = 2, 1
    assert torch.equal(img0[0, :, y:, x:], truth[0, :, :-y, :-x])
    assert torch.equal(img1[0, :, :-y, :-x], truth[0, :, y:, x:])
    assert twins._psnr((img0 + img1) / 2, truth) < 40


def _elexor():
    torch.manual_seed(0)
    network = build_network(RELEASES["elexor"]).eval()
    for key, value in network.state_dict().items():
        if "lastconv" in key:
            value.mul_(0.3)
    return network


@torch.no_grad()
def test_elexor_replaces_only_flow_that_is_too_large(monkeypatch):
    network = _elexor()
    img0, img1 = torch.rand(2, 2, 3, 128, 128)
    sources = network.source(img0), network.source(img1)
    plain = network._run(
        ForwardState(*sources, torch.full((2, 1, 1, 1), 0.5), False), RELEASES["elexor"].scales, False
    )
    assert torch.equal(network.predict(img0, img1).image, plain.image)
    monkeypatch.setattr(adaptive, "_ELEXOR_PIXELS", -1)
    replaced = network.predict(img0, img1)
    assert (replaced.flow - plain.flow).abs().max() > 1e-3
    alone = [network.predict(img0[i : i + 1], img1[i : i + 1]).image for i in (0, 1)]
    torch.testing.assert_close(replaced.image, torch.cat(alone), atol=1e-5, rtol=0)


@torch.no_grad()
def test_elexor_in_a_mixed_batch_is_elexor_alone(monkeypatch):
    network = _elexor()
    img0, img1 = torch.rand(2, 3, 3, 128, 128)
    far = torch.tensor([True, False, True])
    full_flow = ForwardState.full_flow

    def found(run):
        """The probe of samples 0 and 2 finds motion of 100 px."""
        probing = len(run.flows) == 2 and len(run.src0) == 3
        return full_flow(run) + (100.0 * far.view(-1, 1, 1, 1) if probing else 0)

    monkeypatch.setattr(adaptive, "_ELEXOR_PIXELS", 10)
    plain = network.predict(img0, img1).image
    monkeypatch.setattr(ForwardState, "full_flow", found)
    mixed = network.predict(img0, img1).image
    assert ((mixed - plain).abs().amax((1, 2, 3)) > 1e-3).tolist() == far.tolist()


def test_stems_of_elexor_repeat_the_border():
    modes = {m.padding_mode for m in _elexor().block1.conv0.modules() if isinstance(m, torch.nn.Conv2d)}
    assert modes == {"replicate"}
