"""Passes with less overhead per operation, by choice: torch.compile, and CUDA graphs.

Both are made for one shape of input. The engine fills its last batch up (`static_shapes`), so that a clip of any length
needs one shape only. Where they do not work (no compiler, no Triton, no CUDA) a warning says so and the pass is plain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, cuda, nn

from .ifnet import Prediction

log = logging.getLogger(__name__)

ACCELERATIONS = ("off", "compile", "cuda graphs")


class Accelerated:
    """`predict_from` of a network without training and teacher, compiled or captured at its second call per shape.

    The first call is plain: it makes the grids (`Geometry`), warms the kernels up, and is all that one frame needs.
    """

    def __init__(self, network: nn.Module, how: str, backend: str | Callable = "inductor"):
        if how not in ACCELERATIONS[1:]:
            raise ValueError(f"acceleration is {how!r}, expected one of {', '.join(ACCELERATIONS)}. Use one.")
        self._network, self._how = network, how
        self._works = not network.config.adaptive
        if not self._works:
            log.warning(
                "No %s: this network looks at the motion to choose its pyramid. Going on without.", how
            )
        # Not of a closure: what is compiled is kept with the code of `_run`, for the next model of this network, too.
        self._compiled = torch.compile(_run, backend=backend, dynamic=False) if how == "compile" else None
        self._key: tuple | None = None
        self._graph: Callable | None = None

    def __call__(self, src0: Tensor, src1: Tensor, timestep, scales, ensemble, *, geometry) -> Prediction:
        """As `IFNet.predict_from`, of which it gives the picture, the flow and the mask."""
        inputs = src0, src1, _time_tensor(timestep, src0)
        options = tuple(scales), ensemble, geometry
        key = src0.shape, src1.shape, src0.dtype, src0.device, options
        if self._works and key == self._key:
            try:
                return Prediction(*self._fast(inputs, options))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - compilers fail in every way
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("No %s on this machine (%s). Going on without.", self._how, cause)
                self._works = False
        self._key, self._graph = key, None
        return Prediction(*_run(self._network, *inputs, *options))

    def _fast(self, inputs: tuple, options: tuple) -> tuple[Tensor, Tensor, Tensor]:
        if self._compiled is not None:
            return self._compiled(self._network, *inputs, *options)
        if inputs[0].device.type != "cuda":
            raise RuntimeError(f"CUDA graphs need a CUDA device, the model is on {inputs[0].device}")
        if self._graph is None:
            self._graph = capture(lambda *frames: _run(self._network, *frames, *options), inputs)
        return self._graph(*inputs)


def _run(network, src0, src1, timestep, scales, ensemble, geometry) -> tuple[Tensor, Tensor, Tensor]:
    found = network.predict_from(src0, src1, timestep, scales, ensemble, geometry=geometry)
    return found.image, found.flow, found.mask


def _time_tensor(timestep: float | Tensor, like: Tensor) -> Tensor:
    """(B,1,1,1): a number would be a constant of what is compiled."""
    timestep = torch.as_tensor(timestep, dtype=like.dtype, device=like.device)
    return timestep.reshape(-1, 1, 1, 1).expand(like.shape[0], 1, 1, 1)


def capture(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> Callable:
    """`function` as a CUDA graph: launched as one, on inputs of the same shapes. What it gave is copied out."""
    held = [x.clone() for x in inputs]
    graph = cuda.CUDAGraph()
    # On a stream of its own, as capturing wants it, once before: cuDNN chooses its algorithms at first use.
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        function(*held)
    cuda.current_stream().wait_stream(stream)
    with cuda.graph(graph):
        outputs = function(*held)

    def replay(*frames: Tensor) -> tuple[Tensor, ...]:
        for mine, given in zip(held, frames, strict=True):
            mine.copy_(given)
        graph.replay()
        return tuple(x.clone() for x in outputs)

    return replay
