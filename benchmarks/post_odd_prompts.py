"""Posts every odd prompt of tests/support/odd_prompts.py to a real ComfyUI server, and prints the table of answers.

COMFYUI_PATH=... python benchmarks/post_odd_prompts.py [--out FILE.csv] [--every N] [NODE ...]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from comfyui_server import Server  # noqa: E402
from find_comfyui import comfyui_or_reason  # noqa: E402
from odd_prompts import furnish, post, prompts  # noqa: E402
from web import Web  # noqa: E402

from rife.timeline.numbers import shortened  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nodes", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, help="all answers as CSV")
    parser.add_argument("--every", type=int, default=1, help="only every N-th prompt")
    args = parser.parse_args()
    found = comfyui_or_reason()
    if isinstance(found, str):
        raise SystemExit(found)
    rows, faults = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Web().running() as hub,
        Server(*found, Path(folder), hub) as server,
    ):
        furnish(server)
        todo = [p for p in prompts(server) if not args.nodes or p.kind in args.nodes][:: args.every]
        for prompt in todo:
            answer = post(server, prompt)
            value = shortened(prompt.value)
            rows.append((prompt.kind, prompt.name, value, "link" if prompt.linked else "form",
                         f"{answer.seconds:.2f}", answer.what, answer.fault))  # fmt: skip
            if answer.fault:
                faults.append(rows[-1])
                print(*rows[-1], sep=" | ", flush=True)
        alive = server.get("/system_stats")
    if args.out:
        with open(args.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [("node", "input", "value", "over", "seconds", "answer", "fault"), *rows]
            )
    slowest = max(rows, key=lambda row: float(row[4]))
    print(
        f"{len(rows)} prompts: {dict(Counter(row[5] for row in rows))}; {len(faults)} faults; slowest {slowest}"
    )
    print(f"ComfyUI {alive['system'].get('comfyui_version')} answers")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
