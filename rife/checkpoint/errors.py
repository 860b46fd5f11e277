"""What is said of files that are no RIFE."""

from __future__ import annotations


class UnknownCheckpointError(ValueError):
    """The file or state dict is not a RIFE that this package knows; the message says what was found."""


def damaged(error: BaseException) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"cannot be read as plain weights ({type(error).__name__}: {first_line(error)}). It is damaged or no "
        "checkpoint at all: download it again, or ask its author for a state dict or a safetensors file."
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    return (str(error).strip().splitlines() or [""])[0][:200]
