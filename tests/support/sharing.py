"""What one of several processes does that make a film in segments of 16 frames together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from video_files import Fader, job_of

from rife.video import segments


class Slow(Fader):
    """Takes so many seconds a frame, and calls `at_frame` with the number of each."""

    def __init__(self, seconds: float, at_frame: Callable[[int], None] = lambda number: None):
        super().__init__()
        self.seconds, self.at_frame, self.made = seconds, at_frame, 0

    def inference(self, *args, **kwargs):
        time.sleep(self.seconds)
        self.made += 1
        self.at_frame(self.made)
        return super().inference(*args, **kwargs)


def ready(target: Path, rank: int) -> Path:
    """The file that says that a process knows the job."""
    return target.with_name(f"{target.name}.ready{rank}")


def joined(target: Path, rank: int) -> Path:
    """The file that says that a process has joined the film."""
    return target.with_name(f"{target.name}.joined{rank}")


def share(source: Path, target: Path, rank: int, processes: int, seconds: float, begin: Path | None = None):
    """begin: a file that it waits for once it knows the job; who comes when all is done would do it again."""
    _run(_work(source, target, rank, processes), Slow(seconds), target, rank, begin)


def share_as_launched(source: Path, target: Path, dies_at: int):
    """As torchrun's environment says. The second process is killed in its first life, at that frame."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    mortal = rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def at_frame(number: int) -> None:
        if mortal and number == dies_at:
            target.with_name("died").touch()
            os.kill(os.getpid(), signal.SIGKILL if os.name != "nt" else signal.SIGTERM)

    _run(_work(source, target, rank, processes), Slow(0.03, at_frame), target, rank)


def _work(source: Path, target: Path, rank: int, processes: int) -> segments.Segments:
    segments._PER_PROCESS = 100
    return segments.Segments(job_of(source), target, {}, rank=rank, processes=processes, patience=3.0)


def _run(work: segments.Segments, model: Fader, target: Path, rank: int, begin: Path | None = None) -> None:
    ready(target, rank).touch()
    while begin is not None and not begin.exists():
        time.sleep(0.02)
    if work.run(model):
        joined(target, rank).touch()
