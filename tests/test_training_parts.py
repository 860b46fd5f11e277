"""Whatever inference does not need keeps no file from loading; whatever the student lacks does."""

from __future__ import annotations

from dataclasses import replace

import golden_recipe as golden
import pytest
import torch
from mutations import DAMAGE, HARMLESS, student_keys

import rife
from rife.checkpoint.load import read_checkpoint
from rife.checkpoint.save import convert
from rife.cli import main as command
from rife.losses.auxiliary import TimePredictor
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.training.bundled import Curriculum
from rife.training.schedule import Settings
from rife.training.synthetic import RenderedMotion
from rife.training.trainer import Trainer

NAMES = ("3.6", "4.0", "4.25")


def with_teacher(name: str, width: int = 0) -> dict[str, torch.Tensor]:
    """A state dict as the author saves it: 4.25's holds its teacher and its guesser of time. width: of all blocks."""
    config = RELEASES[name]
    if width:
        config = replace(config, channels=(width,) * len(config.channels))
        state_dict = dict(IFNet(config).state_dict())
    else:
        state_dict = dict(golden.state_dict(name))
    if name == "4.25":
        network = IFNet(replace(config, teacher=True))
        tea = {k: v for k, v in network.state_dict().items() if k.startswith("block_tea.")}
        state_dict |= {k.replace("block_tea.", "teacher."): v for k, v in tea.items()}
        timer = TimePredictor(RELEASES[name].head_channels)
        state_dict |= {f"caltime.{k}": v + 0.125 for k, v in timer.state_dict().items()}
    return state_dict


@pytest.fixture(scope="module", params=NAMES)
def released(request):
    """Narrow networks of each kind, which load fast; tests/test_released.py does the same to released files."""
    torch.manual_seed(0)
    state_dict = with_teacher(request.param, 16)
    found = read_checkpoint(state_dict)
    return state_dict, found.network


@pytest.mark.parametrize("change", HARMLESS)
def test_what_inference_does_not_need_keeps_nothing_from_loading(released, change):
    state_dict, network = released
    found = read_checkpoint(HARMLESS[change](state_dict)).network
    assert found.config.channels == network.config.channels and found.config.family == network.config.family
    wanted, mine = network.state_dict(), found.state_dict()
    assert all(torch.equal(mine[key], wanted[key]) for key in student_keys(wanted))


@pytest.mark.parametrize("change", DAMAGE)
def test_a_student_that_is_not_whole_is_refused_with_the_cause(released, change):
    damage, cause = DAMAGE[change]
    with pytest.raises(rife.UnknownCheckpointError, match=cause):
        read_checkpoint(damage(released[0]))


def test_what_is_left_out_is_listed(tmp_path, capsys):
    state_dict = HARMLESS["a loss network"](HARMLESS["a teacher of other inputs"](with_teacher("4.0")))
    torch.save(state_dict, tmp_path / "rife40.pth")
    found = read_checkpoint(tmp_path / "rife40.pth")
    assert [line.partition(",")[0] for line in found.left_out] == ["block_tea (2 tensors", "vgg (2 tensors)"]
    assert "another shape" in found.left_out[0]
    assert command(["info", str(tmp_path / "rife40.pth")]) == 0
    assert "vgg (2 tensors)" in capsys.readouterr().out


def test_half_of_a_refinement_is_said():
    state_dict = {k: v for k, v in golden.state_dict("RIFE").items() if not k.startswith("unet.")}
    found = read_checkpoint(state_dict, "RIFE")
    assert not found.network.config.refine and "not refined" in found.left_out[0]


def test_a_refinement_that_the_release_uses_is_part_of_the_student():
    state_dict = dict(golden.state_dict("RIFE"))
    state_dict.pop("unet.conv.weight")
    with pytest.raises(rife.UnknownCheckpointError, match=r"missing \['unet.conv.weight"):
        read_checkpoint(state_dict, "RIFE")


def test_training_goes_on_with_the_teacher_and_the_guesser_of_the_file():
    state_dict = with_teacher("4.25")
    model = rife.load_model(state_dict)
    assert not model.config.teacher and not [k for k in model.net.state_dict() if "tea" in k]
    settings = Settings(steps=1, batch=1, teacher=True, recipe="4.25")
    source = Curriculum(RenderedMotion(64, 64, 1), crop=64, small_until=0.0)
    trainer = Trainer(model, source, settings)
    tea = trainer.model.net.block_tea.state_dict()
    assert all(torch.equal(value, state_dict[f"teacher.{key}"]) for key, value in tea.items())
    timer = trainer.model.learner_for("4.25").state_dict()["timer"]
    assert all(torch.equal(value, state_dict[f"caltime.{key}"]) for key, value in timer.items())


@pytest.mark.parametrize("fits, said", [(True, "the one of the checkpoint's file"), (False, "a new one")])
def test_training_says_whose_teacher_it_is(caplog, fits, said):
    state_dict = with_teacher("4.25")
    if not fits:
        state_dict = HARMLESS["a teacher of other shape"](state_dict)
    source = Curriculum(RenderedMotion(64, 64, 1), crop=64, small_until=0.0)
    with caplog.at_level("INFO"):
        Trainer(rife.load_model(state_dict), source, Settings(steps=1, batch=1, teacher=True))
    assert said in caplog.text


def test_a_conversion_holds_what_other_tools_expect(tmp_path):
    torch.save(with_teacher("4.25"), tmp_path / "a.pkl")
    path = convert(tmp_path / "a.pkl", tmp_path / "b.safetensors", variant="4.25")
    assert not [
        k for k in rife.load_model(path).net.state_dict() if k.startswith(("teacher", "caltime", "block_tea"))
    ]
    assert not read_checkpoint(path).network.training_parts
