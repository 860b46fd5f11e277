"""Downloads one file over HTTP, on lines that break: resumed, retried, checked. Knows nothing of RIFE.

What arrives is kept as PART beside PART.json, which says of which file it is the beginning. A beginning is only
continued where the end can be proven to belong to it: by a strong ETag, or by a sha256 of the whole.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..version import __version__
from .digest import file_sha256

OnProgress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known; may raise to cancel

_CHUNK = 256 * 1024
_HEAD = 512  # bytes that tell a web page and a Git LFS pointer from weights
_LIMIT = 1 << 30  # no RIFE is this large; ends an answer that does not end
_SPARE_DISK = 16 * 1024 * 1024
_LONGEST_WAIT = 30.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be better in a moment


class TransferError(RuntimeError):
    """Is raised where this address does not give the file; the message says why."""


class _PassingError(Exception):
    """It may work in a moment."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """Says how long is waited for a server, in seconds."""

    stall: float = 20.0  # without a byte
    attempts: int = 4  # in a row that bring nothing
    backoff: float = 1.0  # before the second attempt; doubles
    poll: float = 0.2  # between two calls of on_progress while nothing comes


RETRY_POLICY = RetryPolicy()


@dataclass
class PartialFile:
    """Notes of which file a PART is the beginning."""

    url: str
    etag: str = ""  # strong, or none
    total: int | None = None
    sha256: str = ""

    @classmethod
    def read(cls, note: Path) -> PartialFile:
        """Returns what `write` left; nothing is known where that is missing or damaged."""
        try:
            values = json.loads(note.read_text(encoding="utf-8"))
            total = values["total"]
            if total is not None and (type(total) is not int or not 0 <= total <= _LIMIT):
                return cls("")
            return cls(str(values["url"]), str(values["etag"]), total, str(values["sha256"]))
        except (OSError, ValueError, TypeError, KeyError):
            return cls("")

    def write(self, note: Path) -> None:
        """Writes it as JSON to `note`. Raises OSError."""
        note.write_text(json.dumps(asdict(self)), encoding="utf-8")


def fetch(
    url: str,
    part: Path,
    *,
    size: int | None = None,
    sha256: str = "",
    token: str = "",
    on_progress: OnProgress | None = None,
    patience: RetryPolicy = RETRY_POLICY,
) -> None:
    """Brings the file at `url` to `part`, going on from what is there.

    size, sha256: of the whole file, where known. token: sent to the host of `url` only, never along a redirect to
    another. Raises TransferError, or OSError where `part` cannot be written; `part` then stays for the next try
    unless it is known to be wrong.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise TransferError(f"{url} is neither http nor https")
    with _Transfer(url, part, size, sha256, token, on_progress, patience) as transfer:
        transfer.run()


def discard(part: Path) -> None:
    """Removes a partial file with what is known of it."""
    for path in (part, _note(part)):
        path.unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


class _Transfer:
    """Attempts at one file; what they share."""

    def __init__(
        self,
        url: str,
        part: Path,
        size: int | None,
        sha256: str,
        token: str,
        on_progress: OnProgress | None,
        patience: RetryPolicy,
    ):
        self.url, self.part, self.size, self.sha256, self.token = url, part, size, sha256.lower(), token
        self.patience = patience
        self.done, self.total = 0, size
        self._on_progress = on_progress
        self._worker = _Worker(self.tick, patience.poll)

    def __enter__(self) -> _Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()

    def tick(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.done, self.total)

    def run(self) -> None:
        """Attempts until it is here; those that bring something do not count, up to a limit."""
        idle = 0
        for _ in range(10 * self.patience.attempts):
            before = _size(self.part)
            try:
                return self._attempt()
            except _PassingError as error:
                idle = 1 if _size(self.part) > before else idle + 1
                if idle >= self.patience.attempts:
                    raise TransferError(f"{error}, {idle} times in a row") from error
                self._sleep(max(error.wait, self.patience.backoff * 2 ** (idle - 1)))
        raise TransferError("the connection broke too often")

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + min(seconds, _LONGEST_WAIT)
        while (left := end - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(left, self.patience.poll))

    def _attempt(self) -> None:
        beginning, have = self._beginning()
        if not have or have != beginning.total:
            beginning = self._receive(beginning, have)
        self._check(beginning, resumed=have > 0)

    def _beginning(self) -> tuple[PartialFile, int]:
        """What `part` is the beginning of and how long it is; length 0 where it cannot be continued."""
        have = _size(self.part)
        known = PartialFile.read(_note(self.part))
        same_address = known.url == self.url and bool(known.etag)
        provable = same_address or bool(self.sha256) or bool(known.sha256)
        too_long = known.total is not None and have > known.total
        if not have or not provable or too_long or (self.sha256 and known.sha256 not in ("", self.sha256)):
            return PartialFile(self.url), 0
        return known, have

    def _receive(self, known: PartialFile, have: int) -> PartialFile:
        """Asks for the rest of the file and appends it."""
        redirects = _Redirects()
        response = self._open(self._request(known, have), redirects)
        try:
            _refuse_wrapping(response)
            found = self._describe(response, redirects)
            if response.status == 206:
                found = self._continued(response, known, found, have)
            else:
                have = 0  # the whole file: it changed, or the server knows no ranges
            self._append(response, found, have)
        finally:
            self._worker.later(response.close)
        return found

    def _request(self, known: PartialFile, have: int) -> urllib.request.Request:
        headers = {"User-Agent": f"rife-interpolation/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if known.url == self.url and known.etag:
                headers["If-Range"] = known.etag
        request = urllib.request.Request(self.url, headers=headers)
        if self.token:
            # Unredirected: urllib would hand a plain header to whatever host an answer points to.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _open(self, request: urllib.request.Request, redirects: _Redirects) -> http.client.HTTPResponse:
        opener = _opener(redirects)
        try:
            return self._call(lambda: opener.open(request, timeout=self.patience.stall))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the file is not as long as what is here
                discard(self.part)
            without_token = error.code == 401 and bool(self.token)
            if without_token:  # expired ones are refused even for what everybody may read
                self.token = ""
            if without_token or error.code in (*_PASSING, 416):
                reason = f"{_host(self.url)} answers {error.code} {error.reason}"
                raise _PassingError(reason, _retry_after(error.headers)) from error
            raise TransferError(f"{_host(self.url)} answers {error.code} {error.reason}") from error

    def _call(self, call: Callable[[], Any]) -> Any:
        """`call`, with the network's failures told apart."""
        try:
            return self._worker(call)
        except (urllib.error.HTTPError, TransferError, _PassingError):
            raise
        except TimeoutError as error:
            raise _PassingError(f"nothing came for {self.patience.stall:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise TransferError(
                    f"the certificate of {_host(self.url)} is not trusted ({reason.verify_message}); this Python "
                    "may lack certificates: set SSL_CERT_FILE to a file that holds them"
                ) from error
            raise _PassingError(
                f"no connection to {_host(self.url)} ({str(reason) or repr(reason)})"
            ) from error

    def _describe(self, response: http.client.HTTPResponse, redirects: _Redirects) -> PartialFile:
        etag = response.headers.get("ETag", "")
        total = None
        if response.status == 206:
            total = _content_range(response)[1]
        else:
            total = _number(response.headers.get("Content-Length", ""))
        strong = etag if etag.startswith('"') else ""
        return PartialFile(self.url, strong, total, self.sha256 or redirects.sha256)

    def _continued(
        self, response: http.client.HTTPResponse, known: PartialFile, found: PartialFile, have: int
    ) -> PartialFile:
        """What both parts are of. Raises _PassingError, with nothing left of `part`, unless they belong together."""
        start, _ = _content_range(response)
        same_etag = known.url == found.url and known.etag == found.etag != ""
        pairs = ((known.total, found.total), (known.sha256, found.sha256))
        differs = any(a and b and a != b for a, b in pairs)
        sha256 = found.sha256 or known.sha256
        if start != have or differs or not (same_etag or sha256):
            discard(self.part)
            raise _PassingError(
                f"{_host(self.url)} holds another file than before, or sends another part of it"
            )
        return PartialFile(self.url, found.etag, found.total or known.total, sha256)

    def _append(self, response: http.client.HTTPResponse, found: PartialFile, have: int) -> None:
        head = self._call(lambda: response.read(_HEAD))
        if not have:
            _refuse_pages(head)
        if self.size and found.total and self.size != found.total:
            raise TransferError(f"the file there has {found.total:,} bytes, expected {self.size:,}")
        self.total = self.size or found.total
        self._check_disk((self.total or 0) - have)
        with open(self.part, "r+b" if have else "wb") as file:
            # Not before the old beginning is gone, which it would take for its own.
            found.write(_note(self.part))
            file.seek(have)
            self.done, chunk = have, head
            while chunk:
                file.write(chunk)
                self.done += len(chunk)
                self._check_length()
                self.tick()
                chunk = self._call(lambda: response.read1(_CHUNK))
            file.flush()
            os.fsync(file.fileno())
        if found.total is not None and self.done != found.total:
            raise _PassingError(f"the answer ended after {self.done:,} of {found.total:,} bytes")

    def _check_length(self) -> None:
        limit = self.total or _LIMIT
        if self.done > limit:
            discard(self.part)
            raise TransferError(f"the answer does not end after the {limit:,} bytes that the file can have")

    def _check_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if needed + _SPARE_DISK > free:
            raise OSError(
                f"it has {free >> 20:,} MB left, expected {(needed + _SPARE_DISK) >> 20:,} MB: make room there"
            )

    def _check(self, found: PartialFile, resumed: bool) -> None:
        """Raises, with nothing left of `part`, unless the whole has the known size and sha256."""
        wanted, size = self.sha256 or found.sha256, _size(self.part)
        problem = ""
        if self.size and size != self.size:
            problem = f"what came has {size:,} bytes, expected {self.size:,}"
        elif wanted and (digest := file_sha256(self.part)) != wanted:
            problem = f"what came has sha256 {digest}, expected {wanted}"
        if not problem:
            return
        discard(self.part)
        # A wrong beginning is no fault of this address.
        raise _PassingError(problem) if resumed else TransferError(problem)


class _Worker:
    """Blocking calls in a thread of their own: the caller reports meanwhile, and can leave at once."""

    def __init__(self, tick: Callable[[], None], poll: float):
        self._tick, self._poll = tick, poll
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="rife-download").start()

    def __call__(self, call: Callable[[], Any]) -> Any:
        answer = self.later(call)
        while True:
            with contextlib.suppress(queue.Empty):
                value, error = answer.get(timeout=self._poll)
                break
            self._tick()
        if error is not None:
            raise error
        return value

    def later(self, call: Callable[[], Any]) -> queue.SimpleQueue:
        """Without waiting: closing a response would wait for the read that is under way."""
        answer: queue.SimpleQueue = queue.SimpleQueue()
        self._calls.put((call, answer))
        return answer

    def stop(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, answer = item
            try:
                answer.put((call(), None))
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                answer.put((None, error))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other hosts without the token, and not out of https."""

    sha256 = ""  # of the file, which huggingface.co names when it points to its storage

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 has none

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request:
        """The request for `newurl`. Raises TransferError where it leads out of https."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme != "https" and (old.scheme == "https" or new.scheme != "http"):
            raise TransferError(
                f"{old.netloc} points from {old.scheme} to {new.scheme}://{new.netloc}, which is refused"
            )
        linked = headers.get("X-Linked-ETag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", linked):
            self.sha256 = linked
        # Spaces and the like, which some servers leave as they are.
        request = urllib.request.Request(quote(newurl, safe="%/:=&?~#+!$,;'@()*[]"), headers=req.headers)
        token = req.unredirected_hdrs.get("Authorization")
        if token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request


def _opener(redirects: _Redirects) -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxies of the environment; no file:, ftp: or data:."""
    opener = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler", "HTTPErrorProcessor")
    for handler in (*(getattr(urllib.request, kind)() for kind in kinds), redirects):
        opener.add_handler(handler)
    return opener


def _refuse_wrapping(response: http.client.HTTPResponse) -> None:
    kind = response.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise TransferError("the answer is a web page (a login, a notice or an error), not the file")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(
            f"the answer is packed ({response.headers['Content-Encoding']}), which nobody asked for"
        )
    if response.status not in (200, 206):
        raise TransferError(f"the answer is {response.status} {response.reason}, expected 200")


def _refuse_pages(head: bytes) -> None:
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise TransferError("the answer is a web page (a login, a notice or an error), not the file")
    if head.startswith(b"version https://git-lfs"):
        raise TransferError("the answer is a Git LFS pointer, not the file that it stands for")


def _content_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """(first byte, bytes in all) of a 206; (-1, None) where it does not say."""
    match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", response.headers.get("Content-Range", ""))
    first = None if match is None else _number(match[1])
    return (-1, None) if match is None or first is None else (first, _number(match[2]))


def _retry_after(headers: Message) -> float:
    return float(_number(headers.get("Retry-After", "")) or 0)


def _number(text: str) -> int | None:
    """A size or a time in at most 15 ASCII digits; None for anything else (to Python, superscripts are digits, too)."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text.strip(" ")) else None


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
