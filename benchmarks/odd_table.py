"""What the tables of odd prompts and of odd command lines share: what is asked for, and how the ends are told."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def options(doc: str | None, kind: str, one: str) -> argparse.Namespace:
    """Reads the command line of a script with this docstring; kind: what may be named, one: what a row is of."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", metavar=kind, nargs="*", help="only these")
    parser.add_argument("--out", type=Path, help="all ends as CSV")
    parser.add_argument("--every", type=int, default=1, help=f"only every N-th {one}")
    return parser.parse_args()


def add(rows: list[tuple[str, ...]], *row: str) -> None:
    """Adds a row that ends in seconds, what came of it, and a fault or "": that is printed at once."""
    rows.append(row)
    if row[-1]:
        print(*row, sep=" | ", flush=True)


def tell(header: Sequence[str], rows: Sequence[tuple[str, ...]], out: Path | None, one: str) -> bool:
    """Writes the table to `out`, prints its summary; tells whether there are faults."""
    if out:
        with open(out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    faults, slowest = sum(bool(row[-1]) for row in rows), max(rows, key=lambda row: float(row[-3]))
    ends = dict(Counter(row[-2] for row in rows))
    print(f"{len(rows)} {one}s: {ends}; {faults} faults; slowest {slowest}")
    return bool(faults)
