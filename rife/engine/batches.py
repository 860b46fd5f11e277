"""Makes new frames in batches: what a model has to offer for it, how many fit into a pass, and what if they do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..model.acceleration import most_per_pass
from ..model.device_memory import BatchSizes, free_memory, is_out_of_memory, largest_fitting_batch
from ..model.inputs import check_finite, colour_channels
from ..model.options import InferenceOptions
from ..model.views import View, value_range, visible_background
from ..networks.memory_estimate import ENCODED_SINGLY
from ..timeline.plans import Step
from .middles import Background, Middles, Task
from .steady import even_detail
from .transfers import Rows, Transfer, transfer_between

log = logging.getLogger(__name__)

# New frames per pass fill a large GPU with about this many pixels: 24 at 720x480, 4 at 1080p, 1 at 4K.
PIXELS_PER_BATCH = 8 * 1024 * 1024
MAX_BATCH = 32

IsOutOfMemory = Callable[[BaseException], bool]


class Interpolator(Protocol):
    """Says what the engine asks of a model. `rife.Model` has all of it.

    Others inherit from this class, give `run_device`, `run_dtype`, `inference` and `memory_estimate`, and have the
    rest from here: no acceleration, and frames that are looked at once per pair.
    """

    @property
    def run_device(self) -> torch.device:
        """Is where passes run, and where `encode` and `between` give their results."""
        ...

    @property
    def run_dtype(self) -> torch.dtype:
        """Is what the weights are held in."""
        ...

    views: bool = False  # whether `encode` and `between` take a `rife.model.views.View`
    net: Any = (
        None  # what holds the weights: what was learnt about its memory stays with it, not with this object
    )

    def inference(
        self, img0: Tensor, img1: Tensor, *, scale: float, TTA: bool, timestep: Tensor, ensemble: bool
    ) -> Tensor:
        """Returns the frames (B,C,H,W) in 0..1 at `timestep` (B,) between img0 and img1; see `rife.Model.inference`."""
        ...

    def memory_estimate(
        self, height: int, width: int, batch: int = 1, scale: float = 1.0, TTA: bool = False,
        ensemble: bool = False, channels: int = 3,
    ) -> int:  # fmt: skip
        """Estimates the bytes that a pass for `batch` new frames takes at its peak; see
        `rife.Model.memory_estimate`."""
        ...

    @property
    def static_shapes(self) -> bool:
        """Tells whether batches of different sizes cost more than batches filled up to one size."""
        return False

    @property
    def middle_first(self) -> bool:
        """Tells whether frames far apart are halved, see `rife.engine.middles`."""
        return False

    @property
    def acceleration(self) -> str:
        """Is what passes are accelerated by: one of `rife.model.acceleration.ACCELERATIONS`."""
        return "off"

    def accelerate(self, how: str = "off") -> Any:
        """Asks for accelerated passes; where there are none a warning says so, and the passes stay plain."""
        if how != "off":
            log.warning("No %s for %s. Going on without.", how, type(self).__name__)
        return self

    def with_precision(self, precision: str = "auto") -> Any:
        """Returns this model, or a copy that computes in `precision`. Raises ValueError where there is no choice."""
        if precision != "auto":
            raise ValueError(
                f"precision is {precision!r}, but {type(self).__name__} only runs as it is. Leave it at auto."
            )
        return self

    def encode(
        self, images: Tensor, scale: float = 1, *, TTA: bool = False, name: str | None = None
    ) -> Tensor:
        """Returns what `between` wants of each of `images` (N,C,H,W), which `name` calls in errors: (N,...); scale as
        in `inference`."""
        return images

    def between(
        self, source0: Tensor, source1: Tensor, shape: Sequence[int], *, timestep: Tensor, scale: float = 1,
        TTA: bool = False, ensemble: bool = False,
    ) -> Tensor:  # fmt: skip
        """Does `inference`, (B,C,H,W), from what `encode` made of frames of `shape` (C,H,W)."""
        return self.inference(source0, source1, scale=scale, TTA=TTA, timestep=timestep, ensemble=ensemble)


def batch_for(
    device: torch.device,
    height: int,
    width: int,
    wanted: int,
    budget: float | None,
    estimate: Callable[[int], int],
) -> int:
    """Returns how many new frames of height x width a pass makes: up to `wanted`, enough to fill a large GPU, within
    the budget; at least 1.

    budget: bytes, None where nobody knows; estimate: bytes that a pass for so many frames takes.
    """
    if device.type == "cpu":
        return 1  # one frame's working set already exceeds the caches
    batch = max(1, min(wanted, MAX_BATCH, PIXELS_PER_BATCH // (height * width)))
    return batch if budget is None else largest_fitting_batch(batch, budget, estimate)


class TaskList:
    """Lists the new frames of some steps: what to make, in batches, and where it goes.

    A task is (left, right, time): two source frames and a time between them; so a loop, or a jump, is a pair like all
    others. What is asked for twice in a row, as in a freeze, is made once: `targets` are the output frames that show
    a task's result.
    """

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.targets: list[list[int]] = []
        self._last: Step | None = None

    def add(self, k: int, step: Step) -> bool:
        """Notes that output frame k shows `step`; returns whether that is new, and to be made."""
        if step.kind != "new":
            return False
        if step == self._last:
            self.targets[-1].append(k)
            return True
        self._last = step
        self.tasks.append((step.left, step.right, float(step.time)))
        self.targets.append([k])
        return True


class BatchRunner:
    """Makes the new frames of one clip or stream, as many in one pass as fit.

    shape: of a frame, (H,W,C); result: the device that the frames go to; batch_size: new frames per pass at most, None
    or 0 by size and memory; is_oom: tells whether an exception means out of memory, and on_oom is called then; total:
    how many new frames there will be, where that is known: then passes are of even size. opacity: whether the fourth
    channel is that of the colours; premultiplied: and they are multiplied by it. steady: whether all are to be as sharp
    as the given ones, see `even_detail`.
    """

    def __init__(
        self,
        model: Interpolator,
        shape: Sequence[int],
        result: torch.device,
        batch_size: int | None,
        options: InferenceOptions,
        is_oom: IsOutOfMemory | None = None,
        on_oom: Callable[[], None] | None = None,
        total: int | None = None,
        opacity: bool = False,
        steady: bool = False,
        premultiplied: bool = False,
    ) -> None:
        self._model, self._options, self._opacity, self._steady = model, options, opacity, steady
        self._premultiplied = opacity and premultiplied
        self.weighs = opacity and not premultiplied  # colours count as much as they are seen
        self._height, self._width, self._channels = shape
        self._is_oom, self._on_oom = is_oom or is_out_of_memory, on_oom
        self.transfer: Transfer = transfer_between(model.run_device, result)
        self.made = 0  # frames that have been computed, or will be by themselves
        self._total = total
        self._traits: dict[int, _FrameTraits] = {}
        # Frames that the model has seen already, as they are or over a background.
        self._encoded: dict[tuple[int, Background | None], Tensor] = {}
        self._static = model.static_shapes
        self._middles = Middles(self._make, self._encode, self._static)
        # What fitted into one pass before, for passes that take as much memory as these.
        self._kind = (str(model.run_device), str(model.run_dtype), *shape, options, self._static)
        self._sizes, self._free = (
            BatchSizes.of(model if model.net is None else model.net),
            free_memory(model.run_device),
        )
        wanted = batch_size or self._auto_batch()
        if total and not batch_size:
            wanted = min(wanted, most_per_pass(total, model.acceleration))
        self.batch = self._even(self._sizes.begin(self._kind, wanted, self._free))

    def _auto_batch(self) -> int:
        """As many as fill the device, in no more than half of its free memory."""
        keywords = self._options.keywords()

        def estimate(batch: int) -> int:
            model = self._model
            return model.memory_estimate(
                self._height, self._width, batch, channels=self._channels + 3 * self._opacity, **keywords
            )

        budget = None if self._free is None else self._free / 2
        return batch_for(self._model.run_device, self._height, self._width, MAX_BATCH, budget, estimate)

    def _even(self, batch: int) -> int:
        """So many per pass that all passes are of a size.

        Those that are made for one shape are of powers of two: else every length of a clip, and every other amount of
        free memory, would be another shape.
        """
        if self._static:
            return 1 << batch.bit_length() - 1
        left = batch if self._total is None else self._total - self.made
        return -(-left // -(-left // batch))

    def run(self, tasks: list[Task], rows: Rows, frame_at: Callable[[int], Tensor]) -> Iterator[int]:
        """Makes `tasks` into `rows`; yields how many of them are under way after each pass.

        frame_at: gives the source frames (H,W,C) by number. Where a pass does not fit it is made again with fewer
        frames. Raises RuntimeError where there is no memory for a single one.
        """
        done = 0
        while done < len(tasks):
            end = min(done + self.batch, len(tasks))
            # The last batch filled up, for models that are compiled for one size of it.
            size = self.batch if self._static else end - done
            batch = tasks[done:end] + tasks[end - 1 : end] * (size - (end - done))
            images, fits = None, True
            try:
                source0, source1, backgrounds = self._sources(batch, frame_at)
                images = self._middles.asked_for(batch, backgrounds)
                if images is None:
                    near0, near1, near = self._nearer(batch, source0, source1, backgrounds)
                    images = self._model.between(near0, near1, timestep=near, **self._how(backgrounds))
                if self._steady:
                    # What comes first of what a model keeps of a frame are its colours.
                    colours = slice(colour_channels(self._channels))
                    shown = slice(None), colours, slice(self._height), slice(self._width)
                    times = torch.tensor([time for *_, time in batch])
                    images = even_detail(images, source0[shown], source1[shown], times)
                self.transfer.save(images[: end - done], rows[done:end])
            except Exception as error:
                if not self._is_oom(error):
                    raise
                if size == 1:
                    raise self._no_memory(error) from error
                fits = False
            images = None  # what follows needs its memory
            if fits:
                self.made += end - done
                done = end
                yield done
            else:
                # Not where it was caught: the traceback would keep the failed pass's tensors alive.
                self._back_off(size)

    def _nearer(
        self, batch: list[Task], source0: Tensor, source1: Tensor, backgrounds: list[Background | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both source frames and the times of a batch, as the model wants them."""
        if self._model.middle_first:
            return self._middles.nearer(batch, source0, source1, backgrounds)
        return source0, source1, torch.tensor([time for *_, time in batch])

    def _make(
        self, source0: Tensor, source1: Tensor, times: Tensor, backgrounds: Sequence[Background | None]
    ) -> Tensor:
        """The frames (B,C,H,W) at `times` (B,)."""
        return self._model.between(source0, source1, timestep=times, **self._how(backgrounds))

    def _how(self, backgrounds: Sequence[Background | None]) -> dict[str, Any]:
        """What else `between` is told of frames that are seen over these."""
        view = self._view(backgrounds)
        told = {} if view is None else {"view": view.to(self._model.run_device)}
        shape = self._channels, self._height, self._width
        return {"shape": shape, **self._options.keywords(), **told}

    def _no_memory(self, error: Exception) -> RuntimeError:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        return RuntimeError(
            f"Not enough memory for one new frame of {self._width}x{self._height} on {self._model.run_device} "
            f"({cause}). Turn TTA and ensemble off, use half precision or smaller frames, or free memory held by "
            "other models."
        )

    def _back_off(self, failed: int) -> None:
        """Goes on with smaller passes, once what was made is safe and what can be given up is gone."""
        self._encoded.clear()
        self._middles.clear()
        self.transfer.wait(self.made)
        batch = self._sizes.lower(self._kind, failed, self._free)
        log.warning("Out of memory at %d new frames per pass, going on with %d.", failed, batch)
        self.batch = self._even(batch)
        if self._on_oom:
            self._on_oom()

    def _sources(
        self, batch: list[Task], frame_at: Callable[[int], Tensor]
    ) -> tuple[Tensor, Tensor, list[Background | None]]:
        """Left and right frames of a batch, each (B,...) as `Interpolator.encode` makes them, and what both are seen
        over.

        Each frame is uploaded and encoded once and kept while the next pass needs it. Opaque colours in 0..1 need no
        view; where a frame of a batch is something else, all have one, with the same background for both of a pair.
        """
        needed = sorted({i for left, right, _ in batch for i in (left, right)})
        # Before they are sent, where they are: asking the device would be waiting for it.
        self._traits = {i: self._traits.get(i) or self._traits_of(i, frame_at(i)) for i in needed}
        plain = not self._model.views or all(traits.plain for traits in self._traits.values())
        backgrounds = [None if plain else self._traits[left].background for left, _, _ in batch]
        lefts = [(left, colour) for (left, _, _), colour in zip(batch, backgrounds, strict=True)]
        rights = [(right, colour) for (_, right, _), colour in zip(batch, backgrounds, strict=True)]
        encoded = self._encoded = {
            key: self._encoded[key] for key in (*lefts, *rights) if key in self._encoded
        }
        new = sorted({*lefts, *rights} - encoded.keys(), key=lambda key: key[0])
        if new:
            sent = self.transfer.upload([frame_at(i) for i, _ in new])
            frames = rearrange(to_float(sent), "n h w c -> n c h w")
            encoded.update(zip(new, self._encode(frames, [colour for _, colour in new]), strict=True))
        return (
            _concatenated([encoded[key] for key in lefts]),
            _concatenated([encoded[key] for key in rights]),
            backgrounds,
        )

    def _traits_of(self, index: int, frame: Tensor) -> _FrameTraits:
        """What frame `index` (H,W,C) is like. Raises ValueError for NaN."""
        colours = colour_channels(self._channels)
        low, high = 0.0, 1.0
        if frame.is_floating_point():
            low, high = value_range(frame[..., :colours], f"frame {index} of the clip")
            if self._channels > colours:
                check_finite(frame[..., colours:], f"frame {index} of the clip")
        plain = low >= 0 and high <= 1
        if not self._opacity:
            return _FrameTraits(plain, ())
        opaque = bool(frame[..., 3].amin() >= (1 if frame.is_floating_point() else 255))
        background = visible_background(frame.permute(2, 0, 1)[None], self._premultiplied)[0].tolist()
        return _FrameTraits(plain and opaque, tuple(background))

    def _encode(self, frames: Tensor, backgrounds: Sequence[Background | None]) -> Sequence[Tensor]:
        """What the model wants of each of `frames` (N,C,H,W), seen over these."""
        view = self._view(backgrounds)
        # Of large frames, two at a time may take more memory than all that follows.
        size = 1 if frames.shape[2] * frames.shape[3] > ENCODED_SINGLY else len(frames)
        made = []
        for start in range(0, len(frames), size):
            part = frames[start : start + size]
            keywords: dict[str, Any] = (
                {} if view is None else {"view": view.part(start, start + size).to(frames.device)}
            )
            options: dict[str, Any] = {"scale": self._options.scale, "TTA": self._options.tta, "name": None}
            made.append(self._model.encode(part, **options, **keywords))
        return made if len(made) > 1 else made[0].split(1)

    def _view(self, backgrounds: Sequence[Background | None]) -> View | None:
        """The view of frames over these, all of one kind."""
        if backgrounds[0] is None:
            return None
        return View(torch.tensor(backgrounds), self._premultiplied) if backgrounds[0] else View()


class _FrameTraits(NamedTuple):
    """What a frame is like: opaque colours in 0..1, and what it stands out from."""

    plain: bool
    background: Background


def _concatenated(samples: list[Tensor]) -> Tensor:
    return torch.cat(samples) if len(samples) > 1 else samples[0]


def to_float(frames: Tensor) -> Tensor:
    """Returns bytes of any shape as numbers in 0..1; what is floating point already stays as it is."""
    return frames if frames.is_floating_point() else frames.float().div_(255)


def passthrough_frame(step: Step, frame_at: Callable[[int], Tensor], weighs: bool) -> Tensor:
    """Returns the picture (H,W,C) of a step that needs no model: a source frame, or the cross-fade of two, colours as
    much as they are seen where `weighs`: the fourth channel is their opacity, by which they are not multiplied yet."""
    if not step.time:
        return frame_at(step.left)
    left, right = to_float(frame_at(step.left)), to_float(frame_at(step.right))
    mixed = torch.lerp(left, right, float(step.time))
    if weighs:
        seen = torch.lerp(left[..., :3] * left[..., 3:4], right[..., :3] * right[..., 3:4], float(step.time))
        # Where nothing is seen, the colours that hide there are mixed as they are.
        mixed[..., :3] = torch.where(mixed[..., 3:4] > 0, seen / mixed[..., 3:4], mixed[..., :3])
    return mixed
