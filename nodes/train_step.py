"""Trains one step after the other, as nodes."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from comfy_api.latest import io
from torch import Tensor

from ..rife.evaluation.metrics import psnr
from ..rife.model import Model
from ..rife.model.inputs import pad_to
from ..rife.networks.looks import looked_up
from . import model_management
from .trained import (
    Training,
    check_trainable,
    fresh_model,
    learner_state,
    loss_map,
    plain_weights,
    trained_patcher,
    training_of,
)
from .types import InterpModel, LossMap, check_images, model_input, report_json, training_dtype_input

_ADVICE = "Crop the images (ImageCrop), or pass fewer at a time."

_MOST_STEPS = 1_000_000


class RIFETrainStep(io.ComfyNode):
    """Does the paper's training step on given frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFETrainStep",
            display_name="RIFE Train Step",
            category="model/training",
            description="One step of training, or some, on images whose true in-between image is known. Gives a new "
            "model; the one given stays as it is. Steps can be chained: the optimiser's state goes with the model.",
            search_aliases=["train rife step", "fine-tune rife", "training step", "train interpolation"],
            is_experimental=True,
            inputs=[
                model_input(),
                io.Image.Input(
                    "img0", tooltip="The images at time 0: a batch of them is one training batch."
                ),
                io.Image.Input("img1", tooltip="The images at time 1, as many, in the same size."),
                io.Image.Input(
                    "ground_truth", tooltip="The true images at timestep, as many, in the same size."
                ),
                io.Int.Input(
                    "steps", default=1, min=1, max=100000, tooltip="Steps made, all on the same images."
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0001,
                    min=0.0,
                    max=1.0,
                    step=0.0000001,
                    round=0.00000001,
                    tooltip="Size of a step. 0.0001 or less to adapt a trained model; the paper goes from 0.0003 to "
                    "0.000003.",
                ),
                io.Float.Input(
                    "timestep",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.0001,
                    tooltip="The time of ground_truth between img0 (0) and img1 (1). Models without timesteps (RIFE, "
                    "2R, 3.5 to 3.8) only learn 0.5.",
                ),
                io.Float.Input(
                    "distill_weight",
                    default=0.01,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    round=0.00001,
                    optional=True,
                    advanced=True,
                    tooltip="How much the flow of the teacher, which sees ground_truth, counts: 0.01 in the paper, "
                    "0.005 or 0.002 for RIFE_m. Without effect where the file holds no teacher.",
                ),
                io.Float.Input(
                    "max_grad_norm",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    round=0.001,
                    optional=True,
                    advanced=True,
                    tooltip="Longer gradients are cut to this length, so that an odd image does little harm. 0: never.",
                ),
                training_dtype_input(optional=True, advanced=True),
            ],
            outputs=[
                InterpModel.Output(display_name="interp_model", tooltip="The model after the steps."),
                io.Image.Output(
                    display_name="merged", tooltip="What the model now makes of img0 and img1 at timestep."
                ),
                io.Image.Output(
                    display_name="teacher",
                    tooltip="What the teacher, which sees ground_truth, makes of them; the same as merged where the "
                    "file holds no teacher.",
                ),
                LossMap.Output(
                    display_name="loss_map",
                    tooltip="Loss of each step since the model was loaded, and after the last one, for Plot Loss "
                    "Graph.",
                ),
                io.Int.Output(display_name="steps", tooltip="Steps since the model was loaded."),
                io.String.Output(display_name="report", tooltip="Losses and PSNR before and after, as JSON."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> float:
        """Is never equal to the last one: every queued prompt trains."""
        return float("nan")  # a new object: ComfyUI compares inside of tuples, where math.nan equals itself

    @classmethod
    def execute(
        cls,
        interp_model,
        img0: Tensor,
        img1: Tensor,
        ground_truth: Tensor,
        steps: int = 1,
        learning_rate: float = 1e-4,
        timestep: float = 0.5,
        distill_weight: float = 0.01,
        max_grad_norm: float = 1.0,
        training_dtype: str = "fp32",
    ) -> io.NodeOutput:
        """Returns INTERP_MODEL, two (N,H,W,3), LOSS_MAP, steps and report, of three (N,H,W,C). Raises ValueError for
        inputs that do not fit, RuntimeError where a loss is not finite or memory does not suffice."""
        check_trainable(interp_model)
        _check_batch({"img0": img0, "img1": img1, "ground_truth": ground_truth})
        _check_timestep(interp_model.model.config, timestep)
        if not 1 <= steps <= _MOST_STEPS:  # over a link no form looks at it
            raise ValueError(f"steps is {steps}, expected a number from 1 to {_MOST_STEPS:,}. Change it.")
        start = time.perf_counter()
        options = {
            "timestep": timestep,
            "distill_weight": distill_weight,
            "max_grad_norm": max_grad_norm or None,
            "precision": training_dtype,
        }
        with model_management.reserve_training_memory(interp_model.load_device, _ADVICE):
            batch = _Batch.of(interp_model, img0, img1, ground_truth)
            model = fresh_model(interp_model)
            with looked_up(model.net, model_management.check_cancel):
                results = _steps(model, batch, steps, learning_rate, options)
            training = _remember(training_of(interp_model), model, results)
        trained = trained_patcher(
            interp_model.model.config, training, interp_model.model_dtype(), interp_model.model.fine_dtype
        )
        report = {
            "steps": training.steps,
            "learning_rate": learning_rate,
            "before": results.before,
            "after": results.after,
            "padded_to": list(batch.gt.shape[:1:-1]),  # width, height
            "device": str(interp_model.load_device),
        }
        line = _in_words(steps, results, time.perf_counter() - start)
        model_management.send_status_text(line)
        return io.NodeOutput(
            trained,
            model_management.as_images(results.merged),
            model_management.as_images(results.teacher),
            loss_map([*training.losses, results.after["loss_l1"]]),
            training.steps,
            report_json(line, report),
        )


def _check_batch(batches: dict[str, Tensor]) -> None:
    """Raises ValueError unless all are images of one size and number, and finite."""
    for name, images in batches.items():
        check_images(images, name)
        if not torch.isfinite(images).all():
            raise ValueError(
                f"{name} contains NaN or infinity, expected values in 0..1. The step that made the images failed: "
                "repair that first."
            )
    sizes = {name: tuple(images.shape[:3]) for name, images in batches.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the images (N,H,W) are {', '.join(f'{name} {size}' for name, size in sizes.items())}, expected as many "
            "of one size. Resize them, or pick those that belong together."
        )


def _check_timestep(config, timestep: float) -> None:
    if not 0 < timestep < 1:
        raise ValueError(
            f"timestep is {timestep}, expected a number between 0 and 1: there, ground_truth is one of the two images. "
            "Give the time of the image between them."
        )
    if timestep != 0.5 and not config.timestep:
        raise ValueError(
            f"timestep is {timestep}, but RIFE {'/'.join(config.versions) or config.family} has no timestep input, "
            "expected 0.5. Use the image half way as ground_truth, or train RIFE_m, any 4.x or the bundled model."
        )


class _Batch(NamedTuple):
    """Training data on the model's device: (N,6,H,W) and (N,3,H,W), padded, and the size before."""

    pair: Tensor
    gt: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, patcher, *images: Tensor) -> _Batch:
        """From img0, img1 and the true images; copies, since tensors of inference mode cannot be learnt from."""
        multiple = patcher.model.pad_multiple()

        def prepared(batch: Tensor) -> Tensor:
            rgb = batch[..., :3].expand(-1, -1, -1, 3).movedim(3, 1)
            copied = rgb.to(patcher.load_device, torch.float32, copy=True).clamp_(0, 1)
            return pad_to(copied, multiple).contiguous()

        img0, img1, gt = map(prepared, images)
        return cls(torch.cat((img0, img1), 1), gt, tuple(images[0].shape[1:3]))

    def cut(self, images: Tensor) -> Tensor:
        """(N,3,H,W) without the padding, as (N,h,w,3) in 0..1."""
        height, width = self.size
        return images[:, :, :height, :width].clamp(0, 1).movedim(1, 3)


class _StepResults(NamedTuple):
    """What `Model.update` said: the loss of each step, the numbers before them, and all of it after the last."""

    losses: list[float]
    before: dict[str, float | None]
    after: dict[str, float | None]
    merged: Tensor  # (N,h,w,3)
    teacher: Tensor


def _steps(model: Model, batch: _Batch, steps: int, rate: float, options: dict) -> _StepResults:
    progress = model_management.Progress(steps)
    losses, before = [], {}
    for step in range(steps):
        merged, info = _update(model, batch, rate, step, options)
        losses.append(float(info["loss_l1"]))
        before = before or _numbers(batch, merged, info)
        progress(step + 1, steps, batch.cut(merged)[0])
    merged, info = _update(model, batch, rate, steps - 1, {**options, "training": False})
    after = _numbers(batch, merged, info)
    return _StepResults(losses, before, after, batch.cut(merged), batch.cut(info["merged_tea"]))


def _update(model: Model, batch: _Batch, rate: float, step: int, options: dict) -> tuple[Tensor, dict]:
    merged, info = model.update(batch.pair, batch.gt, rate, **options)
    if info["skipped"] or not torch.isfinite(info["loss_l1"]):
        raise RuntimeError(
            f"Step {step + 1} met a loss or gradient that is not finite, so there is no model to return. Lower the "
            f"learning rate, {rate:g}, or begin with a model that was not trained with it."
        )
    return merged, info


def _numbers(batch: _Batch, merged: Tensor, info: dict) -> dict[str, float | None]:
    fidelity = psnr(batch.cut(merged), batch.cut(batch.gt))
    losses = {name: float(info[name]) for name in ("loss_l1", "loss_tea", "loss_distill")}
    return {
        **losses,
        "psnr": fidelity if math.isfinite(fidelity) else None,
    }  # equal frames; JSON knows no infinity


def _remember(before: Training, model: Model, results: _StepResults) -> Training:
    losses = (*before.losses, *results.losses)
    steps = before.steps + len(results.losses)
    return Training(plain_weights(model.net), learner_state(model), losses, steps)


def _in_words(steps: int, results: _StepResults, seconds: float) -> str:
    """For the node's face."""
    before, after = (
        "equal" if found["psnr"] is None else f"{found['psnr']:.2f} dB"
        for found in (results.before, results.after)
    )
    return f"{steps} step{'s' * (steps != 1)}: {before} before, {after} after; took {seconds:.1f} s"
