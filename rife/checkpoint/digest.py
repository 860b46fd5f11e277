"""Computes digests of files, piece by piece: none is held in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20  # bytes


def file_sha256(*paths: Path) -> str:
    """Returns the SHA-256 of a file, or of several one after the other, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(_PIECE):
                digest.update(block)
    return digest.hexdigest()
