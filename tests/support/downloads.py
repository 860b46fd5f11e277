"""What tests of downloads share: impatience, and what must hold of the folder afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from rife.checkpoint.catalog import Download, DownloadError, download
from rife.checkpoint.download import RetryPolicy

QUICK = RetryPolicy(stall=0.25, attempts=3, backoff=0.0, poll=0.01)
PATH = "/rife/flownet.pkl"


def transfer_settings():
    return "HF_TOKEN HF_ENDPOINT HF_HUB_OFFLINE HF_TOKEN_PATH HF_HUB_DISABLE_IMPLICIT_TOKEN".split()


def fetch(entry, folder, **changes):
    return download(Download(**{**vars(entry), **changes}), folder, patience=QUICK)


def only_the_file(folder: Path, right: bytes) -> bool:
    (path,) = folder.iterdir()
    return path.read_bytes() == right


def none_of_that_name(folder: Path, entry: Download) -> bool:
    return not (folder / entry.file).exists()


def refused(entry, folder, match: str, **changes) -> str:
    with pytest.raises(DownloadError, match=match) as error:
        fetch(entry, folder, **changes)
    assert none_of_that_name(folder, entry)
    return str(error.value)
