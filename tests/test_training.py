"""The training loop: it learns, goes on where it stood, keeps the best, and leaves the given model alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_runs import SHORT, TINY, same, source, tiny, weights

import rife
from rife.model import training_step as learner
from rife.networks.ifnet import IFNet
from rife.training.datasets import RealFrames, rendered_triplets, shots
from rife.training.feed import Feed
from rife.training.samples import Sample
from rife.training.schedule import Settings, learning_rate, pyramid, seed_of
from rife.training.trainer import EMA, StopTraining, Trainer
from rife.training.validation import score_triplets


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    settings = Settings(steps=1000, warm_up=100, learning_rate=1e-3)
    rates = [learning_rate(step, settings) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5) and rates[99] == pytest.approx(1e-3) == max(rates)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)
    assert learning_rate(0, replace(settings, warm_up=0)) == pytest.approx(1e-3)


def test_the_average_follows_the_weights_and_starts_fast():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = EMA(network, 0.998)
    torch.nn.init.ones_(network.weight)
    average.update(network, 0)
    assert average.network.weight.item() == pytest.approx(0.9)
    assert not average.network.training and average.network is not network
    plain = EMA(network, 0.0)
    torch.nn.init.zeros_(network.weight)
    plain.update(network, 500)
    assert plain.network.weight.item() == 0


def test_pyramids_are_those_of_the_recipe():
    drawn = [pyramid((16, 8, 4, 2, 1), seed) for seed in range(200)]
    assert set(drawn) == {(16, 8, 4, 2, 1), (8, 4, 2, 2, 1), (4, 4, 2, 2, 1)}
    assert 60 < drawn.count((16, 8, 4, 2, 1)) < 100


@pytest.mark.parametrize(("recipe", "share"), [("paper", 1.0), ("4.25", 0.0), ("4.25", 0.3), ("4.25", 1.0)])
def test_a_share_of_the_steps_learns_at_guessed_times(recipe, share, monkeypatch):
    seen, backward = [], learner.TrainingStep.backward

    def watched(self, *args, **options):
        seen.append(options.get("guess_time", False))
        return backward(self, *args, **options)

    monkeypatch.setattr(learner.TrainingStep, "backward", watched)
    Trainer(tiny(), source(), replace(SHORT, steps=10, recipe=recipe, learned_time=share, batch=1)).run()
    expected = share * 10 if recipe == "4.25" else 0
    assert abs(sum(seen) - expected) <= (2 if share == 0.3 else 0)


def test_training_makes_a_scene_it_sees_again_better():
    """Twenty steps on one batch: frames and flow both come nearer to the truth."""
    scenes = source()

    class Same:
        def example(self, seed, step, progress):
            return scenes.example(1, 0, 0.0)

    settings = replace(SHORT, steps=20, warm_up=5)
    history = Trainer(tiny(), Same(), settings).run().history
    assert [step.number for step in history] == list(range(1, 21))
    assert history[-1].losses["loss_flow"] < 0.9 * history[0].losses["loss_flow"]
    assert history[-1].losses["loss_l1"] < 0.9 * history[0].losses["loss_l1"]
    assert history[-1].known_flow and history[-1].learning_rate < history[5].learning_rate


def test_the_given_model_stays_as_it_was():
    model = tiny()
    before = weights(model)
    model.eval()
    result = Trainer(model, source(), SHORT).run()
    assert all(torch.equal(before[k], v) for k, v in model.net.state_dict().items())
    assert not same(result.model, model) and not model.net.training


def test_it_runs_inside_inference_mode_on_a_model_made_there():
    with torch.inference_mode():
        model = tiny()
        clip = torch.rand(5, 64, 64, 3)
        real = RealFrames(shots(clip), crop=32, any_time=True)
        result = Trainer(model, real, SHORT).run()
        assert torch.is_inference_mode_enabled()
    assert not any(p.is_inference() for p in result.model.net.parameters())
    assert not same(result.model, model)


def test_the_same_settings_give_the_same_weights_with_and_without_threads():
    first, second, threads, other = (
        Trainer(tiny(), source(), settings).run().last
        for settings in (SHORT, SHORT, replace(SHORT, workers=2), replace(SHORT, seed=1))
    )
    assert same(first, second) and same(first, threads) and not same(first, other)


@pytest.mark.parametrize("recipe", ["paper", "4.25"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_stopped(recipe):
    settings = replace(SHORT, steps=4, teacher=True, random_scales=True, recipe=recipe, learned_time=0.5)
    whole = Trainer(tiny(), source(), settings)
    expected = whole.run()

    def interrupt(step):
        if step.number == 2:
            raise KeyboardInterrupt

    first = Trainer(tiny(), source(), settings)
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupt)
    second = Trainer(tiny(), source(), settings)
    second.load_state_dict(first.state_dict())
    result = second.run()
    assert [s.losses for s in result.history] == [s.losses for s in expected.history[2:]]
    assert same(result.last, expected.last)


def test_parts_of_a_batch_give_the_training_of_the_whole():
    one = Trainer(tiny(), source(), replace(SHORT, batch=4)).run()
    two = Trainer(tiny(), source(), replace(SHORT, batch=4, accumulate=2)).run()
    for a, b in zip(one.history, two.history, strict=True):
        assert a.losses == pytest.approx(b.losses, rel=1e-4)
    for a, b in zip(weights(one.last).values(), weights(two.last).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_processes_share_a_batch_without_overlap():
    class Seeds:
        def example(self, seed, step, progress):
            nothing = torch.zeros(1)
            return Sample(nothing, nothing, nothing, None, torch.tensor([seed]))

    settings = replace(SHORT, batch=8, accumulate=2)
    feeds = [Feed(Seeds(), settings, rank, 2) for rank in range(2)]
    seen = [int(seed) for feed in feeds for part in feed.parts(1) for seed in part.timestep]
    assert seen == [seed_of(settings, 1, i) for i in range(8)] and len(set(seen)) == 8
    with pytest.raises(ValueError, match="multiple of 6"):
        Feed(Seeds(), settings, 0, 3)


def test_the_best_on_held_out_frames_is_kept():
    held_out = {"held": rendered_triplets(4, 1, 64)}
    trainer = Trainer(tiny(), source(), replace(SHORT, steps=6, score_every=2, ema=0.0), held_out)
    result = trainer.run()
    looks = {s.number: s.scores["held"].psnr for s in result.history if s.scores}
    assert list(looks) == [2, 4, 6]
    everything = {0: result.before["held"].psnr, **looks}
    assert result.after["held"].psnr == max(everything.values()) == everything[result.best_step]
    scored = score_triplets(result.best, held_out)["held"]
    assert scored == result.after["held"] and 0 < scored.ssim < 1


@pytest.mark.parametrize("allow_worse", [False, True])
def test_what_is_worse_than_the_start_is_refused_unless_asked_for(allow_worse):
    model = tiny()
    settings = replace(SHORT, learning_rate=0.3, max_grad_norm=1e9, ema=0.0, allow_worse=allow_worse)
    still = torch.rand(1, 3, 64, 64).mul(255).byte().expand(3, -1, -1, -1)
    result = Trainer(model, source(), settings, {"still": [still]}).run()
    assert not result.improved and result.best_step == 0 and result.after == result.before
    assert same(result.best, model) and not same(result.last, model)
    assert result.model is (result.last if allow_worse else result.best)


def test_a_run_stops_when_asked_and_has_a_result_whatever_ended_it():
    held_out = {"held": rendered_triplets(4, 1, 64)}
    trainer = Trainer(tiny(), source(), SHORT, held_out)

    def at_two(step):
        if step.number == 2:
            raise StopTraining

    result = trainer.run(at_two)
    assert len(result.history) == 2 and "held" in result.after

    def cancel(step):
        raise InterruptedError

    trainer = Trainer(tiny(), source(), SHORT, held_out)
    with pytest.raises(InterruptedError):
        trainer.run(cancel)
    assert len(trainer.result().history) == 1 and "held" in trainer.result().after


def test_data_that_the_network_cannot_learn_from_is_refused():
    half = rife.Model.from_network(IFNet(replace(rife.RELEASES["3.6"], channels=(16, 16, 16))))
    with pytest.raises(ValueError, match="can only learn 0.5"):
        Trainer(half, source(), SHORT).run()
    assert len(Trainer(half, source(timestep=0.5), SHORT).run().history) == 3
    with pytest.raises(ValueError, match="multiples of 32"):
        Trainer(tiny(), source(crop=40), SHORT).run()
    with pytest.raises(ValueError, match="recipe"):
        Trainer(tiny(), source(), replace(SHORT, recipe="none"))
    with pytest.raises(ValueError, match="precision"):
        Trainer(tiny(), source(), replace(SHORT, precision="fp8")).run()


def test_a_teacher_is_only_there_while_it_teaches():
    model = tiny()
    trainer = Trainer(model, source(), replace(SHORT, teacher=True))
    result = trainer.run()
    assert result.history[0].losses["loss_tea"] > 0
    assert trainer.model.config.teacher and not model.config.teacher
    assert result.model.config == TINY and weights(result.model).keys() == weights(model).keys()


def test_a_run_without_a_usable_gradient_stops_with_advice(monkeypatch):
    monkeypatch.setattr(learner, "MOST_SKIPPED", 3)
    settings = replace(SHORT, steps=10, perceptual_weight=1.0)
    seen = []
    with pytest.raises(RuntimeError, match="Lower the learning rate"):
        Trainer(tiny(), source(), settings, perceptual=lambda a, b: a.sum() / 0).run(seen.append)
    assert [step.skipped for step in seen] == [True, True]


def test_scores_are_those_of_the_model_and_of_averaging():
    class Average:
        def inference(self, img0, img1):
            return (img0 + img1) / 2

    (score,) = score_triplets(Average(), {"x": rendered_triplets(8, 2, 64), "empty": []}).values()
    assert score.psnr == score.average_psnr and 10 < score.psnr < 60
