"""Makes one clip in any number of processes on any number of machines, and goes on after a crash.

The clip is cut into segments where decoding can begin. Who is free takes the next one, writes it to a folder beside the
output, and in the end one process joins the files without encoding them again. Processes tell each other what they do
by files in that folder alone, so that one that dies is missed, not waited for: a claim is a file that only one can
create and that its holder touches while it works; one that is touched no more is taken over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..atomic_write import write_text
from ..engine.batches import Interpolator
from ..timeline.parts import MARGIN
from .codecs import VideoError
from .concat import Joiner
from .images import is_pattern
from .job import Job, render
from .proof import Proof, digest_of
from .reader import Clip
from .temporary import clear_dead, is_alive, machine, take_away

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds after which a claim that nobody touches is taken over
_SECONDS = 10  # of the clip in a segment, at most
_PER_PROCESS = 4  # segments at least, so that a slow one does not hold up the rest
_SLOW = 2.0  # times as long as one's own slowest segment: then an idle process works on it too
_POLL = 1.0


class _Done(Exception):
    """Another process has finished the segment meanwhile."""


def cut(clip: Clip, processes: int = 1) -> list[int]:
    """Returns the source frames at which segments begin, and the number of frames. A segment's first frames are decoded
    from `MARGIN` before it, so it begins that much after a key where there is one near."""
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
    """Tells who works on what, by files in a folder that all processes see."""

    def __init__(self, folder: Path, patience: float = PATIENCE):
        self.folder, self.patience = folder, patience
        self._host = machine()
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
        """Tells whether this process may do it now."""
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
        """Gives up the claim: it is done, or given up."""
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
        if host == self._host and pid.isdecimal() and not is_alive(int(pid)):
            return True
        before, since = self._seen.get(path.name, ("", 0.0))
        if before != state:
            self._seen[path.name] = state, time.monotonic()
            return False
        return time.monotonic() - since > self.patience


class Segments:
    """Does a job in segments, some of which may be done already.

    identity: what else the frames depend on (the checkpoint, scale ...), JSON-ready; finished segments of another job
    are refused. rank, processes: this one's number and how many there are. masks_to: where the job's masks go.
    Raises VideoError.
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
        masks_to: Path | None = None,
    ):
        for path in (target, masks_to) if masks_to else (target,):
            if is_pattern(path) or path.suffix.lower() in (".gif", ".webp", ".apng"):
                raise VideoError(
                    f"{path.name} cannot be joined from segments. Write a video file such as .mp4 or .mkv, or do "
                    "without --resume and with one process."
                )
        self.job, self.target, self.rank, self.masks_to = job, target, rank, masks_to
        # Segments are Matroska, their pictures what the whole file holds.
        self._codec = job.codec_for(target)
        self._codec_of_masks = job.codec_for_masks(masks_to) if masks_to else None
        self.folder = target.with_name(target.name + ".parts")
        self._patience = patience
        self._make_folder()
        self._source = _stamps(job.clip)
        described = json.loads(json.dumps({**_described(job), **identity}))
        self._job = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
        self.bounds = self._agree(described, processes)
        self.parts = [job.part(a, b) for a, b in zip(self.bounds, self.bounds[1:], strict=False)]
        self._proven: set[int] = set()  # segments that this process has seen to be whole
        self._slowest = 0.0
        self.sound_said = ""  # what became of the sound, where this process joined

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise VideoError(
                f"{self.folder} cannot be made ({error.strerror}). Choose another output folder."
            ) from error
        clear_dead(self.folder)

    def _agree(self, described: dict, processes: int) -> list[int]:
        """The bounds that the first process wrote down. Raises VideoError where they are of another job."""
        path = self.folder / "job.json"
        if not path.exists():
            self._write_down(described, processes)
        try:
            agreed = _agreement(path)
        except ValueError as error:
            # Which segments are of this job stands in their own records, so that nothing is lost with this file.
            log.warning("%s is damaged (%s): it is written again.", path, error)
            path.unlink(missing_ok=True)
            self._write_down(described, processes)
            agreed = _agreement(path)
        if agreed["job"] != described:
            then = agreed["job"]
            other = ", ".join(
                sorted(key for key in {*described, *then} if described.get(key) != then.get(key))
            )
            raise VideoError(
                f"{self.folder} holds segments of another job ({other} differ). Finish it with the options that it was "
                "begun with, or delete the folder."
            )
        return agreed["bounds"]

    def _write_down(self, described: dict, processes: int) -> None:
        path = self.folder / "job.json"
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        write_text(temporary, json.dumps({"job": described, "bounds": cut(self.job.clip, processes)}))
        try:
            os.link(temporary, path)  # as a whole, and only the first
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(temporary, path)
        temporary.unlink(missing_ok=True)

    def path(self, i: int) -> Path:
        """Returns the file of segment i. It is done where `record` says so, too."""
        return self.folder / f"{i:05d}.mkv"

    def mask_path(self, i: int) -> Path:
        """Returns the file of the masks of segment i."""
        return self.folder / f"{i:05d}.mask.mkv"

    def record(self, i: int) -> Path:
        """Returns the file that says what segment i holds, written when it is done."""
        return self.folder / f"{i:05d}.json"

    def open(self) -> list[int]:
        """Lists the segments that are not done."""
        try:
            there = set(os.listdir(self.folder))
        except FileNotFoundError:
            return []  # joined by another process
        return [
            i for i in range(len(self.parts)) if self.record(i).name not in there or not self._is_whole(i)
        ]

    def _is_whole(self, i: int) -> bool:
        """Whether segment i holds what its record says. One that does not is taken away, which is said."""
        if i in self._proven:
            return True
        try:
            record = json.loads(self.record(i).read_text(encoding="utf-8"))
            fault = "" if record == self._record(i, *self._proofs(i)) else "it is not what was written"
        except FileNotFoundError:
            return not self.folder.is_dir()
        except (OSError, ValueError) as error:
            fault = str(error)
        if fault and not self.folder.is_dir():
            return True  # joined by another process meanwhile
        if fault:
            log.warning("Segment %d of %s is damaged (%s): it is made again.", i, self.target.name, fault)
            self.record(i).unlink(missing_ok=True)
            return False
        self._proven.add(i)
        return True

    def _proofs(self, i: int) -> list[Proof]:
        """What the files of segment i hold, read back."""
        return [Proof.of(self.path(i)), *([Proof.of(self.mask_path(i))] if self.masks_to else [])]

    def _record(self, i: int, proof: Proof, *of_masks: Proof) -> dict:
        part = self.parts[i]
        return {
            "job": self._job,
            "frames": [part.first, part.last],
            "pictures": proof.pictures,
            "sha256": proof.digest,
            **({"masks": [[mask.pictures, mask.digest] for mask in of_masks]} if of_masks else {}),
        }

    def _prove(self, i: int, made: int) -> None:
        """Reads a segment of `made` pictures back that is just written, and writes down what it holds.

        Only the clip's last one may hold fewer than planned: of a file that has fewer frames than it says.
        Raises VideoError.
        """
        part, proofs = self.parts[i], self._proofs(i)
        expected = made if i == len(self.parts) - 1 else part.last - part.first
        for proof in proofs:
            if fault := proof.fault(expected, lambda k: self.job.time(part.first + k), self.job.tick):
                raise VideoError(
                    f"Segment {i} of {self.target.name}, read back, is not whole: {fault}. Run the command again; if "
                    "it stays so, do without --resume."
                )
        write_text(self.record(i), json.dumps(self._record(i, *proofs)))
        self._proven.add(i)

    def _look_at_source(self) -> None:
        """Raises VideoError where the source is not what it was when this process began."""
        if _stamps(self.job.clip) != self._source:
            raise VideoError(
                f"{self.job.clip.name} was changed while it was read: what is finished does not belong to it any more. "
                f"Delete {self.folder} and run the command again."
            )

    @property
    def frames_done(self) -> int:
        """Counts the output frames in finished segments."""
        left = set(self.open())
        return sum(part.last - part.first for i, part in enumerate(self.parts) if i not in left)

    def run(
        self, model: Interpolator, on_progress: Callable[[int], None] | None = None, **options: Any
    ) -> bool:
        """Works until all is done; returns whether this process joined the file.

        on_progress gets the number of frames of the segment in work; options: of `rife.video.render`. Raises
        VideoError.
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
        mark, start = self.folder / f"{i:05d}.begun", time.monotonic()
        if self.record(i).exists():
            return
        self._look_at_source()
        mark.touch()
        last_check = start

        def check(count: int, _: object) -> None:
            nonlocal last_check
            if on_progress:
                on_progress(count)
            if time.monotonic() - last_check > _POLL:
                last_check = time.monotonic()
                if self.record(i).exists() or not self.folder.is_dir():
                    raise _Done

        try:
            to, codec = self.mask_path(i) if self.masks_to else None, self._codec_of_masks
            with (
                self.job.writer(self.path(i), copy=False, codec=self._codec) as writer,
                self.job.mask_writer(to, codec) as masks,
            ):
                render(model, self.job, self.parts[i], writer, check, mask_writer=masks, **options)
            self._look_at_source()
            self._prove(i, writer.count)
        except _Done:
            return
        except (VideoError, FileNotFoundError):
            if self.folder.is_dir():
                raise
            return  # another process has done it, and joined
        self._slowest = max(self._slowest, time.monotonic() - start)
        mark.unlink(missing_ok=True)

    def _join(self, claims: Claims) -> bool:
        """The first process joins; another one does, where that is not to be heard of."""
        start = time.monotonic()
        while self.folder.is_dir():
            if (self.rank == 0 or time.monotonic() - start > self._patience) and claims.take("join"):
                try:
                    self._join_files()
                except VideoError:
                    if self.folder.is_dir():
                        raise
                    return False  # one that was not heard of for long has joined meanwhile
                take_away(self.folder)
                return True
            time.sleep(_POLL / 4)
        return False

    def _join_files(self) -> None:
        """Both files get their names when both are whole."""
        job, parts = self.job, range(len(self.parts))
        with ExitStack() as files:
            copy = job.same_time and job.encoding.audio
            targets = [(self.target, self.path, copy)]
            if self.masks_to:
                targets.append((self.masks_to, self.mask_path, False))
            for target, path, copied in targets:
                joiner = Joiner(target, list(map(path, parts)), job.clip, job.time, job.tick, copied)
                files.enter_context(joiner).join()
                if target is self.target:
                    self.sound_said = joiner.sound_said


def _described(job: Job) -> dict:
    """What a job's frames depend on, as far as the clip and its timing go."""
    clip = job.clip
    return {
        "input": [digest_of(clip.files), len(clip)],
        "timing": repr(replace(job.timing, found=None, cut_frames=frozenset())),
        "cut_frames": sorted(job.timing.cut_frames),
        "clip": [clip.deinterlace, clip.conceal, str(clip.start), str(clip.length), repr(job.drift)],
        "rate": str(job.rate),
        "encoding": repr(job.encoding),
        **({"masks": digest_of(job.masks.files)} if job.masks else {}),
    }


def _stamps(clip: Clip) -> list[tuple[int, int]]:
    """Size and time of change of what a clip is read from."""
    return [(s.st_size, s.st_mtime_ns) for s in map(os.stat, clip.files)]


def _agreement(path: Path) -> dict:
    """What job.json says. Raises ValueError where it says nothing that could be meant."""
    agreed = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(agreed, dict) or not isinstance(agreed.get("job"), dict):
        raise ValueError("it describes no job")
    bounds = agreed.get("bounds")
    if not isinstance(bounds, list) or len(bounds) < 2 or not all(type(bound) is int for bound in bounds):
        raise ValueError("it has no bounds of segments")
    return agreed
