"""Draws docs/pictures/*.svg from the figures in benchmarks/*.csv.

python tools/plots.py
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES, PICTURES = ROOT / "benchmarks", ROOT / "docs" / "pictures"
GREEN, GREY = "#15803d", "#9ca3af"
ROW, BAR, LEFT, WIDTH = 40, 14, 270, 860


def rows(name: str) -> list[dict[str, str]]:
    with open(FIGURES / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bars(
    title: str, note: str, groups: Sequence[tuple[str, Sequence[tuple[float, str, str]]]], low: float = 0
) -> str:
    """Horizontal bars as SVG: each group a name and bars (value, text, colour); they begin at `low`."""
    top, right = 70, WIDTH - 130
    high = max(value for _, group in groups for value, _, _ in group)
    height = top + ROW * len(groups) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="26" font-size="17">{escape(title)}</text>',
        f'<text x="16" y="48" fill="#555">{escape(note)}</text>',
    ]
    for i, (name, group) in enumerate(groups):
        y = top + ROW * i
        middle = y + (BAR + 2) * len(group) / 2 + 4
        parts.append(f'<text x="{LEFT - 12}" y="{middle:g}" text-anchor="end">{escape(name)}</text>')
        for k, (value, text, colour) in enumerate(group):
            length = max(1.0, (right - LEFT) * (value - low) / (high - low))
            at = y + (BAR + 2) * k
            parts.append(f'<rect x="{LEFT}" y="{at}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(
                f'<text x="{LEFT + length + 6:.1f}" y="{at + 12}" fill="{colour}">{escape(text)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def quality() -> str:
    """The bundled checkpoint beside frame averaging."""
    groups = []
    for row in rows("bundled_checkpoint.csv"):
        made, blended = float(row["rife_dB"]), float(row["average_dB"])
        groups.append((row["set"], [(made, f"{made:.1f}", GREEN), (blended, f"{blended:.1f}", GREY)]))
    note = "PSNR in dB of held-out frames, higher is better; bars begin at 18. Green: RIFE (bundled); grey: averaging."
    return bars("Quality", note, groups, 18)


WHO = {
    "ours": "this pack",
    "native": "ComfyUI's FrameInterpolate",
    "fannovel16": "Fannovel16's RIFE VFI",
    "node": "RIFE Interpolate in a graph",
    "bundled": "RIFE Interpolate, bundled checkpoint",
}
OURS = ("ours", "node", "bundled")


def speed() -> str:
    """This pack beside others with the same weights: the last run of benchmarks/compare_native.py at each size."""
    runs: dict[str, dict[tuple, list[dict[str, str]]]] = {}
    for row in rows("speed.csv"):
        if (row["multiplier"], row["precision"]) == ("2", "fp32"):
            run = runs.setdefault(row["size"], {}).setdefault((row["frames"], row["machine"]), {})
            run[row["candidate"]] = row  # the latest
    groups, machines = [], set()
    for size, by_run in runs.items():
        (_, machine), group = list(by_run.items())[-1]
        machines.add(machine.partition("+")[0])
        ours = float(group["ours"]["new_frames_per_second"])
        for row in group.values():
            name, rate = row["candidate"], float(row["new_frames_per_second"])
            text = f"{1000 / rate:.0f} ms" + (f", {ours / rate:.1f} times" if name != "ours" else "")
            bar = (ours / rate, text, GREEN if name in OURS else GREY)
            groups.append((f"{size}, {WHO[name]}", [bar]))
    note = f"Time per new frame, 2x, float32, weights of 4.26's shape; bars: times ours. {'; '.join(sorted(machines))}."
    return bars("Speed: shorter is faster", note, groups)


def options() -> str:
    """What the options cost and give, of all sets together."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows("options.csv"):
        found.setdefault(row["option"], []).append((float(row["seconds_per_frame"]), float(row["gain_dB"])))
    groups = []
    for option, pairs in found.items():
        seconds, gain = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        groups.append((option, [(1000 * seconds, f"{1000 * seconds:.0f} ms, {gain:+.2f} dB", GREEN)]))
    note = "Bundled checkpoint: time per new frame (one CPU core, mean of all sets) and gain in PSNR."
    return bars("What the options cost and give", note, groups)


def main() -> None:
    for name, text in (("quality", quality()), ("speed", speed()), ("options", options())):
        (PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
