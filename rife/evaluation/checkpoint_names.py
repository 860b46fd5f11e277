"""Names checkpoints that stand side by side in a table, however alike their files are called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..checkpoint.digest import file_sha256
from ..checkpoint.files import SUFFIXES

BUNDLED = "bundled"


def checkpoint_names(
    paths: Sequence[Path | None], versions: Sequence[str], taken: Collection[str] = ()
) -> list[str]:
    """Returns a name for each of `paths` (files, folders with flownet.pkl, None: the bundled one), no two the same.

    The file's, without its ending; where several have it, as every released RIFE is called flownet.pkl, as much of the
    folder as tells them apart; in one folder or below folders of the same names, version and digest. versions: of each
    checkpoint, as text; taken: what else stands in the table. Raises ValueError where two are the same checkpoint.
    """
    names = [_parts(path)[-1] for path in paths]
    for group in _duplicates(names):
        for i, longer in zip(group, _with_folders([paths[i] for i in group]), strict=True):
            names[i] = longer
    for i in {
        *(i for group in _duplicates(names) for i in group),
        *(i for i, name in enumerate(names) if name in taken),
    }:
        names[i] = f"{names[i]} {versions[i] or 'own training'} {_digest(paths[i])}"
    for first, second, *_ in _duplicates(names):
        raise ValueError(
            f"{paths[first] or BUNDLED} and {paths[second] or BUNDLED} are the same checkpoint, expected different "
            "ones. Give it once."
        )
    return names


def _duplicates(names: Iterable[str]) -> list[list[int]]:
    """Places of each name that stands more than once."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return [group for group in places.values() if len(group) > 1]


def _with_folders(paths: Sequence[Path | None]) -> list[str]:
    """The shortest ends of the paths that tell most of them apart, without endings."""
    parts = [_parts(path) for path in paths]
    ends = [["/".join(path[-length:]) for path in parts] for length in range(1, max(map(len, parts)) + 1)]
    return max(ends, key=lambda names: len(set(names)))  # of equals the first


def _parts(path: Path | None) -> tuple[str, ...]:
    """The folders of a checkpoint and its name, without the root and the ending."""
    if path is None:
        return (BUNDLED,)
    whole = path.resolve()
    return *whole.parent.parts[1:], path.stem if path.is_file() else whole.name


def checkpoint_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of a folder's checkpoint files one after the other. Raises OSError."""
    files = (
        [path]
        if path.is_file()
        else sorted(p for p in path.iterdir() if p.is_file() and p.suffix in SUFFIXES)
    )
    return file_sha256(*files)


def _digest(path: Path | None) -> str:
    return checkpoint_digest(path)[:8] if path else ""
