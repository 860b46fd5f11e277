"""Writes a network as an ONNX file: what TensorRT, OpenVINO, CoreML and onnxruntime start from.

The file takes frames of any size and number whose sides are multiples of its `rife.pad_multiple`; all that one needs to
know to feed it stands in its metadata. It is run in onnxruntime and held against the network before it gets its name.
"""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..atomic_write import atomic_write
from ..networks.config import IFNetConfig
from ..networks.multiscale import WarpGrids
from ..ops.warp import SamplingGrid
from ..version import __version__
from .model import Model
from .options import SCALES

log = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of values in 0..1, between onnxruntime and PyTorch
OPSETS, OPSET = range(16, 21), 17  # GridSample is there from 16 on, and the exporter knows up to 20
# Batch, and sides as multiples of what frames are padded to, of what is compared: none is as it was traced.
_TRACED, _COMPARED = (2, 2, 3), ((1, 3, 2), (3, 2, 4))


class Exported(NamedTuple):
    """Is what `export_onnx` wrote.

    difference: the largest between frames of onnxruntime and of PyTorch, of values in 0..1. metadata: what stands in
    the file of it, by name.
    """

    path: Path
    difference: float
    metadata: dict[str, str]


def export_onnx(model: Model, path: str | os.PathLike, *, scale: float = 1.0, opset: int = OPSET) -> Exported:
    """Writes the network of `model` as ONNX, float32: inputs img0, img1 (B,3,H,W) in 0..1, RGB, and, where it knows
    other times than the middle, timestep (B,) between 0 and 1; output frame (B,3,H,W) in 0..1.

    B, H and W are dynamic, H and W multiples of the metadata's `rife.pad_multiple`. scale: of the flow, as in
    `Model.inference`. Checked in onnxruntime at other sizes, times and batches than it was made with.
    Raises ValueError for a scale or opset that there is not, RuntimeError without the packages onnx and onnxruntime,
    where PyTorch cannot export the network or the file's frames differ by more than `TOLERANCE`; nothing stands under
    `path` then.
    """
    onnx, runtime = _packages()
    if opset not in OPSETS:
        raise ValueError(
            f"opset is {opset}, expected one of {', '.join(map(str, OPSETS))}. {OPSET} suits most tools."
        )
    if scale not in SCALES:
        raise ValueError(
            f"scale is {scale}, expected one of {', '.join(f'{s:g}' for s in SCALES)}. Use 1 if in doubt."
        )
    module = _FrameModule(model.copy().with_precision("fp32").net.cpu().eval().requires_grad_(False), scale)
    with torch.inference_mode(False), torch.no_grad():
        proto = onnx.load_model_from_string(_traced(module, opset))
        metadata = _metadata(module)
        onnx.helper.set_model_props(proto, metadata)
        proto.producer_name, proto.producer_version = "rife-interpolation", __version__
        onnx.checker.check_model(proto, full_check=True)
        content = proto.SerializeToString()
        difference = _difference(
            module, runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        )
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"frames of the ONNX file differ from PyTorch's by {difference:.3g}, expected {TOLERANCE:g} at most. This "
            f"is an error of the export with PyTorch {torch.__version__}; try another version of it."
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Exported(Path(path), difference, metadata)


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise RuntimeError(
            f"exporting needs the packages onnx and onnxruntime, of which {error.name} is not here. Install them: "
            'pip install "rife-interpolation[onnx]"'
        ) from error
    return onnx, onnxruntime


class _FrameModule(nn.Module):
    """From both frames to the one between them, as a network of its own."""

    def __init__(self, network: Any, scale: float):
        super().__init__()
        self.network = network
        self.scale = scale
        self.scales = tuple(own / scale for own in network.config.scales)
        self.multiple = network.pad_multiple(self.scales)

    @property
    def inputs(self) -> list[str]:
        """Is the names of what `forward` takes."""
        return ["img0", "img1", "timestep"][: 2 + bool(self.network.config.timestep)]

    def forward(self, img0: Tensor, img1: Tensor, timestep: Tensor | None = None) -> Tensor:
        network = self.network
        # A map of times, whose size is the frames': expanding one would write the traced size down.
        t = (0.5 if timestep is None else timestep.view(-1, 1, 1, 1)) + torch.zeros_like(img0[:, :1])
        source0, source1 = network.source(img0), network.source(img1)
        height, width = img0.shape[-2:]
        grids = _TracedGrids(height, width, img0.device)
        return network.predict_from(source0, source1, t, self.scales, grids=grids).image.clamp(0, 1)

    def sample(self, batch: int, high: int, wide: int) -> tuple[Tensor, ...]:
        """Makes inputs of so many paddings a side: smooth pictures that move, at times that are not the middle."""
        height, width = high * self.multiple, wide * self.multiple
        y, x = torch.arange(height).view(-1, 1), torch.arange(width)
        speed = torch.arange(1.0, batch + 1).view(-1, 1, 1, 1)
        phase = torch.tensor([0.0, 2.0, 4.0]).view(1, 3, 1, 1)

        def picture(time: float) -> Tensor:
            at_x, at_y = x - 3 * time * speed, y + 2 * time * speed
            return 0.5 + 0.25 * torch.sin(at_x / 7 + phase) + 0.25 * torch.sin(at_y / 5 + at_x / 19)

        times = torch.linspace(0.2, 0.7, batch)
        return (picture(0.0), picture(1.0), times)[: len(self.inputs)]


class _TracedGrids(WarpGrids):
    """Grids that are made anew by the traced network itself, of the size that its frames have."""

    def fits(self, frames: Tensor) -> bool:
        """Says yes always: comparing sizes would write the traced one down."""
        return True

    def _grid(self, height: int, width: int) -> SamplingGrid:
        lines, pixels = [], []
        for side in (width, height):
            x = torch.arange(side, device=self.device).float()
            pixels.append(2.0 / x[-1:])
            lines.append(x * pixels[-1] - 1)
        grid_x = lines[0].view(1, 1, 1, -1) + 0 * lines[1].view(1, 1, -1, 1)
        grid_y = lines[1].view(1, 1, -1, 1) + 0 * lines[0].view(1, 1, 1, -1)
        return SamplingGrid(torch.cat((grid_x, grid_y), 1), torch.cat(pixels).view(2, 1, 1))


def _traced(module: _FrameModule, opset: int) -> bytes:
    """The ONNX file that PyTorch makes of it. Raises RuntimeError."""
    names = [*module.inputs, "frame"]
    sides = {0: "batch", 2: "height", 3: "width"}
    axes = {name: {0: "batch"} if name == "timestep" else sides for name in names}
    file: Any = io.BytesIO()  # the exporter that traces writes into it; annotations are the newer one's
    try:
        with _quiet():
            # The exporter that traces: the newer one takes minutes for the arithmetic of dynamic sizes.
            torch.onnx.export(
                module, module.sample(*_TRACED), file, input_names=module.inputs, output_names=["frame"],
                dynamic_axes=axes, opset_version=opset, dynamo=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise RuntimeError(
            f"PyTorch {torch.__version__} cannot export this network to opset {opset}: {error}. Try opset {OPSET}, or "
            "another version of PyTorch."
        ) from error
    return file.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what tracing says of each size that it meets: the comparison at other sizes tells whether it matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _difference(module: _FrameModule, session: Any) -> float:
    """The largest difference of any value, over batches and sizes that were not traced."""
    worst = 0.0
    for shape in _COMPARED:
        inputs = module.sample(*shape)
        (made,) = session.run(None, {name: x.numpy() for name, x in zip(module.inputs, inputs, strict=True)})
        expected = _expected(module, inputs)
        if tuple(made.shape) != tuple(expected.shape):
            return float("inf")
        worst = max(worst, float((torch.from_numpy(made) - expected).abs().max()))
    return worst


def _expected(module: _FrameModule, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the network itself makes, by the way that `Model.inference` goes, of frames that need no padding."""
    times = inputs[2] if len(inputs) > 2 else 0.5
    return Model.from_network(module.network).inference(inputs[0], inputs[1], module.scale, timestep=times)


def _metadata(module: _FrameModule) -> dict[str, str]:
    config = module.network.config
    name = "/".join(config.versions) or config.family
    entries = {
        "version": name,
        "frames": "img0, img1: (batch, 3, height, width), RGB, float32 in 0..1; so is the output, frame",
        "pad_multiple": str(module.multiple),
        "padding": "height and width must be multiples of pad_multiple: grow frames at the right and at the bottom, "
        "mirrored without the edge itself (reflect), or repeated where they are too small; cut the output back",
        "timestep": "timestep: (batch,), 0 at img0, 1 at img1, exclusive; any value between"
        if config.timestep
        else "none: the frame in the middle; quarters are middles of middles",
        "flow_scale": f"{module.scale:g}",
        "config": json.dumps(config.to_dict()),
        "made_by": f"rife-interpolation {__version__}, PyTorch {torch.__version__}",
    }
    if isinstance(config, IFNetConfig) and config.ensemble != "no":
        entries["ensemble"] = "always, in the blocks" if config.ensemble == "always" else "not used"
    return {f"rife.{key}": value for key, value in entries.items()}
