"""Runs the command `rife convert-workflow`: other packs' graphs, rewritten for ours."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..atomic_write import write_text
from ..comfyui_workflow import convert


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("input", type=Path, help="as saved, or exported for the API")
    parser.add_argument("output", type=Path, help="JSON; replaced if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Rewrites one file and says which nodes were changed. Raises ValueError for a file without such nodes."""
    try:
        workflow, changes = convert(json.loads(args.input.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{args.input}: {error}") from error
    if not changes:
        raise ValueError(
            f"{args.input} has no node to convert: none of RIFE VFI or FrameInterpolate is in it."
        )
    write_text(args.output, json.dumps(workflow, indent=2, ensure_ascii=False))
    print("\n".join(changes))
    print(f"{args.output}: cuts and repeated frames are off, as they were; see docs/compatibility.md")
