"""Makes tables of scores: lines of text, the first of them the header."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .scoring import AVERAGE, MOTION_CLASSES, Row, mean, means, motion_class, shown

_DIGITS = {"psnr": 2, "psnr_y": 2, "ssim": 4, "ie": 3, "ie_rms": 3, "moving_ie": 3, "lpips": 4}


def held_out_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Returns header and lines of text: every clip at every task, their mean, and every task by motion size."""
    methods = list(dict.fromkeys(row.method for row in rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    names = list(rows[0].figures)
    lines = [("set", "task", "method", "frames", *names, "gain_dB")]
    per_clip = means(rows, lambda row: (row.task, row.set))
    per_size = means(rows, lambda row: (row.task, motion_class(row.motion)))
    for task in tasks:
        clips = [
            clip for clip in dict.fromkeys(row.set for row in rows) if ((task, clip), methods[0]) in per_clip
        ]
        for clip in clips:
            lines += _lines(clip, task, {m: per_clip[(task, clip), m] for m in methods}, names)
        if len(clips) > 1:
            mean_of_clips = {m: _mean_over([per_clip[(task, clip), m] for clip in clips]) for m in methods}
            lines += _lines("mean of clips", task, mean_of_clips, names)
    for task in tasks:
        for size in MOTION_CLASSES:
            if ((task, size), methods[0]) in per_size:
                lines += _lines(
                    f"motion {size}", task, {m: per_size[(task, size), m] for m in methods}, names
                )
    return lines


def protocol_table(rows: Sequence[Row], of_groups: bool) -> list[tuple[str, ...]]:
    """Returns header and lines of text, one per set and method."""
    names = list(rows[0].figures)
    lines = [("set", "task", "method", "frames", *names, "gain_dB")]
    found = means(rows, lambda row: row.set, of_groups)
    for name in dict.fromkeys(row.set for row in rows):
        lines += _lines(name, "", {m: figures for (s, m), figures in found.items() if s == name}, names)
    return lines


def _mean_over(figures: Sequence[dict]) -> dict[str, float]:
    return {key: mean(f[key] for f in figures) for key in figures[0]} | {
        "frames": sum(f["frames"] for f in figures)
    }


def _lines(name: str, task: str, figures: dict[str, dict], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """One line per method; the gain is over averaging, in the first PSNR that there is."""
    decibels = next((key for key in names if key.startswith("psnr")), None)
    for method, found in figures.items():
        gain = ""
        if decibels and AVERAGE in figures:
            gain = f"{found[decibels] - figures[AVERAGE][decibels]:+.2f}"
        yield (
            name, task, method, str(found["frames"]), *(shown(found[key], _DIGITS[key]) for key in names), gain
        )  # fmt: skip


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Returns the table as text: names left, figures right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = []
    for line in lines:
        cells = zip(line, widths, strict=True)
        rows.append(
            "  ".join(f"{x:<{w}}" if k < 3 else f"{x:>{w}}" for k, (x, w) in enumerate(cells)).rstrip()
        )
    return "\n".join(rows)


def paired(rows: Sequence[Row], ours: str, other: str) -> list[tuple[float, Row]]:
    """Returns (gain in dB of `ours` over `other`, our row) of every true frame, the worst first."""
    by_frame: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        by_frame.setdefault((row.set, row.task, row.name, row.time), {})[row.method] = row
    pairs = [
        (frame[ours].figures["psnr"] - frame[other].figures["psnr"], frame[ours])
        for frame in by_frame.values()
    ]
    return sorted((pair for pair in pairs if not math.isnan(pair[0])), key=lambda pair: pair[0])


def worst_frames(rows: Sequence[Row], ours: str, other: str, count: int = 8) -> str:
    """Says as text on how many frames `ours` is below `other`, and where it loses most."""
    pairs = paired(rows, ours, other)
    lost = sum(gain < 0 for gain, _ in pairs)
    lines = [f"{ours} is below {other} on {lost} of {len(pairs)} frames; the worst:"]
    for gain, row in pairs[:count]:
        motion = "" if math.isnan(row.motion) else f", motion {row.motion:.1f} px"
        where = f"{row.set} {row.task}, frames {row.name} at {row.time}"
        lines.append(f"  {gain:+6.2f} dB  {where}: {row.figures['psnr']:.2f} dB{motion}")
    return "\n".join(lines)
