"""Reads the numbers of options, each with the range that its work can bear, and keeps messages short."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..timeline.numbers import exact_number, shortened

MOST_FRAMES = 1_000_000
_LONGEST_SHOWN = 300  # characters of a word of the command line in a message; paths are rarely longer
_LONGEST_MESSAGE = 2000


def whole(low: int, high: int, also: str = "") -> Callable[[str], int | None]:
    """Makes the `type` of an option that takes a whole number from `low` to `high`; of `also`, None."""

    def read(text: str) -> int | None:
        value = None if also and text == also else _read(text, low, high, "whole number", also)
        return None if value is None else int(value)

    return read


def number(low: float, high: float, also: str = "") -> Callable[[str], Any]:
    """Makes the `type` of an option that takes a number from `low` to `high`, as a float; of `also`, itself."""
    return lambda text: text if also and text == also else float(_read(text, low, high, "number", also))


def readable(text: str) -> str:
    """Is the `type` of an option whose text goes to FFmpeg, which takes UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no text in UTF-8") from error
    return text


def _read(text: str, low: float, high: float, kind: str, also: str) -> Any:
    try:
        value = exact_number(text)
        if low <= value <= high and (kind == "number" or value.denominator == 1):
            return value
    except ValueError:
        pass
    wanted = f"a {kind} from {low:,} to {high:,}" + f", or {also}" * bool(also)
    raise argparse.ArgumentTypeError(f"{shortened(text)} is not {wanted}")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in a message that is short, however long its words are."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Does what argparse's own does."""
        self._words = sys.argv[1:] if args is None else [*args]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program with the usage and `message`."""
        super().error(brief(message, self._words))


def brief(message: str, words: Sequence[str]) -> str:
    """Returns `message` with only the beginning of the long ones of `words`, those of a command line, and of itself;
    nothing in it steers a terminal."""
    values = {part for word in words for part in (word, word.partition("=")[2]) if len(part) > _LONGEST_SHOWN}
    # As paths, and the folder of one: a file in the making has a name of its own there.
    values |= {str(path) for value in [*values] for path in (Path(value), Path(value).parent)}
    for value in sorted((v for v in values if len(v) > _LONGEST_SHOWN), key=len, reverse=True):
        for quoted in (repr(value), value):
            message = message.replace(quoted, shortened(value))
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}... ({len(message):,} characters)"
    # What is not printable moves the cursor of terminals, or cannot be written at all.
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in message
    )
