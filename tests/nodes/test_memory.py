"""Memory, progress and cancelling of the nodes."""

from __future__ import annotations

import sys

import fake_comfyui as stand_in
import pytest
import torch
from node_clips import Blend, clip, native


def test_memory_is_asked_for_the_frames_of_one_pass(host, model):
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=3)
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=1)
    three, one = (load.memory for load in host.loads)
    assert 4 * one > three > 3 * one > 3 * 40 * 56 * 4 * 20  # in a batch, frames are put together besides


def test_batches_follow_the_memory_that_is_there(host, model):
    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    model.load_device = torch.device("meta")  # any that is not the CPU
    per_frame = memory.adapt(model).memory_estimate(480, 720)
    host.free_memory = host.total_memory = 100 * per_frame
    assert memory.load(model, 480, 720, wanted=100)[1] == 24
    host.free_memory = 5 * per_frame
    assert memory.load(model, 480, 720, wanted=100)[1] == 4
    host.total_memory = 0
    assert memory.load(model, 480, 720, wanted=100)[1] == 1
    assert memory.load(model, 480, 720, wanted=9, batch_size=7)[1] == 7


def test_memory_is_asked_for_what_the_options_cost(host, model):
    run = {"interp_model": model, "images": clip(3), "multiplier": 2}
    for more in ({}, {"tta": True}, {"ensemble": True}, {"scale": "2.0"}, {"mask": torch.ones(3, 40, 56)}):
        host.run("RIFEInterpolate", **run, **more)
    plain, *others = (load.memory for load in host.loads)
    assert all(other > plain for other in others)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing_else(host, model, monkeypatch):
    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    frames, batches = clip(6), []
    expected = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)[0]
    between = memory.adapt(model).__class__.between

    def tight(self, source0, *args, **kwargs):
        batches.append(len(source0))
        if len(source0) > 2:
            raise torch.OutOfMemoryError("too big")
        return between(self, source0, *args, **kwargs)

    monkeypatch.setattr(memory.adapt(model).__class__, "between", tight)
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, batch_size=5)
    assert batches == [5, 2, 2, 1] and host.emptied == 1
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), RuntimeError("MPS backend out of memory")])
def test_one_frame_that_does_not_fit_says_what_to_do(host, error):
    class Big(Blend):
        def forward(self, *args, **kwargs):
            raise error

    with pytest.raises(RuntimeError, match="Not enough memory for one new frame of 56x40"):
        host.run("RIFEInterpolate", interp_model=native(Big()), images=clip(2), multiplier=2)


def test_a_result_that_does_not_fit_names_its_size(host, model, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    monkeypatch.setattr(memory.torch, "empty", refuse)
    with pytest.raises(RuntimeError, match="result of 1,000 frames of 1920x1080 takes 24.9 GB"):
        memory.empty_images((1000, 1080, 1920, 3))


def test_progress_counts_new_frames_and_shows_a_picture_now_and_then(host, model, monkeypatch):
    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(clock))
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=1)
    assert [(done, total) for done, total, _ in host.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert host.progress[0][2] is None
    kind, picture, side = host.progress[-1][2]
    assert (kind, picture.mode, picture.size, side) == ("JPEG", "RGB", (56, 40), 56)  # not scaled up


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_previews_of_any_frame_are_small_rgb(host, channels):
    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    picture = memory.to_picture(torch.full((1080, 2048, channels), 0.5))
    assert (
        picture.mode == "RGB" and picture.size == (512, 270) and picture.getpixel((0, 0)) == (128, 128, 128)
    )


def test_cancel_stops_at_the_next_pass_and_the_next_run_is_whole(host, model):
    frames = clip(6)
    host.cancel_after = len(frames) + 4  # looked at for cuts, the plan walked twice, then the passes begin
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, batch_size=1)
    assert host.progress[-1][0] == 1
    host.cancel_after = None
    assert host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)[2] == 11


def test_a_partial_load_leaves_no_weight_behind_that_nobody_would_bring(host, model):
    memory = sys.modules[stand_in.PACK + ".nodes.model_management"]
    host.novram = True
    model.load_device = torch.device("meta")
    memory.load(model, 64, 64)
    assert {p.device.type for p in model.model.parameters()} == {"meta"}
    theirs = native(Blend())
    theirs.load_device = torch.device("meta")
    memory.load(theirs, 64, 64)
    assert theirs.model.beta.device.type == "meta"
    assert theirs.model.conv.weight.device.type == "cpu"  # brought at each call


def test_strays_move_when_comfyuis_own_node_loads_our_model(host, model):
    host.novram = True
    model.load_device = torch.device("meta")
    host.load_models_gpu([model])
    assert {p.device.type for p in model.model.parameters()} == {"meta"}
