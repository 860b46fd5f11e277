"""RIFE Train Step and Save RIFE Checkpoint, against the stand-in host."""

from __future__ import annotations

import json
import math

import fake_comfyui as stand_in
import pytest
import torch
from safetensors import safe_open
from trainable import digest, paper, patcher_of, tiny

import rife
from rife.model.inputs import pad_to
from rife.networks.three_networks import LEGACY_RELEASES, LegacyRIFE

pytest_plugins = ["training_host"]


# one step


def test_a_step_gives_a_new_model_and_leaves_the_given_one_alone(host, model, triplet):
    before = digest(model)
    inputs = {name: images.clone() for name, images in triplet.items()}
    trained, merged, teacher, losses, steps, _ = host.run("RIFETrainStep", interp_model=model, **triplet)
    assert digest(model) == before and model.attachments == {}
    assert all(torch.equal(images, inputs[name]) for name, images in triplet.items())
    assert digest(trained) != before and steps == 1
    assert merged.shape == teacher.shape == (2, 30, 44, 3) and torch.equal(merged, teacher)
    assert len(losses["loss"]) == 2
    assert set(trained.model.state_dict()) == set(model.model.state_dict())


def test_steps_learn_the_images(host, model, triplet):
    out = host.run("RIFETrainStep", interp_model=model, steps=12, learning_rate=1e-3, **triplet)
    report = json.loads(out[5])
    assert report["after"]["loss_l1"] < 0.9 * report["before"]["loss_l1"]
    assert report["after"]["psnr"] > report["before"]["psnr"]
    assert len(out[3]["loss"]) == 13 and out[4] == 12
    assert host.lines[-1][0].startswith(f"12 steps: {report['before']['psnr']:.2f} dB before, ")


def test_a_step_is_the_core_s_step(host, model, triplet):
    trained = host.run("RIFETrainStep", interp_model=model, timestep=0.3, **triplet)[0]
    core = rife.load_model(host.models_dir / "frame_interpolation" / "test0.safetensors", device="cpu")
    img0, img1, gt = (pad_to(x.clone().movedim(3, 1), 32) for x in triplet.values())
    core.update(torch.cat((img0, img1), 1), gt, 1e-4, timestep=0.3, max_grad_norm=1.0)
    for name, tensor in core.net.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_a_chain_of_steps_is_one_training_and_can_be_repeated(host, model, triplet):
    """The optimiser's state goes along, and no step changes what the next one may be run from again."""
    together = host.run("RIFETrainStep", interp_model=model, steps=3, **triplet)
    first = host.run("RIFETrainStep", interp_model=model, **triplet)[0]
    results = []
    for _ in range(2):
        second = host.run("RIFETrainStep", interp_model=first, **triplet)
        third = host.run("RIFETrainStep", interp_model=second[0], **triplet)
        results.append(digest(third[0]))
    assert results == [digest(together[0])] * 2
    assert third[3] == together[3] and third[4] == together[4] == 3


def test_the_teacher_s_frames_come_from_the_teacher(host, triplet):
    model = patcher_of(host, paper())
    trained, merged, teacher, _, _, report = host.run("RIFETrainStep", interp_model=model, steps=2, **triplet)
    assert not torch.equal(merged, teacher)
    assert json.loads(report)["after"]["loss_tea"] > 0
    without = host.run("RIFETrainStep", interp_model=model, steps=2, distill_weight=0.0, **triplet)[0]
    assert digest(without) != digest(trained)


def test_half_models_are_trained_in_float32_and_come_back_as_they_were(host, triplet):
    model = patcher_of(host, tiny(), torch.float16)
    # So small a step is lost in half precision, unless the float32 weights go along.
    one = host.run("RIFETrainStep", interp_model=model, learning_rate=1e-7, **triplet)[0]
    ten = one
    for _ in range(3):
        ten = host.run("RIFETrainStep", interp_model=ten, learning_rate=1e-7, **triplet)[0]
    assert {p.dtype for p in one.model.parameters()} == {torch.float16}
    kept = [x.get_attachment("rife_training").weights for x in (one, ten)]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_training_dtype_reaches_the_convolutions(host, model, triplet):
    results = [
        host.run("RIFETrainStep", interp_model=model, training_dtype=d, **triplet)[0]
        for d in ("fp32", "bf16")
    ]
    assert digest(results[0]) != digest(results[1])
    assert {p.dtype for p in results[1].model.parameters()} == {torch.float32}


def test_the_trained_model_interpolates_and_can_be_rebuilt_from_its_recipe(host, model, triplet):
    trained = host.run("RIFETrainStep", interp_model=model, **triplet)[0]
    build, arguments = trained.cached_patcher_init
    again = build(*arguments, disable_dynamic=True)
    assert digest(again) == digest(trained)
    clip = torch.cat((triplet["img0"][:1], triplet["img1"][:1]))
    results = [
        host.run("RIFEInterpolate", interp_model=x, images=clip, multiplier=2)[0] for x in (trained, again)
    ]
    assert torch.equal(*results)
    assert not any(p.is_inference() or p.grad is not None for p in trained.model.parameters())


def test_the_loss_map_can_be_plotted_even_where_nothing_changes(host, model, triplet):
    losses = host.run("RIFETrainStep", interp_model=model, learning_rate=0.0, **triplet)[3]["loss"]
    assert len(losses) >= 2 and max(losses) > min(losses) and all(map(math.isfinite, losses))


def test_every_queued_prompt_trains(host):
    first, second = (host.nodes["RIFETrainStep"].fingerprint_inputs(steps=1) for _ in range(2))
    assert (first,) != (second,)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_train_as_colours(host, model, triplet, channels):
    batches = {k: torch.cat((v, v), 3)[..., :channels] for k, v in triplet.items()}
    assert host.run("RIFETrainStep", interp_model=model, **batches)[1].shape == (2, 30, 44, 3)


def test_memory_is_made_before_and_running_out_says_what_to_do(host, model, triplet, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(host.module("rife.model.model").Model, "update", fail)
    with pytest.raises(RuntimeError, match="does not fit .* Crop the images"):
        host.run("RIFETrainStep", interp_model=model, **triplet)
    assert host.freed and host.emptied


def test_progress_shows_each_step_and_cancel_stops(host, model, triplet):
    host.run("RIFETrainStep", interp_model=model, steps=3, **triplet)
    assert [value for value, _, _ in host.progress] == [1, 2, 3]
    host.cancel_after = host.checks + 1
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFETrainStep", interp_model=model, steps=100, **triplet)


def test_a_step_that_diverges_returns_no_model(host, model, triplet):
    with pytest.raises(RuntimeError, match="not finite.*Lower the learning rate"):
        host.run(
            "RIFETrainStep", interp_model=model, steps=50, learning_rate=1.0, max_grad_norm=0.0, **triplet
        )


# refusals


def test_what_cannot_be_trained_is_refused_by_name(host, triplet):
    native = torch.nn.Conv2d(3, 3, 1)
    native.extract_features = native.memory_used_forward = native.get_dtype = lambda *_: torch.float32
    native = stand_in.Patcher(native, torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(ValueError, match="ComfyUI's own loader.*Load the same file there"):
        host.run("RIFETrainStep", interp_model=native, **triplet)
    three = patcher_of(host, LegacyRIFE(LEGACY_RELEASES["3.1"]))
    with pytest.raises(ValueError, match="three networks .*3.1.*Load the bundled"):
        host.run("RIFETrainStep", interp_model=three, **triplet)
    with pytest.raises(ValueError, match="expected a frame interpolation model"):
        host.run("RIFETrainStep", interp_model=object(), **triplet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img1": torch.rand(1, 30, 44, 3)}, "expected as many of one size"),
        ({"ground_truth": torch.rand(2, 30, 40, 3)}, "expected as many of one size"),
        ({"img0": torch.full((2, 30, 44, 3), math.nan)}, "img0 contains NaN"),
        ({"img0": torch.rand(30, 44, 3)}, "img0 is .*expected images"),
        ({"timestep": 0.0}, "between 0 and 1"),
        ({"timestep": 1.0}, "between 0 and 1"),
    ],
)
def test_images_and_times_that_do_not_fit_are_refused(host, model, triplet, change, message):
    with pytest.raises(ValueError, match=message):
        host.run("RIFETrainStep", interp_model=model, **{**triplet, **change})
    assert not host.freed


def test_a_model_that_knows_only_the_middle_learns_only_the_middle(host, triplet):
    model = patcher_of(host, paper())
    with pytest.raises(ValueError, match="timestep is 0.25, but RIFE .*has no timestep input"):
        host.run("RIFETrainStep", interp_model=model, timestep=0.25, **triplet)
    assert host.run("RIFETrainStep", interp_model=patcher_of(host, paper("RIFE_m")), timestep=0.25, **triplet)


# saving


def saved_files(host):
    return sorted((host.models_dir / "output" / "frame_interpolation").iterdir())


def test_a_saved_model_is_listed_and_makes_the_same_frames(host, model, triplet):
    trained = host.run("RIFETrainStep", interp_model=model, steps=2, **triplet)[0]
    (name,) = host.run("RIFECheckpointSave", interp_model=trained)
    assert name == "RIFE_trained_00001_2_steps.safetensors"
    assert name in host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options["options"]
    again = host.run("RIFECheckpointLoader", checkpoint=name, precision="fp32")[0]
    assert digest(again) == digest(trained)
    clip = torch.cat((triplet["img0"][:1], triplet["img1"][:1]))
    frames = [
        host.run("RIFEInterpolate", interp_model=x, images=clip, multiplier=2)[0] for x in (trained, again)
    ]
    assert torch.equal(*frames)
    with safe_open(saved_files(host)[0], "pt") as file:
        assert json.loads(file.metadata()["rife_training"])["steps"] == 2
        assert "rife_config" in file.metadata()


def test_files_are_counted_and_nothing_half_written_stays(host, model):
    names = [host.run("RIFECheckpointSave", interp_model=model)[0] for _ in range(3)]
    assert names == [f"RIFE_trained_{i:05}_.safetensors" for i in (1, 2, 3)]
    assert [path.name for path in saved_files(host)] == names


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "as it runs"])
def test_precision_is_that_of_the_file(host, model, precision):
    host.run("RIFECheckpointSave", interp_model=model, precision=precision)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    with safe_open(saved_files(host)[0], "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {dtype}  # noqa: SIM118


def test_fp32_of_a_trained_half_model_keeps_what_was_learnt(host, triplet):
    model = patcher_of(host, tiny(), torch.float16)
    trained = host.run("RIFETrainStep", interp_model=model, **triplet)[0]
    (name,) = host.run("RIFECheckpointSave", interp_model=trained)
    again = host.run("RIFECheckpointLoader", checkpoint=name, precision="fp32")[0]
    weights = trained.get_attachment("rife_training").weights
    assert all(torch.equal(again.model.state_dict()[k], v) for k, v in weights.items())


def test_three_networks_are_saved_too_and_what_is_no_rife_is_refused(host):
    three = patcher_of(host, LegacyRIFE(LEGACY_RELEASES["3.1"]))
    (name,) = host.run("RIFECheckpointSave", interp_model=three)
    assert digest(host.run("RIFECheckpointLoader", checkpoint=name)[0]) == digest(three)
    film = torch.nn.Conv2d(3, 3, 1)
    film.extract_features = film.memory_used_forward = film.get_dtype = lambda *_: torch.float32
    with pytest.raises(ValueError):
        host.run(
            "RIFECheckpointSave",
            interp_model=stand_in.Patcher(film, torch.device("cpu"), torch.device("cpu")),
        )
