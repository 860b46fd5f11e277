"""Runs under --resume that are killed wherever they are, and gone on with: the film has to be the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from video_files import Fader, job_of, make

from rife.video import segments
from rife.video.segments import Segments

FRAMES = 70


# The stages of a run, by what stands in its folder when it is killed.
BEGUN, MAKING, JOINING, DONE = (
    "before the first segment",
    "while segments are made",
    "while they are joined",
    "after",
)


def run(source: Path, target: Path, pause: float) -> None:
    """One process that makes the film, with segments of 16 frames; pause: seconds that each frame takes."""
    segments._PER_PROCESS = 100
    segments._POLL = 0.01

    class Slow(Fader):
        def inference(self, *args, **kwargs):
            time.sleep(pause)
            return super().inference(*args, **kwargs)

    Segments(job_of(source, "mpeg4", at_cuts="off", at_repeats="off"), target, {}).run(Slow())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_a_process(work) -> int:
    """Its number; forked, since importing PyTorch 200 times would take longer than all the rest."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a forked child must not return into the tests
            os._exit(1)
        os._exit(0)
    return pid


def killed_and_gone_on(folder: Path, kills: int, seed: int = 0, pause: float = 0.002) -> Counter:
    """Kills so many runs at random moments, each time goes on to the end. How many were killed at each stage.

    AssertionError where a film is not that of a run that nobody killed, or something is left.
    """
    source = make(folder / "in.mkv", frames=FRAMES, audio="aac", codec="libx264", pix_fmt="yuv420p")
    whole = folder / "whole.mp4"
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(in_a_process(lambda: run(source, whole, pause)), 0)[1]) == 0
    took, stages, chance = time.monotonic() - began, Counter(), random.Random(seed)
    for number in range(kills):
        target = folder / f"{number}.mp4"
        parts = target.with_name(target.name + ".parts")
        pid = in_a_process(lambda target=target: run(source, target, pause))
        if number % 4 == 3:  # joining is short: every fourth is waited for
            while not (parts / "join.claim").exists() and not target.exists():
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))
        else:
            time.sleep(chance.uniform(0, 1.05 * took))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        stages[stage(target, parts)] += 1
        pid = in_a_process(lambda target=target: run(source, target, 0))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, f"kill {number}: going on failed"
        assert digest(target) == digest(whole), f"kill {number}: another film"
        left = [p.name for p in folder.iterdir() if p not in (source, whole, target)]
        assert not left, f"kill {number} left {left}"
        target.unlink()
    return stages


def stage(target: Path, parts: Path) -> str:
    """How far a run came."""
    if not parts.exists():
        return DONE if target.exists() else BEGUN
    if (parts / "join.claim").exists():
        return JOINING
    return MAKING if list(parts.glob("*.json")) else BEGUN
