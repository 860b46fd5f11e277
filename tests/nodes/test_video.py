"""The nodes for videos and chunks, on the stand-in for ComfyUI."""

from __future__ import annotations

import io
import json
import sys
from fractions import Fraction
from types import SimpleNamespace

import fake_comfyui as stand_in
import pytest
import torch
from node_clips import Blend, moving, native
from video_files import make, packets, with_sound

from rife.video.codecs import Encoding
from rife.video.colours import Look
from rife.video.job import probe, read_frames
from rife.video.writer import VideoWriter


@pytest.fixture
def host(tmp_path):
    yield from stand_in.installed(tmp_path)


@pytest.fixture
def model(host):
    return native(Blend())


def of_file(host, *args, **kwargs):
    return host.modules["comfy_api.latest"].InputImpl.VideoFromFile(*args, **kwargs)


def test_a_file_comes_out_as_a_file_with_its_sound(host, model, tmp_path):
    source = make(tmp_path / "in.mp4", audio="aac", codec="libx264", pix_fmt="yuv420p")
    video, fps, count, report = host.run(
        "RIFEInterpolateVideo", interp_model=model, video=of_file(host, str(source)), multiplier=3
    )
    assert count == 13 and fps == pytest.approx(3 * 24000 / 1001)
    assert probe(video.file).rate == Fraction(72000, 1001)
    assert [data for _, data in packets(video.file)] == [data for _, data in packets(source)]
    assert json.loads(report) | {"frames_in": 5, "frames_out": 13, "sound": True} == json.loads(report)


@pytest.mark.parametrize(("name", "codec", "form"), [("in.avi", "pcm_u8", "u8"), ("in.wmv", "wmav2", "fltp")])
def test_sound_that_mp4_lacks_is_encoded(host, model, tmp_path, name, codec, form):
    source = with_sound(tmp_path / name, codec, form)
    video, _, count, report = host.run(
        "RIFEInterpolateVideo", interp_model=model, video=of_file(host, str(source)), multiplier=2
    )
    assert count == 19 and json.loads(report)["sound"] and probe(video.file).has_audio


def test_a_part_of_a_file_in_memory_is_taken_as_trim_video_left_it(host, model, tmp_path):
    source = make(
        tmp_path / "in.mp4", frames=12, rate=Fraction(10), audio="aac", codec="libx264", pix_fmt="yuv420p"
    )
    trimmed = of_file(host, io.BytesIO(source.read_bytes()), start_time=0.3, duration=0.5)
    video, _, count, _ = host.run("RIFEInterpolateVideo", interp_model=model, video=trimmed, multiplier=2)
    assert count == 9
    before, after = list(read_frames(source)), list(read_frames(video.file))
    assert (
        abs(after[0].astype(int) - before[3]).mean() < 2 and abs(after[-1].astype(int) - before[7]).mean() < 2
    )


def test_images_and_sound_in_memory_become_a_video(host, model):
    images = (torch.rand(4, 40, 56, 3) * 255).round() / 255
    sound = {"waveform": torch.zeros(1, 2, 4800), "sample_rate": 48000}
    components = SimpleNamespace(images=images, audio=sound, frame_rate=Fraction(16))
    whole = host.modules["comfy_api.latest"].InputImpl.VideoFromComponents(components)
    video, fps, count, report = host.run(
        "RIFEInterpolateVideo", interp_model=model, video=whole, multiplier=2, crf=1
    )
    assert (fps, count) == (32.0, 7) and probe(video.file).has_audio
    assert len(list((host.models_dir / "temp").iterdir())) == 1  # the result alone is left


def test_timing_cuts_and_rates_are_those_of_rife_interpolate(host, model, tmp_path):
    source = make(tmp_path / "in.mkv", frames=9, rate=Fraction(16))
    timing = {"timing": "frame rate", "target_fps": 24.0}
    video, fps, count, _ = host.run(
        "RIFEInterpolateVideo", interp_model=model, video=of_file(host, str(source)), multiplier=2, timing=timing,
        keep_duration=True, cut_frames="4",
    )  # fmt: skip
    assert (fps, count) == (24.0, 14)
    with pytest.raises(ValueError, match="cut_frames"):
        host.run(
            "RIFEInterpolateVideo",
            interp_model=model,
            video=of_file(host, str(source)),
            multiplier=2,
            cut_frames="9",
        )


@pytest.mark.parametrize("node_id", ["RIFEInterpolateVideo", "RIFEInterpolateChunks"])
def test_what_needs_the_whole_clip_is_not_offered(host, node_id):
    """CogVideo's demo decides by all frames; here it would be no more than its multiplier."""
    (timing,) = (one for one in host.nodes[node_id].define_schema().inputs if one.id == "timing")
    assert "cogvideo demo" not in [option.key for option in timing.options["options"]]
    with pytest.raises(ValueError, match="'cogvideo demo', expected one of multiplier"):
        when = sys.modules[host.nodes[node_id].__module__.rpartition(".")[0] + ".timing"]
        when.check_timing(host.nodes[node_id], {"timing": "cogvideo demo"})


def test_cancel_leaves_no_file_behind(host, model, tmp_path):
    source = make(tmp_path / "in.mkv", frames=9)
    host.cancel_after = 3
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFEInterpolateVideo", interp_model=model, video=of_file(host, str(source)), multiplier=2)
    assert not list((host.models_dir / "temp").iterdir())


class Loop:
    """VideoHelperSuite's Meta Batch Manager, as far as nodes see it."""

    def __init__(self):
        self.unique_id, self.has_closed_inputs = "7", False


def looped(host, model, frames, size, **inputs):
    """All chunks that a loop over `frames` gives."""
    node, loop, out = host.nodes["RIFEInterpolateChunks"], Loop(), []
    chunks = frames.split(size)
    for turn, chunk in enumerate(chunks):
        loop.has_closed_inputs = turn == len(chunks) - 1
        node.hidden = SimpleNamespace(
            unique_id="3", prompt={"7": {"inputs": {"requeue": turn} if turn else {}}}
        )
        result = host.run(
            "RIFEInterpolateChunks", interp_model=model, images=chunk, meta_batch=loop, **inputs
        )
        out.append(result[0])
    return torch.cat(out)


@pytest.mark.parametrize("size", [7, 8, 30])
@pytest.mark.parametrize(
    "inputs",
    [{"multiplier": 2}, {"multiplier": 3, "loop": True}, {"multiplier": 2, "keep_duration": True, "cuts": "off"},
     {"multiplier": 2, "timing": {"timing": "frame rate", "target_fps": 25.0}},
     {"multiplier": 2, "cuts": "blend", "repeated_frames": "retime"}],
)  # fmt: skip
def test_chunks_are_the_whole_clip_bit_for_bit(host, model, size, inputs):
    frames = moving(30, cuts=(11, 22))
    frames[15] = frames[14]
    if inputs.get("repeated_frames") == "retime" and size < 10:
        size = 10
    whole = host.run("RIFEInterpolate", interp_model=model, images=frames, fps=16.0, **inputs)[0]
    assert torch.equal(looped(host, model, frames, size, fps=16.0, **inputs), whole)


def test_a_new_run_forgets_one_that_was_broken_off(host, model):
    frames = torch.rand(16, 24, 24, 3)
    node, loop = host.nodes["RIFEInterpolateChunks"], Loop()
    node.hidden = SimpleNamespace(unique_id="3", prompt={"7": {"inputs": {}}})
    host.run(
        "RIFEInterpolateChunks", interp_model=model, images=frames[:8], meta_batch=loop, fps=8.0, multiplier=2
    )
    loop.has_closed_inputs = True
    whole = host.run(
        "RIFEInterpolateChunks", interp_model=model, images=frames, meta_batch=loop, fps=8.0, multiplier=2
    )
    assert len(whole[0]) == 31


def test_chunks_that_cannot_be_are_refused(host, model):
    node, loop = host.nodes["RIFEInterpolateChunks"], Loop()
    node.hidden = SimpleNamespace(unique_id="3", prompt={"7": {"inputs": {}}})
    args = {
        "interp_model": model,
        "images": torch.rand(2, 24, 24, 3),
        "meta_batch": loop,
        "fps": 8.0,
        "multiplier": 2,
    }
    with pytest.raises(ValueError, match="frames_per_batch"):
        host.run("RIFEInterpolateChunks", **args)
    with pytest.raises(ValueError, match="curve"):
        host.run("RIFEInterpolateChunks", **args, timing={"timing": "retime curve", "curve": "0:0, 1:0.1"})
    node.hidden = SimpleNamespace(unique_id="4", prompt={"7": {"inputs": {"requeue": 2}}})
    with pytest.raises(ValueError, match="anew"):
        host.run("RIFEInterpolateChunks", **args)


def test_precision_and_acceleration_reach_a_video(host, tmp_path, caplog):
    (model,) = host.run("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    source = make(tmp_path / "in.mp4", frames=3, codec="libx264", pix_fmt="yuv420p")
    asked = {"interp_model": model, "video": of_file(host, str(source)), "multiplier": 2}
    *_, report = host.run("RIFEInterpolateVideo", **asked, precision="bf16", acceleration="cuda graphs")
    facts = json.loads(report)
    assert (facts["frames_out"], facts["precision"]) == (5, "bfloat16")
    assert model.model_dtype() == torch.float32
    assert "No cuda graphs on this machine" in caplog.text


def test_a_video_says_in_a_line_what_was_made_and_the_report_has_its_cuts(host, model, tmp_path):
    source = tmp_path / "in.mkv"
    pictures = (moving(24, cuts=(12,), h=48, w=64) * 255).round().byte().numpy()
    with VideoWriter(source, Fraction(16), 64, 48, encoding=Encoding("ffv1"), look=Look(rgb=True)) as writer:
        for picture in pictures:
            writer.write(picture)
    asked = {"interp_model": model, "video": of_file(host, str(source)), "multiplier": 2}
    for cuts, found in (("hold", [12]), ("off", [])):
        *_, report = host.run("RIFEInterpolateVideo", **asked, cuts=cuts)
        line = host.lines[-1][0]
        assert json.loads(report)["cuts"] == found
        assert line.startswith("24 → 47 frames, 32 fps, 1.47 s") and (", 1 cut;" in line) == bool(found)
    host.run("RIFEInterpolateVideo", **asked, cut_frames="3, 5")
    assert ", 2 cuts;" in host.lines[-1][0]
