"""Fine-tunes a model on the user's own clips."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..rife.losses.objective import recipe_of
from ..rife.model import Model
from ..rife.networks.looks import looked_up
from ..rife.training.datasets import RealFrames, Shot, triplets
from ..rife.training.samples import check_crop
from ..rife.training.schedule import Settings
from ..rife.training.trainer import Result, StepReport, Trainer
from ..rife.training.validation import score_triplets
from . import footage, model_management, plot
from .train_form import Form, check_numbers, train_inputs, train_outputs
from .trained import (
    Training,
    check_trainable,
    fresh_model,
    loss_map,
    plain_weights,
    trained_patcher,
    training_of,
)
from .types import report_json

log = logging.getLogger(__name__)

_ADVICE = "Lower batch_size or crop; grad_accumulation_steps takes the same batch in parts."
_HELD_OUT = "held out"  # the engine's name for the one set there is
_TRIPLETS = 12  # held-out frames that are scored
_SHOWN = 8  # of these, frames in the outputs before, after and ground_truth
_LOOKS = 10  # at the held-out frames, where score_every leaves it open
_PLOT, _PREVIEW = (960, 640), (512, 320)  # width, height
_SECONDS_PER_PREVIEW = 3.0
_PREVIEW_FRAME = 256  # a window of so many pixels is interpolated for the preview


class RIFETrain(io.ComfyNode):
    """Adapts a model to clips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFETrain",
            display_name="RIFE Train",
            category="model/training",
            description="Adapts a model to your clips: it learns to make their frames from the neighbours. A part of "
            "each clip is held out and decides which state of the training was best. Cancel ends the training and "
            "returns the best so far; a second cancel stops the workflow.",
            search_aliases=["train rife", "fine-tune rife", "finetune", "train frame interpolation"],
            is_experimental=True,
            is_input_list=True,  # a list of clips, or of single images, is one data set
            inputs=train_inputs(),
            outputs=train_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, folder: Sequence[str] | None = None, **_) -> str:
        """Returns a text that changes when the folder's clips do."""
        return footage.folder_state(folder[0] if folder else footage.NO_FOLDER)

    @classmethod
    def execute(cls, interp_model, **inputs) -> io.NodeOutput:
        """Takes every input as a list; returns INTERP_MODEL, LOSS_MAP, steps, four IMAGEs, report. Raises ValueError
        for inputs that do not fit, RuntimeError where nothing was learnt or memory does not suffice."""
        patcher, form, began = interp_model[0], Form.of(inputs), time.monotonic()
        check_trainable(patcher)
        if not 0 <= form.held_out <= 0.5:  # also what is no number
            raise ValueError(
                f"held_out is {form.held_out}, expected 0 (nothing) to 0.5 of each clip. Change it."
            )
        check_numbers(form)
        check_crop(form.crop, patcher.model.pad_multiple())
        learn, validation = footage.gather(form.images, form.video, form.folder, form.held_out, form.limits)
        held_out = triplets(validation, _TRIPLETS) if validation else []
        _check_held_out(held_out, form, learn)
        with model_management.reserve_training_memory(patcher.load_device, _ADVICE):
            start = fresh_model(patcher)
            any_time = bool(patcher.model.config.timestep)
            source = RealFrames(learn, form.crop, form.max_distance, any_time, augment=form.augmentation)
            trainer = Trainer(
                start, source, _settings(form, patcher.load_device), {_HELD_OUT: held_out},
                look=model_management.check_cancel,
            )  # fmt: skip
            shown = _shown(held_out, source)
            observer = _Observer(trainer, start, shown[0])
            result, cancelled = _run(trainer, observer)
            frames = [_made(start, shown), _made(result.model, shown), _truth(shown)]
            training = _remember(training_of(patcher), observer, result)
        report = {
            **_report(observer, result, cancelled, time.monotonic() - began),
            "learned_from": _count(learn), "held_out": {"shots": len(validation), "triplets": len(held_out)},
            "device": str(patcher.load_device), "training_dtype": form.training_dtype,
        }  # fmt: skip
        line = _in_words(report)
        model_management.send_status_text(line)
        return io.NodeOutput(
            trained_patcher(result.model.config, training, patcher.model_dtype(), patcher.model.fine_dtype),
            loss_map([loss for _, loss in observer.losses]),
            training.steps,
            *(model_management.as_images(x) for x in (plot.as_image(observer.curves(_PLOT)), *frames)),
            report_json(line, report),
        )


def _check_held_out(held_out: Sequence[Tensor], form: Form, learn: Sequence[Shot]) -> None:
    if held_out or not form.held_out:
        return
    longest = max((len(shot.frames) for shot in learn), default=0)
    raise ValueError(
        f"held_out is {form.held_out:g}, but the longest shot has {longest} frames, expected at least six: three to "
        "learn from and three to be judged by. Give longer clips, or set held_out to 0; then nothing is judged."
    )


def _settings(form: Form, device: torch.device) -> Settings:
    return Settings(
        steps=form.steps,
        batch=form.batch_size * form.grad_accumulation_steps,
        accumulate=form.grad_accumulation_steps,
        learning_rate=form.learning_rate,
        warm_up=form.warm_up,
        precision=form.training_dtype,
        ema=form.ema,
        seed=form.seed,
        teacher=form.teacher,
        recipe=form.recipe,
        random_scales=recipe_of(form.recipe).random_scales,
        score_every=form.score_every or max(1, form.steps // _LOOKS),
        allow_worse=form.allow_worse,
        workers=0 if device.type == "cpu" else min(8, os.cpu_count() or 1),
    )


class _Observer:
    """What a run is seen to do: losses, scores, and pictures of both with one frame before, now, as it really is."""

    def __init__(self, trainer: Trainer, start: Model, triplet: Tensor):
        self.trainer = trainer
        # The engine's own history is thinned out in long runs.
        self.losses: list[tuple[int, float]] = []  # step, loss
        self.scores: list[tuple[int, float]] = []  # step, held-out PSNR
        self.skipped = 0
        self._progress = model_management.Progress(trainer.settings.steps)
        top, left = (max(0, side - _PREVIEW_FRAME) // 2 for side in triplet.shape[2:])
        self._triplet = triplet[:, :, top : top + _PREVIEW_FRAME, left : left + _PREVIEW_FRAME]
        self._before, self._truth = _made(start, [self._triplet])[0], _truth([self._triplet])[0]

    def on_step(self, step: StepReport) -> None:
        """For `Trainer.run`. Raises what `model_management.cancelled` says where the user wants it."""
        self.skipped += step.skipped
        self.losses.append((step.number, step.losses["loss_l1"]))
        if step.scores:
            score = step.scores[_HELD_OUT].psnr
            self.scores.append((step.number, score))
            log.info(
                "RIFE Train: step %d of %d, held out %.2f dB, %.1f min left",
                *step[:2],
                score,
                step.seconds_left / 60,
            )
        self._progress.show(step.number, self._preview, _SECONDS_PER_PREVIEW)

    def curves(self, size: tuple[int, int]):
        """A PIL picture of width and height."""
        before = self.trainer.before
        start = [(0, before[_HELD_OUT].psnr)] if before else []
        return plot.curves(self.losses, start + self.scores, size)

    def _preview(self):
        now = _made(self.trainer.current, [self._triplet])[0]
        return plot.beneath(self.curves(_PREVIEW), {"before": self._before, "now": now, "truth": self._truth})


def _run(trainer: Trainer, observer: _Observer) -> tuple[Result, bool]:
    """The result, and whether it was cancelled. Raises RuntimeError where nothing was better than the start."""
    allow_worse = trainer.settings.allow_worse
    try:
        result = trainer.run(observer.on_step)
    except model_management.cancelled():
        result = trainer.result() if trainer.step else None
        if result is None or not (result.improved or allow_worse):
            raise  # there is nothing to keep
        log.info("RIFE Train: cancelled after %d steps; goes on with the best so far", trainer.step)
        return result, True
    if not (result.improved or allow_worse):
        tried = max(score for _, score in observer.scores)
        raise RuntimeError(
            f"Nothing that was learnt in {trainer.step} steps is better than the given model: held-out PSNR "
            f"{trainer.before[_HELD_OUT].psnr:.2f} dB before, {tried:.2f} dB at best after. Lower learning_rate, "
            "train longer or on more frames; allow_worse returns the last state anyway."
        )
    return result, False


def _shown(held_out: Sequence[Tensor], source: RealFrames) -> list[Tensor]:
    """Held-out triplets of one size; where nothing is held out, one to learn from."""
    if not held_out:
        sample = source.example(0)
        return [(torch.cat((sample.img0, sample.gt, sample.img1)) * 255).round().byte()]
    return [triplet for triplet in held_out if triplet.shape == held_out[0].shape][:_SHOWN]


def _made(model: Model, shown: Sequence[Tensor]) -> Tensor:
    """What the model makes of triplets (3,3,H,W) uint8: (N,H,W,3)."""
    frames = []
    with looked_up(model.net, model_management.check_cancel):
        for triplet in shown:
            img0, _, img1 = (x[None].float() / 255 for x in triplet)
            frames.append(model.inference(img0, img1)[0].movedim(0, 2))
    return torch.stack(frames)


def _truth(shown: Sequence[Tensor]) -> Tensor:
    return torch.stack([triplet[1].movedim(0, 2).float() / 255 for triplet in shown])


def _remember(before: Training, observer: _Observer, result: Result) -> Training:
    """Without the optimiser's state, which belongs to other weights than the averaged, best ones."""
    trainer = observer.trainer
    learnt = trainer.step if trainer.settings.allow_worse or not trainer.before else result.best_step
    losses = [*before.losses, *(loss for number, loss in observer.losses if number <= learnt)]
    return Training(plain_weights(result.model.net), None, losses, before.steps + learnt)


def _count(learn: Sequence[Shot]) -> dict[str, int]:
    return {"shots": len(learn), "frames": sum(len(shot.frames) for shot in learn)}


def _report(observer: _Observer, result: Result, cancelled: bool, seconds: float) -> dict[str, Any]:
    trainer = observer.trainer
    facts: dict[str, Any] = {
        "steps": trainer.step,
        "steps_asked": trainer.settings.steps,
        "cancelled": cancelled,
        "skipped": observer.skipped,
        "minutes": round(seconds / 60, 2),
    }
    if not trainer.before:
        return facts  # nothing held out
    before, after = trainer.before[_HELD_OUT], result.after[_HELD_OUT]
    if trainer.settings.allow_worse:  # then the last is returned, not the best
        with looked_up(result.model.net, model_management.check_cancel):
            after = score_triplets(result.model, trainer.held_out)[_HELD_OUT]
    return {
        "psnr_before": before.psnr, "psnr_after": after.psnr,
        "ssim_before": before.ssim, "ssim_after": after.ssim,
        "psnr_of_averaging": before.average_psnr,
        "best_step": result.best_step, **facts,
    }  # fmt: skip


def _in_words(report: dict[str, Any]) -> str:
    """For the node's face."""
    done = f"{report['steps']} of {report['steps_asked']} steps in {report['minutes']:.1f} min"
    done += ", cancelled" * report["cancelled"]
    if "psnr_before" not in report:
        return f"nothing held out; {done}"
    return f"held out: {report['psnr_before']:.2f} dB before, {report['psnr_after']:.2f} dB after; {done}"
