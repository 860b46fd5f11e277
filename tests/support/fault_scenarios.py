"""Work that writes files, for tests that let one write, fsync, rename or read of it fail, and what must hold then.

Whatever failed: the work ends in an error of ours or is whole; under its names the old stands or the new, all of it;
nothing else is left; and doing it again gives what an undisturbed run gives.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import golden_recipe as golden
import torch
from training_runs import clip
from training_runs import tiny as trainable
from training_runs import write as write_clip
from video_files import Fader, job_of, make

import rife
from rife.checkpoint.catalog import Download, download
from rife.checkpoint.download import RetryPolicy
from rife.checkpoint.load import load_network
from rife.cli import train as train_command
from rife.cli.app import is_for_the_user, make_parser
from rife.training.run_folder import RunFolder
from rife.training.saved_state import read_state
from rife.training.trainer import StepReport
from rife.video import segments
from rife.video.job import Job, render
from rife.video.segments import Segments

OLD = b"what stood there before"
_PATIENCE = RetryPolicy(stall=5.0, attempts=2, backoff=0.0, poll=0.01)


class Scenario(NamedTuple):
    """begin: what is there before, `run`: the work, in a folder. names: the files that it is to make, of which old ones
    are there. waits: glob of what may be left after an error, for the next run to take up. read: raises where a file is
    not whole, for work that writes the same files several times, each by itself. fresh: no old files, which would be
    kept.
    """

    name: str
    begin: Callable[[Path], object]
    run: Callable[[Path], object]
    names: tuple[str, ...]
    waits: tuple[str, ...] = ()
    read: Callable[[Path], object] | None = None
    fresh: bool = False


def begin(scenario: Scenario, folder: Path) -> None:
    """A fresh folder, in which an earlier work has left its files."""
    folder.mkdir(parents=True)
    scenario.begin(folder)
    for name in scenario.names:
        if not scenario.fresh and not (folder / name).exists():
            (folder / name).write_bytes(OLD)


def state(folder: Path) -> dict[str, str]:
    """A digest of each file; of a table, without the times that it took; of a training's state, of what it holds: a run
    that was loaded shares other objects, which its pickle shows."""
    return {
        path.relative_to(folder).as_posix(): _digest(path) for path in folder.rglob("*") if path.is_file()
    }


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".csv" and data != OLD:
        rows = list(csv.DictReader(data.decode().splitlines()))
        data = repr([{**row, "seconds": ""} for row in rows]).encode()
    if path.suffix == ".pt":
        with contextlib.suppress(ValueError):
            data = repr(_plain(read_state(path))).encode()
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """Without tuples, and with digests of tensors."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, hashlib.sha256(value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def judge(
    scenario: Scenario, folder: Path, before: dict[str, str], whole: dict[str, str], error: Exception | None
) -> None:
    """AssertionError unless what a fault has left is as it has to be, and another run mends it. before, whole: the
    `state` before and after a run without a fault."""
    if error is not None:
        assert is_for_the_user(error), f"raw {error!r}"
        assert len(str(error)) > 20, f"says little: {error!r}"
    after = state(folder)
    left = {name for name in after if name not in whole}
    waiting = {name for name in left if any(Path(name).match(glob) for glob in scenario.waits)}
    assert left == waiting, f"left {sorted(left - waiting)}"
    kinds = {"new" if after.get(n) == whole[n] else "old" if after.get(n) == before.get(n) else n
             for n in scenario.names}  # fmt: skip
    for name in kinds - {"old", "new"}:
        assert scenario.read, f"{name} is neither the old nor the new one"
        scenario.read(folder / name)
    assert error is not None or kinds == {"new"}, "no error, and not made"
    assert len(kinds) == 1 or waiting or scenario.read, "some are new and some are old"
    scenario.run(folder)
    again = state(folder)
    assert again == whole, (
        f"another run gave {sorted(n for n in again | whole if again.get(n) != whole.get(n))}"
    )


def _clip(base: Path, frames: int, audio: str | None = None) -> Callable[[Path], object]:
    """What puts a clip into a folder as in.mkv."""
    path = base / f"{frames}.mkv"
    make(path, frames=frames, audio=audio, codec="mpeg4", pix_fmt="yuv420p")
    return lambda folder: shutil.copy(path, folder / "in.mkv")


def _job(folder: Path, codec: str = "mpeg4") -> Job:
    return job_of(folder / "in.mkv", codec, at_cuts="off", at_repeats="off")


def _video(base: Path, web) -> Scenario:
    def run(folder: Path) -> None:
        _write(_job(folder), folder / "out.mp4")

    return Scenario("video", _clip(base, 40, "aac"), run, ("out.mp4",))


def _resume(base: Path, web) -> Scenario:
    segments._PER_PROCESS, segments._POLL = 100, 0.01

    def run(folder: Path) -> None:
        Segments(_job(folder), folder / "out.mp4", {}).run(Fader())

    return Scenario("resume", _clip(base, 40, "aac"), run, ("out.mp4",), ("out.mp4.parts/*",))


def _pictures(base: Path, web) -> Scenario:
    def run(folder: Path) -> None:
        _write(_job(folder, "png"), folder / "%d.png")

    names = tuple(f"{i}.png" for i in range(1, 10))
    return Scenario("pictures", _clip(base, 5), run, names, (".rife-*/*",))


def _write(job: Job, target: Path) -> None:
    with job.writer(target) as writer:
        render(Fader(), job, job.part(), writer)


def _checkpoint(base: Path, web) -> Scenario:
    data = golden.release_file("4.15.lite")

    def prepare(folder: Path) -> None:
        (folder / "in.pkl").write_bytes(data)

    def run(folder: Path) -> None:
        rife.checkpoint.save.convert(folder / "in.pkl", folder / "out.safetensors")

    return Scenario("checkpoint", prepare, run, ("out.safetensors",))


def _training(base: Path, web) -> Scenario:
    """`rife train` on a folder of clips: a run that stopped after its second step goes on to the fourth. It saves, logs
    and scores at each, and writes its result at the end."""
    begun = _clips_and_start(base / "two_steps")
    on_step = RunFolder.on_step

    def stopping(files: RunFolder, step: StepReport) -> None:
        on_step(files, step)
        if step.number == 2:
            raise KeyboardInterrupt

    with patch.object(RunFolder, "on_step", stopping), contextlib.suppress(KeyboardInterrupt):
        _train(begun)
    return _training_from("training", begun)


def _training_anew(base: Path, web) -> Scenario:
    """The same in a folder without a run."""
    return _training_from("training anew", _clips_and_start(base / "no_steps"))._replace(fresh=True)


def _clips_and_start(folder: Path) -> Path:
    write_clip(folder / "clips" / "one", clip(12))
    rife.save_checkpoint(trainable(), folder / "start")
    return folder


def _training_from(name: str, begun: Path) -> Scenario:
    def read(path: Path) -> None:
        if path.suffix == ".pt":
            read_state(path)
        elif path.suffix == ".safetensors":
            load_network(path)

    names = (
        "log.csv",
        "scores.csv",
        "last.safetensors",
        "best.safetensors",
        "state.pt",
        "rife_comfy.safetensors",
    )
    return Scenario(
        name,
        lambda folder: shutil.copytree(begun, folder, dirs_exist_ok=True),
        _train,
        names,
        ("*.tmp",),
        read,
    )


def _train(folder: Path) -> None:
    paths = [
        "train",
        str(folder),
        "--data",
        str(folder / "clips"),
        "--start",
        str(folder / "start.safetensors"),
    ]
    options = (
        "--device cpu --steps 4 --batch 1 --crop 32 --warm-up 1 --held-out-fraction 0.25 --held-out-count 1 --reach 2 "
        "--learning-rate 1e-3 --save-every -1 --log-every 1 --score-every 1"
    )
    train_command.run(make_parser().parse_args(paths + options.split()))


def _download(base: Path, web) -> Scenario:
    web.files["/flownet.pkl"] = golden.release_file("4.15.lite")
    entry = Download("4.15.lite", "4.15.lite", (web.url + "/flownet.pkl",), "flownet_v4.15.lite.pkl")

    def nothing(folder: Path) -> None:
        pass

    def run(folder: Path) -> None:
        download(entry, folder, patience=_PATIENCE)

    return Scenario("download", nothing, run, (entry.file,), ("*.part", "*.part.json", "*.lock"), fresh=True)


# Each by what makes it, of a folder for what it begins with and a `web.Web` that runs.
SCENARIOS: dict[str, Callable[[Path, Any], Scenario]] = {
    "video": _video, "resume": _resume, "pictures": _pictures, "checkpoint": _checkpoint, "training": _training,
    "training anew": _training_anew, "download": _download,
}  # fmt: skip
