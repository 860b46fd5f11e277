"""Rendered scenes: what is left out changes nothing, flows are those of the pictures."""

from __future__ import annotations

import pytest
import torch

from rife.ops.warp import warp
from rife.training import synthetic
from rife.training.layers import WHOLE, image_points, layer_points, pixel_points, placement
from rife.training.synthetic import RenderedMotion


@pytest.mark.parametrize("batch, seed", [(1, 1), (1, 2), (1, 3), (3, 4), (3, 5)])
def test_what_an_object_cannot_reach_is_left_out_and_nothing_else(monkeypatch, batch, seed):
    """Lens, codec and noise are off: they make much of a little."""
    scenes = RenderedMotion(80, 112, max_motion=40.0, objects=4, rest=0.2)
    parts, reach = [], synthetic.reach
    monkeypatch.setattr(synthetic, "reach", lambda *given: parts.append(reach(*given)) or parts[-1])
    made = scenes.again(seed, 80, 112, 40.0).sample(batch)
    assert any(part != WHOLE for part in parts)
    monkeypatch.setattr(synthetic, "reach", lambda *_: WHOLE)
    whole = scenes.again(seed, 80, 112, 40.0).sample(batch)
    for x, y in zip(made, whole, strict=True):
        torch.testing.assert_close(x, y, atol=2e-4, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_leads_to_what_is_seen(seed):
    """Of a background alone, which bends, turns, zooms and tilts; away from what comes in from outside."""
    x = RenderedMotion(96, 128, seed, max_motion=6.0, objects=0, fades=0.0).sample(4, 0.3)
    inner = (..., slice(8, -8), slice(8, -8))
    for image, flow in ((x.img0, x.flow[:, :2]), (x.img1, x.flow[:, 2:])):
        off = (warp(image, flow) - x.gt)[inner].abs().mean((1, 2, 3))
        still = (image - x.gt)[inner].abs().mean((1, 2, 3))
        # What is left is the bilinear sampling, twice, of fine noise; and the noise of the given frames.
        assert (off < 0.03).all() and (off.mean() < 0.5 * still.mean()), (off, still)


def test_points_go_there_and_come_back():
    scenes = RenderedMotion(64, 64, 8, max_motion=20.0)
    pixels = pixel_points(64, 64, WHOLE, torch.device("cpu"))
    bent = tilted = False
    for _ in range(30):
        layer, times = scenes._layer(2, None), torch.tensor((0.1, 0.9))
        bent, tilted = bent or bool(layer.bend[..., :2].any()), tilted or bool(layer.tilt.any())
        there = image_points(layer, times, layer_points(layer, times, placement(layer, times), pixels))
        for found, given in zip(there, pixels, strict=True):
            torch.testing.assert_close(found, given.expand_as(found), atol=0.02, rtol=0)
    assert bent and tilted
