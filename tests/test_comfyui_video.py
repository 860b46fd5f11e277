"""Videos in a real ComfyUI server: Load Video, our node, Save Video. Skipped where there is no ComfyUI."""

from __future__ import annotations

import io
import json
from fractions import Fraction

import av
import fake_comfyui as stand_in
import numpy as np
import pytest
from comfyui_server import node
from odd_files import GIF, HELD, encode, numbered
from PIL import Image
from video_files import make, make_of, packets, rendered

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.video.reader import Clip

pytest_plugins = ["comfyui_server"]


@pytest.fixture(scope="module", autouse=True)
def files(server):
    """A small RIFE, a clip with sound and one of 10 bits, where the server looks for them."""
    small = stand_in.small_network(IFNet, RELEASES["4.26"])
    rife.save_checkpoint(small, server.base / "models" / "frame_interpolation" / "small.safetensors")
    inputs = server.base / "input"
    make(inputs / "clip.mp4", frames=9, height=72, width=88, audio="aac", codec="libx264", pix_fmt="yuv420p")
    make_of(inputs / "texture.mkv", rendered(3, 9))
    make(inputs / "deep.mkv", frames=4, height=72, width=88, codec="libx265", pix_fmt="yuv420p10le")
    return inputs


def workflow(file="clip.mp4", **options) -> dict:
    return {
        "model": node("RIFECheckpointLoader", checkpoint="small.safetensors"),
        "load": node("LoadVideo", file=file),
        "run": node(
            "RIFEInterpolateVideo", interp_model=["model", 0], video=["load", 0], multiplier=2, **options
        ),
        "save": node("SaveVideo", video=["run", 0], filename_prefix="made", format="auto", codec="auto"),
    }


def opened(server, outputs, node="save"):
    return av.open(io.BytesIO(server.file(outputs[node]["images"][0])))


def test_a_video_goes_through_with_its_sound_and_is_not_encoded_twice(server, files, tmp_path):
    outputs = server.run(workflow())
    saved = tmp_path / "saved.mp4"
    saved.write_bytes(server.file(outputs["save"]["images"][0]))
    with av.open(str(saved)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames) == (Fraction(48000, 1001), 17)
        assert "prompt" in container.metadata
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [data for _, data in packets(saved)] == [data for _, data in packets(files / "clip.mp4")]
    with av.open(str(files / "clip.mp4")) as container:
        before = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames[::2], before, strict=True)) < 3


def test_the_frames_are_those_of_the_image_path(server):
    """What GetVideoComponents gives for our video is, but for one encoding, what RIFE Interpolate makes."""
    prompt = workflow("texture.mkv", crf=0, cuts="off") | {
        "parts": node("GetVideoComponents", video=["load", 0]),
        "images": node(
            "RIFEInterpolate", interp_model=["model", 0], images=["parts", 0], multiplier=2, cuts="off"
        ),
        "ours": node("GetVideoComponents", video=["run", 0]),
        "a": node("SaveImage", images=["images", 0], filename_prefix="a"),
        "b": node("SaveImage", images=["ours", 0], filename_prefix="b"),
    }
    # An untrained network makes much of the small difference between ComfyUI's way of decoding and ours.
    prompt["model"]["inputs"]["checkpoint"] = "rife_comfy (bundled)"
    outputs = server.run(prompt)

    def pictures(node):
        from PIL import Image

        return [np.array(Image.open(io.BytesIO(server.file(f)))).astype(int) for f in outputs[node]["images"]]

    a, b = pictures("a"), pictures("b")
    assert len(a) == len(b) == 17
    apart = [np.abs(x - y).mean() for x, y in zip(a, b, strict=True)]
    assert max(apart) < 1.5  # 4:2:0, decoded two ways


def test_images_and_trimmed_videos_go_through_too(server):
    prompt = workflow() | {
        "trim": node("Video Slice", video=["load", 0], start_time=0.1, duration=0.2, strict_duration=False),
        "parts": node("GetVideoComponents", video=["load", 0]),
        "create": node("CreateVideo", images=["parts", 0], audio=["parts", 1], fps=24.0),
    }
    prompt["run"]["inputs"]["video"] = ["trim", 0]
    with opened(server, server.run(prompt)) as container:
        assert container.streams.video[0].frames == 2 * 5 - 1  # frames 3 to 7
    prompt["run"]["inputs"]["video"] = ["create", 0]
    with opened(server, server.run(prompt)) as container:
        assert container.streams.video[0].frames == 17 and len(container.streams.audio) == 1
        assert container.streams.video[0].average_rate == 48


WRITTEN = {
    "held.gif": GIF,
    "held.webp": {},
    "held.avif": {"codec": "libsvtav1"},
    "held.mp4": {"options": {"bf": "0"}},
    "held.mkv": {},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_last_frame_that_is_held_stays_held_once_it_is_saved(server, files, tmp_path, name):
    """Eight frames at 10 fps, the last for three seconds; ComfyUI copies the packets when it saves."""
    if name.endswith(".webp"):
        first, *others = (Image.fromarray(numbered(i)) for i in range(8))
        first.save(
            files / name, save_all=True, append_images=others, duration=[100] * 7 + [3000], lossless=True
        )
    else:
        encode(files / name, **HELD, **WRITTEN[name])
    outputs = server.run(workflow(name))
    (tmp_path / "saved.mp4").write_bytes(server.file(outputs["save"]["images"][0]))
    clip = Clip(tmp_path / "saved.mp4")
    assert len(clip) == 15 and clip.clock.duration == Fraction(37, 10)


def test_ten_bits_stay_and_timings_work(server):
    timing = {"timing": "frame rate", "timing.target_fps": 60.0, "timing.speed": 0.5}
    with opened(server, server.run(workflow("deep.mkv", **timing))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("hevc", 60)
        assert stream.format.name == "yuv420p10le"


def test_a_damaged_file_is_an_error_that_says_where(server, files):
    data = bytearray((files / "clip.mp4").read_bytes())
    with av.open(str(files / "clip.mp4")) as container:
        spots = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = spots[5]
    data[position + 8 : position + size] = bytes(size - 8)
    (files / "bad.mp4").write_bytes(data)
    entry = server.wait(server.queue(workflow("bad.mp4")))
    error = server.events(entry)["execution_error"]
    assert "damaged at" in error["exception_message"], json.dumps(error)[:500]
