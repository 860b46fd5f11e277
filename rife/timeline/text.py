"""What people write of times: lists of them, points of a retime curve, frames, places in a clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction


def parse_timesteps(text: str) -> list[Fraction] | None:
    """Numbers or fractions in `text`, apart by commas, semicolons or blanks; None where there are none."""
    words = [word for word in re.split(r"[,;\s]+", text or "") if word]
    try:
        return [Fraction(word) for word in words] or None
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"timesteps is {text!r}, expected numbers between 0 and 1 apart by commas, such as 0.25, 0.5, 0.75 or "
            "1/3, 2/3. Leave it empty to use multiplier."
        ) from error


def parse_curve(text: str) -> list[tuple[Fraction, Fraction]]:
    """Points like 0:0, 1:1, 3:1.5 in `text`."""
    words = [word.split(":") for word in re.split(r"[,;\s]+", text or "") if word]
    try:
        return [(Fraction(at), Fraction(shown)) for at, shown in words]
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(
        f"curve is {text!r}, expected points apart by commas, each result second : clip second, such as "
        "0:0, 1:1, 3:1.5. Write it so."
    )


def parse_cuts(text: str, count: int) -> set[int]:
    """Frame numbers in `text`, each between 0 and `count` - 1."""
    words = [word for word in re.split(r"[,;\s]+", text or "") if word]
    if not all(word.isdecimal() and int(word) < count for word in words):
        raise ValueError(
            f"cut_frames is {text!r}, expected numbers of frames from 0 to {count - 1} apart by commas. Leave it "
            "empty to have cuts found."
        )
    return set(map(int, words))


def parse_place(text: str, times: Sequence[Fraction]) -> Fraction:
    """Seconds that are meant by "12.5", "1:02.5" or "1:00:00", or by "300f", the frame shown at `times[300]`.

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
        f"{text!r} is no place in the clip, expected seconds such as 12.5 or 1:02.5, or a frame from 0f to "
        f"{len(times) - 1}f. Write it so."
    )
