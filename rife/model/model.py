"""Defines `Model`: a network with padding, scales, test-time augmentation, any timestep, and a training step.

The interface is that of ECCV2022-RIFE's and CogVideo's `Model`; images are (B,C,H,W) in 0..1, RGB.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint.load import load_network
from ..checkpoint.save import save_checkpoint
from ..losses.objective import Objective
from ..networks.adaptive import build_network
from ..networks.config import RELEASES, IFNetConfig
from ..networks.ifnet import IFNet
from ..networks.three_networks import LegacyConfig
from ..ops.warp import warp
from ..timeline.numbers import shortened
from .acceleration import Accelerated
from .devices import fine_dtype, good_dtype, named_device, named_dtype, placed, with_fine_dtype
from .inputs import check_finite, check_images, checked_times, colour_channels, pad_to
from .motion import Motion
from .options import SCALES, TIMESTEP_METHODS
from .passes import Pair, Passes, reached_by_middles
from .training_step import Batch, TrainingStep
from .views import View

# Trained by this project, see README. Loaded where no path is given.
BUNDLED_CHECKPOINT = Path(__file__).parent.parent / "weights" / "rife_comfy.safetensors"


def load_model(
    path_or_state_dict: str | os.PathLike | Mapping[str, Any] | None = None,
    *,
    variant: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
) -> Model:
    """Makes a ready model from any RIFE checkpoint; without a path, the bundled one.

    path_or_state_dict: file (.safetensors .pkl .pth .pt), folder holding flownet.pkl, or state dict.
    variant: version name where tensors cannot tell, e.g. "RIFE_2R" or "3.8".
    device: where it runs; default CUDA, XPU or MPS if there is one, else the CPU.
    dtype: of the weights, default float32; or a key of `PRECISIONS`, where auto is half on the accelerators that do it
    well, and on some CPUs in part (`rife.model.devices.fine_dtype`). Raises FileNotFoundError, UnknownCheckpointError.
    """
    source = BUNDLED_CHECKPOINT if path_or_state_dict is None else path_or_state_dict
    network = load_network(source, variant)
    device = named_device(device)
    if isinstance(dtype, str):
        if named_dtype(dtype) is None:
            with_fine_dtype(network, fine_dtype(device))
        dtype = named_dtype(dtype) or good_dtype(device)
    return Model.from_network(placed(network, device, dtype))


class Model:
    """Runs RIFE: `inference` between two frames, `update` for one step of training.

    `Model()` is the paper's network with fresh weights, `Model(arbitrary=True)` its timestep version RIFE_m.
    local_rank: index of this process's device under DistributedDataParallel; -1 for a single process.
    """

    views = True  # `encode` and `between` take a `View`

    def __init__(self, local_rank: int = -1, arbitrary: bool = False):
        network = build_network(RELEASES["RIFE_m" if arbitrary else "RIFE"])
        self._adopt(network, local_rank)
        self.device()

    @classmethod
    def from_network(cls, network: nn.Module, local_rank: int = -1) -> Model:
        """Makes a model around an existing network: nothing is copied or moved."""
        model = cls.__new__(cls)
        model._adopt(network, local_rank)
        return model

    def copy(self) -> Model:
        """Makes an independent model in the same state, that of its optimiser included.

        It can be trained wherever this one was made, also where ComfyUI made it (in torch.inference_mode).
        """
        with torch.inference_mode(False), torch.no_grad():
            model = Model.from_network(copy.deepcopy(self.net).requires_grad_(True))
            if self._learner is not None:
                model.learner_for(self._learner.recipe).load_state_dict(self._learner.state_dict())
        return model

    def _adopt(self, network: nn.Module, local_rank: int = -1) -> None:
        self.net: Any = network  # IFNet or LegacyRIFE: a type checker knows no methods of a Module
        self._local_rank = local_rank
        self._learner: TrainingStep | None = None
        self._passes = Passes(network)
        self.timestep_method = "direct"

    @property
    def flownet(self) -> nn.Module:
        """Is the network, under the name that ECCV2022-RIFE uses."""
        return self.net

    @property
    def config(self) -> IFNetConfig | LegacyConfig:
        """Describes the architecture: family, candidate versions, timestep and ensemble support, padding."""
        return self.net.config

    @property
    def run_device(self) -> torch.device:
        """Is the device of the weights."""
        return next(self.net.parameters()).device

    @property
    def run_dtype(self) -> torch.dtype:
        """Is the dtype of the weights."""
        return next(self.net.parameters()).dtype

    @property
    def place(self) -> str:
        """Says where passes run, and in what besides the weights' precision."""
        device, fine = self.run_device, getattr(self.net, "fine_dtype", None)
        note = f", partly in {str(fine).removeprefix('torch.')}" if fine and device.type == "cpu" else ""
        return f"{device}{note}"

    @property
    def static_shapes(self) -> bool:
        """Tells whether batches of different sizes cost more than batches filled up to one size."""
        return self.acceleration != "off"

    @property
    def middle_first(self) -> bool:
        """Tells whether frames far apart are halved, see `rife.engine.middles`; a network without timestep does that
        anyway."""
        return self.config.timestep

    @property
    def acceleration(self) -> str:
        """Is what `accelerate` was last asked for, as far as it works."""
        accelerated = self._passes.accelerated
        return accelerated.how if accelerated and accelerated.works else "off"

    def by_timesteps(self, method: str = "direct") -> Model:
        """Returns this network, which makes frames at other times than the middle by `method` (one of
        `TIMESTEP_METHODS`).

        direct: in one pass, by the network's timestep. recursive: at j/2^k, up to j/64, as the middle between a given
        frame and a middle, in k passes; other times stay direct. Networks without a timestep know only that way.
        Raises ValueError for another word.
        """
        if method not in TIMESTEP_METHODS:
            raise ValueError(
                f"timestep_method is {shortened(method)}, expected one of {', '.join(TIMESTEP_METHODS)}. Use one of "
                "them."
            )
        if method == self.timestep_method:
            return self
        model = copy.copy(self)  # around the same network, with its grids and its acceleration
        model.timestep_method = method
        return model

    def accelerate(self, how: str = "off") -> Model:
        """Runs passes with less overhead from now on: "compile", "cuda graphs", "triton" or "off"; see
        `rife.model.acceleration`.

        Where that does not work a warning says so, and the passes stay plain. Raises ValueError for another word.
        """
        self._passes.accelerated = None if how == "off" else Accelerated(self.net, how)
        return self

    def with_precision(self, precision: str = "auto") -> Model:
        """Returns this model (auto, or in that precision already), or a copy for inference: fp32, fp16 or bf16. Raises
        ValueError for another name."""
        dtype = named_dtype(precision)
        if dtype is None or (dtype == self.run_dtype and not getattr(self.net, "fine_dtype", None)):
            return self
        with torch.inference_mode(False), torch.no_grad():
            network = with_fine_dtype(placed(copy.deepcopy(self.net), self.run_device, dtype), None)
        model = Model.from_network(network).accelerate(self.acceleration)
        return model.by_timesteps(self.timestep_method)

    @property
    def learner(self) -> TrainingStep:
        """Is the optimiser and guard of `update`, made at first use, when the network is on its device; see
        `learner_for`."""
        return self._learner or self.learner_for("paper")

    def learner_for(self, recipe: str) -> TrainingStep:
        """Returns the training step of a recipe (`losses.RECIPES`); it starts afresh where the last steps were of
        another one.

        Raises ValueError for networks that nobody published a recipe for.
        """
        if not isinstance(self.net, IFNet):
            raise ValueError(
                f"{self._name()} cannot be trained: its three networks have no published recipe. "
                "Start from a single-file RIFE or from the bundled checkpoint."
            )
        if self._learner is None or self._learner.recipe != recipe:
            with torch.inference_mode(False):
                self._learner = TrainingStep(self.net, self._local_rank, recipe)
        return self._learner

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Is AdamW over all weights."""
        return self.learner.optimizer

    def add_teacher(self, seed: int = 0) -> Model:
        """Gives a network that has none the privileged teacher, for the distillation in `update`.

        Of 4.x, files of 4.25 and later hold one of the kind that training needs, which goes on; for the others it is a
        fresh one of that kind. The optimiser starts afresh, it has more to train.
        """
        with torch.inference_mode(False):
            if not self.net.config.teacher:
                self.net.add_teacher(seed)
                self._learner = None
        return self

    def train(self) -> Model:
        """Sets training mode."""
        self.net.train()
        return self

    def eval(self) -> Model:
        """Sets evaluation mode."""
        self.net.eval()
        return self

    def device(self, device: torch.device | str | None = None) -> torch.device:
        """Moves the network to `device`, by default this machine's accelerator; returns where it is."""
        placed(self.net, named_device(device))
        return self.run_device

    def load_model(self, path: str | os.PathLike | Mapping[str, Any], rank: int = 0) -> Model:
        """Takes weights and architecture from any RIFE checkpoint. Ranks above 0 keep what they have. Raises
        FileNotFoundError, UnknownCheckpointError."""
        if rank <= 0:
            device, dtype, training = self.run_device, self.run_dtype, self.net.training
            self._adopt(placed(load_network(path), device, dtype).train(training))
        return self

    def save_model(self, path: str | os.PathLike, rank: int = 0) -> Path | None:
        """Writes safetensors with metadata: to `path` if it ends in .safetensors, else `path`/flownet.safetensors;
        rank: number of this process. Ranks above 0 write nothing and return None. Raises OSError."""
        if rank > 0:
            return None
        path = Path(path)
        return save_checkpoint(
            self.net, path if path.suffix == ".safetensors" else path / "flownet.safetensors"
        )

    def memory_estimate(
        self, height: int, width: int, batch: int = 1, scale: float = 1.0, TTA: bool = False,
        ensemble: bool = False, channels: int = 3,
    ) -> int:  # fmt: skip
        """Estimates the bytes that `inference` needs at its peak for `batch` pairs of frames of this size, in pixels,
        and so many channels.

        Beyond what tensors hold at once (tests/test_memory.py counts it), devices need workspace for convolutions.
        """
        multiple = self.net.pad_multiple(self._scales(scale, None))
        height, width = (math.ceil(side / multiple) * multiple for side in (height, width))
        reverse = ensemble and self.config.ensemble == "no"
        estimate = self.net.estimate_memory(height, width, scale, ensemble)
        only_image = channels == 3 and self.acceleration == "off"
        return estimate.peak(
            height * width, batch, TTA, reverse, channels - colour_channels(channels), only_image
        )

    @torch.no_grad()
    def inference(
        self,
        img0: Tensor,
        img1: Tensor,
        scale: float = 1,
        scale_list: Sequence[float] | None = None,
        TTA: bool = False,
        timestep: float | Tensor = 0.5,
        ensemble: bool = False,
    ) -> Tensor:
        """Returns the frame at `timestep` between img0 (t=0) and img1 (t=1).

        img0, img1: (B,C,H,W) in 0..1, C of 1 (grey), 3 (RGB), or more: alpha, masks, depth and other maps follow the
        flow of the colours, behind 3 colours, or one map behind grey (2); any size, device and floating dtype.
        timestep: float or (B,) tensor, 0 < t < 1.
        scale: one of 0.25, 0.5, 1, 2, 4; below 1 the flow is found on smaller frames (large motion, 4K), above 1
        on larger. scale_list: downscale of each block instead. TTA: averaged with the frames turned by 180 degrees.
        ensemble: averaged with time reversed: in each block where the version defines it (3.8, 4.0 to 4.20, 4.24), as
        finished frames elsewhere. Measured gains and costs: benchmarks/score_options.py.
        Returns (B,C,H,W) in 0..1 on img0's device, in its dtype; `rife.interpolate` keeps light above 1. Raises
        ValueError.
        """
        check_images(img0, img1)
        source0 = self.encode(img0, scale, scale_list, TTA)
        source1 = self.encode(img1, scale, scale_list, TTA, name="img1")
        image = self.between(
            source0, source1, img0.shape[1:],
            timestep=timestep, scale=scale, scale_list=scale_list, TTA=TTA, ensemble=ensemble,
        )  # fmt: skip
        return image.to(img0.device, img0.dtype)

    @torch.no_grad()
    def encode(
        self,
        images: Tensor,
        scale: float = 1,
        scale_list: Sequence[float] | None = None,
        TTA: bool = False,
        name: str | None = "img0",
        view: View | None = None,
    ) -> Tensor:
        """Returns what `between` wants of a frame (B,C,H,W), once for all pairs it belongs to: (B,K,H',W') on the
        device.

        Options as in `inference`, the same as for `between`. Raises ValueError for NaN, calling the frame `name`;
        with None the caller has looked. view: of frames that are not opaque colours in 0..1.
        """
        if name is not None:
            check_finite(images, name)
        multiple = self.net.pad_multiple(self._scales(scale, scale_list))
        # Over the wire as they are: halves are smaller. Half networks, too, sample float32 frames.
        dtype = torch.promote_types(self.run_dtype, torch.float32)
        images = images.to(self.run_device).to(dtype)
        images = pad_to(images.clamp(0, 1) if view is None else images, multiple)
        return self._passes.encode(images, TTA, view)

    @torch.no_grad()
    def between(
        self,
        source0: Tensor,
        source1: Tensor,
        shape: Sequence[int],
        *,
        timestep: float | Tensor = 0.5,
        scale: float = 1,
        scale_list: Sequence[float] | None = None,
        TTA: bool = False,
        ensemble: bool = False,
        view: View | None = None,
    ) -> Tensor:
        """Does `inference` from what `encode` made of frames of `shape` (C,H,W): (B,C,H,W) on the model's device.
        Options as in `inference`. Raises ValueError for a time or a scale that the network cannot do."""
        times = checked_times(timestep, source0.shape[0])
        scales = self._scales(scale, scale_list)
        channels, height, width = shape
        whole = tuple(source0.shape[-2:]) == (height, width)
        pair = Pair(source0, source1, channels, view, None if whole else (height, width))
        recursive = self.timestep_method == "recursive" and any(
            t != 0.5 and reached_by_middles(t) for t in times
        )
        if all(t == 0.5 for t in times) or (self.config.timestep and not recursive):
            image = self._passes.frame(pair, self._passes.times(times, source0.device), scales, TTA, ensemble)
        else:
            made = []
            for i, t in enumerate(times):
                one = pair.sample(i)
                if reached_by_middles(t) or not self.config.timestep:
                    made.append(self._passes.bisected(one, t, scales, TTA, ensemble, self._name()))
                else:
                    when = self._passes.times([t], source0.device)
                    made.append(self._passes.frame(one, when, scales, TTA, ensemble))
            image = torch.cat(made)
        image = image[:, :, :height, :width]
        return image.clamp(0, 1) if view is None else image

    @torch.no_grad()
    def motion(self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5, scale: float = 1) -> Motion:
        """Returns what the frame at `timestep` is made of; arguments as in `inference`, alpha is not looked at.

        Raises ValueError, also for another timestep than 0.5 where the network only knows that one: frames at other
        times are then middles of middles, which have no flow of their own.
        """
        check_images(img0, img1)
        times = checked_times(timestep, img0.shape[0])
        if not self.config.timestep and any(t != 0.5 for t in times):
            raise ValueError(
                f"timestep is {times[:4]}, but {self._name()} has no timestep input: its flow is that of the middle. "
                "Use 0.5, or a network with timestep: RIFE_m, 3.9, any 4.x or the bundled one."
            )
        height, width = img0.shape[-2:]
        source0, source1 = (self.encode(x[:, :3], scale, name=n) for x, n in ((img0, "img0"), (img1, "img1")))
        t = torch.tensor(times, device=source0.device, dtype=torch.float32)
        prediction = self.net.predict_from(source0, source1, t, self._scales(scale, None))
        flow0, flow1 = prediction.flow.float().split(2, 1)
        mode = getattr(self.config, "sampling", "bilinear")
        warped = (warp(x[:, :3], f, mode=mode) for x, f in ((source0, flow0), (source1, flow1)))
        parts = (flow0, flow1, prediction.mask.float(), *(x.float().clamp(0, 1) for x in warped))
        return Motion(*(x[:, :, :height, :width] for x in parts))

    def _scales(self, scale: float, scale_list: Sequence[float] | None) -> tuple[float, ...]:
        config = self.config
        if scale_list is None:
            if scale not in SCALES:
                raise ValueError(
                    f"scale is {scale}, expected one of {', '.join(f'{s:g}' for s in SCALES)}. "
                    "Use 0.5 for 4K or large motion, 1 otherwise."
                )
            scale_list = config.scales
        elif len(scale_list) != len(config.scales):
            raise ValueError(
                f"scale_list has {len(scale_list)} entries, {self._name()} has {len(config.scales)} blocks with "
                f"{list(config.scales)}. Give one downscale per block, coarse to fine."
            )
        if any(s <= 0 or not math.log2(s).is_integer() for s in scale_list):
            raise ValueError(
                f"scale_list is {list(scale_list)}, expected powers of two such as {list(config.scales)}: "
                "other steps do not fit the blocks' strides."
            )
        return tuple(s / scale for s in scale_list)

    def _name(self) -> str:
        versions = self.config.versions
        return f"RIFE {'/'.join(versions)}" if versions else f"this RIFE ({self.config.family})"

    def update(
        self,
        imgs: Tensor,
        gt: Tensor,
        learning_rate: float = 0,
        mul: float = 1,
        training: bool = True,
        flow_gt: Tensor | None = None,
        timestep: float | Tensor = 0.5,
        distill_weight: float = 0.01,
        flow_weight: float = 0.01,
        max_grad_norm: float | None = None,
        scale_list: Sequence[float] | None = None,
        precision: str = "fp32",
        recipe: str = "paper",
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        guess_time: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Does one optimiser step; with training=False only the evaluation. Trains inside torch.inference_mode, too.

        imgs: (B,6,H,W), img0 and img1; gt: (B,3,H,W), the true frame at `timestep` (float or (B,), where the network
        has a timestep); H and W are multiples of the padding. flow_gt: (B,4,H,W) in pixels, t->0 and t->1, where the
        data knows it. mul is accepted for the official signature, which does not use it either.
        Loss: see `losses.Objective`; by default the paper's, Laplacian of student and teacher, distill_weight *
        distillation (0.005 or 0.002 for RIFE_m), flow_weight * end-point error of every block. A network without
        teacher learns without (`add_teacher`). Gradients are clipped to max_grad_norm. scale_list: pyramid of this
        step. precision: "fp32", "bf16", or "fp16" with loss scaling. perceptual: scalar loss of two frames. guess_time:
        whether recipe "4.25" uses its own guess of the timestep in this step, as it did in 30% of them.
        A step whose loss or gradient is not finite changes nothing; RuntimeError after 50 such in a row.
        Returns the merged frame and: merged_tea, mask, mask_tea, flow (t->0), flow_tea, loss_l1, loss_tea,
        loss_distill, loss_flow, further losses of the recipe, and skipped (whether the step was). Raises ValueError.
        """
        objective = Objective(recipe, distill_weight, flow_weight, perceptual)
        training_step = self.learner_for(recipe)
        self.check_update(imgs, gt, timestep)
        self.train() if training else self.eval()
        batch = Batch(imgs, gt, timestep, flow_gt)
        options: dict[str, Any] = {
            "scale_list": scale_list, "precision": precision, "guess_time": guess_time,
        }  # fmt: skip
        skipped = False
        with torch.inference_mode(False), torch.enable_grad():
            if training:
                prediction, losses = training_step.backward(batch, objective, **options)
                skipped = training_step.step(learning_rate, max_grad_norm)
            else:
                prediction, losses = training_step.evaluate(batch, objective, **options)
        final = prediction.flow
        flow_tea, merged_tea = (*prediction.teachers, (final, prediction.image))[0]
        return prediction.image, {
            "merged_tea": merged_tea,
            "mask": prediction.mask,
            "mask_tea": prediction.mask,
            "flow": final[:, :2],
            "flow_tea": flow_tea if training else final,
            **losses,
            "skipped": skipped,
        }

    def check_update(self, imgs: Tensor, gt: Tensor, timestep: float | Tensor = 0.5) -> None:
        """Raises ValueError for what `update` cannot learn from; says what it expects."""
        if imgs.ndim != 4 or imgs.shape[1] != 6 or gt.shape != (imgs.shape[0], 3, *imgs.shape[2:]):
            raise ValueError(
                f"imgs is {tuple(imgs.shape)} and gt {tuple(gt.shape)}, expected (B,6,H,W) and (B,3,H,W). "
                "Concatenate img0 and img1 along channels."
            )
        multiple = self.net.pad_multiple()
        if imgs.shape[2] % multiple or imgs.shape[3] % multiple:
            raise ValueError(
                f"the frames are {imgs.shape[2]}x{imgs.shape[3]}, training needs multiples of {multiple}. Crop them."
            )
        # They would reach the sampling grid of a warp, where PyTorch's CPU code ends the process.
        if not torch.isfinite(imgs.sum() + gt.sum()):
            raise ValueError("imgs or gt contains NaN or infinity, expected values in 0..1. Repair the data.")
        times = checked_times(timestep, imgs.shape[0])
        if not self.config.timestep and any(t != 0.5 for t in times):
            raise ValueError(
                f"timestep is {times[:4]}, but {self._name()} has no timestep input and can only learn 0.5. "
                "Give middle frames, or train RIFE_m or a 4.x."
            )
