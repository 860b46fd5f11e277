"""Models of ComfyUI's own loader in our nodes."""

from __future__ import annotations

import pytest
import torch
from node_clips import Blend, Film, clip, native


def test_comfyuis_rife_gets_every_pair_and_time_in_one_batch(host):
    network, frames = Blend(), clip(3)
    images, *_ = host.run(
        "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=4, batch_size=6
    )
    assert network.calls == [6]
    for i, t in enumerate([0, 0.25, 0.5, 0.75]):
        torch.testing.assert_close(images[4 + i], torch.lerp(frames[1], frames[2], t), atol=1e-6, rtol=0)


def test_film_gets_all_times_of_a_pair_at_once_and_each_frame_is_encoded_once(host):
    network, frames = Film(), clip(3, 70, 66)
    images, *_ = host.run(
        "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=4, batch_size=6
    )
    assert network.pairs == [[0.25, 0.5, 0.75]] * 2 and network.extracted == 3
    torch.testing.assert_close(images[2], frames[:2].mean(0), atol=1e-6, rtol=0)


def test_alpha_of_comfyuis_models_moves_with_the_colours(host):
    frames = clip(2, c=4)
    images, *_ = host.run("RIFEInterpolate", interp_model=native(Blend()), images=frames, multiplier=2)
    torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)


def test_tta_and_ensemble_work_with_comfyuis_models_and_scale_is_refused(host):
    frames, network = clip(2), Blend()
    for option in ("tta", "ensemble"):
        network.calls.clear()
        images, *_ = host.run(
            "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=2, **{option: True}
        )
        assert network.calls == [1, 1]
        torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="Load RIFE Checkpoint for it"):
        host.run("RIFEInterpolate", interp_model=native(network), images=frames, multiplier=2, scale="0.5")


@pytest.mark.parametrize("network", [Blend, Film])
def test_light_above_one_keeps_its_values_in_comfyuis_models(host, network):
    frames = clip(3, 70, 66)
    frames[1:, 10:20, 10:20] = 12.0
    images, *_ = host.run("RIFEInterpolate", interp_model=native(network()), images=frames, multiplier=2)
    torch.testing.assert_close(images[3, 10:20, 10:20], torch.full((10, 10, 3), 12.0), rtol=1e-4, atol=0)
    assert images.max() <= 12.001 and images.min() >= 0
