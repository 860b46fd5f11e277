"""RIFE Interpolate: what comes out."""

from __future__ import annotations

import pytest
import torch
from node_clips import Blend, Film, clip, native
from torch import nn

import rife


def test_the_node_gives_what_the_core_gives(host, model, checkpoint):
    frames = clip()
    images, fps, count, *_ = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=4, fps=8.0
    )
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu", dtype="auto"), frames, 4)
    assert torch.equal(images, expected)
    assert (fps, count) == (32.0, 9) and images.is_contiguous()
    assert torch.equal(images[::4], frames)


def test_timesteps_replace_the_multiplier(host, model):
    frames = clip(2)
    by_time = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=9, timesteps="1/4 .5; 0.75"
    )
    by_multiplier = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=4)
    assert torch.equal(by_time[0], by_multiplier[0]) and by_time[1:3] == (96.0, 5)


@pytest.mark.parametrize("text", ["half", "0, 0.5", "0.5, 0.5", "1/0", "nan"])
def test_wrong_timesteps_are_refused(host, model, text):
    with pytest.raises(ValueError, match="timesteps"):
        host.run("RIFEInterpolate", interp_model=model, images=clip(2), multiplier=2, timesteps=text)


@pytest.mark.parametrize(
    "frames",
    [clip(1), clip(2, 33, 41), clip(2, 5, 3), clip(2, 1, 1), clip(2, 40, 40, 4), clip(2, 40, 40, 1)],
    ids=["one", "odd", "tiny", "pixel", "rgba", "grey"],
)
@pytest.mark.parametrize("kind", ["ours", "native", "film"])
def test_every_shape_of_clip_runs(host, model, frames, kind):
    patcher = {"ours": lambda: model, "native": lambda: native(Blend()), "film": lambda: native(Film())}[
        kind
    ]()
    images, _, count, *_ = host.run("RIFEInterpolate", interp_model=patcher, images=frames, multiplier=2)
    assert images.shape == (2 * len(frames) - 1, *frames.shape[1:]) and count == len(images)
    assert torch.equal(images[::2], frames) and 0 <= images.min() and images.max() <= 1
    if kind != "ours" and len(frames) == 2:
        torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)


def test_half_and_scattered_clips_give_the_intermediate_dtype(host, model):
    frames = clip(3).half().permute(0, 2, 1, 3)
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert images.dtype == torch.float32 and images.is_contiguous()
    host.intermediate_dtype = torch.float16
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert images.dtype == torch.float16 and torch.equal(images[::2], frames)


def test_neither_the_clip_nor_the_weights_are_changed(host, model):
    frames = clip()
    kept, weights = frames.clone(), {k: v.clone() for k, v in model.model.state_dict().items()}
    host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert torch.equal(frames, kept)
    assert all(torch.equal(v, weights[k]) for k, v in model.model.state_dict().items())


def test_one_frame_or_multiplier_one_loads_no_model(host, model):
    frames = clip()
    assert torch.equal(
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=1)[0], frames
    )
    assert host.run("RIFEInterpolate", interp_model=model, images=frames[:1], multiplier=8)[2] == 1
    assert not host.loads


@pytest.mark.parametrize(
    "frames", [torch.zeros(0, 8, 8, 3), torch.zeros(2, 8, 8), torch.zeros(2, 8, 8, 2), None]
)
def test_no_or_wrong_images_are_refused_before_any_work(host, model, frames):
    with pytest.raises(ValueError, match="expected images"):
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert not host.loads


def test_something_that_is_no_model_is_refused(host):
    with pytest.raises(ValueError, match="Load RIFE Checkpoint"):
        host.run("RIFEInterpolate", interp_model=object(), images=clip(2), multiplier=2)
    with pytest.raises(ValueError, match="Patcher of Conv2d"):
        host.run("RIFEInterpolate", interp_model=native(nn.Conv2d(1, 1, 1)), images=clip(2), multiplier=2)
