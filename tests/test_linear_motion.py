"""Both flows as those of one motion."""

from __future__ import annotations

import pytest
import torch

import rife
from rife.networks.linear_motion import flow_along, motion_of
from tests.support.moving_clips import clip, disc_at, steps, unevenness


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 1.0])
def test_one_motion_stays_and_others_come_to_the_nearest(t):
    time = torch.full((2, 1, 1, 1), t)
    v = torch.randn(2, 2, 6, 7)
    flow = flow_along(v, time)
    torch.testing.assert_close(flow, torch.cat((-t * v, (1 - t) * v), 1))
    torch.testing.assert_close(motion_of(flow, time), v)
    nearest = flow_along(motion_of(off := torch.randn(2, 4, 6, 7), time), time)
    torch.testing.assert_close(flow_along(motion_of(nearest, time), time), nearest)
    # The rest is orthogonal to all flows of one motion.
    products = (off - nearest)[:, :2] * -t + (off - nearest)[:, 2:] * (1 - t)
    torch.testing.assert_close(products, torch.zeros_like(products), atol=1e-5, rtol=0)


def test_what_the_bundled_network_finds_is_one_motion():
    frames = torch.rand(2, 3, 64, 64)
    found = rife.load_model().motion(frames[:1], frames[1:], 0.25)
    torch.testing.assert_close(found.flow0 * 3, -found.flow1, atol=1e-4, rtol=1e-3)


def test_a_disc_moves_evenly():
    """Steps are uneven by 1.5 % with the flows as the blocks find them, by 0.6 with those of one motion."""
    drawings = clip([float(i) for i in range(6)], step=6, pan=1, width=256)
    out = rife.interpolate(rife.load_model(), torch.from_numpy(drawings).float() / 255, 5)
    places = [disc_at(frame) for frame in (out * 255).round().byte().numpy()]
    assert unevenness(steps(places)) < 0.01
