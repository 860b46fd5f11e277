"""One clip, any number of processes on any number of machines, and going on after a crash.

The clip is cut into segments where decoding can begin. Who is free takes the next one, writes it to a folder beside the
output, and in the end one process joins the files without encoding them again. Processes tell each other what they do
by files in that folder alone, so that one that dies is missed, not waited for: a claim is a file that only one can
create and that its holder touches while it works; one that is touched no more is taken over.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..engine.batches import Interpolator
from ..timeline.parts import MARGIN
from .codecs import VideoError
from .concat import Joiner
from .images import is_pattern
from .job import Job, render
from .reader import Clip

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds after which a claim that nobody touches is taken over
_SECONDS = 10  # of the clip in a segment, at most
_PER_PROCESS = 4  # segments at least, so that a slow one does not hold up the rest
_SLOW = 2.0  # times as long as one's own slowest segment: then an idle process works on it too
_POLL = 1.0


class _Done(Exception):
    """Another process has finished the segment meanwhile."""


def cut(clip: Clip, processes: int = 1) -> list[int]:
    """The source frames at which segments begin, and the number of frames. A segment's first frames are decoded from
    `MARGIN` before it, so it begins that much after a key where there is one near."""
    n = len(clip)
    rate = clip.rate or clip.clock.mean_rate
    length = max(MARGIN, min(round(_SECONDS * rate), -(-n // (_PER_PROCESS * processes))))
    keys = [key + MARGIN for key in clip.keys]
    bounds = [0]
    while bounds[-1] + length + length // 2 < n:
        wanted = bounds[-1] + length
        bounds.append(next((key for key in keys if wanted <= key < min(n, wanted + length)), wanted))
    return [*bounds, n]


class Claims:
    """Who works on what, by files in a folder that all processes see."""

    def __init__(self, folder: Path, patience: float = PATIENCE):
        self.folder, self.patience = folder, patience
        self._host = socket.gethostname()
        self._seen: dict[str, tuple[str, float]] = {}
        self._held: set[Path] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="rife-claims", daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for path in list(self._held):
            path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(self.patience / 5):
            for path in list(self._held):
                try:
                    os.utime(path)
                except OSError:
                    self._held.discard(path)  # taken over, or done

    def take(self, name: str) -> bool:
        """Whether this process may do it now."""
        path = self.folder / f"{name}.claim"
        if path.exists() and not self._take_away(path):
            return False
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(f"{self._host} {os.getpid()}")
        except FileExistsError:
            return False
        self._held.add(path)
        return True

    def release(self, name: str) -> None:
        """It is done, or given up."""
        path = self.folder / f"{name}.claim"
        self._held.discard(path)
        path.unlink(missing_ok=True)

    def _take_away(self, path: Path) -> bool:
        """Removes a claim whose holder is gone."""
        try:
            if not self._is_stale(path):
                return False
            path.rename(path.with_suffix(f".{uuid.uuid4().hex}.stale"))  # of two that try, one succeeds
        except FileNotFoundError:
            return True
        log.info("%s is taken over.", path.stem)
        return True

    def _is_stale(self, path: Path) -> bool:
        """By one's own clock: clocks of machines differ."""
        state = f"{path.stat().st_mtime_ns}"
        host, _, pid = path.read_text(encoding="utf-8").partition(" ")
        if host == self._host and pid.isdecimal() and not _is_alive(int(pid)):
            return True
        before, since = self._seen.get(path.name, ("", 0.0))
        if before != state:
            self._seen[path.name] = state, time.monotonic()
            return False
        return time.monotonic() - since > self.patience


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # where signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Segments:
    """A job that is done in segments, some of which may be done already.

    identity: what else the frames depend on (the checkpoint, scale ...), JSON-ready; finished segments of another job
    are refused. rank, processes: this one's number and how many there are. Raises VideoError.
    """

    def __init__(
        self,
        job: Job,
        target: Path,
        identity: Mapping,
        *,
        rank: int = 0,
        processes: int = 1,
        patience: float = PATIENCE,
    ):
        if is_pattern(target) or target.suffix.lower() in (".gif", ".webp", ".apng"):
            raise VideoError(
                f"{target.name} cannot be joined from segments. Write a video file such as .mp4 or .mkv, or do without "
                "--resume and with one process."
            )
        self.job, self.target, self.rank = job, target, rank
        self.folder = target.with_name(target.name + ".parts")
        self._patience = patience
        self._make_folder()
        self.bounds = self._agree({**_described(job), **identity}, processes)
        self.parts = [job.part(a, b) for a, b in zip(self.bounds, self.bounds[1:], strict=False)]
        self._slowest = 0.0

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise VideoError(
                f"{self.folder} cannot be made ({error.strerror}). Choose another output folder."
            ) from error

    def _agree(self, described: dict, processes: int) -> list[int]:
        """The bounds that the first process wrote down. Raises VideoError where they are of another job."""
        path = self.folder / "job.json"
        if not path.exists():
            mine = path.with_suffix(f".{uuid.uuid4().hex}")
            mine.write_text(
                json.dumps({"job": described, "bounds": cut(self.job.clip, processes)}), encoding="utf-8"
            )
            try:
                os.link(mine, path)  # as a whole, and only the first
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                os.replace(mine, path)
            mine.unlink(missing_ok=True)
        agreed = json.loads(path.read_text(encoding="utf-8"))
        if agreed["job"] != json.loads(json.dumps(described)):
            now, then = json.loads(json.dumps(described)), agreed["job"]
            other = ", ".join(sorted(key for key in {*now, *then} if now.get(key) != then.get(key)))
            raise VideoError(
                f"{self.folder} holds segments of another job ({other} differ). Finish it with the options that it was "
                "begun with, or delete the folder."
            )
        return agreed["bounds"]

    def path(self, i: int) -> Path:
        """The file of segment i, there when it is done."""
        return self.folder / f"{i:05d}.mkv"

    def open(self) -> list[int]:
        """The segments that are not done."""
        done = (
            {name for name in os.listdir(self.folder) if name.endswith(".mkv")}
            if self.folder.is_dir()
            else None
        )
        return [] if done is None else [i for i in range(len(self.parts)) if self.path(i).name not in done]

    @property
    def frames_done(self) -> int:
        """Output frames in finished segments."""
        left = set(self.open())
        return sum(part.last - part.first for i, part in enumerate(self.parts) if i not in left)

    def run(
        self, model: Interpolator, on_progress: Callable[[int], None] | None = None, **options: Any
    ) -> bool:
        """Works until all is done; whether this process joined the file.

        on_progress gets the number of frames of the segment in work; options: of `rife.video.render`.
        """
        with Claims(self.folder, self._patience) as claims:
            while left := self.open():
                i = next((i for i in left if claims.take(f"{i:05d}")), None)
                if i is None:
                    i = self._straggler(left)
                if i is None:
                    time.sleep(_POLL)
                    continue
                try:
                    self._compute(i, model, on_progress, options)
                finally:
                    claims.release(f"{i:05d}")
            return self._join(claims)

    def _straggler(self, left: list[int]) -> int | None:
        """A segment that another process has had for much longer than this one ever needed."""
        now = time.time()
        for i in left:
            path = self.folder / f"{i:05d}.begun"
            try:
                if self._slowest and now - path.stat().st_mtime > _SLOW * self._slowest + _POLL:
                    return i
            except FileNotFoundError:
                continue
        return None

    def _compute(
        self, i: int, model: Interpolator, on_progress: Callable[[int], None] | None, options: dict[str, Any]
    ) -> None:
        begun, start = self.folder / f"{i:05d}.begun", time.monotonic()
        if self.path(i).exists():
            return
        begun.touch()
        looked = start

        def check(count: int, _: object) -> None:
            nonlocal looked
            if on_progress:
                on_progress(count)
            if time.monotonic() - looked > _POLL:
                looked = time.monotonic()
                if self.path(i).exists() or not self.folder.is_dir():
                    raise _Done

        try:
            with self.job.writer(self.path(i), copy=False) as writer:
                render(model, self.job, self.parts[i], writer, check, **options)
        except _Done:
            return
        except VideoError:
            if self.folder.is_dir():
                raise
            return  # another process has done it, and joined
        self._slowest = max(self._slowest, time.monotonic() - start)
        begun.unlink(missing_ok=True)

    def _join(self, claims: Claims) -> bool:
        """The first process joins; another one does, where that is not to be heard of."""
        start = time.monotonic()
        while self.folder.is_dir():
            if (self.rank == 0 or time.monotonic() - start > self._patience) and claims.take("join"):
                paths = [self.path(i) for i in range(len(self.parts))]
                job = self.job
                copy = job.same_time and job.encoding.audio
                with Joiner(self.target, paths, job.clip, job.time, job.tick, copy) as joiner:
                    joiner.join()
                shutil.rmtree(self.folder, ignore_errors=True)
                return True
            time.sleep(_POLL / 4)
        return False


def _described(job: Job) -> dict:
    """What a job's frames depend on, as far as the clip and its timing go."""
    clip = job.clip
    stats = [os.stat(file) for file in clip.files]
    return {
        "input": [sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats), len(clip)],
        "timing": repr(job.timing.request),
        "options": [
            job.timing.loop,
            job.timing.keep_duration,
            job.timing.at_cuts,
            job.timing.at_repeats,
            str(job.timing.longest_gap),
            clip.deinterlace,
        ],  # fmt: skip
        "rate": str(job.rate),
        "encoding": repr(job.encoding),
    }
