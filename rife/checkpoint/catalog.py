"""Knows where RIFE checkpoints are to be had, and brings them here.

The weights are those of hzwer's Practical-RIFE (MIT), as other projects repackaged them. A size or sha256 stands
here only where it is known; every file is loaded far enough to see that it is the RIFE it is named after before it
gets its name.
"""

from __future__ import annotations

import difflib
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ..timeline.numbers import shortened
from .build import Network
from .download import RETRY_POLICY, OnProgress, RetryPolicy, TransferError, discard, fetch
from .errors import UnknownCheckpointError
from .load import read_checkpoint
from .locking import file_lock

_HUB = "https://huggingface.co"
_HUB_MIRROR = "https://hf-mirror.com"
_MAX_BYTES = 1 << 30  # of a file in an archive
_TRUE = ("1", "ON", "YES", "TRUE")


class DownloadError(RuntimeError):
    """Is raised where a checkpoint could not be brought; the message says why, and how to get it by hand."""


@dataclass(frozen=True)
class Download:
    """Describes a checkpoint that can be downloaded as one file."""

    name: str  # unique; what users choose
    version: str  # a key of `RELEASES`
    urls: tuple[str, ...]  # the same bytes; the first is preferred
    file: str  # name on disk
    size: int | None = None  # bytes of what `urls` give
    sha256: str = ""  # of what `urls` give
    member: str = ""  # the checkpoint's path in the archive that `urls` give
    licence: str = "MIT"
    note: str = ""


def _hub(path: str) -> tuple[str, ...]:
    return f"{_HUB}/{path}", f"{_HUB_MIRROR}/{path}"


def _comfy_org(version: str, file: str, **known: Any) -> Download:
    folder = "Comfy-Org/frame_interpolation/resolve/main/frame_interpolation"
    return Download(version, version, _hub(f"{folder}/{file}"), file, **known)


# Each found in several projects that pin the file, or made again here (4.26 of Comfy-Org, 3.6).
_SHA256 = {
    "4.25": "6615790efd627772917205db291f51cd392528a157ecbb2ecaeec3bff8eb6de2",
    "4.26": "45c7f74156704769dc9f85cfcaf8552e1e926f9399dcfa3a553dee88fac6f53f",
    "4.26.heavy": "4cc518e172156ad6207b9c7a43364f518832d83a4325d484240493a9e2980537",
    "4.6": "008646e761f0e67cb77f0c6c44cfe3c3e5a05d9d9465311b9681ca650ce030db",
}


def _vs_rife(version: str, name: str = "", **known: Any) -> Download:
    file = f"flownet_v{version}.pkl"
    url = f"https://github.com/HolyWu/vs-rife/releases/download/model/{file}"
    return Download(name or version, version, (url,), file, sha256=_SHA256.get(version, ""), **known)


_ONLY_VS_RIFE = (
    "4.24 4.23 4.22 4.22.lite 4.21 4.20 4.19 4.18 4.17 4.17.lite 4.16.lite 4.15 4.15.lite 4.14 4.14.lite 4.13 "
    "4.13.lite 4.12 4.12.lite 4.11 4.10 4.9 4.8 4.7 4.6 4.5 4.4 4.3 4.2 4.1 4.0"
).split()
_NOTES = {"4.6": "for large motion"}
_SAME = "the same version from github.com, where huggingface.co cannot be reached"

_ROWS = (
    _comfy_org(
        "4.25",
        "rife_v4.25.safetensors",
        size=22_674_688,
        sha256="1505884b9bdae956795430d2a70f7e2317b2abd8f130f8cfdb35a5759f909481",
        note="like 4.26, before it",
    ),
    _comfy_org("4.25.lite", "rife_v4.25_lite.safetensors"),
    _comfy_org("4.25.heavy", "rife_v4.25_heavy.safetensors", note="four times the size of 4.25"),
    _comfy_org(
        "4.26",
        "rife_v4.26.safetensors",
        size=22_674_688,
        sha256="151874592c877740e5db11522f4514df569eeafb0a0fcb2696f16e9e8d317c94",
        note="the newest; keeps the most detail",
    ),
    _comfy_org("4.26.heavy", "rife_v4.26_heavy.safetensors"),
    *(_vs_rife(version, note=_NOTES.get(version, "")) for version in _ONLY_VS_RIFE),
    Download(
        "3.6",
        "3.6",
        _hub("AlexWortega/RIFE/resolve/main/flownet.pkl"),
        "flownet_v3.6.pkl",
        size=12_186_817,
        sha256="fe854fc8996547c953f732aaa3b78cae76cc0a12833ae856ea0749c4c570d7d8",
        note="the one of CogVideo's demo",
    ),
    Download(
        "3.5",
        "3.5",
        ("https://github.com/HolyWu/vs-rife/releases/download/model35/flownet.pkl",),
        "flownet_v3.5.pkl",
    ),
    Download(
        "4.26-author",
        "4.26",
        _hub("hzwer/RIFE/resolve/main/RIFEv4.26_0921.zip"),
        "RIFEv4.26_0921.pkl",
        sha256="1fa9b9cda3d9b8c3e301359e2595960902f97bf926c08598b0e9957a3f3f760e",
        member="RIFEv4.26_0921/flownet.pkl",
        note="the author's archive",
    ),
    *(
        _vs_rife(version, f"{version}-github", note=_SAME)
        for version in ("4.25", "4.25.lite", "4.25.heavy", "4.26", "4.26.heavy")
    ),
)

DOWNLOADS: dict[str, Download] = {row.name: row for row in _ROWS}


def find(name: str) -> Download:
    """Returns the entry called `name`. Raises ValueError that names similar ones."""
    if name in DOWNLOADS:
        return DOWNLOADS[name]
    similar = difflib.get_close_matches(name, DOWNLOADS, 4, 0.5) or list(DOWNLOADS)[:5]
    raise ValueError(
        f"There is no download {shortened(name)}, expected a name such as {', '.join(similar)}. "
        "`rife download` without a name lists all."
    )


def sources(entry: Download) -> tuple[str, ...]:
    """Returns the addresses that are tried, in order. HF_ENDPOINT takes the place of huggingface.co and its mirror."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not endpoint:
        return entry.urls
    urls = (url.replace(f"{_HUB}/", f"{endpoint}/", 1) for url in entry.urls)
    return tuple(url for url in urls if not url.startswith(f"{_HUB_MIRROR}/") or endpoint == _HUB_MIRROR)


def download(
    entry: Download,
    folder: str | os.PathLike,
    *,
    on_progress: OnProgress | None = None,
    patience: RetryPolicy = RETRY_POLICY,
) -> Path:
    """Returns the file of `entry` in `folder`, which is made; it is brought there unless it is there already.

    on_progress: called with (bytes so far, bytes in all or None) at least every `patience.poll` seconds; what it
    raises ends the download. What has come by then is kept and continued next time.
    Raises DownloadError.
    """
    folder = Path(folder)
    path = folder / entry.file
    if path.exists():
        return path
    if _offline():
        raise DownloadError(
            f"HF_HUB_OFFLINE is set: {entry.name} is not downloaded. Unset it, {_by_hand(entry, path)}"
        )
    _check_folder(folder)
    lock = path.with_name(path.name + ".part.lock")
    try:
        with file_lock(lock, lambda: on_progress and on_progress(0, entry.size), patience.poll):
            # Another process may have brought it while this one waited.
            return path if path.exists() else _bring(entry, path, on_progress, patience)
    except OSError as error:
        raise DownloadError(
            f"{entry.name} cannot be written to {folder} ({error}). Choose another folder, {_by_hand(entry, path)}"
        ) from error


def _bring(entry: Download, path: Path, on_progress: OnProgress | None, patience: RetryPolicy) -> Path:
    part = path.with_name(path.name + ".part")
    archive = path.with_name(path.name + ".zip.part") if entry.member else part
    problems = []
    for url in sources(entry):
        try:
            fetch(
                url,
                archive,
                size=entry.size,
                sha256=entry.sha256,
                token=_token(url),
                on_progress=on_progress,
                patience=patience,
            )
        except TransferError as error:
            problems.append(f"{url}: {error}")
            continue
        try:
            if entry.member:
                _unpack(archive, entry.member, part)
            _verify(part, entry)
        except TransferError as error:
            problems.append(f"{url}: {error}")
        else:
            os.replace(part, path)
        for leftover in (part, archive):
            discard(leftover)
        if path.exists():
            return path
    reasons = "; ".join(problems)
    if "answers 401" in reasons or "answers 403" in reasons:
        reasons += ". A login may be asked for: set HF_TOKEN to a token of your account"
    raise DownloadError(
        f"{entry.name} could not be downloaded. {reasons}. Try again later, {_by_hand(entry, path)}"
    )


def _by_hand(entry: Download, path: Path) -> str:
    what = f"{entry.member} of {entry.urls[0]}" if entry.member else " or ".join(entry.urls)
    others = [row.name for row in DOWNLOADS.values() if row.version == entry.version and row is not entry]
    elsewhere = f" The same version from elsewhere: {', '.join(others)}." if others else ""
    return f"or fetch {what} in a browser and save it as {path.absolute()}.{elsewhere}"


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
        reason = "no permission to write"
    except OSError as error:
        writable, reason = False, str(error)
    if not writable:
        raise DownloadError(
            f"{folder.absolute()} cannot be written to ({reason}), expected a folder for the checkpoint. "
            "Choose another one, or change its permissions."
        )


def _unpack(archive: Path, member: str, part: Path) -> None:
    """One named file of a zip, under our name: no path in the archive is ever used. Raises TransferError."""
    try:
        with zipfile.ZipFile(archive) as file, file.open(member) as source:
            if file.getinfo(member).file_size > _MAX_BYTES:
                raise TransferError(f"{member} in the archive is larger than any RIFE")
            with open(part, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise TransferError(f"the archive cannot be used ({error}), expected {member} in it") from error


def _verify(part: Path, entry: Download) -> None:
    """Raises TransferError unless `part` holds a RIFE of the entry's version that gives a frame."""
    try:
        found = read_checkpoint(part, variant=None)
        versions = (found.release,) if found.release else found.network.config.versions
        problem = (
            "" if entry.version in versions else f"it is RIFE {' or '.join(versions) or 'of another kind'}"
        )
        problem = problem or _problem_of_frame(found.network)
    except UnknownCheckpointError as error:
        # The cause; what to do about a file on disk is not what to do about a download.
        problem = str(error).replace(f"{part}: ", "").replace(f"{part} ", "it ").split(". ")[0]
    if problem:
        raise TransferError(f"what came is not RIFE {entry.version}: {problem}")


@torch.inference_mode()
def _problem_of_frame(network: Network) -> str:
    """What is wrong with the frame between two fixed pictures, "" for nothing."""
    side = network.pad_multiple()
    ramp = torch.linspace(0, 1, side)
    picture = torch.stack(
        (ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 0.5))
    )
    frame = network.predict(picture[None], picture.flip(1)[None]).image
    usable = frame.shape == (1, 3, side, side) and bool(torch.isfinite(frame).all())
    return "" if usable else "no frame comes out of it"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _token(url: str) -> str:
    """The user's Hugging Face token, for that host only."""
    hub = os.environ.get("HF_ENDPOINT", "") or _HUB
    if urlsplit(url).netloc != urlsplit(hub).netloc:
        return ""
    if os.environ.get("HF_TOKEN"):
        return os.environ["HF_TOKEN"].strip()
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return ""
    for path in _token_files():
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue
    return ""


def _token_files() -> Iterator[Path]:
    """Where huggingface_hub keeps the token of `hf auth login`."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    if os.environ.get("HF_TOKEN_PATH"):
        yield Path(os.environ["HF_TOKEN_PATH"]).expanduser()
    else:
        yield Path(home).expanduser() / "token"
