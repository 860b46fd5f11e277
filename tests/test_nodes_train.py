"""RIFE Train, against the stand-in host."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import fake_comfyui as stand_in
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trainable import digest, paper, patcher_of, tiny
from training_runs import write

from rife.evaluation.metrics import psnr
from rife.training.synthetic import RenderedMotion
from rife.video.writer import VideoWriter

pytest_plugins = ["training_host"]

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
    assert host.lines[-1][0].startswith(f"held out: {report['psnr_before']:.2f} dB before, ")


def mean_psnr(images, truth):
    return sum(psnr(a, b) for a, b in zip(images, truth, strict=True)) / len(truth)


def test_held_out_frames_are_not_learnt_from(host, model, monkeypatch):
    clip, seen = moving_clip(), []
    real = host.module("rife.training.datasets").RealFrames
    original = real.__post_init__
    monkeypatch.setattr(real, "__post_init__", lambda self: (seen.extend(self.shots), original(self))[1])
    out = train(host, model, [clip], held_out=0.4)
    (shot,) = seen
    as_bytes = (clip * 255).round().byte()
    assert list(shot.frames) == list(range(7)) and torch.equal(shot.clip, as_bytes)
    assert torch.equal((out["ground_truth"] * 255).round().byte(), as_bytes[8:11])


def test_the_best_state_is_returned_with_its_own_steps(host, model, monkeypatch):
    """Scores are made to say that the second look was the best one."""
    training = host.module("rife.training.trainer")
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


class OldVideoFile(VideoFile):
    """A VIDEO of ComfyUI before 0.23, which does not tell whether it is trimmed; this one is not."""

    get_active_trim_window = property()  # hasattr says no
    _VideoFromFile__start_time = _VideoFromFile__duration = 0


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
    old = train(host, model, video=[OldVideoFile(folder / "a.mp4")])
    assert digest(old["interp_model"]) == digest(a_file["interp_model"])
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


@pytest.fixture
def most_unseen(monkeypatch):
    """A function that runs another one, and tells the most convolutions, there or back, that nobody looked for Cancel
    in between."""
    unseen = [0]

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            unseen[-1] += "convolution" in function.name()
            return function(*args, **(kwargs or {}))

    def most(run) -> int:
        unseen[:] = [0]
        with monkeypatch.context() as patched, Counting():
            name = "throw_exception_if_processing_interrupted"
            patched.setattr(sys.modules["comfy.model_management"], name, lambda: unseen.append(0))
            run()
        return max(unseen)

    return most


def test_cancel_is_looked_for_within_passes_there_and_back(host, model, triplet, most_unseen):
    """It was looked for between steps, of many passes each, and between held-out frames: seconds, of large ones."""
    clip = moving_clip(20)
    parts = {"steps": 2, "batch_size": 1, "grad_accumulation_steps": 3, "score_every": 1}
    at_most = 20  # those of the loss, which blur three channels
    assert most_unseen(lambda: train(host, model, [clip], **parts)) <= at_most
    assert most_unseen(lambda: host.run("RIFETrainStep", interp_model=model, steps=2, **triplet)) <= at_most


def test_cancel_is_looked_for_while_frames_are_read(host, model, monkeypatch):
    """All clips were read, and looked through for cuts, before it was."""
    clip, read = moving_clip(12), []
    frames = host.module("rife.video.frames")
    folder = Path(host.modules["folder_paths"].get_input_directory()) / "clips"
    write(folder / "one", (clip * 255).round().byte())
    original = frames.read_picture
    monkeypatch.setattr(frames, "read_picture", lambda path: (read.append(path), original(path))[1])
    for inputs in ({"images": [clip]}, {"folder": "clips"}):
        host.cancel_after = host.checks + 3
        with pytest.raises(stand_in.InterruptProcessingException):
            train(host, model, **inputs)
        assert host.checks == host.cancel_after + 1 and len(read) < 6


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
    host.cancel_at = None
    until_first = checks_of(host, model, steps=1)
    for share in (0.01, 0.2, 0.4):  # while frames are read, while the start is scored, in the first step
        host.cancel_at = host.checks + 1 + int(share * until_first)
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


def test_the_recipe_of_4_25_reaches_the_training(host, model):
    options = {"steps": 4, "teacher": True, "allow_worse": True}
    paper_s, late = (
        train(host, model, [moving_clip()], recipe=name, **options) for name in ("paper", "4.25")
    )
    assert digest(paper_s["interp_model"]) != digest(late["interp_model"])
    assert late["interp_model"].model.config == model.model.config
    assert late["loss_map"]["loss"][0] != paper_s["loss_map"]["loss"][0]


@pytest.mark.parametrize(
    ("clips", "inputs", "message"),
    [
        ((), {}, "nothing to learn from"),
        ((5,), {}, "longest shot has 5 frames, expected at least six"),
        ((12,), {"crop": 50}, "crop is 50, expected a multiple of 32.*Use 64"),
        ((12,), {"crop": 64}, "expected at least one of 64 pixels"),
        ((12,), {"folder": "gone"}, "no folder at"),
        # Over a link, where no form looks at numbers.
        ((12,), {"batch_size": 0}, "batch_size is 0, expected 1 to 256"),
        ((12,), {"batch_size": -1}, "batch_size is -1, expected 1 to 256"),
        ((12,), {"learning_rate": float("nan")}, "learning_rate is nan, expected"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(host, model, clips, inputs, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(host, model, [moving_clip(n) for n in clips], **inputs)
    assert not host.freed or "64 pixels" in message


# pictures


@pytest.mark.parametrize(
    ("losses", "scores"),
    [
        ([], []),
        ([(1, 0.5)], [(0, 30.0)]),
        ([(1, float("nan")), (2, 0.5)], []),
        ([(i, 0.5) for i in range(1, 100_000)], [(0, 30.0), (99_999, 30.0)]),
    ],
)
def test_curves_of_any_length_are_drawn(host, losses, scores):
    picture = host.module("nodes.plot").curves(losses, scores, (300, 200))
    assert picture.size == (300, 200) and len(picture.getcolors(1 << 16)) > 2


def test_curves_rise_where_values_do(host):
    plot = host.module("nodes.plot")
    image = plot.as_image(plot.curves([], [(0, 30.0), (10, 31.0)], (300, 200)))[0]
    orange = (image - torch.tensor((200, 80, 20)) / 255).abs().sum(2) < 0.01
    rows, columns = orange[100:].nonzero().unbind(1)
    assert rows[columns < 100].float().mean() > rows[columns > 200].float().mean()


@pytest.mark.parametrize("losses", [[], [0.5], [0.5, 0.5], [float("nan"), 0.5]])
def test_a_loss_map_always_spans_something(host, losses):
    values = host.module("nodes.trained").loss_map(losses)["loss"]
    assert len(values) >= 2 and max(values) - min(values) > 0
