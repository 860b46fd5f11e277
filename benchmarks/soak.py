"""300 prompts for one real ComfyUI server, every third interrupted at a random moment: memory, threads and open files
have to stay as they are after the first fifty, and nothing half done to be left.

COMFYUI_PATH=... python benchmarks/soak.py [--prompts N] [--out FILE.csv]   # Linux
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from comfyui_server import Server, node  # noqa: E402
from find_comfyui import comfyui_or_reason  # noqa: E402
from odd_prompts import furnish, sound_graph  # noqa: E402
from web import Web  # noqa: E402

KINDS = ["RIFEInterpolate", "RIFEInterpolateVideo", "RIFETrain", "RIFEScore", "RIFEInbetween", "RIFEFlow"]
SETTLED = 50  # prompts after which memory is to be flat
ALLOWED = 0.05  # of what it was then


def graph_of(kind: str, info: dict, chance: random.Random) -> dict:
    """A small graph of one node of ours, with numbers of its own, so that nothing comes from ComfyUI's cache."""
    graph = sound_graph(kind, info)
    if graph["image"]["class_type"] == "EmptyImage":
        graph["image"]["inputs"] |= {
            "color": chance.randrange(1 << 24), "width": 64 * chance.randint(1, 4), "batch_size": chance.randint(4, 12),
        }  # fmt: skip
    if kind == "RIFEInterpolateVideo":
        graph["shown"] = node(
            "SaveVideo", video=["it", 0], filename_prefix="soak", format="auto", codec="auto"
        )
    elif kind in ("RIFEInterpolate", "RIFEInbetween"):
        graph["shown"] = node("PreviewImage", images=["it", 0])
    if kind == "RIFEScore":
        graph["it"]["inputs"]["stride"] = chance.randint(2, 4)
    if kind == "RIFETrain":
        graph["it"]["inputs"] |= {
            "steps": chance.randint(2, 12), "seed": chance.randrange(1000), "held_out": chance.choice((0.0, 0.3)),
            "allow_worse": True,
        }  # fmt: skip
    return graph


def usage(server: Server) -> tuple[float, int, int]:
    """Memory in MB, threads and open files of the server."""
    place = Path(f"/proc/{server._process.pid}")
    fields = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return (
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["Threads"]),
        len(list((place / "fd").iterdir())),
    )


def soak(server: Server, prompts: int) -> list[tuple]:
    """(number, kind, what came of it, MB, threads, files) of each."""
    chance, rows = random.Random(0), []
    info = server.get("/object_info")
    for number in range(1, prompts + 1):
        kind = chance.choice(KINDS)
        prompt_id = server.queue(graph_of(kind, info[kind], chance))
        if number % 3 == 0:
            time.sleep(chance.uniform(0, 0.6))
            server.post("/interrupt")
        status = server.wait(prompt_id)["status"]
        events = [name for name, _ in status["messages"]]
        became = "interrupted" if "execution_interrupted" in events else status["status_str"]
        rows.append((number, kind, became, *usage(server)))
        if number % 25 == 0:
            print(f"{number}: {rows[-1][3]:.0f} MB, {rows[-1][4]} threads, {rows[-1][5]} files", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--out", type=Path, help="all rows as CSV")
    args = parser.parse_args()
    found = comfyui_or_reason()
    if isinstance(found, str):
        raise SystemExit(found)
    with tempfile.TemporaryDirectory() as folder, Web().running() as hub:
        with Server(*found, Path(folder), hub) as server:
            furnish(server)
            rows = soak(server, args.prompts)
            left = [str(path) for path in server.base.rglob(".rife-*")]
    if args.out:
        with open(args.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [("prompt", "kind", "became", "MB", "threads", "files"), *rows]
            )
    faults = [f"{left} are left"] if left else []
    for column, what in ((3, "MB"), (4, "threads"), (5, "open files")):
        settled = statistics.median(row[column] for row in rows[SETTLED : 2 * SETTLED])
        last = statistics.median(row[column] for row in rows[-SETTLED:])
        print(
            f"{what}: {settled:.0f} in prompts {SETTLED + 1} to {2 * SETTLED}, {last:.0f} in the last {SETTLED}"
        )
        if last > settled * (1 + ALLOWED) + (column != 3):
            faults.append(f"{what} grew")
    print(f"{len(rows)} prompts: {dict(Counter(row[2] for row in rows))}; {faults or 'flat'}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
