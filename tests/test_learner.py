"""A step: its gradients, its precision, and what it refuses to pass on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from training_runs import TINY

import rife
from rife.evaluation.metrics import psnr
from rife.losses.objective import Objective
from rife.model import training_step as learner
from rife.model.training_step import Batch, TrainingStep
from rife.networks.ifnet import IFNet
from rife.training.bundled import match_init
from rife.training.samples import Sample
from rife.training.synthetic import RenderedMotion

R = rife.RELEASES
SMALL = {
    "bundled": TINY,
    "RIFE": replace(R["RIFE"], channels=(16, 16, 16)),
    "RIFE_m": replace(R["RIFE_m"], channels=(16, 16, 16)),
    "3.6": replace(R["3.6"], channels=(16, 16, 16)),
    "4.0": replace(R["4.0"], channels=(16, 16, 16, 16), pad=32),
    "4.6": replace(R["4.6"], channels=(16, 16, 16, 16)),
    "4.25": replace(R["4.25"], channels=(16, 16, 16, 16, 16)),
}


def network(name: str = "4.25", teacher: bool = True) -> IFNet:
    torch.manual_seed(0)
    made = IFNet(SMALL[name])
    if teacher:
        made.add_teacher()
    return made


def batch(net: IFNet, count: int = 2, size: int = 64) -> Batch:
    t = None if net.config.timestep else 0.5
    x = RenderedMotion(size, size, 1, max_motion=6.0).sample(count, t)
    return Batch(torch.cat((x.img0, x.img1), 1), x.gt, x.timestep, x.flow)


def gradients(learner: TrainingStep) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in learner._weights]


@pytest.mark.parametrize(
    ("name", "recipe", "guess_time"),
    [("RIFE_m", "paper", False), ("4.6", "paper", False), ("4.25", "4.25", False), ("4.25", "4.25", True)],
)
def test_gradients_are_the_slopes_of_the_loss(name, recipe, guess_time, monkeypatch):
    """Central differences along the gradient and along random directions, all in float64."""
    # The network keeps warps and flow in float32 whatever its weights are: here that means float64.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    try:
        net = network(name).double()
        # Distillation moves the students only, so its gradient is not the slope of the loss: see test_losses.
        data, objective = batch(net, 1), Objective(recipe, distill=0.0)
        trained = TrainingStep(net, recipe=recipe)
        trained.backward(data, objective, guess_time=guess_time)
        found, weights = gradients(trained), trained._weights
        assert sum(g.abs().sum() > 0 for g in found) > 0.9 * len(found)

        def loss(directions, step: float) -> float:
            with torch.no_grad():
                for p, d in zip(weights, directions, strict=True):
                    p.add_(d, alpha=step)
                total = trained._loss(trained._forward, data, objective, guess_time=guess_time)[1]
                for p, d in zip(weights, directions, strict=True):
                    p.sub_(d, alpha=step)
            return float(total)

        for directions in (found, *([torch.randn_like(g) for g in found] for _ in range(2))):
            size = sum(float((d * d).sum()) for d in directions) ** 0.5
            directions = [d / size for d in directions]
            slope = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
            # Warps and absolute values have kinks: a step this small meets next to none.
            step = 1e-7
            measured = (loss(directions, step) - loss(directions, -step)) / (2 * step)
            assert measured == pytest.approx(slope, rel=1e-5, abs=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_late_teacher_has_the_documented_inputs():
    """4.25: IFBlock(8+4+8+3+2h, 64) at scale 2, the true frame behind the warped ones."""
    net = IFNet(R["4.25"])
    before = set(net.state_dict())
    net.add_teacher()
    first = net.block_tea.conv0[0][0]
    assert first.in_channels == 8 + 4 + 8 + 3 + 2 * 4 and net.block_tea.conv0[1][0].out_channels == 64
    assert net.block_tea.columns["gt"] == [(6, 3)]
    assert net.config.versions == R["4.25"].versions
    net.drop_teacher()
    assert set(net.state_dict()) == before and net.config == R["4.25"]


def test_a_teacher_is_decided_by_its_seed_and_kept_by_a_checkpoint(tmp_path):
    first, second = network(), network()
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    loaded = rife.load_model(rife.save_checkpoint(first, tmp_path / "x"), device="cpu")
    assert loaded.config == first.config and loaded.config.teacher


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_learns_with_a_teacher_and_another_pyramid(name):
    net = network(name)
    trained, data = TrainingStep(net), batch(net)
    scales = tuple(s / 2 if s > 2 else s for s in net.config.scales)
    losses = []
    for _ in range(6):
        prediction, parts = trained.backward(data, Objective(), scale_list=scales)
        assert not trained.step(1e-3, 1.0)
        losses.append(float(parts["loss_l1"] + parts["loss_tea"]))
    assert losses[-1] < losses[0] and parts["loss_tea"] > 0
    assert prediction.flow_tea.shape == prediction.flow.shape and not prediction.image.requires_grad


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_almost_the_same_and_warps_in_float32(precision):
    results = {}
    for chosen in ("fp32", precision):
        net = network()
        trained, data = TrainingStep(net), batch(net)
        for _ in range(5):
            prediction, losses = trained.backward(data, Objective(), precision=chosen)
            assert not trained.step(1e-3, 1.0)
        results[chosen] = float(losses["loss_l1"])
        assert prediction.flow.dtype == prediction.image.dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in net.parameters())
    assert results[precision] == pytest.approx(results["fp32"], rel=0.02)
    assert results[precision] != results["fp32"]


def test_scaled_losses_give_the_gradients_of_the_unscaled():
    plain, scaled = TrainingStep(network()), TrainingStep(network())
    data = batch(plain.net)
    plain.backward(data, Objective())
    scaled.backward(data, Objective(), precision="fp16")
    scaled._scaler.unscale_(scaled.optimizer)
    total = sum(float((g * g).sum()) for g in gradients(plain)) ** 0.5
    apart = sum(float(((a - b) ** 2).sum()) for a, b in zip(gradients(plain), gradients(scaled), strict=True))
    assert apart**0.5 < 0.05 * total


def test_clipping_limits_the_norm_of_the_gradient():
    trained = TrainingStep(network())
    trained.backward(batch(trained.net), Objective())
    norms = []
    trained.optimizer.step = lambda: norms.append(
        sum(float((g * g).sum()) for g in gradients(trained)) ** 0.5
    )
    trained.step(1e-3, 0.01)
    assert norms == [pytest.approx(0.01, rel=1e-3)]
    assert all(p.grad is None for p in trained.net.parameters())  # the next step begins from nothing


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gradient_that_is_not_finite_is_dropped_and_counted(precision, monkeypatch):
    trained = TrainingStep(network())
    data, before = batch(trained.net), [p.clone() for p in trained.net.parameters()]
    monkeypatch.setattr(learner, "MOST_SKIPPED", 3)
    for skipped in (1, 2):
        trained.backward(data, Objective(), precision=precision)
        trained.net.block0.conv0[0][0].weight.grad[0] = float("inf")
        assert trained.step(1e-3, 1.0) and trained.skipped == skipped
    assert all(torch.equal(a, b) for a, b in zip(before, trained.net.parameters(), strict=True))
    trained.backward(data, Objective(), precision=precision)
    assert not trained.step(1e-3, 1.0) and trained.skipped == 0
    with pytest.raises(RuntimeError, match="3 steps in a row"):
        for _ in range(3):
            trained.backward(data._replace(gt=data.gt * 3e38), Objective(), precision=precision)
            assert trained.step(1e-3, 1.0)


def test_one_bad_part_drops_the_whole_step():
    trained = TrainingStep(network())
    data, before = batch(trained.net), [p.clone() for p in trained.net.parameters()]
    trained.backward(data, Objective(), 0.5, last=False)
    trained.backward(data._replace(gt=data.gt * 3e38), Objective(), 0.5)
    assert trained.step(1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.net.parameters(), strict=True))


def test_learning_rate_and_state_are_taken_over():
    first, second = TrainingStep(network()), TrainingStep(network())
    data = batch(first.net)
    first.backward(data, Objective(), precision="fp16")
    first.step(1e-3)
    second.net.load_state_dict(first.net.state_dict())
    second.load_state_dict(first.state_dict())
    for trained in (first, second):
        trained.backward(data, Objective(), precision="fp16")
        trained.step(5e-4)
    assert second.optimizer.param_groups[0]["lr"] == 5e-4
    for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)


def late(name: str = "4.25") -> TrainingStep:
    return TrainingStep(network(name), recipe="4.25")


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_learns_by_the_late_recipe_as_far_as_it_has_the_parts(name):
    trained, config = late(name), SMALL[name]
    data = batch(trained.net)
    losses = []
    for i in range(6):
        prediction, parts = trained.backward(data, Objective("4.25"), guess_time=i % 2 == 0)
        assert not trained.step(1e-3, 1.0)
        losses.append(float(parts["loss_l1"]))
    assert losses[-1] < losses[0]
    assert ("loss_time" in parts) == config.timestep and ("loss_encoder" in parts) == bool(config.head)
    assert len(prediction.teachers) == 1 + bool(config.feat_channels)
    assert trained.optimizer.param_groups[0]["weight_decay"] == 1e-2


def test_the_second_teacher_mixes_the_blocks_by_the_first_of_their_features():
    net = network()
    data = batch(net)
    x = [img.contiguous() for img in data.imgs.split(3, 1)]
    found = net.predict(*x, data.timestep, mix=True)
    # Convex but for the 1e-3: between the smallest and the largest flow of the blocks.
    flows = torch.stack(found.flows)
    assert (found.flow_mix <= flows.amax(0).clamp(min=0) + 1e-4).all()
    assert (found.flow_mix >= flows.amin(0).clamp(max=0) - 1e-4).all()
    torch.testing.assert_close(found.image, net.predict(*x, data.timestep).image)
    # Blocks that nobody trusts differently: their mean.
    with torch.no_grad():
        for block in net.blocks:
            block.lastconv[0].weight[:, 20:24] = 0
            block.lastconv[0].bias[20:24] = 2.0
    found = net.predict(*x, data.timestep, mix=True)
    torch.testing.assert_close(
        found.flow_mix, torch.stack(found.flows).mean(0) / 1.0002, atol=1e-4, rtol=1e-3
    )


def test_a_guessed_time_takes_the_place_of_the_true_one():
    trained = late()
    data = batch(trained.net)
    images = [trained.backward(data, Objective("4.25"), guess_time=g)[0].image for g in (False, True)]
    guess, losses = trained.evaluate(data, Objective("4.25"))
    assert not torch.equal(*images) and ((guess.time > 0) & (guess.time < 1)).all()
    again = trained.evaluate(data._replace(timestep=guess.time.flatten()), Objective("4.25"))[0]
    torch.testing.assert_close(again.image, images[1])
    true = data.timestep
    assert float(losses["loss_time"]) == pytest.approx(float(((guess.time.flatten() - true) ** 2).mean()))


def test_the_guess_of_the_time_learns_and_the_encoder_is_followed():
    trained = late()
    data = batch(trained.net)._replace(timestep=torch.tensor([0.2, 0.8]))
    slow = [p.clone() for p in trained._encoder.parameters()]
    losses = []
    for _ in range(8):
        losses.append(float(trained.backward(data, Objective("4.25"))[1]["loss_time"]))
        trained.step(1e-3, 1.0)
    assert losses[-1] < losses[0]
    for before, after, new in zip(
        slow, trained._encoder.parameters(), trained.net.encode.parameters(), strict=True
    ):
        moved, whole = (after - before).abs().sum(), (new - before).abs().sum()
        assert 0 < moved < 0.01 * whole
    after = [p.clone() for p in trained._encoder.parameters()]
    trained.backward(data._replace(gt=data.gt * 3e38), Objective("4.25"))
    assert trained.step(1e-3, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(after, trained._encoder.parameters(), strict=True))


def test_the_late_recipe_goes_on_from_its_state_and_in_a_copy():
    first = late()
    data = batch(first.net)
    first.backward(data, Objective("4.25"))
    first.step(1e-3)
    model = rife.Model.from_network(first.net)
    model._learner = first
    second = model.copy().learner
    assert second.recipe == "4.25"
    for trained in (first, second):
        trained.backward(data, Objective("4.25"), guess_time=True)
        trained.step(5e-4)
    for a, b in zip(first._weights, second._weights, strict=True):
        assert torch.equal(a, b)
    assert model.learner_for("paper").recipe == "paper"


@pytest.fixture
def group():
    """A process group of this process alone; two are started in test_train_command."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(("name", "recipe"), [("4.25", "paper"), ("4.25", "4.25"), ("4.0", "paper")])
def test_distributed_steps_are_the_same_and_survive_a_bad_one(name, recipe, group):
    """4.0 has a refinement that its pass does not use: gradients that never come."""
    if name == "4.0":
        config = replace(SMALL[name], refine="unet", refine_act="leaky")
        nets = [IFNet(config) for _ in range(2)]
        nets[1].load_state_dict(nets[0].state_dict())
    else:
        nets = [network(name) for _ in range(2)]
    plain, wrapped = TrainingStep(nets[0], recipe=recipe), TrainingStep(nets[1], local_rank=0, recipe=recipe)
    good = batch(nets[0])
    bad = good._replace(gt=good.gt * 3e38)
    for data in (good, bad, good):
        skipped = []
        for trained in (plain, wrapped):
            trained.backward(good, Objective(recipe), 0.5, last=False)
            trained.backward(data, Objective(recipe), 0.5)
            skipped.append(trained.step(1e-3, 1.0))
        assert skipped == [data is bad] * 2
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_model_of_the_paper_is_wrapped_by_its_local_rank(group):
    model = rife.Model(local_rank=0)
    imgs, gt = torch.rand(1, 6, 32, 32), torch.rand(1, 3, 32, 32)
    before = model.net.block0.conv0[0][0].weight.clone()
    _, info = model.update(imgs, gt, 1e-4)
    assert isinstance(model.learner._forward, torch.nn.parallel.DistributedDataParallel)
    assert info["loss_tea"] > 0 and not torch.equal(before, model.net.block0.conv0[0][0].weight)


def test_a_network_that_learned_timesteps_beats_one_that_learned_the_middle_at_a_quarter():
    """RIFE_m on two scenes, of which one network sees the times 0.25 and 0.75, the other the middles.

    On scenes that neither saw: benchmarks/train_timesteps.py.
    """

    def scenes(t: float) -> Sample:
        return RenderedMotion(64, 64, 4, max_motion=6.0).sample(2, torch.tensor([t, 1 - t]))

    quarter, scores = scenes(0.25), {}
    for t in (0.25, 0.5):
        torch.manual_seed(0)
        net = IFNet(replace(SMALL["RIFE_m"], refine=""))
        match_init(net)
        model, x = rife.Model.from_network(net), scenes(t)
        for _ in range(50):
            model.update(
                torch.cat((x.img0, x.img1), 1),
                x.gt,
                2e-3,
                flow_gt=x.flow,
                timestep=x.timestep,
                max_grad_norm=1.0,
            )
        made = model.inference(quarter.img0, quarter.img1, timestep=quarter.timestep)
        scores[t] = psnr(made, quarter.gt)
    mixed = torch.lerp(quarter.img0, quarter.img1, quarter.timestep.view(-1, 1, 1, 1))
    assert scores[0.25] > scores[0.5] + 3
    assert scores[0.25] > psnr(mixed, quarter.gt) + 1
