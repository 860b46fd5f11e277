"""Runs every odd command line of tests/support/odd_options.py, and prints the table of ends.

python benchmarks/odd_options.py [--out FILE.csv] [--every N] [COMMAND ...]   # not on Windows, which has no timers
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import odd_table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from odd_options import command_lines, ended, furnish  # noqa: E402

from rife.timeline.numbers import shortened  # noqa: E402


def main() -> None:
    args = odd_table.options(__doc__, "COMMAND", "command line")
    torch.set_num_threads(1)
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder) / "sound")
        todo = [odd for odd in command_lines() if not args.only or odd.command in args.only]
        for odd in todo[:: args.every]:
            end = ended(odd, Path(folder) / "sound")
            value = shortened(odd.value).encode("ascii", "backslashreplace").decode()
            odd_table.add(rows, odd.command, odd.option, value, f"{end.seconds:.2f}", end.what, end.fault)
    header = "command", "option", "value", "seconds of the processor", "end", "fault"
    sys.exit(odd_table.tell(header, rows, args.out, "command line"))


if __name__ == "__main__":
    main()
