"""`rife train`: the commands of README parse and do what they say."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import processes
import pytest
import torch
from training_runs import TINY, clip, reached, tiny, train_up_to, weights, write

import rife
from rife.cli import train as train_command
from rife.cli.app import make_parser
from rife.training.bundled import lean_config
from rife.training.datasets import texture_pool

ROOT = Path(__file__).parent.parent


@pytest.fixture
def quick(monkeypatch):
    """The real command on a tiny network, without its held-out scenes."""
    few = texture_pool([], 3, size=96)
    monkeypatch.setattr(train_command, "texture_pool", lambda clips, count: few)
    monkeypatch.setattr(train_command, "rendered_triplets", lambda motion, count: [])
    monkeypatch.setattr(train_command, "BUNDLED_CONFIG", TINY)


def run(arguments) -> int:
    """The command, with its errors as they are raised."""
    return train_command.run(make_parser().parse_args(["train", *map(str, arguments)]))


def train(*arguments) -> int:
    return run([*arguments, "--device", "cpu"])


def test_readmes_commands_still_parse():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "training.md").read_text()
    commands = re.findall(r"rife train ([^`)#\n]*(?:\n[^`)#]*)?)", re.sub(r"`rife train`|\\\n", " ", text))
    commands = [re.split(r"[)#]|\n\n|\n(?:rife|torchrun)", c)[0].replace("...", "") for c in commands]
    assert len(commands) > 3
    for command in commands:
        make_parser().parse_args(["train", *shlex.split(command)])


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


def test_a_checkpoint_is_made_lean(tmp_path, quick):
    given = rife.save_checkpoint(tiny(), tmp_path / "given")
    words = ["train", str(tmp_path), "--start", str(given), "--add", "variational", "lean"]
    network = train_command._network(make_parser().parse_args(words))
    assert network.config == lean_config(TINY)
    options = "--steps 2 --batch 1 --crop 64 --curriculum 0 --real-from 0 --any-time"
    assert train(tmp_path / "out", "--start", given, "--add", "variational", "lean", *options.split()) == 0
    assert rife.load_model(tmp_path / "out" / "rife_comfy.safetensors", device="cpu").config == lean_config(
        TINY
    )


def test_parts_are_added_to_a_checkpoint_that_lacks_them(tmp_path):
    given = rife.save_checkpoint(tiny(), tmp_path / "given")
    args = make_parser().parse_args(
        ["train", str(tmp_path), "--start", str(given), "--add", "variational", "dissolve"]
    )
    network = train_command._network(args)
    assert network.config == replace(TINY, variational=True, dissolve=True)
    with torch.no_grad():
        for parameter in network.block3.lastconv.parameters():
            parameter.add_(0.1)
    saved = rife.save_checkpoint(rife.Model.from_network(network), tmp_path / "grown")
    args.start = saved
    again = train_command._network(args)  # a part that is there stays as it was learned
    torch.testing.assert_close(
        again.block3.lastconv[0].bias, network.block3.lastconv[0].bias, atol=1e-3, rtol=0
    )


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


@pytest.mark.parametrize(
    ("options", "use"),
    [
        (["--crop", "48", "--data", "x"], "multiple of 32.*Use 64"),
        (["--crop", "96"], "multiple of 64.*Use 128"),  # whose first crops would be 48
        (["--crop", "96", "--network", "4.25", "--data", "x"], "multiple of 64.*Use 128"),
    ],
)
def test_crops_that_do_not_fit_are_refused_before_any_work(tmp_path, options, use):
    with pytest.raises(ValueError, match=use):
        train(tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_networks_by_name_start_fresh():
    args = make_parser().parse_args(["train", "out", "--network", "RIFE_m"])
    assert train_command._network(args).config == rife.RELEASES["RIFE_m"]
    first, second = (train_command._network(args).block0.conv0[0][0].weight for _ in range(2))
    assert torch.equal(first, second)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A clip, and a checkpoint to start from."""
    path = tmp_path_factory.mktemp("data")
    write(path / "clips" / "one", clip(12))
    model = tiny()
    # What hardly moves is weighed by how far: steep there, so that rounding between processes would grow.
    model.net.config = replace(model.net.config, still_radius=0)
    rife.save_checkpoint(model, path / "start")
    return path


@pytest.fixture
def one_thread():
    """As in the processes started here: sums depend on the number of threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def words(folder: Path, out: Path, options: str) -> list[str]:
    data = f"{out} --data {folder / 'clips'} --start {folder / 'start.safetensors'} "
    common = "--crop 32 --device cpu --threads 1 --log-every 1 --held-out-fraction 0.25 "
    return shlex.split(data + common + options)


def start(arguments: list[str], *launcher: str) -> subprocess.Popen:
    """The command in processes of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *launcher, "rife", "train", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def losses(out: Path) -> list[dict[str, float]]:
    with (out / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k.startswith("loss") or k == "step"} for row in rows]


def test_two_processes_train_as_one_does(folder, tmp_path, one_thread):
    """The same global batch, over gloo, with a teacher and its distillation."""
    options = "--steps 4 --batch 4 --teacher --learning-rate 1e-3 --warm-up 1"
    launcher = "torch.distributed.run --standalone --nproc-per-node 2 -m --".split()
    two = start(words(folder, tmp_path / "two", options), *launcher)
    assert run(words(folder, tmp_path / "one", options)) == 0
    finished(two)
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(first) == len(second) == 4 and first[3]["loss_l1"] != first[0]["loss_l1"]
    for a, b in zip(first, second, strict=True):
        # Distillation counts pixels: one that crosses its threshold by rounding is a step of its own.
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    a, b = (weights(rife.load_model(tmp_path / n / "last.safetensors", device="cpu")) for n in ("one", "two"))
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], atol=2e-3, rtol=2e-2)


def test_a_killed_run_goes_on_to_the_same_losses(folder, tmp_path, one_thread):
    options = "--steps 8 --batch 2 --save-every 0 --score-every 5"
    whole, killed = (words(folder, tmp_path / name, options) for name in ("whole", "killed"))
    process = processes.start(train_up_to, 5, killed)
    until = time.monotonic() + 200
    while not reached(tmp_path / "killed").exists():
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.join()
    assert [len((tmp_path / "killed" / n).read_bytes().splitlines()) for n in ("log.csv", "scores.csv")] == [
        6,
        3,
    ]
    assert run(killed) == 0
    assert run(whole) == 0
    assert len(losses(tmp_path / "whole")) == 8
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    scores = [(tmp_path / n / "scores.csv").read_text() for n in ("whole", "killed")]
    assert scores[0] == scores[1] and len(scores[0].splitlines()) == 4
    for name in ("last", "best", "rife_comfy"):
        paths = (tmp_path / n / f"{name}.safetensors" for n in ("whole", "killed"))
        a, b = (weights(rife.load_model(path, device="cpu")) for path in paths)
        assert all(torch.equal(a[k], b[k]) for k in b), name
