"""Keeps the folder of a training run: what it needs to go on after a kill, its checkpoints, its logs.

state.pt: everything the rest of the run depends on. best.safetensors, last.safetensors: the average of the weights, in
half precision, for the loader. log.csv, scores.csv: losses, held-out scores. Checkpoints and state are written under
another name and renamed, so that a kill leaves the ones before.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..atomic_write import atomic_write
from ..checkpoint.save import save_checkpoint
from ..timeline.numbers import first_line
from .saved_state import read_state, write_state
from .trainer import StepReport, Trainer
from .validation import Score

log = logging.getLogger(__name__)

_SCORES = ("step", "set", "psnr", "ssim", "average_psnr")
# What may differ in a run that goes on: it changes when things are done, not what is learned.
_FREE = {"workers", "score_every", "allow_worse", "accumulate"}


class RunFolder:
    """Keeps a run's files; its `on_step` belongs into `Trainer.run`.

    save_every: seconds between states. log_every: steps between rows of log.csv. tensorboard: whether its files are
    written too (ValueError where the package is missing). writes: off in all processes but the first, which then only
    go on where the first one stopped.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        trainer: Trainer,
        save_every: float = 120.0,
        log_every: int = 50,
        tensorboard: bool = False,
        writes: bool = True,
    ):
        self.folder, self.trainer = Path(folder), trainer
        self.save_every, self.log_every = save_every, log_every
        self.writes = writes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved = self._reported = time.monotonic()
        self._best, self._first = -1, trainer.step
        self._tensorboard = None
        if tensorboard and writes:
            self._tensorboard = _tensorboard(self.folder)

    def on_step(self, step: StepReport) -> None:
        """Logs, reports and saves what is due."""
        if not self.writes:
            return
        if step.number % self.log_every == 0 or step.number in (1, step.steps):
            self._log(step)
        if step.number == 1 and self.trainer.before:
            self._log_scores(0, self.trainer.before)
        if step.scores:
            self._log_scores(step.number, step.scores)
        now = time.monotonic()
        if now - self._reported > 10 or step.number == step.steps:
            self._report(step)
            self._reported = now
        if now - self._saved > self.save_every or step.number == step.steps:
            self.save()
            self._saved = time.monotonic()

    def save(self) -> None:
        """Saves the state, last.safetensors, and best.safetensors where there is a better one."""
        trainer = self.trainer
        settings = {k: v for k, v in asdict(trainer.settings).items() if k not in _FREE}
        save_checkpoint(trainer.last(), self.folder / "last.safetensors", torch.float16)
        if trainer.best_step != self._best:
            save_checkpoint(trainer.best(), self.folder / "best.safetensors", torch.float16)
            self._best = trainer.best_step
        # Last, so that a run that ends in between writes the others again.
        write_state(self.folder / "state.pt", {**trainer.state_dict(), "settings": settings})

    def _log(self, step: StepReport) -> None:
        row = {
            "step": step.number,
            "seconds": f"{step.seconds:.1f}",
            "data": "rendered" if step.known_flow else "real",
            **{name: f"{loss:.6g}" for name, loss in step.losses.items()},
            "learning_rate": f"{step.learning_rate:.3e}",
            "skipped": int(step.skipped),
        }
        _append(self.folder / "log.csv", tuple(row), [tuple(row.values())])
        if self._tensorboard is not None:
            for name, loss in step.losses.items():
                self._tensorboard.add_scalar(f"loss/{name.removeprefix('loss_')}", loss, step.number)
            self._tensorboard.add_scalar("learning_rate", step.learning_rate, step.number)

    def _log_scores(self, number: int, scores: Mapping[str, Score]) -> None:
        rows = [(number, name, *(f"{x:.4f}" for x in score)) for name, score in scores.items()]
        _append(self.folder / "scores.csv", _SCORES, rows)
        for name, score in scores.items():
            log.info(
                "step %d  %-28s %.2f dB, averaging %.2f dB", number, name, score.psnr, score.average_psnr
            )
            if self._tensorboard is not None:
                self._tensorboard.add_scalar(f"psnr/{name}", score.psnr, number)

    def _report(self, step: StepReport) -> None:
        losses = "  ".join(f"{name.removeprefix('loss_')} {loss:.4f}" for name, loss in step.losses.items())
        rate = (step.number - self._first) / max(step.seconds, 1e-9)
        log.info(
            "step %d of %d  %s  %.2f steps/s, %.0f examples/s, %.0f min left",
            step.number,
            step.steps,
            losses,
            rate,
            rate * self.trainer.settings.batch,
            step.seconds_left / 60,
        )

    def resume(self) -> int:
        """Goes on from state.pt if there is one; returns the step. Rows of the logs that it will write again go.

        Raises ValueError where the run there had other settings or another network, or its state is damaged.
        """
        path = self.folder / "state.pt"
        if path.exists():
            state = read_state(path)
            self._check(state["settings"])
            self._take(state)
            log.info("going on from step %d of %s", self.trainer.step, path)
        self._first = self.trainer.step
        if self.writes:
            for left in self.folder.glob("*.tmp"):  # by a kill in the middle of writing
                left.unlink()
            for name in ("log.csv", "scores.csv"):
                _cut(self.folder / name, self._first if path.exists() else -1)
        return self._first

    def _check(self, settings: dict) -> None:
        mine = asdict(self.trainer.settings)
        other = {k: v for k, v in settings.items() if mine.get(k) != v}
        if other:
            wanted = ", ".join(f"{k} {v} (now {mine.get(k)})" for k, v in other.items())
            raise ValueError(
                f"{self.folder} holds a run with other settings: {wanted}. Go on with those, or take another folder."
            )

    def _take(self, state: Mapping[str, Any]) -> None:
        try:
            self.trainer.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder} holds a run with another network ({first_line(error)}). Give the --start, --network "
                "and --add that it was begun with, or take another folder."
            ) from error

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "There is no TensorBoard here, which --tensorboard needs. Install the package tensorboard, or leave the "
            "option out: log.csv has the same numbers."
        ) from error
    return SummaryWriter(str(folder))


def _append(path: Path, names: tuple[str, ...], rows: list[tuple]) -> None:
    new = not path.exists()
    try:
        with path.open("a", newline="") as file:
            csv.writer(file).writerows([names, *rows] if new else rows)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told without saying where
        raise


def _cut(path: Path, step: int) -> None:
    """Removes rows of later steps, and what a kill or a full disk left unfinished; of a log without a first line,
    all."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].decode(errors="replace")
    names, *rows = [*csv.reader(io.StringIO(whole, newline=""))] or [[]]
    kept = [row for row in rows if len(row) == len(names) and _is_until(row[0], step)]
    if names[:1] != ["step"]:
        path.unlink()
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([names, *kept])


def _is_until(number: str, step: int) -> bool:
    return bool(re.fullmatch("[0-9]{1,15}", number)) and int(number) <= step
