"""Reads numbers that people write, exactly and within bounds: no text, however odd, takes more than a moment.

`Fraction("1e999999999")` would compute a power of ten of a billion digits in one call that nothing interrupts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

LONGEST_NUMBER = 40  # characters of a number
LONGEST_LIST = 4_000_000  # characters of a list of numbers: 100,000 cuts take 0.9 million at most
_SHOWN = 60  # characters of what was given that a message quotes

# Digits, a point, an exponent of up to two digits; or a fraction of whole numbers.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?|[+-]?\d+/\d+", re.ASCII)


def exact_number(value: Fraction | int | float | str) -> Fraction:
    """Returns the number that is meant, exactly. Raises ValueError in a few words that say why it is none."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST_NUMBER:
            raise ValueError(f"{shortened(text)} is longer than {LONGEST_NUMBER} characters")
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{shortened(text)} is no number such as 0.5, 1e-3 or 1/3")
        value = text
    try:
        return Fraction(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{shortened(value)} is no number") from None


def whole_number(text: str, most: int) -> int:
    """Reads a whole number from 0 to `most`, in ASCII digits. Raises ValueError in a few words."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER and int(text) <= most):
        raise ValueError(f"{shortened(text)} is no whole number from 0 to {most}")
    return int(text)


def words_of(text: str, most: int) -> list[str]:
    """Splits a list at commas, semicolons or blanks. Raises ValueError for more than `most` words."""
    if len(text) > LONGEST_LIST:
        raise ValueError(f"it has {len(text):,} characters, at most {LONGEST_LIST:,} are read")
    words = re.split(r"[,;\s]+", text.strip(",; \t\n\r\f\v"))
    if len(words) > most:
        raise ValueError(f"it has {len(words):,} entries, at most {most:,} are read")
    return words if words[0] else []


def shortened(value: object) -> str:
    """Quotes `value` as messages do: as Python writes it, but of what is long only the beginning."""
    if isinstance(value, (str, bytes)) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}... ({len(value):,} characters)"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) > 8:
        return f"[{', '.join(map(shortened, value[:8]))}, ... ({len(value):,} in all)]"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a number of more than 60 digits"
    try:
        text = str(value) if isinstance(value, Fraction) else repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}..."


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, shortened to 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]
