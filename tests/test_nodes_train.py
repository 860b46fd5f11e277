"""The nodes that train and save, against the stand-in host."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from fractions import Fraction

import host as stand_in
import pytest
import torch
from safetensors import safe_open

import rife
from rife.config import RELEASES
from rife.data import RenderedMotion
from rife.ifnet import IFNet
from rife.legacy import LEGACY_RELEASES, LegacyRIFE
from rife.metrics import psnr
from rife.model import pad_to
from rife.video import VideoWriter


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def host(tmp_path):
    (tmp_path / "frame_interpolation").mkdir()
    yield from stand_in.installed(tmp_path)


def patcher_of(host, network, dtype=torch.float32):
    """An INTERP_MODEL as Load RIFE Checkpoint gives it."""
    name = f"test{len(list((host.models_dir / 'frame_interpolation').iterdir()))}.safetensors"
    rife.save_checkpoint(network, host.models_dir / "frame_interpolation" / name)
    precision = {torch.float32: "fp32", torch.float16: "fp16"}[dtype]
    return host.run("RIFECheckpointLoader", checkpoint=name, precision=precision)[0]


# Two blocks of 4.26's kind.
TINY = replace(RELEASES["4.26"], scales=(2, 1), pad=32)


def tiny():
    return stand_in.small_network(IFNet, TINY, (16, 16))


@pytest.fixture
def model(host):
    return patcher_of(host, tiny())


def paper(release="RIFE"):
    """A narrow network of the paper with its teacher."""
    torch.manual_seed(0)
    return IFNet(replace(RELEASES[release], family="custom", teacher=True, channels=(24, 16, 16)))


@pytest.fixture
def triplet():
    """img0, img1, true middle: IMAGEs of inference mode, as ComfyUI's nodes make them."""
    sample = RenderedMotion(30, 44, 1, max_motion=4.0).sample(2, 0.5)
    with torch.inference_mode():
        return {
            "img0": sample.img0.movedim(1, 3).clone(),
            "img1": sample.img1.movedim(1, 3).clone(),
            "ground_truth": sample.gt.movedim(1, 3).clone(),
        }


def digest(patcher) -> str:
    sums = hashlib.sha256()
    for name, tensor in patcher.model.state_dict().items():
        sums.update(name.encode() + tensor.detach().numpy().tobytes())
    return sums.hexdigest()


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

    monkeypatch.setattr(host.module("rife.model").Model, "update", fail)
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
    again = host.run("RIFECheckpointLoader", checkpoint=name)[0]
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


# a training

QUICK = {"steps": 4, "batch_size": 1, "crop": 32, "warm_up": 0, "max_distance": 2, "held_out": 0.4}


def moving_clip(frames=12, seed=1, size=(40, 56)):
    """A clip (N,H,W,3) of inference mode."""
    scenes = RenderedMotion(*size, seed, max_motion=3.0).clip(frames)
    with torch.inference_mode():
        return scenes.movedim(1, 3).clone()


def train(host, model, images=(), **inputs):
    """The node's results by name; every input a list, as ComfyUI gives them."""
    values = {**QUICK, "allow_worse": True, **inputs}
    lists = {name: value if name == "video" else [value] for name, value in values.items()}
    out = host.run("RIFETrain", interp_model=[model], images=list(images), **lists)
    names = [o.options["display_name"] for o in host.nodes["RIFETrain"].define_schema().outputs]
    return dict(zip(names, out, strict=True))


def test_a_training_gives_all_that_is_promised_and_changes_nothing_given(host, model):
    before, clip = digest(model), moving_clip()
    kept = clip.clone()
    out = train(host, model, [clip])
    assert digest(model) == before and model.attachments == {} and torch.equal(clip, kept)
    assert digest(out["interp_model"]) != before
    assert out["steps"] == 4 and len(out["loss_map"]["loss"]) == 4
    assert out["before"].shape == out["after"].shape == out["ground_truth"].shape
    assert out["plot"].shape == (1, 640, 960, 3)
    report = json.loads(out["report"])
    assert report["learned_from"] == {"shots": 1, "frames": 7} and report["held_out"]["triplets"] == 3
    assert report["psnr_before"] == pytest.approx(mean_psnr(out["before"], out["ground_truth"]), abs=1e-6)
    assert report["psnr_after"] == pytest.approx(mean_psnr(out["after"], out["ground_truth"]), abs=1e-6)


def mean_psnr(images, truth):
    return sum(psnr(a, b) for a, b in zip(images, truth, strict=True)) / len(truth)


def test_held_out_frames_are_not_learnt_from(host, model, monkeypatch):
    clip, seen = moving_clip(), []
    real = host.module("rife.datasets").RealFrames
    original = real.__post_init__
    monkeypatch.setattr(real, "__post_init__", lambda self: (seen.extend(self.shots), original(self))[1])
    out = train(host, model, [clip], held_out=0.4)
    (shot,) = seen
    as_bytes = (clip * 255).round().byte()
    assert list(shot.frames) == list(range(7)) and torch.equal(shot.clip, as_bytes)
    assert torch.equal((out["ground_truth"] * 255).round().byte(), as_bytes[8:11])


def test_the_best_state_is_returned_with_its_own_steps(host, model, monkeypatch):
    """Scores are made to say that the second look was the best one."""
    training = host.module("rife.training")
    looks = iter([30.0, 31.0, 33.0, 32.0, 31.5])
    monkeypatch.setattr(
        training, "score_triplets", lambda *_: {"held out": training.Score(next(looks), 0.9, 20.0)}
    )
    out = train(host, model, [moving_clip()], score_every=1, allow_worse=False)
    report = json.loads(out["report"])
    assert report["best_step"] == out["steps"] == 2
    assert (report["psnr_before"], report["psnr_after"]) == (30.0, 33.0)


def test_what_is_worse_than_the_start_is_not_returned_unless_it_is_asked_for(host, model):
    worse = {"learning_rate": 0.05, "steps": 2}
    with pytest.raises(
        RuntimeError, match=r"held-out PSNR \d+\.\d+ dB before, \d+\.\d+ dB at best.*allow_worse"
    ):
        train(host, model, [moving_clip()], allow_worse=False, **worse)
    out = train(host, model, [moving_clip()], allow_worse=True, **worse)
    report = json.loads(out["report"])
    assert report["psnr_after"] < report["psnr_before"] and out["steps"] == 2


def test_training_learns_a_clip(host, model):
    settings = {"steps": 60, "batch_size": 2, "learning_rate": 1e-3, "ema": 0.9, "allow_worse": False}
    report = json.loads(train(host, model, [moving_clip(seed=3)], **settings)["report"])
    assert report["psnr_after"] > report["psnr_before"] + 0.2


def test_the_same_seed_gives_the_same_model_and_another_seed_another(host, model):
    results = [digest(train(host, model, [moving_clip()], seed=s)["interp_model"]) for s in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


def test_trainings_can_be_chained_with_each_other_and_with_steps(host, model, triplet):
    first = train(host, model, [moving_clip()])
    second = train(host, first["interp_model"], [moving_clip(seed=2)])
    assert second["steps"] == 8 and len(second["loss_map"]["loss"]) == 4
    third = host.run("RIFETrainStep", interp_model=second["interp_model"], **triplet)
    assert third[4] == 9


def test_a_list_of_single_images_is_a_clip_and_lists_of_clips_are_several(host, model):
    clip = moving_clip()
    singles = train(host, model, clip.split(1))
    assert digest(singles["interp_model"]) == digest(train(host, model, [clip])["interp_model"])
    report = json.loads(train(host, model, [clip, moving_clip(seed=2, size=(36, 48))])["report"])
    assert report["learned_from"] == {"shots": 2, "frames": 14}


class VideoOfFrames:
    """A VIDEO that is no whole file."""

    def __init__(self, frames):
        self.frames = frames

    def get_stream_source(self):
        return b"bytes"

    def get_components(self):
        return type("Components", (), {"images": self.frames})


class VideoFile(VideoOfFrames):
    """A VIDEO that is a file."""

    def __init__(self, path):
        self.path = path

    def get_stream_source(self):
        return str(self.path)

    def get_active_trim_window(self):
        return 0.0, 0.0

    def get_components(self):
        raise AssertionError("the whole file would be in memory")


def write_video(path, clip):
    with VideoWriter(path, Fraction(24), clip.shape[2], clip.shape[1]) as writer:
        for frame in clip:
            writer.write((frame * 255).round().byte().numpy())


def test_videos_and_folders_are_learnt_from(host, model):
    clip = moving_clip(14)
    from_images = digest(train(host, model, [clip])["interp_model"])
    assert digest(train(host, model, video=[VideoOfFrames(clip)])["interp_model"]) == from_images
    folder = host.models_dir / "input" / "mine"
    folder.mkdir(parents=True)
    write_video(folder / "a.mp4", clip)
    a_file = train(host, model, video=[VideoFile(folder / "a.mp4")])
    combo = next(i for i in host.nodes["RIFETrain"].define_schema().inputs if i.id == "folder")
    assert combo.options["options"] == ["none", "mine"]
    in_folder = train(host, model, folder="mine")
    assert digest(a_file["interp_model"]) == digest(in_folder["interp_model"]) != from_images
    few = json.loads(train(host, model, folder="mine", max_frames=8)["report"])
    assert few["learned_from"]["frames"] == 5


def test_the_fingerprint_follows_the_folder(host):
    fingerprint = host.nodes["RIFETrain"].fingerprint_inputs
    folder = host.models_dir / "input" / "mine"
    folder.mkdir(parents=True)
    empty = fingerprint(folder=["mine"], steps=[3])
    (folder / "a.mp4").write_bytes(b"1")
    one = fingerprint(folder=["mine"])
    assert one != empty and one == fingerprint(folder=["mine"])
    assert fingerprint(folder=["none"]) == fingerprint() == "none"


def test_previews_show_the_held_out_frame_while_it_runs(host, model, monkeypatch):
    monkeypatch.setattr(host.module("nodes.train"), "_SECONDS_PER_PREVIEW", 0.0)
    train(host, model, [moving_clip()])
    assert [value for value, _, _ in host.progress] == [1, 2, 3, 4]
    kind, picture, _ = host.progress[-1][2]
    assert kind == "JPEG" and picture.width == 512 and picture.height > 320


def checks_of(host, model, **inputs):
    """How often a whole run asks whether it was cancelled."""
    before = host.checks
    train(host, model, [moving_clip()], **inputs)
    return host.checks - before


def test_cancel_returns_the_best_so_far_and_says_so(host, model):
    host.cancel_at = None
    total = checks_of(host, model, steps=30)
    host.cancel_at = host.checks + total // 2
    out = train(host, model, [moving_clip()], steps=30)
    report = json.loads(out["report"])
    assert report["cancelled"] and 0 < report["steps"] < 30 == report["steps_asked"]
    assert out["steps"] == report["steps"] and not digest(out["interp_model"]) == digest(model)


def test_cancel_again_stops_the_workflow(host, model):
    host.cancel_at = None
    host.cancel_after = host.checks + checks_of(host, model, steps=10) + 8
    with pytest.raises(stand_in.InterruptProcessingException):
        train(host, model, [moving_clip()], steps=10)


def test_cancel_before_anything_was_better_is_a_cancel(host, model):
    host.cancel_at = host.checks + 1  # while the start is scored
    with pytest.raises(stand_in.InterruptProcessingException):
        train(host, model, [moving_clip()])
    host.cancel_at = host.checks + 3 + 2  # in the second step
    with pytest.raises(stand_in.InterruptProcessingException):
        train(host, model, [moving_clip()], steps=30, learning_rate=0.05, allow_worse=False)


def test_without_held_out_frames_the_last_state_is_returned(host, model):
    out = train(host, model, [moving_clip(5)], held_out=0.0, allow_worse=False)
    report = json.loads(out["report"])
    assert "psnr_before" not in report and out["steps"] == 4 and report["held_out"]["triplets"] == 0
    assert len(out["before"]) == 1


def test_models_of_the_paper_learn_with_their_teacher_and_4_x_can_be_given_one(host):
    out = train(host, patcher_of(host, paper()), [moving_clip()])
    assert any("block_tea" in name for name in out["interp_model"].model.state_dict())
    out = train(host, patcher_of(host, tiny()), [moving_clip()], teacher=True)
    assert set(out["interp_model"].model.state_dict()) == set(tiny().state_dict())


@pytest.mark.parametrize(
    ("clips", "inputs", "message"),
    [
        ((), {}, "nothing to learn from"),
        ((5,), {}, "longest shot has 5 frames, expected at least six"),
        ((12,), {"crop": 50}, "crop is 50, expected a multiple of 32.*Use 64"),
        ((12,), {"crop": 64}, "expected at least one of 64 pixels"),
        ((12,), {"folder": "gone"}, "no folder at"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(host, model, clips, inputs, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(host, model, [moving_clip(n) for n in clips], **inputs)
    assert not host.freed or "64 pixels" in message
