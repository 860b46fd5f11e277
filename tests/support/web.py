"""A web server in this process that serves files well, or badly on demand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """`files`: path -> bytes. `script`: what the next requests get instead of the file, one entry each."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.script: list[Callable] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()  # ends what hangs
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.requests.append((self.path, dict(self.headers)))
                answer = web.script.pop(0) if web.script else serve()
                try:
                    answer(self, web)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client had enough

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def headers(self, name: str) -> list[str | None]:
        """One header of all requests."""
        return [headers.get(name) for _, headers in self.requests]

    @contextmanager
    def running(self) -> Iterator[Web]:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def serve(
    *,
    data: bytes | None = None,
    etag: str | None = "",
    ranges: bool = True,
    ignore_if_range: bool = False,
    cut: int | None = None,
    hang: int | None = None,
    length: int | None = -1,
    shift: int = 0,
    status: int | None = None,
    **headers,
) -> Callable:
    """An answer with the file, or `data`.

    etag: "" is the right one, None sends none. cut: only so many bytes of the body; hang: so many, then nothing.
    length: what Content-Length says instead of the truth, None says nothing. shift: the part sent begins so many
    bytes off.
    """

    def answer(handler: BaseHTTPRequestHandler, web: Web) -> None:
        body = web.files.get(handler.path) if data is None else data
        if body is None:
            return handler.send_error(404)
        tag = etag_of(body) if etag == "" else etag
        wanted = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if wanted and ranges and (ignore_if_range or condition in (None, tag)):
            start = int(wanted[1]) + shift
            if start >= len(body):
                return handler.send_error(416)
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            handler.send_response(status or 200)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        if tag:
            handler.send_header("ETag", tag)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[: cut if cut is not None else hang])
        if hang is not None:
            handler.wfile.flush()
            web.released.wait(30)

    return answer


def fail(status: int, **headers) -> Callable:
    def answer(handler: BaseHTTPRequestHandler, web: Web) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()

    return answer


def redirect(url: str, status: int = 302, **headers) -> Callable:
    return fail(status, Location=url, **headers)


def silence(handler: BaseHTTPRequestHandler, web: Web) -> None:
    """Takes the request and never answers."""
    web.released.wait(30)


def hang_up(handler: BaseHTTPRequestHandler, web: Web) -> None:
    """Closes the connection without a word."""
