"""How many crops per second `rife train` learns from, renderer included, against another checkout, in turns.

python benchmarks/train_against.py OTHER_CHECKOUT [--steps 40] [--runs 3] [--clips CLIP ...] [-- OPTION ...]

Each run trains the bundled network from nothing twice, for a few steps and for `--steps` more; the difference has no
start, no scores and no end in it. A clock's seconds, on a quiet machine, and the processor's, which other work
lengthens less.
OPTIONs go to `rife train`, such as: -- --crop 192 --batch 4 --workers 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from checkouts import COMMAND

ROOT = Path(__file__).resolve().parent.parent
FEW = 4
RUN = f"""
import json, time
begun = time.perf_counter(), time.process_time()
{COMMAND}
print(json.dumps([time.perf_counter() - begun[0], time.process_time() - begun[1]]))
"""


def main() -> None:
    words = sys.argv[1:]
    options = words[words.index("--") + 1 :] if "--" in words else []
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clips", nargs="*", default=[])
    args = parser.parse_args(words[: len(words) - len(options) - ("--" in words)])
    # From the first step on what most of a training is: whole crops, every second step of clips if there are any.
    always = ["--small-until", "0", "--real-from", "0", "--score-every", "1000000", "--allow-worse"]
    always += (["--clips", *args.clips] if args.clips else []) + options
    batch = int(options[options.index("--batch") + 1]) if "--batch" in options else 12

    trees = {"this": str(ROOT), "other": args.other}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
    for turn in range(args.runs):
        for name, tree in sorted(trees.items(), reverse=bool(turn % 2)):
            few, many = (_run(tree, steps, always) for steps in (FEW, FEW + args.steps))
            took[name].append(tuple((b - a) / args.steps / batch for a, b in zip(few, many, strict=True)))
            wall, cpu = took[name][-1]
            print(f"{name}: {1 / wall:.2f} crops/s, {1000 * cpu:.1f} ms of a processor each", flush=True)
    wall, cpu = ([statistics.median(run[i] for run in took[name]) for name in trees] for i in (0, 1))
    print(
        f"medians: {1 / wall[0]:.2f} crops/s here, {1 / wall[1]:.2f} there, {wall[1] / wall[0]:.2f} times as many; "
    )
    print(
        f"of the processor {1000 * cpu[0]:.1f} ms and {1000 * cpu[1]:.1f} ms each, {cpu[1] / cpu[0]:.2f} times"
    )


def _run(tree: str, steps: int, options: list[str]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", str(Path(folder, "run")), "--steps", str(steps), *options]
        done = subprocess.run(
            [sys.executable, "-c", RUN, tree, *words], capture_output=True, text=True, cwd=folder, check=False
        )
    if done.returncode:
        sys.exit(f"rife {' '.join(words)} of {tree} ended with {done.returncode}: {done.stderr[-2000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
