"""Runs the loop of training. It knows neither files nor the command line.

    trainer = Trainer(model, RealFrames(shots(clip), crop=128), Settings(steps=500), held_out)
    result = trainer.run(on_step)          # on_step may raise: what there is so far is in trainer.result()

A run is a function of its settings, data and start: an example is decided by the seed, the step and its place in the
batch, so that an interrupted run goes on as if it never stopped, and any number of processes gives the same training.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..losses.objective import Objective, recipe_of
from ..model import Model
from ..model.training_step import Batch
from ..networks.ifnet import IFNet
from ..networks.looks import looked_up
from .feed import Feed
from .samples import Sample, Source
from .schedule import Settings, decay, draw, learning_rate, pyramid, seed_of
from .validation import HeldOut, Score, mean_psnr, score_triplets

log = logging.getLogger(__name__)


class StopTraining(Exception):  # noqa: N818  not an error
    """Is raised in `on_step` to end a run early, with what there is so far as its result."""


class StepReport(NamedTuple):
    """Holds what `on_step` gets to know."""

    number: int  # of steps done, counted from 1
    steps: int
    losses: dict[str, float]
    learning_rate: float
    skipped: bool  # the loss or a gradient was not finite
    known_flow: bool
    seconds: float  # since `run` was called
    seconds_left: float
    scores: dict[str, Score] | None  # where this step ended with a look at the held-out frames


@dataclass(frozen=True)
class Result:
    """Holds what a run gave. `model` is what to use."""

    best: Model  # best on the held-out frames, the start included; without such frames the last
    last: Model
    best_step: int  # 0 is the start
    before: dict[str, Score]
    after: dict[str, Score]  # of `best`
    history: list[StepReport]
    allow_worse: bool = False

    @property
    def model(self) -> Model:
        """Is the best; the last where it was allowed to be worse."""
        return self.last if self.allow_worse else self.best

    @property
    def improved(self) -> bool:
        """Tells whether anything was better than the start on the held-out frames (True without any)."""
        return not self.before or self.best_step > 0


class EMA:
    """Keeps an exponential moving average of a network's weights; what is kept and scored."""

    def __init__(self, network: IFNet, decay: float):
        self.network: IFNet = copy.deepcopy(network).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        # Young averages forget faster, or the first steps would stay in them for long.
        """Takes the weights of `network` after step number `step`, counted from 0, into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            mean.lerp_(new, 1 - decay)


@dataclass
class _Best:
    """The best weights so far, their scores, and the step after which they were; 0 is the start."""

    step: int
    scores: dict[str, Score]
    weights: dict[str, Tensor] = field(repr=False)


class Trainer:
    """Trains one run: `run` it, look at `result`. The model that is given is never changed; the run has a copy.

    held_out: looked at before, after and every `score_every` steps; the best is kept. local_rank: this process's
    device index under torch.distributed (which the caller has initialised), -1 for a single process. perceptual: a
    scalar loss of two frames, such as `perceptual.VGGLoss`, on the model's device. look: called all the time, also
    within a pass; what it raises goes through, and leaves the run as it was after its last whole step. Raises
    ValueError for settings that do not fit each other, and for networks that cannot be trained.
    """

    def __init__(
        self,
        model: Model,
        source: Source,
        settings: Settings,
        held_out: HeldOut | None = None,
        local_rank: int = -1,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        look: Callable[[], None] | None = None,
    ):
        if bool(settings.perceptual_weight) != (perceptual is not None):
            raise ValueError(
                f"perceptual_weight is {settings.perceptual_weight:g} and perceptual {perceptual}, expected both or "
                "neither. Give a perceptual loss and its weight, or leave both out."
            )
        self.settings, self.held_out = settings, {k: v for k, v in (held_out or {}).items() if v}
        self.had_teacher = getattr(model.config, "teacher", False)
        with torch.inference_mode(False):
            network = model.copy().net.float()
            self.model = Model.from_network(network, local_rank)
            if settings.teacher:
                self._add_teacher()
            self.model.train()
            self._training_step = self.model.learner_for(settings.recipe)
            self._ema = EMA(self.model.net, settings.ema)
        rank, self._world = (dist.get_rank(), dist.get_world_size()) if local_rank != -1 else (0, 1)
        self._look = look
        self._feed_of = lambda: Feed(source, settings, rank, self._world, look or (lambda: None))
        # Long runs would fill the memory with every step.
        self._remember = max(1, settings.steps // 20_000)
        self._validated_at = -1
        self.step = 0
        self._perceptual = perceptual
        self._objective()  # refuses an unknown recipe before any work is done
        self.before: dict[str, Score] = {}
        self.history: list[StepReport] = []
        self._best: _Best | None = None

    def _add_teacher(self) -> None:
        if self.had_teacher:
            return
        kept = bool(self.model.net.training_part("block_tea"))
        self.model.add_teacher(self.settings.seed)
        log.info(
            "the teacher is %s",
            "the one of the checkpoint's file"
            if kept
            else "a new one: the checkpoint's file holds none that fits",
        )

    @property
    def current(self) -> Model:
        """Is what the run has learned so far, the average; it goes on changing while the run does."""
        return Model.from_network(self._ema.network)

    def run(self, on_step: Callable[[StepReport], None] | None = None) -> Result:
        """Trains until the settings' steps are done; returns `result`.

        on_step is called after each step, and may raise: `StopTraining` ends the run, anything else goes through.
        """
        with torch.inference_mode(False), torch.enable_grad():
            if self._best is None:
                self.before = self._validate()
            feed, began, first = self._feed_of(), time.monotonic(), self.step
            try:
                while self.step < self.settings.steps:
                    parts = feed.parts(self.step)
                    with looked_up(self.model.net, self._look):
                        step = self._one_step(parts)
                    seconds = time.monotonic() - began
                    left = seconds / (self.step - first) * (self.settings.steps - self.step)
                    step = step._replace(seconds=seconds, seconds_left=left)
                    if self.step % self._remember == 0:
                        self.history.append(step)
                    if on_step is not None:
                        on_step(step)
            except StopTraining:
                pass
            finally:
                feed.close()
            return self.result()

    def result(self) -> Result:
        """Returns the result of the run so far; its models are copies, without the teacher if there was none at the
        start."""
        with torch.inference_mode(False), torch.no_grad():
            if self._best is None or self._validated_at != self.step:
                self._validate()
            kept, models = self._kept(), (self.best(), self.last())
        worse = self.settings.allow_worse
        return Result(*models, kept.step, self.before, kept.scores, list(self.history), worse)

    def _kept(self) -> _Best:
        if self._best is None:
            raise RuntimeError("The run has not begun: nothing was validated. Call `run` first.")
        return self._best

    @property
    def best_step(self) -> int:
        """Says after which step the best so far was; 0 is the start, -1 nothing yet."""
        return self._best.step if self._best else -1

    def best(self) -> Model:
        """Returns a copy of the best so far. Raises RuntimeError before the run has begun."""
        model = self.last()
        weights = {k: v for k, v in self._kept().weights.items() if k in model.net.state_dict()}
        model.net.load_state_dict(weights)
        return model

    def last(self) -> Model:
        """Returns a copy of what there is now."""
        network = copy.deepcopy(self._ema.network).eval()
        if not self.had_teacher:
            network.drop_teacher()
        return Model.from_network(network)

    def _one_step(self, parts: Sequence[Sample]) -> StepReport:
        settings, rate = self.settings, learning_rate(self.step, self.settings)
        options: dict[str, Any] = {"precision": settings.precision}
        if settings.random_scales:
            seed = seed_of(settings, self.step, "pyramid")
            options["scale_list"] = pyramid(self.model.config.scales, seed)
        if recipe_of(settings.recipe).guesses_time:
            options["guess_time"] = draw(seed_of(settings, self.step, "time")) < settings.learned_time
        objective = self._objective()
        sums: dict[str, Tensor] = {}
        for i, sample in enumerate(parts):
            batch, last = self._batch(sample), i == len(parts) - 1
            _, losses = self._training_step.backward(batch, objective, 1 / len(parts), last, **options)
            sums = {name: sums.get(name, 0) + loss / len(parts) for name, loss in losses.items()}
        skipped = self._training_step.step(rate, settings.max_grad_norm)
        self._ema.update(self.model.net, self.step)
        self.step += 1
        due = settings.score_every and self.step % settings.score_every == 0
        scores = self._validate() if self.held_out and (due or self.step == settings.steps) else None
        known = parts[0].flow is not None
        return StepReport(self.step, settings.steps, self._mean(sums), rate, skipped, known, 0.0, 0.0, scores)

    def _objective(self) -> Objective:
        # Bilinear warping blurs: by 0.15 px more than averaging two frames 0.3 px apart does. Where motion is that
        # small, the true flow does not give the best picture, so in the end only the picture counts.
        settings = self.settings
        flow = settings.flow_weight * decay(self.step, settings) ** 3
        perceptual = self._perceptual, settings.perceptual_weight
        return Objective(settings.recipe, settings.distill_weight, flow, *perceptual, mse=settings.mse_weight)

    def _batch(self, sample: Sample) -> Batch:
        device = self.model.run_device
        flow = None if sample.flow is None else sample.flow.to(device)
        imgs = torch.cat((sample.img0, sample.img1), 1).to(device)
        batch = Batch(imgs, sample.gt.to(device), sample.timestep.to(device), flow)
        self.model.check_update(batch.imgs, batch.gt, batch.timestep)
        return batch

    def _mean(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Over all processes."""
        values = torch.stack([loss.float() for loss in losses.values()])
        if self._world > 1:
            dist.all_reduce(values)
            values /= self._world
        return dict(zip(losses, values.tolist(), strict=True))

    def _validate(self) -> dict[str, Score]:
        """Scores what there is so far and keeps it if it is the best; without held-out frames the last is."""
        with looked_up(self._ema.network, self._look):
            scores = score_triplets(self.current, self.held_out)
        self._validated_at = self.step
        if self._best is None or not scores or mean_psnr(scores) > mean_psnr(self._best.scores):
            weights = {k: v.detach().clone() for k, v in self._ema.network.state_dict().items()}
            self._best = _Best(self.step, scores, weights)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the rest of the run depends on, as plain tensors, numbers and containers; not the
        history."""
        best = self._best
        return {
            "step": self.step,
            "network": self.model.net.state_dict(),
            "averaged": self._ema.network.state_dict(),
            "learner": self._training_step.state_dict(),
            "before": {name: tuple(score) for name, score in self.before.items()},
            "best": best and (best.step, {k: tuple(v) for k, v in best.scores.items()}, best.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken. Raises RuntimeError where the network is another one."""
        self.step = state["step"]
        self.model.net.load_state_dict(state["network"])
        self._ema.network.load_state_dict(state["averaged"])
        self._training_step.load_state_dict(state["learner"])
        self.before = {name: Score(*values) for name, values in state["before"].items()}
        step, scores, weights = state["best"]
        self._best = _Best(step, {name: Score(*values) for name, values in scores.items()}, weights)
        self._validated_at = -1
