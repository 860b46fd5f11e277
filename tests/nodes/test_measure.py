"""RIFE Score and RIFE Flow, against the stand-in host."""

# ruff: noqa: F811 - fixtures of test_nodes

from __future__ import annotations

import csv
import json
import sys

import fake_comfyui as stand_in
import pytest
import torch
from node_clips import Blend, Film, disc

import rife
from rife.evaluation.metrics import psnr, ssim
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet


def patched(host, network):
    return stand_in.Patcher(network, host.device, torch.device("cpu"))


def test_score_holds_out_frames_and_compares_with_averaging(host, model):
    clip = disc()
    text, decibels, likeness, heat, chart, table = host.run("RIFEScore", images=clip, interp_model=model)
    report = json.loads(text)
    assert report["task"] == "2x" and report["frames"] == 7  # every frame that has two neighbours
    found = report["methods"]
    planes = clip.permute(0, 3, 1, 2)
    averaged = [psnr((planes[i - 1] + planes[i + 1]) / 2, planes[i]) for i in range(1, 8)]
    assert found["average"]["psnr"] == pytest.approx(sum(averaged) / 7, abs=0.001)
    assert found["interp_model"]["psnr"] == pytest.approx(decibels, abs=0.001)
    assert found["interp_model"]["gain_dB"] == pytest.approx(decibels - found["average"]["psnr"], abs=0.002)
    assert heat.shape == (7, 64, 96, 3) and chart.shape[0] == 1 and 0 < likeness < 1
    lines = list(csv.DictReader(table.splitlines()))
    assert [line["method"] for line in lines] == ["average", "interp_model"] * 7
    assert [float(line["psnr"]) for line in lines[::2]] == pytest.approx(averaged, abs=1e-4)


def test_score_is_that_of_the_frames_that_interpolate_makes(host, model):
    clip = disc(3)
    _, decibels, likeness, *_ = host.run("RIFEScore", images=clip, interp_model=model)
    made = host.run("RIFEInbetween", interp_model=model, image0=clip[:1], image1=clip[2:], timestep=0.5)[0]
    made, true = made[0].permute(2, 0, 1), clip[1].permute(2, 0, 1)
    assert decibels == pytest.approx(psnr(made, true), abs=0.01)
    assert likeness == pytest.approx(ssim(made, true), abs=1e-4)


def test_two_models_and_larger_steps(host, model):
    options = {"factor": 4, "stride": 2, "true_frames": 3}
    text, *_, chart, _ = host.run(
        "RIFEScore", images=disc(20), interp_model=model, second_model=patched(host, Blend()), **options
    )
    report = json.loads(text)
    assert report["task"] == "4x stride 2" and report["frames"] == 3
    # Blend is averaging, in a model of ComfyUI's own.
    assert report["methods"]["second_model"]["gain_dB"] == pytest.approx(0, abs=0.01)
    assert [row["time"] for row in report["worst"]] and chart.shape[1:] == (320, 860, 3)


def test_film_can_be_scored(host):
    film = patched(host, Film())
    report = json.loads(host.run("RIFEScore", images=disc(3, 64, 96), interp_model=film)[0])
    assert "interp_model" in report["methods"]


def test_two_clips_are_compared_frame_by_frame(host):
    true = disc(3)
    made = true.clone()
    made[1, :, :, 1] = (made[1, :, :, 1] - 10 / 255).clamp(0, 1)
    text, decibels, likeness, heat, *_ = host.run("RIFEScore", images=true, compared=made)
    middle = psnr(made[1].permute(2, 0, 1), true[1].permute(2, 0, 1))
    assert decibels == pytest.approx((200 + middle) / 3, abs=0.01)
    assert heat[0].max() < 0.05 < heat[1].max() and likeness < 1
    report = json.loads(text)
    assert report["worst"][0]["frames"] == "1" and set(report["methods"]) == {"compared"}
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_equal_clips_have_100_dB_and_not_infinity(host):
    assert host.run("RIFEScore", images=disc(2), compared=disc(2))[1:3] == (100.0, pytest.approx(1.0))


def test_score_can_be_cancelled_and_shows_progress(host, model):
    host.run("RIFEScore", images=disc(), interp_model=model)
    assert host.progress[-1][:2] == (14, 14)
    host.cancel_after = host.checks + 12
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFEScore", images=disc(), interp_model=model)


def test_cancel_is_looked_for_at_each_figure_of_each_frame(host, model):
    """A factor of 1,000 makes as many frames between two looks, and measures each four times."""
    before, frames, methods, figures = host.checks, 7, 2, 4
    host.run("RIFEScore", images=disc(9), interp_model=model, factor=8, true_frames=0)
    assert host.checks - before > frames * methods * figures


@pytest.mark.parametrize(
    "inputs, message",
    [({}, "interp_model and compared are not connected"),
     ({"compared": disc(2)}, r"compared \(2, 64, 96, 3\) .* expected as many frames"),
     ({"compared": disc(9, 32)}, "of the same size")],
)  # fmt: skip
def test_score_says_what_does_not_fit(host, inputs, message):
    with pytest.raises(ValueError, match=message):
        host.run("RIFEScore", images=disc(), **inputs)


def test_score_says_when_a_clip_is_too_short_or_both_are_connected(host, model):
    with pytest.raises(ValueError, match="No 9 frames of these 5 are one scene"):
        host.run("RIFEScore", images=disc(5), interp_model=model, factor=8)
    with pytest.raises(ValueError, match="both connected"):
        host.run("RIFEScore", images=disc(5), interp_model=model, compared=disc(5))


def test_lpips_is_asked_for(host, monkeypatch):
    scoring = sys.modules[f"{stand_in.PACK}.rife.evaluation.scoring"]
    monkeypatch.setattr(scoring, "lpips_metric", lambda: lambda made, true: 0.125)
    text = host.run("RIFEScore", images=disc(2), compared=disc(2), lpips=True)[0]
    assert json.loads(text)["methods"]["compared"]["lpips"] == 0.125
    monkeypatch.setattr(scoring, "lpips_metric", lambda: None)
    with pytest.raises(ValueError, match="pip install lpips"):
        host.run("RIFEScore", images=disc(2), compared=disc(2), lpips=True)


def test_flow_gives_what_the_frame_is_made_of(host, model, checkpoint):
    clip = disc(2)
    to0, to1, mask, occlusion, warped0, warped1, text = host.run(
        "RIFEFlow", interp_model=model, image0=clip[:1], image1=clip[1:], timestep=0.25
    )
    assert to0.shape == to1.shape == warped0.shape == (1, 64, 96, 3) and mask.shape == occlusion.shape == (
        1,
        64,
        96,
    )
    core = rife.load_model(checkpoint, device="cpu", dtype="auto")
    img0, img1 = (frame[None].permute(0, 3, 1, 2) for frame in clip)
    blended = mask[..., None] * warped0 + (1 - mask[..., None]) * warped1
    assert torch.allclose(blended.permute(0, 3, 1, 2), core.inference(img0, img1, timestep=0.25), atol=1e-5)
    disagree = ((warped0 - warped1).abs().mean(-1) * 10).clamp(max=1)
    assert torch.allclose(occlusion, disagree, atol=1e-5)
    assert json.loads(text)["full_colour_px"] >= json.loads(text)["pairs"][0]["longest_to_0"]


def test_flow_of_a_clip_takes_each_frame_with_the_next(host, model):
    results = host.run("RIFEFlow", interp_model=model, image0=disc(3), timestep=0.5, max_flow=8.0)
    assert [len(r) for r in results[:6]] == [2] * 6
    report = json.loads(results[6])
    assert report["full_colour_px"] == 8 and len(report["pairs"]) == 2


def test_flow_follows_a_pan(host):
    """The bundled network on a texture that moves by 6 pixels: what is red in Middlebury's wheel goes right."""
    bundled = host.run("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")[0]
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, 24, 32, generator=generator)
    texture = (
        torch.nn.functional.interpolate(small, (96, 128), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    )
    clip = torch.stack((texture, texture.roll(6, 1)))
    to0, to1, *_ = host.run("RIFEFlow", interp_model=bundled, image0=clip, timestep=0.5, max_flow=3.2)
    inside = (slice(24, -24), slice(24, -24))
    assert to1[0][inside].mean((0, 1))[0] > 0.9 > to1[0][inside].mean((0, 1))[2]  # red: right
    assert to0[0][inside].mean((0, 1))[2] > 0.9 > to0[0][inside].mean((0, 1))[0]  # cyan: left


def test_flow_of_other_models_is_refused_with_a_way_out(host, model):
    with pytest.raises(ValueError, match="Load the same file with Load RIFE Checkpoint"):
        host.run("RIFEFlow", interp_model=patched(host, Blend()), image0=disc(2), timestep=0.5)
    with pytest.raises(ValueError, match="image1 is not connected"):
        host.run("RIFEFlow", interp_model=model, image0=disc(1), timestep=0.5)
    with pytest.raises(ValueError, match="expected the same size"):
        host.run("RIFEFlow", interp_model=model, image0=disc(2), image1=disc(2, 32), timestep=0.5)


def test_a_network_without_timestep_only_shows_the_middle(host):
    network = IFNet(RELEASES["RIFE"]).eval()
    old = patched(host, network)
    assert host.run("RIFEFlow", interp_model=old, image0=disc(2), timestep=0.5)[0].shape == (1, 64, 96, 3)
    with pytest.raises(ValueError, match="its flow is that of the middle"):
        host.run("RIFEFlow", interp_model=old, image0=disc(2), timestep=0.25)


@pytest.mark.parametrize("node", ["RIFEScore", "RIFEFlow"])
def test_alpha_and_grey_are_taken(host, model, node):
    for channels in (1, 4):
        clip = disc(3)[..., :1].expand(-1, -1, -1, channels)
        inputs = {"images": clip} if node == "RIFEScore" else {"image0": clip, "timestep": 0.5}
        before = clip.clone()
        results = host.run(node, interp_model=model, **inputs)
        assert all(torch.isfinite(r).all() for r in results if isinstance(r, torch.Tensor))
        assert torch.equal(clip, before)


def test_every_input_and_output_has_a_tooltip(host):
    for name in ("RIFEScore", "RIFEFlow"):
        schema = host.nodes[name].define_schema()
        assert all(s.options.get("tooltip") for s in (*schema.inputs, *schema.outputs)), name
        optional = [s.options.get("optional", False) for s in schema.inputs]
        assert optional == sorted(optional), "required inputs come first"


def test_model_motion_is_what_inference_blends():
    torch.manual_seed(0)
    model = rife.Model.from_network(stand_in.small_network(IFNet, RELEASES["4.26"]))
    img0, img1 = torch.rand(2, 2, 3, 37, 50)
    found = model.motion(img0, img1, torch.tensor([0.25, 0.75]))
    assert found.flow0.shape == (2, 2, 37, 50) and found.mask.shape == (2, 1, 37, 50)
    blended = found.warped0 * found.mask + found.warped1 * (1 - found.mask)
    assert torch.allclose(
        blended, model.inference(img0, img1, timestep=torch.tensor([0.25, 0.75])), atol=1e-5
    )


def test_score_and_flow_say_in_a_line_what_they_found(host, model):
    host.run("RIFEScore", images=disc(5), interp_model=model)
    host.run("RIFEScore", images=disc(2)[:1], compared=disc(2)[1:])
    host.run("RIFEFlow", interp_model=model, image0=disc(2), timestep=0.5)
    scored, compared, flow = (text for text, *_ in host.lines[-3:])
    assert (
        scored.startswith("3 frames 2x: average ") and ", interp_model " in scored and scored.endswith(" dB")
    )
    assert compared.startswith("1 frame compared: compared ")
    assert flow.startswith("1 pair, longest motion ") and flow.endswith(" px")


def test_flow_shows_the_motion_while_it_works(host, model, monkeypatch):
    monkeypatch.setattr(host.module("nodes.model_management"), "_SECONDS_PER_PREVIEW", 0.0)
    monkeypatch.setattr(host.module("nodes.model_management").Progress.show, "__defaults__", (0.0,))
    host.run("RIFEFlow", interp_model=model, image0=disc(3), timestep=0.5)
    assert [preview[1].size for *_, preview in host.progress] == [(96, 64)] * 2
