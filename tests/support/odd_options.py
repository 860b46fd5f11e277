"""Command lines that nobody means: every option of every command of `rife` with values that it is not made for.

Values are harmless: just beyond a limit, never what would hold software that does not look.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import fake_comfyui as stand_in
from training_runs import clip, write
from training_runs import tiny as trainable
from video_files import make_of

import rife
from rife.cli import options, score
from rife.cli.app import main, make_parser
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

MOMENT = 2.0  # seconds of the processor in which a wrong command has ended, and an interrupted one
_SHOWN = 310  # characters of a value that a message may quote: a path is shown whole where it can be one
_LEFT_ALONE = {("download", "name")}  # its good values are downloads

NUMBERS = [
    "", " ", "x", "0", "-1", "1", "1.5", "-0.0", "1e-99", "1e99", "1e100", "1e-100", "nan", "inf", "-inf", "1/2", "1/0",
    "0/0", "1000001", "100000000000", "9" * 41, "0" * 5000, "9" * 5000, "1_0", "0x10", "\u0663", "\u00b2", "1\n2",
]  # fmt: skip
TEXTS = [
    *NUMBERS, ",", "=", "a=b", "=b", ":", "1:2", "0:0,1:1", "0:0,0:1", "1:0,0:1", "0:0,1:1e9", "0:0:0", "1f", "99f",
    "f", "0.5,0.25", "1/3,2/3", "1," * 10_001, "0:0," * 20_001, "1 " * 200_001, "x" * 100_000, "'; rm", "%s%n",
    "\x1b[31mred", "\u202e1", "caf\udce9", "../..", "auto", "off",
]  # fmt: skip
PATHS = [
    "", ".", "missing", "missing/it", "empty", "folder", "folder.mp4", "text.txt", "unreadable.mkv",
    "caf\udce9.mkv",
    "x" * 300, "x/" * 3000, "/dev/none/out", "\x1b[31mred", "-", "~", "*", "[", "%d.png", "%999d.png", "in.mkv/x",
    "line\nbreak",
]  # fmt: skip
CHOICES = ["", "x", "X" * 5000, "auto ", "0", "\x1b[31mred", "nan"]


class Odd(NamedTuple):
    """A command line with one odd value."""

    command: str
    option: str
    value: str
    words: list[str]


class End(NamedTuple):
    """What came of it. fault: why that is not as it should be, "" where it is."""

    seconds: float  # of the processor
    what: str
    fault: str
    said: str = ""


def furnish(folder: Path) -> None:
    """What the sound part of the commands names, from which `ended` begins."""
    folder.mkdir()
    make_of(folder / "in.mkv", clip(8), 24)
    shutil.copy(folder / "in.mkv", folder / "next.mkv")
    write(folder / "clips" / "one", clip(8))
    rife.save_checkpoint(stand_in.small_network(IFNet, RELEASES["4.26"]), folder / "small.safetensors")
    rife.save_checkpoint(trainable(), folder / "start.safetensors")
    (folder / "graph.json").write_text('{"nodes": [], "links": []}')
    (folder / "text.txt").write_text("no clip")
    for name in ("empty", "folder.mp4", "folder"):
        (folder / name).mkdir()
    (folder / "folder" / "text.txt").write_text("no clip")
    (folder / "unreadable.mkv").write_bytes(b"")
    (folder / "unreadable.mkv").chmod(0)


# What each command needs at least: of positionals by their names, and more words.
_SMALL = "--model small.safetensors --device cpu"
_SOUND = {
    "demo": ({}, f"--out shown {_SMALL}"),
    "interpolate": ({"input": "in.mkv", "output": "out.mp4"}, f"{_SMALL} --codec mpeg4"),
    "join": ({"input": "in.mkv next.mkv", "output": "out.mp4"}, f"{_SMALL} --codec mpeg4"),
    "info": ({"checkpoint": "small.safetensors"}, ""),
    "convert": ({"input": "small.safetensors", "output": "out.safetensors"}, ""),
    "download": ({}, ""),
    "export": ({"output": "out.onnx"}, "--model small.safetensors"),
    "convert-workflow": ({"input": "graph.json", "output": "out.json"}, ""),
    "train": (
        {"out": "run"},
        "--data clips --start start.safetensors --device cpu --steps 1 --batch 1 --crop 32 --held-out-fraction 0 "
        "--threads 1",
    ),
    "score": ({"data": "in.mkv"}, f"{_SMALL} --true-frames 1 --tasks 2"),
}


def command_lines() -> Iterator[Odd]:
    """All of them, by the parser's own table."""
    parser = make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for command, of_it in commands.choices.items():
        positionals, more = _SOUND[command]
        for action in of_it._actions:
            if action.nargs == 0 or (command, action.dest) in _LEFT_ALONE:
                continue
            name = action.option_strings[-1] if action.option_strings else action.dest
            for value in _values(action):
                if action.option_strings:
                    words = [*" ".join(positionals.values()).split(), *more.split(), f"{name}={value}"]
                else:
                    given = [[value] if key == name else usual.split() for key, usual in positionals.items()]
                    words = [*more.split(), "--", *sum(given, [])]
                yield Odd(command, name, value, [command, *words])


def _values(action: argparse.Action) -> list[str]:
    if action.choices:
        return CHOICES
    if action.type is Path or action.dest in ("input", "output"):
        return PATHS
    return NUMBERS if action.type else TEXTS


def ended(odd: Odd, folder: Path) -> End:
    """Runs a command line in a copy of `folder`, in this process; it is interrupted where it goes on, as by Ctrl-C."""
    place = folder.with_name("it")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    said, before = io.StringIO(), os.getcwd()
    interrupted: list[float] = []

    def interrupt(*_: object) -> None:
        interrupted.append(time.process_time())
        raise KeyboardInterrupt

    handlers = [(number, signal.signal(number, interrupt)) for number in (signal.SIGPROF, signal.SIGALRM)]
    os.chdir(place)
    signal.setitimer(signal.ITIMER_PROF, MOMENT)
    signal.setitimer(signal.ITIMER_REAL, 100)  # one that waits takes no time of the processor
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), _loaded_once():
            code = main(odd.words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        return End(time.process_time() - began, "raised", f"raw {type(error).__name__}: {str(error)[:80]}")
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in handlers:
            signal.signal(number, handler)
        os.chdir(before)
    now = time.process_time()
    late = now - (interrupted[0] if interrupted else began) > MOMENT
    what = {0: "done", 1: "an error", 2: "refused", 130: "interrupted"}.get(code, f"code {code}")
    last = said.getvalue()[said.getvalue().rfind("\nrife") + 1 :] if code else ""
    return End(now - began, what, _fault(odd, code, said.getvalue(), late), last)


@contextlib.contextmanager
def _loaded_once() -> Iterator[None]:
    """The sound model is loaded for the first command line only, which is most of the time that most take."""
    with contextlib.ExitStack() as stack:
        for module in (options, score):
            stack.enter_context(patch.object(module, "load_model", _load_model))
        yield


@functools.lru_cache(maxsize=8)
def _load_model(path: Path | None, **how: str | None) -> rife.Model:
    return rife.load_model(path, **how)


def _fault(odd: Odd, code: int, said: str, late: bool) -> str:
    if code not in (0, 1, 2, 130):
        return f"ended with {code}"
    if late:
        return "ended late"
    message = said[said.rfind("\nrife") + 1 :] if code else ""
    if "Traceback" in said or "This is an error in rife" in said:
        return f"raw: {message[:150]}"
    if len(odd.value) > _SHOWN and odd.value[:_SHOWN] in said:
        return "quotes all of the value"
    if len(message) > 2500 or message.count("\n") > 8 + odd.value.count("\n"):
        return f"a message of {len(message)} characters, {message.count(chr(10))} lines"
    return "" if not code or len(message) > 20 else f"says little: {message}"
