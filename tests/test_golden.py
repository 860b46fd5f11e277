"""The official code's outputs, for every architecture: 191 runs of inference and 12 training steps."""

from __future__ import annotations

from functools import lru_cache

import golden_recipe as golden
import pytest
import torch

import rife

# Float32 noise of 1e-6 on the input moves these outputs by 3e-6; a network that is right agrees to 1e-4 at most.
TOLERANCE = 1e-4


@lru_cache(maxsize=1)  # the cases of one architecture follow each other
def _model(arch: str, seed: int) -> rife.Model:
    return rife.load_model(golden.state_dict(arch, seed), variant=arch, device="cpu")


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case["name"])
def test_inference_equals_the_official_code(case):
    model = _model(case["arch"], case["seed"])
    img0, img1 = (golden.frame(case["height"], case["width"], d, case["seed"]) for d in (0, 1))

    image = model.inference(
        img0,
        img1,
        scale=case.get("scale", 1.0),
        timestep=case.get("timestep", 0.5),
        ensemble=case.get("ensemble", False),
        TTA=case.get("tta", False),
    )

    assert (image[..., ::8, ::8] - golden.expected(case["name"])).abs().max() < TOLERANCE
    assert abs(float(image.mean()) - case["mean"]) < TOLERANCE
    assert abs(float(image.std()) - case["std"]) < TOLERANCE


@pytest.mark.parametrize("case", golden.train_cases(), ids=lambda case: case["arch"])
def test_update_equals_the_official_training_code(case):
    model = rife.load_model(golden.state_dict(case["arch"], case["seed"]), device="cpu")
    img0, gt, img1 = (golden.frame(case["height"], case["width"], d, case["seed"]) for d in (0, 0.5, 1))
    imgs = torch.cat((img0, img1), 1)

    *training, last = case["steps"]
    for expected in [*training, last]:
        merged, info = model.update(imgs, gt, case["learning_rate"], training=expected is not last)
        for name in ("loss_l1", "loss_tea"):
            assert float(info[name]) == pytest.approx(expected[name], rel=1e-4), name
        # Distillation counts the pixels where the teacher is better by 0.01. One of the 16384 that crosses that
        # threshold by rounding moves the loss by up to 7e-4, whatever the order of operations.
        assert float(info["loss_distill"]) == pytest.approx(expected["loss_distill"], rel=1e-3)
        assert float(merged.mean()) == pytest.approx(expected["pred_mean"], abs=1e-4)

    weights = model.net.state_dict()
    for key, total in case["param_sums"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, rel=1e-3, abs=2e-3), key


@pytest.mark.parametrize("case", golden.late_cases(), ids=lambda case: case["arch"])
def test_update_equals_the_code_that_trained_4_25(case):
    """Both teachers, pyramids, the encoder's features and the guessed time; gradients clipped."""
    seed, size = case["seed"], (case["height"], case["width"])
    model = rife.load_model(golden.state_dict(case["arch"], seed), variant=case["arch"], device="cpu")
    model.add_teacher()
    learner = model.learner_for("4.25")
    golden.fill(model.net.block_tea, "block_tea", seed)
    golden.fill(learner._unwrapped.timer, "timer", seed)
    img0, gt, img1 = (golden.frame(*size, d, seed) for d in (0, case["time"], 1))
    imgs = torch.cat((img0, img1), 1)

    for step in case["steps"]:
        options = {name: step[name] for name in ("scale_list", "guess_time", "timestep")}
        merged, info = model.update(
            imgs, gt, case["learning_rate"], recipe="4.25", max_grad_norm=case["max_grad_norm"], **options
        )
        for name in (name for name in step if name.startswith("loss_")):
            # Rounding grows from step to step: 1e-5 after the first, 3e-4 after the fourth.
            assert float(info[name]) == pytest.approx(step[name], rel=1e-3), name
        assert float(merged.mean()) == pytest.approx(step["pred_mean"], abs=1e-5)

    weights = model.net.state_dict() | {
        f"timer.{k}": v for k, v in learner._unwrapped.timer.state_dict().items()
    }
    for key, total in case["param_sums"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, rel=1e-3, abs=2e-3), key
