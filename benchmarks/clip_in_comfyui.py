"""A 49-frame 720x480 clip through a real ComfyUI server, against `rife.interpolate` on the same frames.

    python benchmarks/clip_in_comfyui.py        # ComfyUI is found as the tests find it

Writes the frames as PNG, runs LoadImage, ImageBatch, RIFEInterpolate and SaveImage through the HTTP API with the
bundled checkpoint on the CPU, and compares all 97 pictures with the core's result. Run it with ComfyUI's Python:
another PyTorch, or another number of threads, rounds two values in a million to the neighbouring byte.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
import comfyui_server
from find_comfyui import comfyui_or_reason

import rife
from rife.training.synthetic import RenderedMotion
from rife.video.job import write_png


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def workflow(count: int) -> dict:
    """PNGs, which LoadImage reads without loss, into one batch, through our node, into PNGs."""
    prompt = {f"load{i}": node("LoadImage", image=f"{i}.png") for i in range(count)}
    clip = ["load0", 0]
    for i in range(1, count):
        prompt[f"batch{i}"] = node("ImageBatch", image1=clip, image2=[f"load{i}", 0])
        clip = [f"batch{i}", 0]
    prompt["model"] = node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    prompt["run"] = node("RIFEInterpolate", interp_model=["model", 0], images=clip, multiplier=2, fps=8.0)
    prompt["save"] = node("SaveImage", images=["run", 0], filename_prefix="clip")
    return prompt


def main() -> None:
    torch.set_num_threads(1)  # as the server gets
    clip = RenderedMotion(480, 720, seed=11, max_motion=12.0, objects=5).clip(49).permute(0, 2, 3, 1)
    pixels = (clip * 255).round().byte().numpy()

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with comfyui_server.Server(*comfyui_or_reason(), base) as server:
            for i, picture in enumerate(pixels):
                write_png(base / "input" / f"{i}.png", picture)
            start = time.perf_counter()
            files = server.run(workflow(len(pixels)), seconds=600)["save"]["images"]
            seconds = time.perf_counter() - start
            theirs = np.stack(
                [np.asarray(Image.open(io.BytesIO(server.file(f))).convert("RGB")) for f in files]
            )
    frames = torch.from_numpy(pixels).float() / 255
    ours = rife.interpolate(rife.load_model(device="cpu"), frames, 2)
    # SaveImage cuts 255 x value, it does not round.
    expected = np.clip(255.0 * ours.numpy(), 0, 255).astype(np.uint8)
    difference = np.abs(theirs.astype(int) - expected.astype(int))
    print(f"{len(theirs)} frames of {theirs.shape[2]}x{theirs.shape[1]} in {seconds:.0f} s, save and all")
    print(f"originals equal: {np.array_equal(theirs[::2], expected[::2])}")
    print(f"largest difference {difference.max()}/255, in {(difference > 0).mean():.2e} of all values")


if __name__ == "__main__":
    main()
