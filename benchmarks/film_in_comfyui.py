"""Ten clips made one film, and one of them twice as fast and twice as large, in a real ComfyUI; a sheet of its seams.

    python benchmarks/film_in_comfyui.py OUT [--frames 30] [--repeat 1]     # ComfyUI is found as the tests find it

Each clip goes on where the one before ended: with its last frame, with four of its frames, or right behind it, its
colours a few percent off. Writes OUT/film.mp4, OUT/large.mp4 and OUT/seams.png (the last two frames of a clip and the
first two of the next, as the film has them); prints what was found, how even the film is, and the memory of the server
at its peak. --repeat makes clips that many times as long, without more seams: the memory stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
import comfyui_server
from comfyui_server import node
from find_comfyui import comfyui_or_reason
from torch import Tensor

from rife.training.synthetic import RenderedMotion
from rife.video.codecs import Encoding
from rife.video.job import read_frames, to_bytes, write_png
from rife.video.writer import VideoWriter

CLIPS, SHARED = 10, (1, 4, 0)  # frames that a clip has in common with the one before, in turn
RATE = Fraction(24)


def compact_upscaler(path: Path) -> None:
    """An upscale model that ComfyUI's loader knows (Real-ESRGAN's compact network, 2x), whose frames are those of the
    nearest pixels: all of its convolutions are zero."""
    sides = [(3, 16), (16, 16), (16, 12)]
    state = {}
    for i, (a, b) in enumerate(sides):
        state[f"body.{2 * i}.weight"], state[f"body.{2 * i}.bias"] = torch.zeros(b, a, 3, 3), torch.zeros(b)
        if i < len(sides) - 1:
            state[f"body.{2 * i + 1}.weight"] = torch.zeros(b)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": state}, path)


def write_clips(folder: Path, count: int, repeat: int) -> tuple[list[str], int]:
    """Ten clips of one scene; their names, and how many frames the scene has."""
    total = CLIPS * count - sum(SHARED[i % 3] for i in range(CLIPS - 1))
    scene = RenderedMotion(192, 288, seed=4, max_motion=4.0, objects=5).clip(total).permute(0, 2, 3, 1)
    names, start = [], 0
    for i in range(CLIPS):
        frames = scene[start : start + count] * (1 + 0.012 * (i % 3)) + 0.004 * (i % 2)
        names.append(f"clip{i}.mkv")
        # There and back again in the middle, as often as asked for.
        middle = torch.cat([frames, frames[1:-1].flip(0)])
        whole = torch.cat([middle] * (repeat - 1) + [frames])
        with VideoWriter(folder / names[-1], RATE, 288, 192, encoding=Encoding("ffv1")) as writer:
            for frame in whole:
                writer.write(to_bytes(frame))
        start += count - SHARED[i % 3]
    return names, total


def prompt(names: list[str]) -> dict:
    loads = {f"load{i}": node("LoadVideo", file=name) for i, name in enumerate(names)}
    clips = {f"clips.clip{i}": [f"load{i}", 0] for i in range(len(names))}
    return loads | {
        "model": node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)"),
        "join": node("RIFEJoinClips", interp_model=["model", 0], **clips),
        "film": node("SaveVideo", video=["join", 1], filename_prefix="film", format="auto", codec="auto"),
        "report": node("PreviewAny", source=["join", 3]),
    }


def enlarged(name: str) -> dict:
    return {
        "model": node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)"),
        "load": node("LoadVideo", file=name),
        "upscaler": node("UpscaleModelLoader", model_name="nearest.pth"),
        "run": node(
            "RIFEInterpolateVideo", interp_model=["model", 0], video=["load", 0], multiplier=2,
            upscale_model=["upscaler", 0],
        ),
        "large": node("SaveVideo", video=["run", 0], filename_prefix="large", format="auto", codec="auto"),
    }  # fmt: skip


class Peak(threading.Thread):
    """The largest resident memory of a process while the block runs, in MiB."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._process, self.mib, self._over = psutil.Process(pid), 0.0, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.mib = max(self.mib, self._process.memory_info().rss / 2**20)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self.join()


def contact_sheet(film: list[np.ndarray], starts: list[int], path: Path) -> None:
    """Four frames around each seam, a row each."""
    rows = [np.concatenate([film[k] for k in range(start - 2, start + 2)], 1) for start in starts]
    write_png(path, np.concatenate(rows, 0)[::2, ::2])


def steps(film: list[np.ndarray]) -> Tensor:
    """How much changes from frame to frame, of 255."""
    return torch.tensor(
        [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(film, film[1:], strict=False)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--no-enlarging", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        compact_upscaler(base / "models" / "upscale_models" / "nearest.pth")
        with comfyui_server.Server(*comfyui_or_reason(), base) as server:
            names, total = write_clips(base / "input", args.frames, args.repeat)
            begun = time.perf_counter()
            with Peak(server._process.pid) as peak:
                outputs = server.run(prompt(names), seconds=1500)
            print(f"joined in {time.perf_counter() - begun:.0f} s, {peak.mib:.0f} MiB at the peak")
            film_file = args.out / "film.mp4"
            film_file.write_bytes(server.file(outputs["film"]["images"][0]))
            if not args.no_enlarging:
                (base / "input" / "short.mp4").write_bytes((base / "input" / names[0]).read_bytes())
                outputs_large = server.run(enlarged("short.mp4"), seconds=1500)
                large_file = args.out / "large.mp4"
                large_file.write_bytes(server.file(outputs_large["large"]["images"][0]))
                large = list(read_frames(large_file))
                print(f"enlarged: {len(large)} frames of {large[0].shape[1]}x{large[0].shape[0]}")
    told = json.loads(outputs["report"]["text"][0])
    film = list(read_frames(film_file))
    for seam in told["seams"]:
        print({name: seam[name] for name in seam if name in ("kind", "overlap", "bridge", "jump")})
    changes = steps(film)
    print(
        f"{len(film)} frames, {total} in the scene; steps of {changes.min():.2f} to {changes.max():.2f} of 255"
    )
    contact_sheet(film, [seam["frame"] for seam in told["seams"]], args.out / "seams.png")


if __name__ == "__main__":
    main()
