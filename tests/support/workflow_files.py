"""The example workflows, what may differ between versions of ComfyUI, and the files that they name."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import fake_comfyui as stand_in
import numpy
import pytest
from PIL import Image

FOLDER = stand_in.ROOT / "example_workflows"

SUFFIX = " (RIFE frame interpolation)"  # of every file's name, which is what ComfyUI searches

FILES = sorted(FOLDER.glob("*.json"))

NOTES = {"Note", "MarkdownNote"}  # live in the browser only

VIEWERS = {"PreviewAny", "ImageCompare"}  # save what they show, or nothing

NEWER = {"VOIDSampler": "0.21"}  # ComfyUI's own CogVideoX began there, and the templates for it say so

# What nodes of ComfyUI got later than 0.20; older ones leave it out when they load a graph.
LATER = {
    "GetVideoComponents": {"bit_depth"},
    "CreateVideo": {"bit_depth"},
    "SaveVideo": {"video"},
    "PreviewImage": {"images"},
    "SaveImage": {"images"},
}


def template(name: str) -> dict:
    """A template by the part of its name that is its own."""
    return json.loads((FOLDER / f"{name}{SUFFIX}.json").read_text(encoding="utf-8"))


def newer(workflow: dict, kinds: dict) -> dict[str, str]:
    """Nodes that this ComfyUI has not got yet, with the version that has; the workflow's notes name it."""
    found = {
        kind: NEWER[kind]
        for kind in {node["type"] for node in workflow["nodes"]} & NEWER.keys() - kinds.keys()
    }
    notes = str([node.get("widgets_values") for node in workflow["nodes"] if node["type"] in NOTES])
    assert all(f"{version} and later" in notes for version in found.values())
    return found


def write_clip(path, rate: Fraction, frames: int, first: int = 0) -> None:
    """A small video with a tone, as a phone would write it; first: which frame of the motion it begins with."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        video = file.add_stream("h264", rate=rate)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = file.add_stream("aac", rate=44100)
        for i in range(first, first + frames):
            picture = numpy.zeros((64, 96, 3), numpy.uint8)
            picture[16:48, 3 * i : 3 * i + 32] = (240, 120, 40)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        count = math.ceil(44100 * frames / rate)
        tone = (0.3 * numpy.sin(numpy.arange(count) * 0.06)).astype(numpy.float32)
        audio = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        audio.sample_rate = 44100
        file.mux(sound.encode(audio))
        file.mux(sound.encode())


def write_clips(folder, rate: Fraction = Fraction(24)) -> None:
    """first.mp4 and second.mp4, four frames of which are the same."""
    write_clip(folder / "first.mp4", rate, 14)
    write_clip(folder / "second.mp4", rate, 12, 10)


def write_images(folder) -> None:
    """first.png and last.png: a thing that moves."""
    for name, shift in (("first.png", 0), ("last.png", 9)):
        picture = numpy.zeros((64, 96, 3), numpy.uint8)
        picture[16:48, 20 + shift : 52 + shift] = (240, 120, 40)
        Image.fromarray(picture).save(folder / name)
