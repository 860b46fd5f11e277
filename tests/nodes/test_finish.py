"""Loops, even sharpness, motion blur and kept regions in the nodes, on the stand-in for ComfyUI."""

from __future__ import annotations

import json

import pytest
import torch
from node_clips import Blend, native
from video_files import make_of, rendered

from rife.engine.steady import even_detail
from rife.video.job import read_frames


@pytest.fixture
def blend(host):
    return native(Blend())


@pytest.fixture
def film():
    return rendered(2, 9)


def run(host, blend, images, **options):
    return host.run(
        "RIFEInterpolate", **{"interp_model": blend, "images": images, "multiplier": 2, **options}
    )


def test_a_last_frame_that_is_the_first_again_freezes_no_loop(host, blend, film):
    closed = torch.cat([film, film.flip(0)[1:]])  # there and back, ends with the first
    how = {"loop": True, "cuts": "off", "repeated_frames": "off"}
    images, _, count, report, *_ = run(host, blend, closed, **how, loop_twin="drop")
    assert count == 32 and json.loads(report)["back_to_first"]["overlap"] == 1
    assert torch.allclose(images[-1], (film[1] + film[0]) / 2, atol=1e-6)
    assert run(host, blend, closed, **how, loop_twin="keep")[2] == 34
    still = film[:1].expand(6, -1, -1, -1)
    assert run(host, blend, still, loop=True, loop_twin="drop")[2] == 12


@pytest.mark.parametrize("kind", ["RIFEInterpolate", "RIFEInterpolateVideo"])
def test_a_prompt_of_before_the_choice_keeps_the_frames_it_made(host, blend, film, kind, tmp_path):
    closed = torch.cat([film, film.flip(0)[1:]])
    video_of = host.modules["comfy_api.latest"].InputImpl.VideoFromFile
    video = video_of(str(make_of(tmp_path / "a.mkv", closed)))
    given = {"images": closed} if kind == "RIFEInterpolate" else {"video": video}
    old = host.run(
        kind, interp_model=blend, multiplier=2, loop=True, cuts="off", repeated_frames="off", **given
    )
    assert old[2] == 34
    (twin,) = (one for one in host.nodes[kind].define_schema().inputs if one.id == "loop_twin")
    assert twin.options["default"] == "drop"  # of a node that is placed now


def test_drift_is_spread_over_a_loop(host, blend, film):
    closed = torch.cat([film, film.flip(0)[1:]])
    dimmed = closed * torch.linspace(1, 0.9, len(closed)).view(-1, 1, 1, 1)
    images = run(host, blend, dimmed, loop=True, cuts="off", loop_twin="drop", loop_drift="auto")[0]
    assert (images.mean((1, 2, 3))[::2] - closed[:16].mean((1, 2, 3))).abs().max() < 0.003
    plain = run(host, blend, dimmed, loop=True, cuts="off", loop_twin="drop")[0]
    assert (plain.mean((1, 2, 3))[30] - closed[15].mean()).abs() > 0.02


@pytest.mark.parametrize("multiplier", [2, 3])
def test_steady_gives_no_frame_as_it_came(host, blend, film, multiplier):
    images, _, count, report, *_ = run(host, blend, film, multiplier=multiplier, steady=True)
    facts = json.loads(report)
    assert count == 8 * multiplier + 1 and facts["new"] == count - 1
    ends, t = film[:2].permute(0, 3, 1, 2), torch.tensor([1 / (2 * multiplier)])
    first = even_detail(torch.lerp(*ends, float(t))[None], ends[:1], ends[1:], t)[0].permute(1, 2, 0)
    assert torch.allclose(images[0], first, atol=1e-5)


def test_a_shutter_is_the_mean_light_around_each_frame(host, blend):
    ramp = torch.linspace(0, 1, 9).view(-1, 1, 1, 1).expand(-1, 40, 56, 3).contiguous()
    images, _, count, *_ = run(
        host, blend, ramp, multiplier=1, shutter=360.0, cuts="off", repeated_frames="off"
    )
    assert count == 9
    # Linear light of a ramp of values: a little above the value in the middle, never outside of the open shutter.
    assert (images[4] >= ramp[4]).all() and (images[4] < ramp[4] + 0.0625).all()


def test_what_is_coming_is_told_with_a_shutter_too(host, blend, film):
    run(host, blend, film, multiplier=2, shutter=180.0)
    assert any(line.startswith("9 → 17 frames") and line.endswith(" new") for line, *_ in host.lines)


def test_what_a_mask_covers_comes_from_the_nearer_frame(host, blend, film):
    mask = torch.zeros(1, *film.shape[1:3])
    mask[:, 20:40, 30:60] = 1
    images = run(host, blend, film, keep=mask, multiplier=4)[0]
    plain = run(host, blend, film, multiplier=4)[0]
    assert torch.equal(images[1][20:40, 30:60], film[0][20:40, 30:60])
    assert torch.equal(images[3][20:40, 30:60], film[1][20:40, 30:60])
    assert torch.equal(images[:, :8], plain[:, :8]) and torch.equal(images[::4], film)
    with pytest.raises(ValueError, match="keep is"):
        run(host, blend, film, keep=mask[:, 1:])


@pytest.mark.parametrize("finish", [{"shutter": 180.0}, {"overlays": "auto"}])
def test_a_mask_changes_no_images(host, film, finish):
    """It is no opacity of theirs: what it leaves out is seen all the same."""
    model = host.run("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")[0]
    mask = torch.zeros(film.shape[:3])
    mask[:, :, :20] = 1
    plain = run(host, model, film[:3], cuts="off", **finish)[0]
    masked = run(host, model, film[:3], cuts="off", mask=mask[:3], **finish)[0]
    torch.testing.assert_close(masked, plain, atol=1e-5, rtol=0)


def test_masks_follow_through_a_shutter(host, blend, film):
    mask = torch.rand(9, *film.shape[1:3])
    images, *_, masks = run(host, blend, film, mask=mask, shutter=180.0)
    assert masks.shape == images.shape[:3] and float(masks.std()) > 0.05


def test_a_video_takes_them_all(host, blend, film, tmp_path):
    video_of = host.modules["comfy_api.latest"].InputImpl.VideoFromFile
    closed = torch.cat([film, film.flip(0)[1:]])
    video = video_of(str(make_of(tmp_path / "a.mkv", closed)))
    out, _, count, report = host.run(
        "RIFEInterpolateVideo", interp_model=blend, video=video, multiplier=2, loop=True, cuts="off", steady=True,
        shutter=90.0, overlays="auto", loop_twin="drop", loop_drift="auto",
    )  # fmt: skip
    assert count == 32 == len(list(read_frames(out.file)))
    assert json.loads(report)["back_to_first"]["overlap"] == 1
