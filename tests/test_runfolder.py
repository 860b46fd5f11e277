"""The files of a run: whole at any moment, and enough to go on as if nothing had happened."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training_runs import SHORT, TINY, same, source, tiny, weights

import rife
from rife.cli.app import is_for_the_user
from rife.networks.ifnet import IFNet
from rife.training import run_folder
from rife.training.datasets import rendered_triplets
from rife.training.run_folder import RunFolder
from rife.training.trainer import Trainer

HELD_OUT = {"held": rendered_triplets(4, 1, 64)}


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder, settings, stop_after: int | None = None, **options):
    trainer = Trainer(tiny(), source(), settings, HELD_OUT)
    files = RunFolder(folder, trainer, log_every=1, **options)
    files.resume()

    def on_step(step):
        files.on_step(step)
        if step.number == stop_after:
            raise KeyboardInterrupt

    return trainer.run(on_step)


def test_a_run_leaves_checkpoints_scores_and_log(tmp_path):
    result = run(tmp_path, replace(SHORT, score_every=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ("best.safetensors", "last.safetensors", "log.csv", "scores.csv", "state.pt")
    )
    for name, model in (("best", result.best), ("last", result.last)):
        loaded = rife.load_model(tmp_path / f"{name}.safetensors", device="cpu")
        assert loaded.config == TINY
        for key, value in weights(model).items():
            torch.testing.assert_close(loaded.net.state_dict()[key], value.half().float())
    log = rows(tmp_path / "log.csv")
    assert [row["step"] for row in log] == ["1", "2", "3"] and log[0]["data"] == "rendered"
    assert float(log[2]["loss_l1"]) == pytest.approx(result.history[2].losses["loss_l1"], rel=1e-4)
    scores = rows(tmp_path / "scores.csv")
    assert [(row["step"], row["set"]) for row in scores] == [(n, "held") for n in "023"]
    assert float(scores[0]["psnr"]) > 10 and float(scores[0]["average_psnr"]) > 10


def test_a_run_whose_last_file_could_not_be_written_writes_it_the_next_time(tmp_path, monkeypatch):
    """The state said that all was done, so last.safetensors stayed that of a step before. Found by fault injection."""
    settings = replace(SHORT, steps=2)
    expected = run(tmp_path / "whole", settings)
    with monkeypatch.context() as full:
        full.setattr(run_folder, "save_checkpoint", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            run(tmp_path / "it", settings)
    assert same(run(tmp_path / "it", settings).last, expected.last)
    files = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "it")]
    assert files[0] == files[1]


def test_a_run_goes_on_and_its_log_has_every_step_once(tmp_path):
    settings = replace(SHORT, steps=5)
    expected = run(tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", settings, stop_after=3, save_every=-1.0)
    # What came after the state when it was killed: rows that will be written again, and half a one.
    with (tmp_path / "killed" / "log.csv").open("a") as file:
        file.write("4,9.0,rendered,1,1,1,1,1,0\r\n5,9.0,ren")
    (tmp_path / "killed" / "state.tmp").write_bytes(b"half a state")
    result = run(tmp_path / "killed", settings)
    assert not list((tmp_path / "killed").glob("*.tmp"))
    assert [s.number for s in result.history] == [4, 5] and same(result.last, expected.last)
    losses = [[row["loss_l1"] for row in rows(tmp_path / name / "log.csv")] for name in ("whole", "killed")]
    assert losses[0] == losses[1] and len(losses[0]) == 5
    # A finished run has nothing left to do, and gives back what it had.
    again = run(tmp_path / "killed", settings)
    assert again.history == [] and same(again.last, expected.last) and again.before == expected.before


def test_what_was_logged_before_the_first_state_is_logged_again_not_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, SHORT, stop_after=2)
    assert len(rows(tmp_path / "log.csv")) == 2 and not (tmp_path / "state.pt").exists()
    run(tmp_path, SHORT)
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "3"]
    assert [row["step"] for row in rows(tmp_path / "scores.csv")] == ["0", "3"]


@pytest.mark.parametrize("left", [b"", b"step,s", b"step,set,psnr,ssim,average_psnr", b"\xff\xfe\n\x00,1\n"])
def test_logs_whose_first_rows_a_full_disk_cut_off_are_begun_anew(tmp_path, left):
    """An empty one ended every later run in an error of Python's, half a header stayed. Found by fault injection."""
    for name in ("log.csv", "scores.csv"):
        (tmp_path / name).write_bytes(left)
    run(tmp_path, SHORT)
    log, scores = rows(tmp_path / "log.csv"), rows(tmp_path / "scores.csv")
    assert [row["step"] for row in log] == ["1", "2", "3"] and float(log[0]["loss_l1"]) > 0
    assert [row["step"] for row in scores] == ["0", "3"] and float(scores[0]["psnr"]) > 10


def test_a_row_that_was_cut_off_in_its_last_number_is_no_row(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, SHORT, stop_after=2, save_every=-1.0)
    path = tmp_path / "log.csv"
    path.write_bytes(path.read_bytes().removesuffix(b"\r\n"))
    run(tmp_path, SHORT)
    assert [row["step"] for row in rows(path)] == ["1", "3"]


def flipped(data: bytes) -> bytes:
    """One bit of a tensor's: as long, and read as before by who does not look at the checksum."""
    place = data.index(b"data/0") + 200
    return data[:place] + bytes([data[place] ^ 64]) + data[place + 1 :]


def holding(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 500, flipped,
     lambda _: holding([1]), lambda _: holding({"settings": {}})],
)  # fmt: skip
def test_a_state_that_is_damaged_is_told_with_the_way_out(tmp_path, damage):
    """A flipped bit was gone on with, the others were errors of Python's and PyTorch's."""
    settings = replace(SHORT, steps=1)
    run(tmp_path, settings)
    path = tmp_path / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"state.pt is (damaged|no state).*last.safetensors") as caught:
        run(tmp_path, settings)
    assert is_for_the_user(caught.value) and len(str(caught.value)) < 600


def test_a_state_of_another_network_is_told(tmp_path):
    run(tmp_path, SHORT)
    other = Trainer(rife.Model.from_network(IFNet(replace(TINY, channels=(16, 16, 16, 16)))), source(), SHORT)
    with pytest.raises(ValueError, match="another network.*another folder") as caught:
        RunFolder(tmp_path, other).resume()
    assert is_for_the_user(caught.value) and len(str(caught.value)) < 600


def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path):
    run(tmp_path, SHORT)
    with pytest.raises(ValueError, match=r"batch 2 \(now 4\)"):
        run(tmp_path, replace(SHORT, batch=4))
    run(tmp_path, replace(SHORT, workers=1))


def test_only_the_first_process_writes(tmp_path):
    run(tmp_path, SHORT, writes=False)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_same_numbers_and_is_not_needed(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == str(tmp_path)

        def add_scalar(self, name, value, step):
            written.append((name, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="Install the package tensorboard"):
        run(tmp_path, SHORT, tensorboard=True)
    stub = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    run(tmp_path, SHORT, tensorboard=True)
    assert {("loss/l1", 1), ("learning_rate", 2), ("psnr/held", 3)} <= set(written)
