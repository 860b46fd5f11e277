"""When frames are shown: rates, curves, loops, cuts, repeats."""

from __future__ import annotations

import json
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from node_clips import Blend, clip, interpolated, moving, native

import rife
from rife.timeline.clock import Clock
from rife.timeline.plans import plan


def test_without_new_inputs_the_result_is_as_it_always_was(host, model, checkpoint):
    frames = moving(49, cuts=())
    images, fps, count, report, cuts, _ = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=2, fps=8.0
    )
    assert (fps, count, cuts) == (16.0, 97, "")
    assert torch.equal(
        images, rife.interpolate(rife.load_model(checkpoint, device="cpu", dtype="auto"), frames, 2)
    )


@pytest.mark.parametrize("target, exact", [(60.0, "60"), (59.94, "60000/1001"), (8.0, "8")])
def test_a_frame_rate_gives_the_core_s_plan(host, target, exact):
    frames = moving()
    timing = {"timing": "frame rate", "target_fps": target}
    images, fps, facts = interpolated(host, Blend(), frames, fps=16.0, timing=timing)
    steps = plan(Clock(9, 16), rate=Fraction(exact))
    assert fps == float(Fraction(exact)) and facts["fps"] == exact and len(images) == len(steps)
    for image, step in zip(images, steps, strict=True):
        expected = torch.lerp(frames[step.left], frames[step.right], float(step.time))
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
    assert facts["timing_error_s"] == 0


def test_slow_motion_keeps_the_rate(host):
    assert (
        interpolated(host, Blend(), moving(), timing={"timing": "frame rate", "target_fps": None})[1] == 60.0
    )
    timing = {"timing": "frame rate", "target_fps": 24.0, "speed": 0.25}
    images, fps, facts = interpolated(host, Blend(), moving(), fps=24.0, timing=timing)
    assert (fps, len(images)) == (24.0, 33)


def test_a_curve_may_freeze_and_run_backward(host):
    frames = moving(5)
    timing = {"timing": "retime curve", "curve": "0:0, 1/4:1/2\n1/2:1/2; 1:0"}
    images, fps, facts = interpolated(host, Blend(), frames, fps=8.0, timing=timing)
    shown = [0, 2, 4, 4, 4, 3, 2, 1, 0]
    assert fps == 8.0 and torch.equal(images, frames[shown])


def test_times_of_the_timing_are_timesteps(host):
    one = interpolated(host, Blend(), moving(), timing={"timing": "timesteps", "times": "1/4, 0.9"})
    other = interpolated(host, Blend(), moving(), timesteps="0.25, 9/10")
    assert torch.equal(one[0], other[0]) and one[1] == other[1] == 72.0


def test_a_loop_comes_back_and_a_kept_duration_stays(host):
    frames = moving(5)
    looped, fps, _ = interpolated(host, Blend(), frames, loop=True)
    assert fps == 48.0 and len(looped) == 10
    torch.testing.assert_close(looped[-1], (frames[-1] + frames[0]) / 2, atol=1e-6, rtol=0)
    kept, _, facts = interpolated(host, Blend(), frames, keep_duration=True)
    assert len(kept) == 10 and torch.equal(kept[-1], frames[-1]) and facts["held"] == 1


@pytest.mark.parametrize("cuts", ["hold", "nearest", "blend", "off"])
def test_nothing_morphs_across_a_cut_unless_it_is_asked_for(host, cuts):
    frames, network = moving(12, cuts=(5,)), Blend()
    images, _, facts = interpolated(host, network, frames, multiplier=4, cuts=cuts)
    middle = {"hold": frames[4], "nearest": frames[5]}.get(cuts, (frames[4] + frames[5]) / 2)
    torch.testing.assert_close(images[18], middle, atol=1e-6, rtol=0)
    assert len(images) == 45 and facts["cuts"] == ([] if cuts == "off" else [5])
    assert sum(network.calls) == (33 if cuts == "off" else 30)
    assert [pair["kind"] for pair in facts["pairs"]][4] == {"blend": "blend", "off": "new"}.get(cuts, "cut")


def test_cuts_may_be_given(host):
    _, _, facts = interpolated(host, Blend(), moving(), cut_frames="3, 7")
    assert facts["cuts"] == [3, 7]
    with pytest.raises(ValueError, match="cut_frames"):
        interpolated(host, Blend(), moving(), cut_frames="9")


def test_clips_in_one_batch_never_meet(host):
    """Each is treated as if it were alone: its loop comes back to its own first frame, its cuts are its own."""
    one, other = moving(6), moving(6, cuts=(3,)).flip(1)
    for inputs in ({"loop": True, "cuts": "off"}, {"keep_duration": True}, {"cuts": "blend"},
                   {"timing": {"timing": "frame rate", "target_fps": 10.0}, "repeated_frames": "retime"}):  # fmt: skip
        both, _, facts = interpolated(host, Blend(), torch.cat((one, other)), clip_length=6, **inputs)
        alone = [interpolated(host, Blend(), clip, **inputs) for clip in (one, other)]
        assert torch.equal(both, torch.cat([images for images, _, _ in alone]))
        assert facts["clips"] == 2 and facts["new"] == sum(part["new"] for _, _, part in alone)
        assert facts["cuts"] == [6 + cut for cut in alone[1][2]["cuts"]]
        shifted = [{**pair, "frames": [6 + i for i in pair["frames"]]} for pair in alone[1][2]["pairs"]]
        assert facts["pairs"] == alone[0][2]["pairs"] + shifted
    given = interpolated(host, Blend(), torch.cat((one, other)), clip_length=6, cut_frames="2, 8")[2]
    assert given["cuts"] == [2, 8]
    with pytest.raises(ValueError, match="clip_length is 5 for 12 frames"):
        interpolated(host, Blend(), torch.cat((one, other)), clip_length=5)


def test_the_demo_of_cogvideo_counts_and_holds_as_there_without_its_faults(host):
    """A smooth pan of 1 px a frame is static to it, a texture of 16 px a frame all cuts; 49 frames become 98."""
    wave = torch.sin(torch.arange(400) / 40.0).view(1, -1, 1).expand(90, -1, 3) / 2 + 0.5
    smooth = torch.stack([wave[:, i : i + 100] for i in range(49)])
    run = {"fps": 8.0, "timing": {"timing": "cogvideo demo", "exp": 1}, "keep_duration": True}
    images, fps, facts = interpolated(host, Blend(), smooth, **run)
    assert (len(images), fps) == (98, 16.0) and facts["repeats"] == list(range(1, 49)) and facts["new"] == 0
    assert torch.equal(images[::2], smooth) and torch.equal(images[1::2], smooth)
    ours = interpolated(host, Blend(), smooth, fps=8.0)[2]
    assert ours["new"] == 48 and ours["repeats"] == []
    rough = moving(57, h=64)[::8]
    images, _, facts = interpolated(host, Blend(), rough, timing={"timing": "cogvideo demo", "exp": 2})
    assert len(images) == 29 and facts["cuts"] == list(range(1, 8)) and facts["held"] == 21


def test_drawings_on_twos_move_or_stay(host):
    frames = moving(5).repeat_interleave(2, 0)
    held, _, facts = interpolated(host, Blend(), frames)
    assert facts["repeats"] == [1, 3, 5, 7, 9] and torch.equal(held[1], frames[0])
    moved, _, facts = interpolated(host, Blend(), frames, repeated_frames="retime")
    torch.testing.assert_close(moved[1], torch.lerp(frames[0], frames[2], 0.25), atol=1e-6, rtol=0)
    assert len(held) == len(moved) == 19 and facts["timing_error_s"] == 0


def test_the_report_tells_the_motion(host):
    _, _, facts = interpolated(host, Blend(), moving(), multiplier=3)
    assert len(facts["pairs"]) == 8 and facts["precision"] == "float32" and facts["device"] == "cpu"
    for pair in facts["pairs"]:
        assert pair["timesteps"] == ["1/3", "2/3"] and abs(pair["motion_px"] - 2) < 1


def test_the_scale_follows_the_motion_and_the_report_says_why(host, model, monkeypatch):
    # Of a network that follows less than any that was released: frames this small hold no more motion.
    monkeypatch.setattr(type(model.model.config), "reach", (24.0, 80.0))
    run = {"interp_model": model, "multiplier": 2, "scale": "auto", "cuts": "off", "repeated_frames": "off"}
    facts = [
        json.loads(host.run("RIFEInterpolate", images=frames, **run)[3])
        for frames in (moving(3, h=200, w=240), moving(60, h=200, w=240)[::15])
    ]
    assert [f["scale"] for f in facts] == [1.0, 0.5] and "up to 30 px" in facts[1]["scale_reason"]
    assert (
        json.loads(
            host.run("RIFEInterpolate", **{**run, "interp_model": native(Blend())}, images=moving())[3]
        )["scale"]
        == 1.0
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_mask_moves_with_the_images_in_one_go(host, model, checkpoint, channels, monkeypatch):
    frames = moving(4)
    mask = (frames[..., 0] > 0.5).float()
    images = torch.cat((frames, frames[..., :1]), 3)[..., :channels]
    plain = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2, loop=True)
    passes, predict = [], model.model.predict_from
    monkeypatch.setattr(model.model, "predict_from", lambda *a, **k: passes.append(1) or predict(*a, **k))
    result = host.run(
        "RIFEInterpolate", interp_model=model, images=images, multiplier=2, loop=True, mask=mask
    )
    assert len(passes) == 4
    torch.testing.assert_close(result[0], plain[0], atol=1e-5, rtol=0)
    assert result[5].shape == result[0].shape[:3] and torch.equal(result[5][::2], mask)
    assert torch.equal(plain[5], torch.zeros_like(result[5]))
    core = rife.load_model(checkpoint, device="cpu", dtype="auto")
    looped = plan(Clock(4, 24), multiplier=2, loop=True)
    if channels == 4:  # the fourth is opacity, which takes part in the flow
        expected = torch.empty_like(result[5])
        rife.interpolate(core, images, plan=looped, masks=mask, out_masks=expected)
    else:  # two maps behind the colours: one alone would be their opacity
        maps = mask[..., None].expand(-1, -1, -1, 2)
        with_maps = torch.cat((images.expand(-1, -1, -1, 3), maps), 3)
        expected = rife.interpolate(core, with_maps, plan=looped)[..., 3]
    torch.testing.assert_close(result[5], expected, atol=1e-5, rtol=0)


def test_masks_cost_no_copy_of_the_clip(host, model, monkeypatch):
    memory, made = host.module("nodes.run"), []
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda tensors, *a, **k: made.append(cat(tensors, *a, **k)) or made[-1])
    empty = memory.empty_images
    monkeypatch.setattr(memory, "empty_images", lambda shape: made.append(empty(shape)) or made[-1])
    frames = clip(9)
    result = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, mask=frames[..., 0])
    copies = [x for x in made if x.numel() > frames[:3].numel() and x.shape[-1] == 4]
    assert not copies and all(any(x is made_one for made_one in made) for x in (result[0], result[5]))


def test_one_mask_serves_all_frames_and_one_that_does_not_fit_is_refused(host, model):
    frames = moving(3)
    run = {"interp_model": model, "images": frames, "multiplier": 2}
    assert host.run("RIFEInterpolate", **run, mask=torch.ones(1, 48, 64))[5].min() > 0.99
    for shape in ((2, 48, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match="mask is"):
            host.run("RIFEInterpolate", **run, mask=torch.ones(shape))


@pytest.mark.parametrize(
    "timing",
    [{"timing": "bogus"}, {"timing": "frame rate", "target_fps": 0.0}, {"timing": "frame rate", "speed": -1.0},
     {"timing": "timesteps", "times": "2"}, {"timing": "retime curve", "curve": "1, 2"},
     {"timing": "retime curve", "curve": "0:0, 1:99"}],
)  # fmt: skip
def test_a_timing_that_cannot_be_is_refused_before_any_work(host, timing):
    network = Blend()
    with pytest.raises(ValueError, match="expected"):
        interpolated(host, network, moving(), timing=timing)
    assert not network.calls


def test_a_timing_that_comfyui_left_out_is_not_taken_for_none(host, monkeypatch):
    prompt = {"7": {"inputs": {"timing": "from the future"}}}
    node = host.nodes["RIFEInterpolate"]
    monkeypatch.setattr(node, "hidden", SimpleNamespace(prompt=prompt, unique_id="7"))
    with pytest.raises(ValueError, match="from the future"):
        interpolated(host, Blend(), moving())


def test_timing_states_its_default_so_that_reset_all_parameters_does_not_break_it(host):
    for node in host.nodes.values():
        for one in node.define_schema().inputs:
            if type(one).io_type == "COMFY_DYNAMICCOMBO_V3":
                default = one.options["extra_dict"]["default"]
                assert default == one.options["options"][0].key


@pytest.mark.parametrize("came", [{}, {"target_fps": 60.0}])
def test_a_curve_that_did_not_come_out_of_a_subgraph_is_not_made_up(host, model, came):
    timing = {"timing": "retime curve", "curve": None, **came}
    expected = "timing.curve did not come, only timing" + "".join(f", timing.{name}" for name in came)
    with pytest.raises(ValueError, match=expected):
        host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=2, timing=timing)


def test_a_curve_longer_than_the_clip_is_told_as_a_curve(host, model):
    timing = {"timing": "retime curve", "curve": "0:0, 1:99"}
    with pytest.raises(
        ValueError, match="the retime curve asks for second .* as long as the clip is. Lower what"
    ):
        host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=2, timing=timing)


def test_before_the_first_pass_it_is_told_how_long_a_large_run_will_take(host, model, monkeypatch):
    pace = host.module("nodes.pace")
    monkeypatch.setattr(pace, "_WORTH_A_TRIAL", 40 * 56)
    clock = iter(float(second) for second in range(1000))
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    run = {"interp_model": model, "images": clip(3), "multiplier": 2}
    host.run("RIFEInterpolate", **run)
    tried = host.lines[-2][0]
    host.run("RIFEInterpolate", **run)
    remembered = host.lines[-2][0]
    # A trial took 1 s for 256 x 256 pixels; the run then 1 s for two frames of 56 x 40.
    assert tried.endswith("2 new, about 1 s") and remembered.endswith("2 new, about 1 s")
    assert pace._known[model.model] == {next(iter(pace._known[model.model])): 1 / (2 * 56 * 40)}
