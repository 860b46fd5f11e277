"""A fine-tune in a real ComfyUI server: Load Video, RIFE Train, Save RIFE Checkpoint, and the saved file loaded again.

    python benchmarks/train_in_comfyui.py CLIP [--steps 600] [--learning-rate 1e-4] [--pictures FOLDER]

Posts the workflow to a server of its own, prints the node's report (held-out PSNR and SSIM before and after, minutes),
then interpolates the end of the clip with the trained model and with the saved file and compares the pictures.
ComfyUI is found as the tests find it; run it with ComfyUI's Python or any that has this project's requirements.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
import comfyui_server
from find_comfyui import comfyui_or_reason


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def training(clip: str, args: argparse.Namespace) -> dict:
    """The workflow that a user would make."""
    return {
        "video": node("LoadVideo", file=clip),
        "model": node("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)"),
        "train": node(
            "RIFETrain", interp_model=["model", 0], video=["video", 0], batch_size=args.batch,
            grad_accumulation_steps=1, steps=args.steps, learning_rate=args.learning_rate, seed=0,
            training_dtype="fp32", crop=args.crop, max_distance=args.max_distance, max_width=args.max_width,
            warm_up=args.warm_up,
        ),
        "save": node(
            "RIFECheckpointSave", interp_model=["train", 0], filename_prefix="frame_interpolation/clip",
            precision="fp32",
        ),
        "report": node("PreviewAny", source=["train", 7]),
        "loss": node("LossGraphNode", loss=["train", 1], filename_prefix="loss"),
        **{
            name: node("PreviewImage", images=["train", i])
            for i, name in enumerate(("plot", "before", "after", "ground_truth"), start=3)
        },
        **interpolation(["train", 0]),
    }  # fmt: skip


def interpolation(model: list) -> dict:
    """The held-out frames 0 and 1, doubled."""
    return {
        "few": node("ImageFromBatch", image=["train", 6], batch_index=0, length=2),
        "run": node("RIFEInterpolate", interp_model=model, images=["few", 0], multiplier=4),
        "frames": node("PreviewImage", images=["run", 0]),
    }


def again(prompt: dict, name: str) -> dict:
    """The same interpolation with the saved file; the training is not run again, its outputs are cached."""
    loader = {"saved": node("RIFECheckpointLoader", checkpoint=name)}
    return {**{k: prompt[k] for k in ("video", "model", "train")}, **loader, **interpolation(["saved", 0])}


def picture(server: comfyui_server.Server, saved: dict) -> np.ndarray:
    """Of the pixels alone: the files also hold the workflow."""
    return np.asarray(Image.open(io.BytesIO(server.file(saved))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    for name, default in (("steps", 600), ("batch", 4), ("crop", 128), ("max_distance", 2), ("warm_up", 50)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--max-width", type=int, default=960)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--pictures", type=Path, help="folder for plot and frames")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, comfyui_server.Server(
        *comfyui_or_reason(), Path(folder)
    ) as server:  # fmt: skip
        shutil.copy(args.clip, server.base / "input" / args.clip.name)
        prompt, start = training(args.clip.name, args), time.perf_counter()
        outputs = server.run(prompt, seconds=24 * 3600)
        minutes = (time.perf_counter() - start) / 60
        print(json.dumps(json.loads(outputs["report"]["text"][0]), indent=1))
        print(f"{minutes:.1f} min for the whole workflow; {outputs['save']['text'][0]}")
        (file,) = (server.base / "output" / "frame_interpolation").iterdir()
        second = server.run(again(prompt, file.name), seconds=3600)
        pairs = zip(outputs["frames"]["images"], second["frames"]["images"], strict=True)
        same = [np.array_equal(picture(server, a), picture(server, b)) for a, b in pairs]
        print(
            f"{sum(same)} of {len(same)} frames of the saved file are those of the trained model, byte for byte"
        )
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, args.pictures)
            for name in ("loss", "plot", "before", "after", "ground_truth"):
                for i, saved in enumerate(outputs[name]["images"]):
                    (args.pictures / f"{name}_{i}.png").write_bytes(server.file(saved))
    print(
        f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime / 60:.1f} CPU minutes, the server's start and all"
    )


if __name__ == "__main__":
    main()
