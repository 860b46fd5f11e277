"""What given and new frames lose between a file and its interpolation: every matrix, range, depth and chroma siting.

python benchmarks/given_frames.py [FOLDER OF ANOTHER CHECKOUT] [--picture FILE]

The network is a stand-in that returns its first frame, so that new frames are the given ones through RGB and back; the
target is lossless, of the source's pixel format. Mean differences in levels of 8 bits, PSNR in dB; inf is bit for bit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from checkouts import FIRST

ROOT = Path(__file__).resolve().parent.parent
MATRICES = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}
RANGES = {"tv": 1, "pc": 2}
FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le")
SITES = ("left", "center", "topleft")

RUN = (
    FIRST
    + """
for source, target, pix_fmt in json.loads(sys.stdin.read()):
    encoding = Encoding("ffv1", pix_fmt=pix_fmt)
    interpolate_video(First(), source, target, 2, cuts="off", repeats="off", encoding=encoding)
"""
)


def source(path: Path, picture: np.ndarray, pix_fmt: str, matrix: int, range_: int, site: str) -> Path:
    """Three frames that shift by a pixel, lossless H.264 with all its tags."""
    lossless = {"qp": "0", "preset": "ultrafast", "chroma_sample_location": site}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options=lossless)
        stream.height, stream.width = picture.shape[0], picture.shape[1] - 16
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range_
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture[:, i : i + stream.width]), format="rgb24"
            )
            frame = frame.reformat(
                format=pix_fmt, dst_colorspace=matrix, src_color_range=2, dst_color_range=range_
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def planes(path: Path) -> list[list[np.ndarray]]:
    """The planes of each frame, in levels of 8 bits."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            deep = "10" in frame.format.name
            kind, scale = (np.uint16, 4) if deep else (np.uint8, 1)
            rows = [
                np.frombuffer(memoryview(p), kind).reshape(p.height, -1)[:, : p.width] for p in frame.planes
            ]
            found.append([row / scale for row in rows])
    return found


def compared(before: list[list[np.ndarray]], after: list[list[np.ndarray]]) -> dict[str, list[float]]:
    """Of given and of new frames: mean difference of each plane, and PSNR of the worst."""
    result = {}
    for name, pairs in (
        ("given", zip(before, after[::2], strict=True)),
        ("new", zip(before, after[1::2], strict=False)),
    ):
        apart = [[b - a for a, b in zip(*pair, strict=True)] for pair in pairs]
        means = [float(np.mean([frame[k].mean() for frame in apart])) for k in range(3)]
        noise = max(float(np.mean([(frame[k] ** 2).mean() for frame in apart])) for k in range(3))
        result[name] = [*means, float(10 * np.log10(255**2 / noise)) if noise else float("inf")]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", nargs="?", help="another checkout, whose columns come first")
    parser.add_argument("--picture", help="a picture file (default: smooth noise)")
    args = parser.parse_args()
    if args.picture:
        from PIL import Image

        picture = np.asarray(Image.open(args.picture).convert("RGB"))[:360, :656]
    else:
        noise = np.random.default_rng(0).normal(128, 300, (47, 84, 3))
        frame = av.VideoFrame.from_ndarray(noise.clip(0, 255).astype(np.uint8), format="rgb24")
        picture = frame.reformat(width=656, height=360, interpolation="BICUBIC").to_ndarray()
    picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    cases = list(itertools.product(FORMATS, MATRICES, RANGES, SITES))
    cases = [case for case in cases if "420" in case[0] or case[3] == "left"]
    trees = [tree for tree in (args.other, str(ROOT)) if tree]
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        sources = [
            source(folder / f"{k}.mkv", picture, form, MATRICES[matrix], RANGES[range_], site)
            for k, (form, matrix, range_, site) in enumerate(cases)
        ]
        for t, tree in enumerate(trees):
            work = [
                [str(path), str(folder / f"{t} {path.name}"), case[0]]
                for path, case in zip(sources, cases, strict=True)
            ]
            subprocess.run(
                [sys.executable, "-P", "-c", RUN, tree], input=json.dumps(work), text=True, check=True
            )
            rows.append([compared(planes(Path(a)), planes(Path(b))) for a, b, _ in work])
    head = " given: Y, Cb, Cr, dB | new: Y, Cb, Cr, dB |" * len(trees)
    print(f"| pixels | matrix | range | chroma |{head}")
    print("|---" * (4 + 2 * len(trees)) + "|")
    for k, case in enumerate(cases):
        cells = []
        for row in rows:
            for kind in ("given", "new"):
                *means, psnr = row[k][kind]
                cells.append(", ".join(f"{mean:+.3f}" for mean in means) + f", {psnr:.1f}")
        print(f"| {' | '.join([*case, *cells])} |")


if __name__ == "__main__":
    main()
