"""What this pack adds to ComfyUI's start: its import, with all nodes and their forms, over that of an empty pack.

    COMFYUI_PATH=~/ComfyUI python benchmarks/import_time.py [--runs 5]
    ~/ComfyUI/venv/bin/python -X importtime benchmarks/import_time.py --inside ~/ComfyUI     # module by module

Each run is a fresh process in ComfyUI's environment, on the CPU: ComfyUI is imported with its own extra nodes, then
ComfyUI's `load_custom_node` takes an empty pack and this one. Prints medians, wall and CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """
from comfy_api.latest import ComfyExtension

class Empty(ComfyExtension):
    async def get_node_list(self):
        return []

async def comfy_entrypoint():
    return Empty()
"""


def inside(comfyui: Path, base: str) -> dict[str, float]:
    """Seconds of one start, in this process: wall and CPU time of this pack, and of the empty one in `base`."""
    sys.path.insert(0, str(comfyui))
    sys.argv = [sys.argv[0], "--cpu", "--base-directory", base]
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module(
        "utils.extra_config"
    )  # as main.py: some of what follows brings a `utils` of its own
    import server

    import nodes

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server.PromptServer(loop)
    loop.run_until_complete(nodes.init_builtin_extra_nodes())
    logging.disable()
    found = {}
    (Path(base) / "__init__.py").write_text(EMPTY, encoding="utf-8")
    for name, pack in (("empty", base), ("ours", str(ROOT))):
        wall, cpu = time.perf_counter(), time.process_time()
        if not loop.run_until_complete(nodes.load_custom_node(pack)):
            raise RuntimeError(f"ComfyUI could not load {pack}")
        found[f"{name}_wall"], found[f"{name}_cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--inside", type=Path, metavar="COMFYUI", help="one start, in this process")
    args = parser.parse_args()
    if args.inside:
        with tempfile.TemporaryDirectory() as base:
            print(json.dumps(inside(args.inside.expanduser().resolve(), base)))
        return
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from find_comfyui import comfyui_or_reason

    found = comfyui_or_reason()
    if isinstance(found, str):
        sys.exit(found)
    comfyui, python = found
    runs = []
    for _ in range(args.runs):
        command = [python, str(Path(__file__).resolve()), "--inside", str(comfyui)]
        done = subprocess.run(command, cwd=comfyui, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    for name in ("wall", "cpu"):
        ours = [run[f"ours_{name}"] for run in runs]
        over = statistics.median(run[f"ours_{name}"] - run[f"empty_{name}"] for run in runs)
        spread = f"{min(ours):.3f} to {max(ours):.3f}"
        print(f"{name}: {statistics.median(ours):.3f} s ({spread}), {over:.3f} s over an empty pack")


if __name__ == "__main__":
    main()
