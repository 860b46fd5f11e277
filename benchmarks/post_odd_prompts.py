"""Posts every odd prompt of tests/support/odd_prompts.py to a real ComfyUI server, and prints the table of answers.

COMFYUI_PATH=... python benchmarks/post_odd_prompts.py [--out FILE.csv] [--every N] [NODE ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import odd_table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from comfyui_server import Server  # noqa: E402
from find_comfyui import comfyui_or_reason  # noqa: E402
from odd_prompts import furnish, post, prompts  # noqa: E402
from web import Web  # noqa: E402

from rife.timeline.numbers import shortened  # noqa: E402


def main() -> None:
    args = odd_table.options(__doc__, "NODE", "prompt")
    found = comfyui_or_reason()
    if isinstance(found, str):
        raise SystemExit(found)
    rows: list[tuple[str, ...]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Web().running() as hub,
        Server(*found, Path(folder), hub) as server,
    ):
        furnish(server)
        todo = [p for p in prompts(server) if not args.only or p.kind in args.only][:: args.every]
        for prompt in todo:
            answer = post(server, prompt)
            value, over = shortened(prompt.value), "link" if prompt.linked else "form"
            seconds = f"{answer.seconds:.2f}"
            odd_table.add(rows, prompt.kind, prompt.name, value, over, seconds, answer.what, answer.fault)
        alive = server.get("/system_stats")
    header = "node", "input", "value", "over", "seconds", "answer", "fault"
    faults = odd_table.tell(header, rows, args.out, "prompt")
    print(f"ComfyUI {alive['system'].get('comfyui_version')} answers")
    sys.exit(faults)


if __name__ == "__main__":
    main()
