"""Runs every odd command line of tests/support/odd_options.py, and prints the table of ends.

python benchmarks/odd_options.py [--out FILE.csv] [--every N] [COMMAND ...]   # not on Windows, which has no timers
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

import torch  # noqa: E402
from odd_options import command_lines, ended, furnish  # noqa: E402

from rife.timeline.numbers import shortened  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, help="all ends as CSV")
    parser.add_argument("--every", type=int, default=1, help="only every N-th command line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder) / "sound")
        todo = [odd for odd in command_lines() if not args.commands or odd.command in args.commands]
        for odd in todo[:: args.every]:
            end = ended(odd, Path(folder) / "sound")
            value = shortened(odd.value).encode("ascii", "backslashreplace").decode()
            rows.append((odd.command, odd.option, value, f"{end.seconds:.2f}", end.what, end.fault))
            if end.fault:
                faults += 1
                print(*rows[-1], sep=" | ", flush=True)
    if args.out:
        with open(args.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [("command", "option", "value", "seconds of the processor", "end", "fault"), *rows]
            )
    slowest = max(rows, key=lambda row: float(row[3]))
    print(
        f"{len(rows)} command lines: {dict(Counter(row[4] for row in rows))}; {faults} faults; slowest {slowest}"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
