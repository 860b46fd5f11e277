"""Counts a timecode, such as 01:00:00:12, in frames of another rate."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"(\d\d:\d\d:\d\d)([:;.])(\d+)")
_NTSC = Fraction(30000, 1001)
_MOST = 255  # frames a second that QuickTime's timecode has


def recounted(timecode: str, old: Fraction, new: Fraction) -> str | None:
    """Returns the timecode of the same picture in a file of the rate `new`; None where that has none.

    Behind ";" numbers are left out each minute, so that they keep up with the clock: only rates that are multiples of
    30000/1001 do that.
    """
    found = _FORM.fullmatch(timecode)
    if found is None or round(old) < 1 or not 1 <= round(new) <= _MOST:
        return None
    time, mark, frames = found.groups()
    if mark != ":" and (new / _NTSC).denominator != 1:
        return None
    digits = max(2, len(str(round(new) - 1)))
    return f"{time}{mark}{int(frames) * round(new) // round(old):0{digits}}"
