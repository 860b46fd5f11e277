"""Says what is wrong with files that are no RIFE."""

from __future__ import annotations

from ..timeline.numbers import first_line


class UnknownCheckpointError(ValueError):
    """Is raised where the file or state dict is not a RIFE that this package knows; the message says what was found."""


def damaged(error: BaseException) -> UnknownCheckpointError:
    """Makes the error of a file that is no plain weights, from what was raised while it was read."""
    return UnknownCheckpointError(
        f"cannot be read as plain weights ({type(error).__name__}: {first_line(error)}). It is damaged or no "
        "checkpoint at all: download it again, or ask its author for a state dict or a safetensors file."
    )
