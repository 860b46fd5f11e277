"""Runs the command `rife join`: clips that follow each other, made one file."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..atomic_write import write_text
from ..engine import Joining, interpolate
from ..engine.seams import Seam
from ..video.codecs import Encoding
from ..video.joined import JoinedVideo, join_videos, open_clips
from .options import add_crf_option, add_model_options, add_network_options, load
from .values import MOST_FRAMES, whole

AUTO = "auto"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("input", nargs="+", help="two videos or more, in order, of one size and rate")
    parser.add_argument("output", help="a video")
    parser.add_argument(
        "--overlap",
        type=whole(0, MOST_FRAMES, AUTO),
        metavar="N",
        help="frames that two clips have in common; 0: none (default: found)",
    )
    parser.add_argument(
        "--bridge",
        type=whole(0, MOST_FRAMES, AUTO),
        metavar="N",
        help="new frames for a gap between two clips (default: by its size)",
    )
    parser.add_argument(
        "--fade", type=whole(0, MOST_FRAMES), default=16, metavar="N",
        help="frames over which a clip's colours go from those of the clip before to its own (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-match", action="store_true", help="leave colours as they are")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write what was found at each seam as JSON"
    )
    add_network_options(parser)
    parser.add_argument("--codec", help="h264, h265, av1, vp9, prores, ffv1 or an encoder of FFmpeg")
    add_crf_option(parser)
    parser.add_argument("--no-audio", action="store_true", help="leave out the sound")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Joins and says what was found. Raises VideoError, ValueError."""
    target = Path(args.output)
    if args.report and (args.report.is_dir() or not args.report.parent.is_dir()):
        raise ValueError(f"--report is {args.report}, expected a file in a folder that is there. Name one.")
    asked = Joining(args.overlap, not args.no_match, args.fade, args.bridge)
    encoding = Encoding(args.codec, args.crf, audio=not args.no_audio)
    clips = open_clips(args.input, target, encoding)
    model = load(args)
    options = {"scale": args.scale, "TTA": args.tta, "ensemble": args.ensemble, "batch_size": args.batch_size}
    start = time.perf_counter()
    with tqdm(total=sum(map(len, clips)), unit="frame", disable=None) as bar:
        made = join_videos(
            partial(interpolate, model, **options), clips, target, asked,
            encoding, lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    for number, (seam, first) in enumerate(zip(made.seams, made.starts[1:], strict=True), 1):
        print(f"clips {number} and {number + 1}, at frame {first}: {described(seam)}")
    sound = f", {made.sound_said}" if made.sound_said else ""
    print(
        f"{target}: {sum(map(len, clips))} frames of {len(clips)} clips -> {made.frames} frames{sound}, "
        f"{time.perf_counter() - start:.1f} s on {model.place}"
    )
    if args.report:
        write_text(args.report, json.dumps(report(made), indent=2))


def described(seam: Seam) -> str:
    """Describes a seam in one line."""
    what = {
        "twin": "the last frame was the first again, one of them is dropped",
        "overlap": f"{seam.overlap} frames were in both, morphed from one to the other",
        "meet": "the one follows the other",
        "gap": f"{seam.bridge} new frames in a gap",
        "cut": "different scenes, left as they are",
    }[seam.kind]
    level = f"; level {seam.jump:.1f} apart of 255, {seam.jump_left:.1f} after matching" if seam.gain else ""
    return what + level


def report(made: JoinedVideo) -> dict:
    """Returns all that was found, as plain data."""
    seams = [
        {"frame": start, **seam.as_dict()} for seam, start in zip(made.seams, made.starts[1:], strict=True)
    ]
    return {
        "frames": made.frames,
        "fps": str(made.rate),
        "sound": made.sound,
        "sound_said": made.sound_said,
        "starts": made.starts,
        "seams": seams,
    }
