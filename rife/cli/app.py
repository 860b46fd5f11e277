"""Runs the command line `rife`: its commands, what is logged, and how errors are told."""

from __future__ import annotations

import argparse
import dis
import logging
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ..version import __version__
from . import checkpoints, convert_workflow, demo, export, interpolate, join, score, train
from .values import Parser, brief

PACKAGE = Path(__file__).resolve().parent.parent

# Name, one line for the list of commands, and what adds the options: they set `run`, and `log_format` where they log.
COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("demo", "render a clip, interpolate it, compare with the true frames", demo.add_options),
    ("interpolate", "give a video more frames", interpolate.add_options),
    ("join", "make one video of clips that follow each other", join.add_options),
    ("info", "say what a checkpoint is", checkpoints.add_info_options),
    ("convert", "write any checkpoint as one safetensors file", checkpoints.add_convert_options),
    ("download", "get a checkpoint; without a name, list them", checkpoints.add_download_options),
    ("export", "write a checkpoint as ONNX, for TensorRT, OpenVINO, CoreML ...", export.add_options),
    (
        "convert-workflow",
        "rewrite a ComfyUI workflow with Fannovel16's or ComfyUI's own nodes for ours",
        convert_workflow.add_options,
    ),
    ("train", "train a network", train.add_options),
    ("score", "measure made frames against true ones", score.add_options),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, 1 for an error that was reported, 130 when interrupted."""
    words = sys.argv[1:] if argv is None else [*argv]
    args = make_parser().parse_args(words)
    logged = args.debug or args.log_format is not None
    logging.basicConfig(
        level=logging.INFO if logged else logging.WARNING, format=args.log_format or "%(message)s"
    )
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print("interrupted; nothing was left under an unfinished output's name", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in words, and traced in a file
        if args.debug:
            raise
        told = str(error) if is_for_the_user(error) else _internal(error)
        print(f"rife: {brief(told, words)}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands. --debug may stand before the command or behind it."""
    parser = Parser(prog="rife", description="Frame interpolation with RIFE.")
    parser.add_argument("--version", action="version", version=f"rife {__version__}")
    parser.add_argument("--debug", action="store_true", help="log more, show tracebacks")
    parser.set_defaults(log_format=None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary, add_options in COMMANDS:
        command = commands.add_parser(name, help=summary)
        # SUPPRESS: where it does not stand behind the command, what stood before it holds.
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="log more, show tracebacks"
        )
        add_options(command)
    return parser


def is_for_the_user(error: Exception) -> bool:
    """Tells whether an error says what the user can mend: one of the system (no such file, disk full), or one raised in
    words.

    What Python or a library raises while our code calls it is a fault of ours: a RuntimeError of PyTorch's about sizes,
    a ValueError of NumPy's. It looks the same by its class; but the frame that it comes from is either not ours, or
    does not stand at a `raise`.
    """
    if isinstance(error, OSError):
        return True
    if not isinstance(error, (ValueError, RuntimeError)):
        return False
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or PACKAGE not in Path(at.tb_frame.f_code.co_filename).resolve().parents:
        return False
    return dis.opname[at.tb_frame.f_code.co_code[at.tb_lasti]] == "RAISE_VARARGS"


def _internal(error: Exception) -> str:
    """What is said of a fault of ours; its traceback goes to a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="rife-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"rife {__version__}: {' '.join(sys.argv)}\n\n")
        traceback.print_exception(error, file=file)
    return (
        f"{type(error).__name__}: {error}. This is an error in rife, not in what you gave it. The traceback is in "
        f"{file.name}; please report it, or run the command again with --debug to see it."
    )
