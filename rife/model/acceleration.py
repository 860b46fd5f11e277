"""Makes passes with less overhead, by choice: torch.compile, CUDA graphs, or a Triton kernel.

All are made for one shape of input. The engine fills its last batch up (`static_shapes`), so that a clip of any length
needs one shape only. Where they do not work (no compiler, no Triton, no CUDA) a warning says so and the pass is plain.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, cuda

from ..networks import triton_kernels as kernels
from ..networks.multiscale import NO_FAST_PATHS, FastPaths, WarpGrids
from ..networks.prediction import Prediction, time_tensor
from ..networks.variational_flow import motion_flow
from ..ops.memory_format import seconds
from ..timeline.numbers import shortened
from .device_memory import is_out_of_memory

log = logging.getLogger(__name__)

ACCELERATIONS = ("off", "compile", "cuda graphs", "triton")
# Of a clip at least: the first is plain, and in the second there is compiling, capturing or comparing.
_PASSES = 4
_RUNS = 3  # of each kind, to see which is faster
# Image, flow and mask of a pass: tensors alone, since compilers and graphs take nothing else.
_Outputs = tuple[Tensor, Tensor, Tensor]
# Whether Triton's kernel does: by architecture, shapes, dtype, device and pyramid.
_kernel_wins: dict[tuple, bool] = {}


def most_per_pass(total: int, how: str) -> int:
    """Returns how many new frames, of a clip of `total`, one pass may have: in a single pass nothing would be
    accelerated."""
    return total if how == "off" else -(-total // _PASSES)


class Accelerated:
    """Runs `predict_from` of a network without training and teacher, made faster at its second call per shape.

    The first call is plain: it makes the grids (`WarpGrids`), warms the kernels up, and is all that one frame needs.
    Raises ValueError for an acceleration of another name.
    """

    def __init__(self, network: Any, how: str, backend: str | Callable = "inductor"):
        if how not in ACCELERATIONS[1:]:
            raise ValueError(
                f"acceleration is {shortened(how)}, expected one of {', '.join(ACCELERATIONS)}. Use one."
            )
        self._network, self.how = network, how
        reason = _unfit(network.config, how)
        self.works = reason is None  # until it turns out that it does not
        if not self.works:
            log.warning("No %s: %s. Going on without.", how, reason)
        # Not of a closure: what is compiled is kept with the code of `_run`, for the next model of this network, too.
        self._compiled = torch.compile(_run, backend=backend, dynamic=False) if how == "compile" else None
        solved = how == "compile" and getattr(network.config, "variational", False)
        self._fast_paths = FastPaths(solve_flow=_one_operation(backend)) if solved else NO_FAST_PATHS
        # By what they are for; None: to be made when that comes again. Of one size only, and two of it: turned frames,
        # of test-time augmentation, have grids of their own.
        self._ways: dict[tuple, Callable | None] = {}

    def __call__(
        self, src0: Tensor, src1: Tensor, timestep: float | Tensor, scales: Sequence[float], ensemble: bool, *,
        grids: WarpGrids,
    ) -> Prediction:  # fmt: skip
        """As `IFNet.predict_from`, of which it gives the picture, the flow and the mask."""
        # A number would be a constant of what is compiled.
        inputs = src0, src1, time_tensor(timestep, src0)
        options = tuple(scales), ensemble, grids
        key = src0.shape, src1.shape, src0.dtype, src0.device, *options
        if self.works and key in self._ways:
            try:
                fast = self._ways[key] = self._ways[key] or self._make(inputs, options)
                image, flow, mask = fast(*inputs)
                return Prediction(image, flow, mask)
            except Exception as error:  # noqa: BLE001 - compilers fail in every way
                if is_out_of_memory(error):
                    raise
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("No %s on this machine (%s). Going on without.", self.how, cause)
                self.works = False
        alike = [item for item in self._ways.items() if item[0][:-1] == key[:-1] and item[0] != key]
        self._ways = {**dict(alike[-1:]), key: None}
        image, flow, mask = _run(self._network, *inputs, *options)
        return Prediction(image, flow, mask)

    def _make(self, inputs: tuple[Tensor, ...], options: tuple[Any, ...]) -> Callable[..., _Outputs]:
        """What runs frames of these shapes from now on."""
        network, device = self._network, inputs[0].device
        scales, ensemble, grids = options
        if (compiled := self._compiled) is not None:
            fast_paths = self._fast_paths
            return lambda src0, src1, t: compiled(network, src0, src1, t, scales, ensemble, grids, fast_paths)

        def plain(
            src0: Tensor, src1: Tensor, timestep: Tensor, fast_paths: FastPaths = NO_FAST_PATHS
        ) -> _Outputs:
            return _run(network, src0, src1, timestep, scales, ensemble, grids, fast_paths)

        if self.how == "cuda graphs":
            if device.type != "cuda":
                raise RuntimeError(f"CUDA graphs need a CUDA device, the model is on {device}")
            return capture(plain, inputs)
        if not kernels.runs_on(device):
            raise RuntimeError(f"Triton needs a GPU, the model is on {device}")
        fused = partial(plain, fast_paths=FastPaths(fused_input=kernels.warp_and_concatenate))
        # Models are made anew for each run of a node; what is faster on this device is not asked anew.
        shapes = tuple((x.shape, x.dtype, x.device) for x in inputs)
        case = network.config, network.get_dtype(), shapes, options[:-1]
        if case not in _kernel_wins:
            _kernel_wins[case] = _faster(fused, plain, inputs, network.get_dtype())
        return fused if _kernel_wins[case] else plain


def _unfit(config: Any, how: str) -> str | None:
    """Why a network of this kind cannot be accelerated so."""
    if getattr(config, "adaptive", ""):
        return "this network looks at the motion to choose its pyramid"
    if how == "triton" and not kernels.fits(config):
        return "this network's blocks have other inputs than those of 4.x"
    return None


def _run(
    network: Any, src0: Tensor, src1: Tensor, timestep: Tensor, scales: Sequence[float], ensemble: bool,
    grids: WarpGrids, fast_paths: FastPaths = NO_FAST_PATHS,
) -> _Outputs:  # fmt: skip
    how = {"grids": grids} | ({"fast_paths": fast_paths} if any(fast_paths) else {})
    found = network.predict_from(src0, src1, timestep, scales, ensemble, **how)
    return found.image, found.flow, found.mask


@cache
def _one_operation(backend: str | Callable) -> Callable[..., Tensor]:
    """`motion_flow` as one operation, into which a compiler does not look.

    Unrolled it would be 600 kernels, and minutes of compiling. What it repeats is compiled by itself instead, for all
    of its sizes at once: 90 kernels.
    """
    inside = cache(lambda function: torch.compile(function, backend=backend, dynamic=True))

    def solve(img0: Tensor, img1: Tensor, timestep: Tensor, coarse: Tensor, finest: int) -> Tensor:
        return motion_flow(img0, img1, timestep, coarse, finest, wrap=inside)

    def shaped(img0: Tensor, img1: Tensor, timestep: Tensor, coarse: Tensor, finest: int) -> Tensor:
        sides = (side // finest for side in img0.shape[2:])
        return img0.new_empty(img0.shape[0], 4, *sides, dtype=torch.float32)

    # A name of its own for each copy of this module that is loaded, of which ComfyUI makes a path, and each backend.
    name = re.sub(r"\W", "_", f"rife_{__name__}") + f"::motion_flow_{abs(hash(backend))}"
    schema = "(Tensor img0, Tensor img1, Tensor timestep, Tensor coarse, int finest) -> Tensor"
    operation = torch.library.custom_op(name, solve, mutates_args=(), schema=schema)
    operation.register_fake(shaped)
    return operation


def _faster(fused: Callable, plain: Callable, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> bool:
    """Whether `fused` takes less time than `plain` on the device. RuntimeError if it makes another picture."""
    off = float((fused(*inputs)[0].float() - plain(*inputs)[0].float()).abs().amax())
    # Sums in another order, in the precision of convolutions: that of the network, or TF32's.
    most = 4 * max(torch.finfo(dtype).eps, 2**-10)
    if not off <= most:
        raise RuntimeError(f"its picture is off by {off:.2g}, by {most:.2g} at most was expected")
    device, runs = inputs[0].device, [partial(run, *inputs) for run in (plain, fused)]
    times = [[seconds(device, run) for run in runs] for _ in range(_RUNS)]
    before, after = (min(column) for column in zip(*times, strict=True))
    log.info(
        "Triton's kernel on %dx%d: %.2f times as fast as without (%.2f ms, %.2f ms). Going on with%s it.",
        *(inputs[0].shape[3], inputs[0].shape[2], before / after, after * 1e3, before * 1e3),
        "" if after < before else "out",
    )
    return after < before


def capture(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> Callable:
    """Captures `function` as a CUDA graph: launched as one, on inputs of the same shapes. What it gave is
    copied out."""
    held = [x.clone() for x in inputs]
    graph = cuda.CUDAGraph()
    with cuda.device(inputs[0].device):  # else it would capture what happens on another card
        # On a stream of its own, as capturing wants it, once before: cuDNN chooses its algorithms at first use.
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            function(*held)
        cuda.current_stream().wait_stream(stream)
        # The graph keeps memory of its own; what plain passes had is free for it.
        cuda.empty_cache()
        with cuda.graph(graph):
            outputs = function(*held)

    def replay(*frames: Tensor) -> tuple[Tensor, ...]:
        for mine, given in zip(held, frames, strict=True):
            mine.copy_(given)
        graph.replay()
        return tuple(x.clone() for x in outputs)

    return replay
