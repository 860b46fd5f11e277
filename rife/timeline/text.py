"""Reads what people write of times: lists of them, points of a retime curve, frames, places in a clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from .numbers import exact_number, shortened, whole_number, words_of
from .request import MOST_TIMESTEPS

MOST_CUTS, MOST_POINTS = 200_000, 20_000  # in a text: of frames that begin a scene, of a retime curve


def parse_timesteps(text: str) -> list[Fraction] | None:
    """Reads numbers or fractions in `text`, apart by commas, semicolons or blanks; None where there are none.

    Raises ValueError.
    """
    try:
        return [exact_number(word) for word in words_of(text or "", MOST_TIMESTEPS)] or None
    except ValueError as error:
        raise ValueError(
            f"timesteps is {shortened(text)}: {error}; expected numbers between 0 and 1 apart by commas, such as 0.25, "
            "0.5, 0.75 or 1/3, 2/3. Leave it empty to use multiplier."
        ) from error


def parse_curve(text: str) -> list[tuple[Fraction, Fraction]]:
    """Reads points like 0:0, 1:1, 3:1.5 in `text`: (result seconds, clip seconds). Raises ValueError."""
    try:
        points = []
        for word in words_of(text or "", MOST_POINTS):
            at, colon, shown = word.partition(":")
            if not colon:
                raise ValueError(f"{shortened(word)} has no colon")
            points.append((exact_number(at), exact_number(shown)))
        return points
    except ValueError as error:
        raise ValueError(
            f"curve is {shortened(text)}: {error}; expected points apart by commas, each result second : clip second, "
            "such as 0:0, 1:1, 3:1.5. Write it so."
        ) from error


def parse_cuts(text: str, count: int) -> set[int]:
    """Reads frame numbers in `text`, each between 0 and `count` - 1. Raises ValueError."""
    try:
        return {whole_number(word, count - 1) for word in words_of(text or "", MOST_CUTS)}
    except ValueError as error:
        raise ValueError(
            f"cut_frames is {shortened(text)}: {error}; expected numbers of frames from 0 to {count - 1} apart by "
            "commas. Leave it empty to have cuts found."
        ) from error


def parse_place(text: str, times: Sequence[Fraction]) -> Fraction:
    """Returns the seconds that are meant by "12.5", "1:02.5" or "1:00:00", or by "300f", the frame shown at
    `times[300]`.

    Raises ValueError.
    """
    if re.fullmatch(r"[0-9]{1,12}f", text) and int(text[:-1]) < len(times):
        return times[int(text[:-1])]
    if re.fullmatch(r"([0-9]{1,9}:){0,2}[0-9]{1,9}(\.[0-9]{1,9})?", text):
        seconds = Fraction(0)
        for word in text.split(":"):
            seconds = 60 * seconds + Fraction(word)
        return seconds
    raise ValueError(
        f"{shortened(text)} is no place in the clip, expected seconds such as 12.5 or 1:02.5, or a frame from 0f to "
        f"{len(times) - 1}f. Write it so."
    )
