"""Runs the command `rife interpolate`: files in, files out, alone or as one of several processes."""

from __future__ import annotations

import argparse
import glob
import logging
import os
import signal
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..engine.keep import check_mask
from ..model import Model
from ..timeline.clock import exact_rate
from ..timeline.curve import Curve
from ..timeline.numbers import exact_number, shortened
from ..timeline.parts import OFF, Timing
from ..timeline.plans import AT_CUTS, AT_REPEATS
from ..timeline.request import AtTimes, PerPair, Request
from ..timeline.scenes import choose_scale, find_scenes
from ..timeline.text import parse_curve, parse_cuts, parse_place, parse_timesteps
from ..video.codecs import Encoding, VideoError
from ..video.deinterlace import CHOICES
from ..video.deinterlace import OFF as DEINTERLACE_OFF
from ..video.images import is_left_aside, is_pattern, is_picture, is_video
from ..video.job import Job, as_loop, refuse_same, render, to_tensor, video_request
from ..video.masks import grey_of, masks_beside
from ..video.reader import Clip
from ..video.segments import Segments
from .dry_run import cadence_line, described, rate_text
from .identity import identity_of
from .options import AUTO, add_crf_option, add_model_options, add_network_options, load
from .values import MOST_FRAMES, number, readable, whole

log = logging.getLogger(__name__)

# Endings that an output takes from its input.
_KEPT = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif", ".apng", ".webp")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "input", nargs="+", help="videos, globs, folders of videos or pictures, frames/%%05d.png"
    )
    parser.add_argument("output", help="a video, out/%%05d.png, or a folder, which takes one file per input")
    _timing_options(parser)
    add_network_options(parser, auto=True)
    _finish_options(parser)
    _file_options(parser.add_argument_group("files"))
    add_model_options(parser)
    parser.set_defaults(run=run)


def _timing_options(parser: argparse.ArgumentParser) -> None:
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--multi", type=whole(1, MOST_FRAMES), metavar="M", help="frame rate times M (default: 2)"
    )
    rate.add_argument("--timesteps", metavar="T", help="these times between each two: 0.25,0.5 or 1/3,2/3")
    rate.add_argument(
        "--curve",
        metavar="POINTS",
        help="result second : clip second, such as '0:0, 1:1, 3:1.5'; at the clip's rate",
    )
    rate.add_argument("--fps", metavar="F", help="frame rate of the result: 60, 23.976, 60000/1001 ...")
    parser.add_argument(
        "--slow", metavar="S", help="slow motion: S times as long, at the same rate or --fps; no sound"
    )
    parser.add_argument(
        "--keep-fps", action="store_true", help="slow motion: same rate, M times as long, no sound"
    )
    parser.add_argument("--loop", action="store_true", help="the last frame leads back to the first")
    parser.add_argument(
        "--keep-duration", action="store_true", help="hold the last frame for as long as the input shows it"
    )
    parser.add_argument(
        "--cuts",
        choices=[*AT_CUTS, OFF],
        default="hold",
        help="what is shown between two scenes: the old one, the nearer, a cross-fade, a morph (default: %(default)s)",
    )
    parser.add_argument("--cut-frames", metavar="N", help="frames that begin a scene: 24,60 (default: found)")
    parser.add_argument(
        "--from", dest="begin", metavar="T", help="where to begin: 12.5, 1:02.5, or a frame, 300f"
    )
    parser.add_argument("--to", dest="end", metavar="T", help="where to end, likewise")
    parser.add_argument(
        "--repeats",
        choices=[*AT_REPEATS, OFF],
        default="hold",
        help="repeated frames stay, or give way to motion (animation on twos, film in 60 or 30 fps; auto: where their "
        "pattern is certain; default: %(default)s)",
    )
    parser.add_argument(
        "--longest-gap",
        type=_seconds,
        metavar="S",
        help="in files of a variable rate, a frame shown for more than S seconds is a pause, which is held; 0: none is "
        "(default: four times the usual, 0.2 at least)",
    )


def _seconds(text: str) -> Fraction:
    """A number of seconds, 0 or more."""
    try:
        if (seconds := exact_number(text)) >= 0:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{shortened(text)} is no number of seconds, expected 0 or more, such as 0.5"
    )


def _finish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steady", action="store_true", help="even sharpness: all frames are made ones")
    parser.add_argument(
        "--shutter",
        type=number(-1e6, 1e6),  # whose range the engine tells
        default=0.0,
        metavar="A",
        help="motion blur of a shutter of A degrees, 180 as in film",
    )
    parser.add_argument(
        "--keep",
        metavar="MASK",
        help="a picture, white where frames are never warped (logo, subtitles); auto: found",
    )
    parser.add_argument(
        "--mask",
        metavar="MASKS",
        help="a picture, or a video or pictures with a mask for each frame, which move with the frames; to --mask-to",
    )
    parser.add_argument(
        "--mask-to", metavar="FILE", help="where the masks go: .mkv (without loss), m/%%05d.png ..."
    )
    parser.add_argument(
        "--loop-twin", choices=("drop", "keep"), default="drop",
        help="with --loop, a last frame that is the first again (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--loop-drift", choices=(OFF, AUTO), default=OFF,
        help="with --loop, spread a change of colours from begin to end over the clip (default: %(default)s)",
    )  # fmt: skip


def _file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--codec", help="h264, h265, av1, vp9, prores, ffv1 or an encoder of FFmpeg (default: by the ending)"
    )
    add_crf_option(group)
    group.add_argument("--preset", type=readable, help="the encoder's trade of speed for size")
    group.add_argument("--pix-fmt", help="pixel format of FFmpeg (default: by depth and alpha of the input)")
    group.add_argument("--hardware", action="store_true", help="encode on the GPU or the like")
    group.add_argument(
        "--encoder-option",
        type=readable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the encoder, repeatable",
    )
    group.add_argument("--no-audio", action="store_true", help="leave out sound, subtitles and chapters")
    group.add_argument("--input-fps", metavar="F", help="frame rate of pictures (default: 24)")
    group.add_argument(
        "--damaged",
        choices=("stop", "conceal"),
        default="stop",
        help="at a frame that cannot be decoded: stop and keep what was before it, or go on (default: %(default)s)",
    )
    group.add_argument(
        "--deinterlace",
        nargs="?",
        choices=CHOICES,
        const=AUTO,
        default=DEINTERLACE_OFF,
        help="interlaced video: bwdif makes each frame of its first field, film puts those of telecined film together "
        "again, auto (without a word) what the video looks to want (default: %(default)s)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="keep finished segments in OUTPUT.parts, and go on from those that are there",
    )
    group.add_argument("--dry-run", action="store_true", help="print what would be done")


def run(args: argparse.Namespace) -> int:
    """Does all inputs; returns 0, or 1 where one failed. Raises ValueError, OSError where there is only one."""
    pairs = _pairs(args)
    if args.mask and len(pairs) > 1:
        raise VideoError(f"there are {len(pairs)} inputs, and --mask is of one. Do them one by one.")
    model, failed = None, 0
    with _ended_like_interrupted():
        for source, target in pairs:
            try:
                job = _job(args, source, target)
                if args.dry_run:
                    print(described(job, target))
                    continue
                model = model or load(args, _device(args.device))
                _one(args, job, target, model)
            except (ValueError, OSError) as error:
                if len(pairs) == 1 or args.debug:
                    raise
                print(f"rife: {error}", file=sys.stderr)
                failed = 1
    return failed


def _pairs(args: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Inputs with their outputs. Raises VideoError, FileNotFoundError."""
    inputs = [path for text in args.input for path in _inputs(text)]
    output = Path(args.output)
    if len(inputs) == 1 and not output.is_dir() and not args.output.endswith(("/", os.sep)):
        return [(inputs[0], output)]
    if output.suffix and not output.is_dir():
        hint = "Give a folder as output"
        if all(map(is_picture, inputs)):
            hint = "Give the pictures' folder as input, or 'frames/*.png' in quotes"
        raise VideoError(f"there are {len(inputs)} inputs for the file {output}. {hint}.")
    if not args.dry_run:
        output.mkdir(parents=True, exist_ok=True)
    names = [_name_of(path) for path in inputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise VideoError(f"more than one input would become {', '.join(twice)}. Do them one by one.")
    return [(path, output / name) for path, name in zip(inputs, names, strict=True)]


def _name_of(source: Path) -> str:
    """What an output in a folder is called."""
    if source.is_dir() or (not source.exists() and (is_pattern(source) or glob.has_magic(source.name))):
        return (source if source.is_dir() else source.parent).resolve().name + ".mp4"  # of pictures
    return source.with_suffix(source.suffix if source.suffix.lower() in _KEPT else ".mp4").name


def _inputs(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        videos = sorted(filter(is_video, path.iterdir()))
        pictures = any(map(is_picture, path.iterdir()))
        if not videos and not pictures:
            raise VideoError(f"the folder {path} has no videos and no pictures. Give another one.")
        return videos or [path]
    if not path.exists() and glob.has_magic(text):
        names = map(Path, glob.glob(text, recursive=True))
        found = sorted(path for path in names if path.is_file() and not is_left_aside(path))
        if not found:
            raise FileNotFoundError(f"There is no file like {shortened(text)}. Give another pattern.")
        return [path] if all(is_picture(p) and not is_video(p) for p in found) else found
    return [path]


def _timing(args: argparse.Namespace, clip: Clip) -> Timing:
    if args.curve:
        rate = clip.clock.moving_rate
        asked: Request = AtTimes(Curve(parse_curve(args.curve), rate), rate)
    elif args.timesteps:
        asked = PerPair(parse_timesteps(args.timesteps) or ())
    else:
        asked = video_request(args.multi, exact_rate(args.fps) if args.fps else None, args.slow)
    given = frozenset(parse_cuts(args.cut_frames or "", len(clip)))
    return Timing(
        asked,
        args.loop,
        args.keep_duration,
        args.cuts,
        args.repeats,
        given,
        args.steady,
        args.shutter,
        longest_gap=args.longest_gap,
    )


def _part(clip: Clip, args: argparse.Namespace, how: dict[str, Any]) -> tuple[int, Clip]:
    """The part of a clip that --from and --to name, behind the number of its first frame in the whole. Raises
    ValueError."""
    times = [clip.start + time for time in clip.times]
    begin = parse_place(args.begin, times) if args.begin else Fraction(0)
    end = parse_place(args.end, times) if args.end else None
    if end is not None and end <= begin:
        raise ValueError(f"--to {args.end} is not after --from {args.begin or 0}. Give a later end, or none.")
    return bisect_left(times, begin), Clip(
        clip.source, start=begin, duration=end - begin if end else 0, **how
    )


def _mask(args: argparse.Namespace, clip: Clip) -> Tensor | str | None:
    """What --keep names, as `rife.engine.keep` takes it. Raises ValueError."""
    if args.keep in (None, AUTO, OFF):
        return args.keep
    return check_mask(grey_of(next(Clip(args.keep).frames(0, 1))), clip.height, clip.width)


def _scale_of(args: argparse.Namespace, job: Job, model: Model) -> float:
    """--scale, or what suits the clip's motion."""
    if args.scale != AUTO:
        return args.scale
    reach = getattr(model.config, "reach", None)
    if reach is None:
        print("scale 1: how far networks of this family follow is not known")
        return 1.0
    found = find_scenes(map(to_tensor, job.clip.frames()))
    scale, why = choose_scale(found, job.clip.height, job.clip.width, reach)
    print(f"scale {scale:g}: {why}")
    return scale


def _job(args: argparse.Namespace, source: Path, target: Path) -> Job:
    options = tuple(tuple(text.partition("=")[::2]) for text in args.encoder_option)
    encoding = Encoding(
        args.codec, args.crf, args.preset, args.pix_fmt, args.hardware, options, not args.no_audio
    )
    rate = exact_rate(args.input_fps) if args.input_fps else None
    how: dict[str, Any] = {
        "rate": rate,
        "conceal": args.damaged == "conceal",
        "deinterlace": args.deinterlace,
    }
    clip, first = Clip(source, **how), 0
    whole = len(clip)
    if args.begin or args.end:
        first, clip = _part(clip, args, how)
    masks = masks_beside(args.mask, args.mask_to, clip, first, whole)
    refuse_same(clip, target, masks, args.mask_to)
    back = None
    if args.loop:
        clip, back = as_loop(clip, args.loop_twin == "drop", args.loop_drift == AUTO)
        if back.overlap:
            print(f"{clip.name}: the last frame is the first again, {back.overlap} left out of the loop")
    job = Job(clip, _timing(args, clip), encoding, args.keep_fps, back, masks=masks)
    job.codec_for(target)  # refuses before anything is looked through for it
    return job


def _device(named: str | None) -> str | None:
    """With several processes on a machine, each takes its own GPU."""
    local = os.environ.get("LOCAL_RANK")
    if named or local is None or not torch.cuda.is_available():
        return named
    return f"cuda:{int(local) % torch.cuda.device_count()}"


def _one(args: argparse.Namespace, job: Job, target: Path, model: Model) -> None:
    rank, processes = (int(os.environ.get(name, usual)) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1)))
    options = {
        "scale": _scale_of(args, job, model),
        "TTA": args.tta,
        "ensemble": args.ensemble,
        "batch_size": args.batch_size,
    }
    if job.clip.audio and not job.same_time and not args.no_audio and rank == 0:
        print(
            f"rife: slow motion: the sound of {job.clip.name} is left out, it would not fit.", file=sys.stderr
        )
    keep = _mask(args, job.clip)
    start, said = time.perf_counter(), ""
    with tqdm(total=len(job.plan), unit="frame", disable=True if rank else None, smoothing=0.05) as bar:
        job.look_through()
        if args.resume or processes > 1:
            identity = identity_of(args, options["scale"])
            segments = Segments(
                job, target, identity, rank=rank, processes=processes,
                masks_to=Path(args.mask_to) if args.mask_to else None,
            )  # fmt: skip
            show = _Progress(bar, segments)
            joined = segments.run(model, show, keep=keep, **options)
            count, sound = len(job.plan), segments.sound_said
        else:
            finder = job.timing.finder()
            with job.writer(target) as writer, job.mask_writer(args.mask_to) as mask_writer:
                render(
                    model,
                    job,
                    job.part(),
                    writer,
                    lambda done, _: bar.update(done - bar.n),
                    finder=finder,
                    keep=keep,
                    mask_writer=mask_writer,
                    **options,
                )
            joined, count, sound = True, writer.count, writer.sound_said
            said = cadence_line(job.timing.cadence_among(finder, len(job.clip)), job)
    if joined:
        if said:
            print(f"{job.clip.name}: {said}")
        print(
            f"{target}: {len(job.clip)} -> {count} frames at {rate_text(job.rate)} fps, "
            f"{f'{sound}, ' if sound else ''}{time.perf_counter() - start:.1f} s on {model.place}"
        )


class _Progress:
    """Shows what all processes have done together: looks at the folder now and then."""

    def __init__(self, bar: tqdm, segments: Segments):
        self._bar, self._segments = bar, segments
        self._finished, self._looked = segments.frames_done, time.monotonic()
        bar.initial = bar.n = self._finished

    def __call__(self, count: int) -> None:
        if time.monotonic() - self._looked > 2.0 or count == 1:
            self._finished, self._looked = self._segments.frames_done, time.monotonic()
        self._bar.update(max(0, self._finished + count - self._bar.n))


# What ends a process politely: job queues and torchrun, a terminal that is closed, Ctrl-\\. Windows has only the first.
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Within the block such a signal ends the work as Ctrl-C does: cleanly. One that is ignored, as under nohup, stays
    ignored."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, _interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
