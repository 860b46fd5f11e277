"""The training loop: it learns, stops, goes on, and leaves whole files behind."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

import rife
from rife import training
from rife.data import RenderedMotion
from rife.ifnet import IFNet
from rife.training import BUNDLED_CONFIG, Averaged, Settings, learning_rate, match_init, train

TINY = replace(BUNDLED_CONFIG, channels=(32, 24, 16, 16))
# Crops of 64 halve to 32, the least that the padding allows.
SHORT = Settings(steps=3, batch=2, crop=64, warm_up=1)


def tiny() -> rife.Model:
    torch.manual_seed(0)
    network = IFNet(TINY)
    match_init(network)
    return rife.Model.from_network(network)


def weights(model: rife.Model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.net.state_dict().items()}


def clip(frames: int = 6) -> torch.Tensor:
    scenes = RenderedMotion(64, 96, 5, max_motion=4.0).clip(frames)
    return (scenes * 255).round().byte().permute(0, 2, 3, 1)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    settings = Settings(steps=1000, warm_up=100, learning_rate=1e-3)
    rates = [learning_rate(step, settings) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5) and rates[99] == pytest.approx(1e-3) == max(rates)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


def test_the_matching_filters_see_no_difference_between_equal_frames():
    """Two filters per offset, with opposite signs; equal flat frames give zero, a difference its size."""
    network = IFNet(BUNDLED_CONFIG)
    match_init(network, gain=3.0)
    for block in network.blocks:
        layer = block.conv0[0][0]
        x = torch.zeros(1, layer.in_channels, 5, 5)
        x[:, :6] = 0.4
        assert layer(x)[0, :2, 1:2, 1:2].abs().max() < 1e-6
        x[:, 3:6] = 0.1
        torch.testing.assert_close(layer(x)[0, :2, 1, 1], torch.tensor((0.9, -0.9)))


def test_the_average_follows_the_weights_and_starts_fast():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = Averaged(network, 0.998)
    torch.nn.init.ones_(network.weight)
    average.update(network, 0)
    assert average.network.weight.item() == pytest.approx(0.9)
    assert not average.network.training and average.network is not network


def test_training_makes_a_scene_it_sees_again_better():
    """Twenty steps on one batch: frames and flow both come nearer to the truth."""
    model, sample = tiny(), RenderedMotion(64, 64, 1, max_motion=6.0).sample(2)
    losses = [training._step(model, sample, step, Settings(steps=20, warm_up=5)) for step in range(20)]
    assert losses[-1]["loss_flow"] < 0.9 * losses[0]["loss_flow"]
    assert losses[-1]["loss_l1"] < 0.9 * losses[0]["loss_l1"]


def test_a_run_leaves_checkpoint_scores_and_log_and_returns_another_model(tmp_path):
    model = tiny()
    held_out = {"held": training.rendered_triplets(4, 1, 64)}
    result = train(model, tmp_path, replace(SHORT, real_from=0.3), clips=[clip()], held_out=held_out)
    assert result is not model and result.net is not model.net

    loaded = rife.load_model(tmp_path / "last.safetensors", device="cpu")
    assert loaded.config == TINY
    for key, value in weights(result).items():
        torch.testing.assert_close(loaded.net.state_dict()[key], value.half().float())
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0"]
    rows = list(csv.reader((tmp_path / "scores.csv").open()))
    assert rows[-1][:2] == ["3", "held"] and float(rows[-1][2]) > 10 and float(rows[-1][3]) > 10
    assert not list(tmp_path.glob("*.tmp"))


def test_an_interrupted_run_goes_on_where_it_stood(tmp_path, monkeypatch):
    stopped = _interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, replace(SHORT, save_every=-1.0))
    assert stopped == [0, 1]
    monkeypatch.undo()
    seen = _record(monkeypatch)
    train(tiny(), tmp_path, SHORT)
    assert seen == [2]
    # A finished run has nothing left to do, and gives back what it had.
    again = train(tiny(), tmp_path, SHORT)
    assert seen == [2]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(torch.equal(v, state["averaged"][k]) for k, v in weights(again).items())


def _interrupt_at(monkeypatch, limit: int) -> list[int]:
    seen, original = [], training._step

    def step_or_stop(model, sample, step, settings):
        if step == limit:
            raise KeyboardInterrupt
        seen.append(step)
        return original(model, sample, step, settings)

    monkeypatch.setattr(training, "_step", step_or_stop)
    return seen


def _record(monkeypatch) -> list[int]:
    return _interrupt_at(monkeypatch, -1)


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, second = (weights(train(tiny(), tmp_path / name, SHORT)) for name in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_that_only_gives_nan_stops_with_advice(tmp_path, monkeypatch):
    nothing = {"loss_l1": torch.tensor(float("nan")), "loss_flow": torch.zeros(()), "skipped": True}
    monkeypatch.setattr(training, "_step", lambda *_: {**nothing, "learning_rate": 0.0})
    monkeypatch.setattr(RenderedMotion, "sample", lambda *_: None)
    with pytest.raises(RuntimeError, match="Lower the learning rate"):
        train(tiny(), tmp_path, replace(SHORT, steps=200))


def test_scores_are_those_of_the_model_and_of_averaging():
    class Average:
        def inference(self, img0, img1):
            return (img0 + img1) / 2

    (scores,) = training.score_triplets(Average(), {"x": training.rendered_triplets(8, 2, 64)}).values()
    assert scores[0] == scores[1] and 10 < scores[0] < 60


def test_held_out_triplets_are_spread_over_the_clip():
    triplets = training.real_triplets(clip(9), stride=2, count=3)
    assert len(triplets) == 3 and triplets[0].shape == (3, 3, 64, 96)
    assert not torch.equal(triplets[0], triplets[2])


def test_the_texture_pool_mixes_photographs_and_noise():
    pool = training.texture_pool([clip()], 4, size=48)
    assert pool.shape == (4, 3, 48, 48) and pool.dtype == torch.uint8
    assert training.texture_pool([], 3, size=48).shape == (3, 3, 48, 48)


def test_the_command_trains_and_saves(tmp_path, monkeypatch):
    few = training.texture_pool([], 3, size=96)
    monkeypatch.setattr(training, "texture_pool", lambda clips, count: few)
    monkeypatch.setattr(training, "rendered_triplets", lambda motion, count: [])
    monkeypatch.setattr(training, "BUNDLED_CONFIG", TINY)
    monkeypatch.setattr(training, "score_triplets", lambda model, triplets: {})
    assert training.main([str(tmp_path), "--steps", "1", "--batch", "1", "--crop", "64"]) == 0
    assert rife.load_model(tmp_path / "rife_comfy.safetensors", device="cpu").config == TINY


def test_the_command_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    given = rife.save_checkpoint(tiny(), tmp_path / "given")
    few = training.texture_pool([], 3, size=96)
    monkeypatch.setattr(training, "texture_pool", lambda clips, count: few)
    monkeypatch.setattr(training, "rendered_triplets", lambda motion, count: [])
    monkeypatch.setattr(training, "score_triplets", lambda model, triplets: {})
    options = (
        "--steps 1 --batch 1 --crop 64 --learning-rate 1e-12 --curriculum 0 --rest 1 --real-from 0".split()
    )
    assert training.main([str(tmp_path / "out"), "--start", str(given), *options]) == 0
    # With next to no learning rate nothing changes but the rounding to half precision.
    result = rife.load_model(tmp_path / "out" / "rife_comfy.safetensors", device="cpu")
    for key, value in weights(tiny()).items():
        torch.testing.assert_close(result.net.state_dict()[key], value.half().float(), atol=1e-4, rtol=1e-2)
