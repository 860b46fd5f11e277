"""Says how good frames are, and why: scores against true frames, and the flow a frame is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..rife import engine
from ..rife.evaluation import scoring
from ..rife.evaluation.baselines import average
from ..rife.evaluation.charts import BRIGHT_ERROR, Axes, flow_picture, heat_map, line_colours, longest_flow
from ..rife.evaluation.scoring import (
    EQUAL_DB,
    Metric,
    Row,
    Sample,
    held_out,
    held_out_metrics,
    mean,
    means,
    rows_csv,
    score,
    usable_starts,
)
from ..rife.model import InferenceOptions
from ..rife.timeline.numbers import shortened
from . import model_management, run
from .plot import Line, as_image, panel
from .types import (
    InterpModel,
    as_bytes,
    check_images,
    ensemble_input,
    model_input,
    paired,
    report_json,
    scale_input,
    tta_input,
)

_CHART = 860, 320
_MOST_HEAT = 64  # heat maps in one result


class RIFEScore(io.ComfyNode):
    """Scores frames held out of a clip, or compares two clips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEScore",
            display_name="RIFE Score",
            category="video",
            description="How close made frames come to true ones. With a model: frames of the clip are held out, "
            "made from their neighbours and compared with what they were. With compared: two clips, frame by frame.",
            search_aliases=["psnr", "ssim", "benchmark", "quality", "compare frames"],
            inputs=[
                io.Image.Input(
                    "images", tooltip="The true frames: a clip in order, of one scene or several."
                ),
                InterpModel.Input(
                    "interp_model",
                    optional=True,
                    tooltip="The model to score, from Load RIFE Checkpoint or ComfyUI's own loader. It is "
                    "compared with frame averaging.",
                ),
                InterpModel.Input(
                    "second_model", optional=True, tooltip="Another model to score on the same frames."
                ),
                io.Image.Input(
                    "compared",
                    optional=True,
                    tooltip="Instead of a model: frames to compare with images one by one, as many and as large.",
                ),
                io.Int.Input(
                    "factor",
                    default=2,
                    min=2,
                    max=16,
                    optional=True,
                    tooltip="2 holds out every second frame, 4 three of four, 8 seven of eight.",
                ),
                io.Int.Input(
                    "stride",
                    default=1,
                    min=1,
                    max=16,
                    optional=True,
                    tooltip="Look only at every second, third ... frame of the clip: larger motion.",
                ),
                io.Int.Input(
                    "true_frames",
                    default=24,
                    min=0,
                    max=100000,
                    optional=True,
                    tooltip="How many held-out frames to score at most, spread over the clip; 0 for all.",
                ),
                scale_input(),
                tta_input(),
                ensemble_input(),
                io.Boolean.Input(
                    "lpips",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Also LPIPS, in the report. Needs the Python package lpips, which fetches its weights.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: means of PSNR (dB), SSIM, IE (mean absolute error in 8-bit levels) and the IE "
                    "where something moves, of each method, its gain over averaging, and the worst frames.",
                ),
                io.Float.Output(
                    display_name="psnr", tooltip="Mean PSNR of interp_model or compared in dB; 100 if equal."
                ),
                io.Float.Output(
                    display_name="ssim", tooltip="Mean SSIM of interp_model or compared, up to 1."
                ),
                io.Image.Output(
                    display_name="heat_map",
                    tooltip=f"Absolute error of each scored frame (the first {_MOST_HEAT}): black none, pale yellow "
                    "32 of 255 or more.",
                ),
                io.Image.Output(
                    display_name="chart", tooltip="PSNR of each scored frame, one line per method."
                ),
                io.String.Output(
                    display_name="csv", tooltip="All figures of each scored frame and method, as a table."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        interp_model=None,
        second_model=None,
        compared: Tensor | None = None,
        factor: int = 2,
        stride: int = 1,
        true_frames: int = 24,
        scale: str = "1.0",
        tta: bool = False,
        ensemble: bool = False,
        lpips: bool = False,
    ) -> io.NodeOutput:
        """Returns report, mean PSNR in dB, mean SSIM, (K,H,W,3) heat maps, (1,h,w,3) chart, CSV, of images
        (N,H,W,C). factor, stride, true_frames: numbers of frames. Raises ValueError for inputs that do not fit."""
        check_images(images, "images")
        if (compared is None) == (interp_model is None):
            raise ValueError(
                f"interp_model and compared are {'both' if compared is not None else 'not'} connected, expected one of "
                "them: a model makes held-out frames of images, compared holds frames that are already made."
            )
        for name, value, low, high in (("factor", factor, 2, 1000), ("stride", stride, 1, 1000),
                                       ("true_frames", true_frames, 0, 10**6)):  # fmt: skip
            if not low <= value <= high:  # over a link no form looks at it
                raise ValueError(
                    f"{name} is {shortened(value)}, expected a number from {low} to {high:,}. Change it."
                )
        metrics = held_out_metrics() | (scoring.lpips() if lpips else {})
        if compared is not None:
            ours, samples, methods = "compared", _pairs(images, compared), {"compared": _first_frame}
        else:
            options = InferenceOptions(float(scale), tta, ensemble)
            ours, methods = (
                "interp_model",
                {"average": average, "interp_model": _ModelMethod(interp_model, options)},
            )
            if second_model is not None:
                methods["second_model"] = _ModelMethod(second_model, options)
            samples = list(_held_out(interp_model, images, factor, stride, true_frames))
        heat = _HeatMaps(ours, sum(len(s.times) for s in samples) * len(methods))
        watched = {name: _watched(metric) for name, metric in metrics.items()}
        rows = list(score(samples, methods, watched, None, heat))
        found = {method: figures for (_, method), figures in means(rows, lambda row: row.set).items()}
        own = found[ours]
        line = _in_words(found, len(rows) // len(methods), samples[0])
        model_management.send_status_text(line)
        return io.NodeOutput(
            _report(line, rows, found, ours, samples[0]),
            own["psnr"],
            own["ssim"],
            model_management.as_images(torch.stack(heat.maps)),
            model_management.as_images(_chart(rows)),
            rows_csv(rows),
        )


def _pairs(images: Tensor, compared: Tensor) -> list[Sample]:
    """Each true frame as a sample whose one given frame is the made one. Raises ValueError where they do not fit."""
    check_images(compared, "compared")
    if images.shape[:3] != compared.shape[:3]:
        raise ValueError(
            f"images is {tuple(images.shape)} and compared {tuple(compared.shape)} (N,H,W,C), expected as many frames "
            "of the same size. Resize one of them, or pick the frames that belong together."
        )
    pairs = zip(model_management.watched(images), compared, strict=True)
    frames = (tuple(as_bytes(frame).permute(2, 0, 1) for frame in pair) for pair in pairs)
    return [
        Sample("frames", str(i), made, true, (Fraction(0),), true[None])
        for i, (true, made) in enumerate(frames)
    ]


def _first_frame(img0: Tensor, img1: Tensor, times: Sequence[float]) -> Tensor:
    return img0[None]


def _held_out(patcher, images: Tensor, factor: int, stride: int, true_frames: int) -> Iterator[Sample]:
    scenes = run.find_scenes(patcher, images)
    starts = usable_starts(scenes, len(images), factor, stride, true_frames)
    if not starts:
        raise ValueError(
            f"No {factor * stride + 1} frames of these {len(images)} are one scene without repeated frames; the cuts "
            f"are at {sorted(scenes.cuts)}, repeated are {len(scenes.repeats)}. Give a longer clip, or a smaller "
            "factor or stride."
        )
    frames = map(as_bytes, model_management.watched(images))
    return held_out(frames, "clip", factor, stride, starts)


def _watched(metric: Metric) -> Metric:
    """The same, which ComfyUI's cancel button keeps from being asked."""

    def figure(*frames: Tensor) -> float:
        model_management.check_cancel()
        return metric(*frames)

    return figure


class _ModelMethod:
    """A loaded INTERP_MODEL as a method of `rife.evaluation.scoring`."""

    def __init__(self, patcher, options: InferenceOptions):
        self.patcher, self.options = patcher, options

    def __call__(self, img0: Tensor, img1: Tensor, times: Sequence[float]) -> Tensor:
        frames = torch.stack((img0, img1)).permute(0, 2, 3, 1)
        model, batch = model_management.load(
            self.patcher, *frames.shape[1:3], self.options, wanted=len(times)
        )
        made = engine.interpolate(
            model, frames, timesteps=times, batch_size=batch,
            on_progress=lambda *_: model_management.check_cancel(),
            **self.options.keywords(), **model_management.oom_options(),
        )  # fmt: skip
        return made[1:-1].permute(0, 3, 1, 2)


class _HeatMaps:
    """`on_frames` of `rife.evaluation.scoring.score`: heat maps of one method's errors, progress, cancel."""

    def __init__(self, method: str, total: int):
        self.method, self.maps, self.done = method, [], 0
        self.progress, self.total = model_management.Progress(total), total

    def __call__(self, sample: Sample, method: str, frames: Tensor, rows: list[Row]) -> None:
        newest = None
        if method == self.method:
            errors = (frames - sample.truth.float() / 255).abs().mean(1)
            self.maps += list(heat_map(errors[: _MOST_HEAT - len(self.maps)], BRIGHT_ERROR))
            newest = self.maps[-1]
        self.done += len(rows)
        self.progress(self.done, self.total, newest)


def _in_words(found: dict[str, dict], frames: int, sample: Sample) -> str:
    """For the node's face."""
    scores = ", ".join(f"{method} {figures['psnr']:.2f} dB" for method, figures in found.items())
    return f"{frames} frame{'s' * (frames != 1)} {sample.task or 'compared'}: {scores}"


def _report(summary: str, rows: list[Row], found: dict[str, dict], ours: str, sample: Sample) -> str:
    digits = {"psnr": 3, "ssim": 5, "ie": 4, "moving_ie": 4, "lpips": 4}
    table = {
        method: {k: round(f[k], d) if f[k] == f[k] else None for k, d in digits.items() if k in f}
        for method, f in found.items()
    }
    if "average" in table:
        for figures in table.values():
            figures["gain_dB"] = round(figures["psnr"] - table["average"]["psnr"], 3)
    else:
        for figures in table.values():  # what moves is asked of the given frames, and there are none
            del figures["moving_ie"]
    own = sorted((row for row in rows if row.method == ours), key=lambda row: row.figures["psnr"])
    worst = [
        {"frames": row.name, "time": str(row.time), "psnr": round(mean([row.figures["psnr"]]), 3)}
        for row in own[:5]
    ]
    report = {"task": sample.task or "frame by frame", "frames": len(own), "methods": table, "worst": worst}
    return report_json(summary, report)


def _chart(rows: list[Row]) -> Tensor:
    """(1,h,w,3): PSNR by scored frame, a line per method."""
    width, height = _CHART
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.method, []).append(min(row.figures["psnr"], EQUAL_DB))
    lines = [
        Line(list(enumerate(scores[method])), colour, marked=True, name=method)
        for method, colour in line_colours(scores).items()
    ]
    values = [y for line in lines for _, y in line.points]
    box = 56, 30, width - 130, height - 30
    axes = Axes.around(box, len(values) // len(lines) - 1, (min(values) - 0.5, max(values) + 0.5), 0.5)
    picture = Image.new("RGB", _CHART, "white")
    panel(picture, axes, "PSNR of each scored frame, dB", lines)
    return as_image(picture)


class RIFEFlow(io.ComfyNode):
    """Shows what a frame between two is made of."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describes the form."""
        return io.Schema(
            node_id="RIFEFlow",
            display_name="RIFE Flow",
            category="video",
            description="What the frame at a time between two is made of: the motion into either frame, both frames "
            "moved there, and which of them counts where.",
            search_aliases=[
                "optical flow",
                "motion vectors",
                "occlusion",
                "warp",
                "光流",
                "オプティカルフロー",
            ],
            inputs=[
                model_input(),
                io.Image.Input(
                    "image0",
                    tooltip="The image at time 0, a batch of them, or a clip if image1 is not connected.",
                ),
                io.Float.Input(
                    "timestep",
                    default=0.5,
                    min=0.01,
                    max=0.99,
                    step=0.05,
                    round=0.0001,
                    tooltip="The time between image0 (0) and image1 (1) that is looked at. Networks without timestep "
                    "(the paper's RIFE, 3.8 and older) only know 0.5.",
                ),
                io.Image.Input(
                    "image1",
                    optional=True,
                    tooltip="The image at time 1, as many as image0 or one for all. Unconnected: each frame of image0 "
                    "is taken with the next one.",
                ),
                io.Float.Input(
                    "max_flow",
                    default=0.0,
                    min=0.0,
                    max=10000.0,
                    step=1.0,
                    optional=True,
                    tooltip="Motion in pixels that gets the full colour. 0: the longest found, so that pictures of "
                    "different clips cannot be compared; then the report says how long it is.",
                ),
                scale_input(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="flow_to_0",
                    tooltip="Motion from the new frame into image0 in the Middlebury colours: hue is direction (right "
                    "red, down yellow, left cyan, up blue), white is rest.",
                ),
                io.Image.Output(
                    display_name="flow_to_1", tooltip="Motion from the new frame into image1, likewise."
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="Weight of image0 in the new frame; image1 has the rest."
                ),
                io.Mask.Output(
                    display_name="occlusion",
                    tooltip="Where the two moved images disagree: something is hidden in one of them, or the motion "
                    "is wrong. 1 from a difference of a tenth of white on.",
                ),
                io.Image.Output(display_name="warped_0", tooltip="image0 moved to the time."),
                io.Image.Output(display_name="warped_1", tooltip="image1 moved to the time."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: the motion that has the full colour, and mean and longest motion of each pair, in "
                    "pixels.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        interp_model,
        image0: Tensor,
        timestep: float,
        image1: Tensor | None = None,
        max_flow: float = 0.0,
        scale: str = "1.0",
    ) -> io.NodeOutput:
        """Returns pictures (N,H,W,3), masks (N,H,W) and a report, of two (N,H,W,C); max_flow: in pixels, timestep:
        0..1. Raises ValueError for inputs that do not fit."""
        check_images(image0, "image0")
        if image1 is None:
            if len(image0) < 2:
                raise ValueError(
                    "image0 is one image and image1 is not connected, expected two images. Connect image1, or give "
                    "a clip."
                )
            image0, image1 = image0[:-1], image0[1:]
        found = run.motion(interp_model, *paired(image0, image1), timestep, float(scale))
        flows = torch.stack((found.flow0, found.flow1))
        longest = max_flow or longest_flow(flows)
        pictures = [flow_picture(flow, longest) for flow in flows]
        warped = [x.permute(0, 2, 3, 1) for x in (found.warped0, found.warped1)]
        masks = [model_management.as_images(x[:, 0]) for x in (found.mask, found.occlusion())]
        flow0, flow1, *moved = (model_management.as_images(x) for x in (*pictures, *warped))
        pairs = flows.shape[1]
        line = f"{pairs} pair{'s' * (pairs != 1)}, longest motion {longest_flow(flows):.1f} px"
        model_management.send_status_text(line)
        return io.NodeOutput(flow0, flow1, *masks, *moved, _flow_report(line, flows, longest, timestep))


def _flow_report(summary: str, flows: Tensor, longest: float, timestep: float) -> str:
    lengths = flows.norm(dim=2).flatten(2)
    pairs = [
        {f"{kind}_to_{i}": round(float(value), 2) for i in (0, 1) for kind, value in
         (("mean", lengths[i, k].mean()), ("longest", lengths[i, k].amax()))}
        for k in range(lengths.shape[1])
    ]  # fmt: skip
    return report_json(summary, {"timestep": timestep, "full_colour_px": round(longest, 2), "pairs": pairs})
