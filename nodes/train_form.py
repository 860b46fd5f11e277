"""Describes the form of RIFE Train: its inputs, their defaults, its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from comfy_api.latest import io

from ..rife.losses.objective import RECIPES
from ..rife.timeline.numbers import shortened
from . import footage
from .types import InterpModel, LossMap, model_input, training_dtype_input

_LISTS = ("images", "video")  # inputs of which every element counts


@dataclass(frozen=True)
class Form:
    """Holds the values of all inputs but the model; here are the defaults."""

    batch_size: int = 4
    grad_accumulation_steps: int = 1
    steps: int = 500
    learning_rate: float = 1e-4
    seed: int = 0
    training_dtype: str = "fp32"
    images: Sequence = ()
    video: Sequence = ()
    folder: str = footage.NO_FOLDER
    crop: int = 256
    held_out: float = 0.2
    augmentation: bool = True
    warm_up: int = 50
    ema: float = 0.998
    score_every: int = 0
    max_distance: int = 4
    allow_worse: bool = False
    teacher: bool = False
    max_frames: int = 400
    max_width: int = 960
    recipe: str = "paper"

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[Any]]) -> Form:
        """Makes it from the inputs as ComfyUI hands them over, all as lists; what was not sent has its default."""
        names = {field.name for field in fields(cls)}
        return cls(**{
            name: [x for x in values if x is not None] if name in _LISTS else values[0]
            for name, values in lists.items()
            if name in names and values
        })  # fmt: skip

    @property
    def limits(self) -> tuple[int, int]:
        """Says how many frames, and of what width in pixels, are read of videos and folders."""
        return self.max_frames, self.max_width


def train_inputs() -> list[io.Input]:
    """Returns the inputs in the order and words of ComfyUI's own Train LoRA, as far as there is the same."""
    return [model_input(), *_training_inputs(), *_data_inputs(), *_choice_inputs(), *_expert_inputs()]


def check_numbers(form: Form) -> None:
    """Raises ValueError for a number out of its input's range: over a link no form looks at it."""
    for field in (*_training_inputs(), *_choice_inputs(), *_expert_inputs()):
        low, high = getattr(field, "min", None), getattr(field, "max", None)
        value = getattr(form, field.id, None)
        if low is not None and high is not None and value is not None and not low <= value <= high:
            raise ValueError(f"{field.id} is {shortened(value)}, expected {low} to {high}. Change it.")


def _training_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "batch_size", default=Form.batch_size, min=1, max=256,
            tooltip="Windows of frames that one step learns from. More is steadier, and takes memory and time.",
        ),
        io.Int.Input(
            "grad_accumulation_steps", default=Form.grad_accumulation_steps, min=1, max=1024,
            tooltip="A step learns from so many batches, one after the other: a larger batch in the same memory.",
        ),
        io.Int.Input(
            "steps", default=Form.steps, min=1, max=1000000,
            tooltip="Steps of training. A few hundred adapt a model to a clip, some thousands to a style.",
        ),
        io.Float.Input(
            "learning_rate", default=Form.learning_rate, min=0.0000001, max=1.0, step=0.0000001, round=0.00000001,
            tooltip="Size of a step at its largest, after the warm-up; from there it falls along a cosine to a "
            "hundredth. 0.0001 suits models that are trained already.",
        ),
        io.Int.Input(
            "seed", default=Form.seed, min=0, max=0xFFFFFFFFFFFFFFFF,
            tooltip="Decides which windows are drawn, and how they are turned.",
        ),
        training_dtype_input(),
    ]  # fmt: skip


def _data_inputs() -> list[io.Input]:
    return [
        io.Image.Input(
            "images", optional=True,
            tooltip="A clip, its frames in order; or a list of clips. Single images in a list are the frames of one "
            "clip. Load Image (from Folder) gives no order: for pictures in a folder, choose it below.",
        ),
        io.Video.Input("video", optional=True, tooltip="A video, or a list of them, to learn from as well."),
        io.Combo.Input(
            "folder", options=[footage.NO_FOLDER, *footage.folders()], default=footage.NO_FOLDER, optional=True,
            tooltip="A folder in ComfyUI's input folder to learn from as well: videos, folders of pictures, or "
            "Vimeo90K (triplets or septuplets) as it is published.",
        ),
    ]  # fmt: skip


def _choice_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "crop", default=Form.crop, min=32, max=2048, step=32, optional=True,
            tooltip="Side of the windows that are learnt from, in pixels. Large motion needs large ones; smaller ones "
            "are faster and take less memory. A multiple of 32; of 64 for 4.25 and 4.26.",
        ),
        io.Float.Input(
            "held_out", default=Form.held_out, min=0.0, max=0.5, step=0.05, round=0.001, optional=True,
            tooltip="Share of each shot, its end, that is not learnt from: PSNR and SSIM there decide which state was "
            "best. 0: nothing is judged, and the last state is returned.",
        ),
        io.Boolean.Input(
            "augmentation", default=Form.augmentation, optional=True,
            tooltip="Windows are also mirrored, turned, played backward, and have red and blue exchanged, as in the "
            "paper.",
        ),
        io.Boolean.Input(
            "allow_worse", default=Form.allow_worse, optional=True,
            tooltip="Off: the best state is returned, and if none was better than the given model on the held-out "
            "frames, the node says so and stops. On: the last state, whatever it is worth.",
        ),
    ]  # fmt: skip


def _expert_inputs() -> list[io.Input]:
    expert = {"optional": True, "advanced": True}
    return [
        io.Int.Input(
            "warm_up", default=Form.warm_up, min=0, max=100000, **expert,
            tooltip="Steps in which the learning rate rises from nothing.",
        ),
        io.Float.Input(
            "ema", default=Form.ema, min=0.0, max=0.99999, step=0.001, round=0.00001, **expert,
            tooltip="What is judged and returned is a moving average of the weights, which keeps so much of itself at "
            "each step. 0: the weights themselves.",
        ),
        io.Int.Input(
            "score_every", default=Form.score_every, min=0, max=1000000, **expert,
            tooltip="Steps between two looks at the held-out frames. 0: ten looks in all.",
        ),
        io.Int.Input(
            "max_distance", default=Form.max_distance, min=2, max=16, **expert,
            tooltip="Largest distance in frames between the two images that a frame is made from. 2 is the clip's own "
            "motion, 4 also twice that.",
        ),
        io.Boolean.Input(
            "teacher", default=Form.teacher, **expert,
            tooltip="Gives a model that has none (all 4.x files) the privileged teacher of the paper while it trains.",
        ),
        io.Int.Input(
            "max_frames", default=Form.max_frames, min=3, max=1000000, **expert,
            tooltip="Videos and folders: no more than the first so many frames of each clip, which are all kept in "
            "memory.",
        ),
        io.Int.Input(
            "max_width", default=Form.max_width, min=32, max=16384, **expert,
            tooltip="Videos and folders: wider clips are reduced by a whole factor to fit.",
        ),
        io.Combo.Input(
            "recipe", options=list(RECIPES), default=Form.recipe, **expert,
            tooltip="paper: what RIFE's paper minimises, for every model. 4.25: what the author minimised for 4.25, "
            "without VGG, for 4.21 and later with teacher on; a step takes 1.6 times as long.",
        ),
    ]  # fmt: skip


def train_outputs() -> list[io.Output]:
    """Returns the outputs, the first three as those of Train LoRA."""
    return [
        InterpModel.Output(
            display_name="interp_model",
            tooltip="The state that was best on the held-out frames. Save it with Save RIFE Checkpoint.",
        ),
        LossMap.Output(display_name="loss_map", tooltip="Loss of each step, for Plot Loss Graph."),
        io.Int.Output(display_name="steps", tooltip="Steps that this state has learnt for since it was loaded."),
        io.Image.Output(display_name="plot", tooltip="Loss and held-out PSNR over the steps."),
        io.Image.Output(display_name="before", tooltip="Held-out frames as the given model makes them."),
        io.Image.Output(display_name="after", tooltip="The same frames as the new model makes them."),
        io.Image.Output(display_name="ground_truth", tooltip="The same frames as they really are."),
        io.String.Output(
            display_name="report",
            tooltip="PSNR and SSIM on held-out frames before and after, steps, minutes, data, as JSON.",
        ),
    ]  # fmt: skip
