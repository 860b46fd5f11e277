"""`rife train`: the commands of README parse and do what they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from test_datasets import clip, write
from test_training import TINY, tiny, weights

import rife
from rife import train_command
from rife.datasets import texture_pool

ROOT = Path(__file__).parent.parent


@pytest.fixture
def quick(monkeypatch):
    """The real command on a tiny network, without its held-out scenes."""
    few = texture_pool([], 3, size=96)
    monkeypatch.setattr(train_command, "texture_pool", lambda clips, count: few)
    monkeypatch.setattr(train_command, "rendered_triplets", lambda motion, count: [])
    monkeypatch.setattr(train_command, "BUNDLED_CONFIG", TINY)


def train(*arguments) -> int:
    return train_command.main([str(a) for a in (*arguments, "--device", "cpu")])


def test_readmes_commands_still_parse():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "training.md").read_text()
    commands = re.findall(r"rife train ([^`)#\n]*(?:\n[^`)#]*)?)", re.sub(r"`rife train`|\\\n", " ", text))
    commands = [re.split(r"[)#]|\n\n|\n(?:rife|torchrun)", c)[0].replace("...", "") for c in commands]
    assert len(commands) > 3
    for command in commands:
        train_command._parser().parse_args(shlex.split(command))


def test_it_trains_and_saves(tmp_path, quick):
    assert train(tmp_path, "--steps", "1", "--batch", "1", "--crop", "64") == 0
    assert rife.load_model(tmp_path / "rife_comfy.safetensors", device="cpu").config == TINY


def test_it_goes_on_from_a_checkpoint(tmp_path, quick):
    given = rife.save_checkpoint(tiny(), tmp_path / "given")
    options = "--steps 1 --batch 1 --crop 64 --learning-rate 1e-12 --curriculum 0 --rest 1 --real-from 0"
    assert train(tmp_path / "out", "--start", given, *options.split()) == 0
    # With next to no learning rate nothing changes but the rounding to half precision.
    result = rife.load_model(tmp_path / "out" / "rife_comfy.safetensors", device="cpu")
    for key, value in weights(tiny()).items():
        torch.testing.assert_close(result.net.state_dict()[key], value.half().float(), atol=1e-4, rtol=1e-2)


def test_it_learns_from_a_folder_of_clips(tmp_path, quick, caplog):
    write(tmp_path / "clips" / "one", clip(9))
    given = rife.save_checkpoint(tiny(), tmp_path / "given")
    caplog.set_level("INFO")
    options = "--steps 2 --batch 2 --crop 32 --held-out-fraction 0.4 --log-every 1 --teacher --recipe 4.25"
    assert train(tmp_path / "out", "--data", tmp_path / "clips", "--start", given, *options.split()) == 0
    log = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert len(log) == 3 and "loss_ssim" in log[0] and ",real," in log[1]
    assert "steps/s" in caplog.text and "dB before" in caplog.text
    # The first of ten warm-up steps cannot have made it better or much worse: it is one of the two.
    assert rife.load_model(tmp_path / "out" / "rife_comfy.safetensors", device="cpu").config == TINY


def test_networks_by_name_start_fresh():
    args = train_command._parser().parse_args(["out", "--network", "RIFE_m"])
    assert train_command._network(args).config == rife.RELEASES["RIFE_m"]
    first, second = (train_command._network(args).block0.conv0[0][0].weight for _ in range(2))
    assert torch.equal(first, second)
