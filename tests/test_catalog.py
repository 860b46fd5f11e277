"""Downloads, against a server that does all that servers do: the right file in the end, or a clear error."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import golden_recipe as golden
import pytest
import torch
from web import Web, etag_of, fail, hang_up, redirect, serve, silence

from rife.checkpoint import catalog
from rife.checkpoint import download as transfer
from rife.checkpoint.catalog import DOWNLOADS, Download, DownloadError, download, find, sources
from rife.checkpoint.download import Patience, TransferError, alone
from rife.cli import app as cli
from rife.networks.config import RELEASES

ROOT = Path(__file__).resolve().parent.parent
QUICK = Patience(stall=0.25, attempts=3, backoff=0.0, poll=0.01)
PATH = "/rife/flownet.pkl"


@pytest.fixture(scope="module")
def right():
    return golden.release_file("4.15.lite")


@pytest.fixture(scope="module")
def other():
    """Same length, same shapes, other weights."""
    return golden.release_file("4.15.lite", 1.0)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    """Nothing of the machine that runs this: no proxy, token, mirror, or offline mode."""
    for name in (*transfer_settings(), "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("no_proxy", "*")


def transfer_settings():
    return "HF_TOKEN HF_ENDPOINT HF_HUB_OFFLINE HF_TOKEN_PATH HF_HUB_DISABLE_IMPLICIT_TOKEN".split()


@pytest.fixture
def web(right):
    with Web().running() as running:
        running.files[PATH] = right
        yield running


@pytest.fixture
def entry(web):
    return Download("4.15.lite", "4.15.lite", (web.url + PATH,), "flownet_v4.15.lite.pkl")


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


# well


def test_a_file_arrives_and_nothing_else_is_left(entry, web, right, tmp_path):
    seen = []
    folder = tmp_path / "new" / "folder"
    path = download(entry, folder, on_progress=lambda *state: seen.append(state), patience=QUICK)
    assert path == folder / entry.file and only_the_file(folder, right)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(right), len(right))


def test_a_file_that_is_there_is_not_asked_for(entry, web, tmp_path):
    (tmp_path / entry.file).write_bytes(b"mine")
    assert fetch(entry, tmp_path).read_bytes() == b"mine" and not web.requests


def test_without_a_length_the_end_of_the_connection_is_the_end(entry, web, right, tmp_path):
    web.script = [serve(length=None)]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


# lines that break


def test_a_cut_download_goes_on_where_it_ended(entry, web, right, tmp_path):
    web.script = [serve(cut=5000), serve(cut=7000), hang_up]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-", "bytes=12000-", "bytes=12000-"]
    assert web.headers("If-Range")[1:] == [etag_of(right)] * 3


def test_a_stalled_download_goes_on_where_it_ended(entry, web, right, tmp_path):
    web.script = [serve(hang=5000), silence]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range")[1:] == ["bytes=5000-"] * 2


def test_what_a_dead_process_left_is_used(entry, web, right, tmp_path):
    web.script = [serve(cut=5000), *[fail(503)] * 2]
    refused(entry, tmp_path, "503")
    web.requests.clear()
    assert fetch(entry, tmp_path).read_bytes() == right
    assert web.headers("Range") == ["bytes=5000-"]
    assert [path.name for path in tmp_path.iterdir()] == [entry.file]


def test_a_whole_part_only_needs_its_name(entry, web, right, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(catalog.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(entry, tmp_path)
    web.requests.clear()
    assert fetch(entry, tmp_path).read_bytes() == right and not web.requests


@pytest.mark.parametrize(
    "second",
    [
        serve(ranges=False),
        serve(ignore_if_range=True),
        serve(ignore_if_range=True, shift=10),
        serve(ignore_if_range=True, shift=-10),
        serve(ignore_if_range=True, shift=1 << 30),
        serve(ignore_if_range=True, etag=None),
    ],
    ids=["whole", "other file", "later part", "earlier part", "nothing left", "without etag"],
)
@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_changes_between_attempts_is_taken_anew(
    entry, web, right, other, tmp_path, second, changed
):
    assert len(right) == len(other) and right[:5000] != other[:5000] and right[5000:] != other[5000:]
    web.script = [serve(data=other if changed else None, cut=5000), second]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_a_part_is_not_continued_where_nothing_proves_that_it_belongs(entry, web, right, other, tmp_path):
    for first in (serve(data=other, cut=5000, etag=None), serve(data=other, cut=5000, etag='W/"1"')):
        folder = tmp_path / str(len(web.requests))
        web.script = [first]
        fetch(entry, folder)
        assert only_the_file(folder, right) and web.headers("Range")[-1] is None


def test_a_known_sha256_continues_without_an_etag_and_on_another_mirror(entry, web, right, tmp_path):
    digest = hashlib.sha256(right).hexdigest()
    web.files["/mirror"] = right
    web.script = [serve(cut=5000, etag=None), serve(cut=5000, etag=None), fail(404)]
    fetch(entry, tmp_path / "to", sha256=digest, urls=(*entry.urls, web.url + "/mirror"))
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-", "bytes=10000-", "bytes=10000-"]


def test_a_wrong_beginning_is_found_out_and_replaced(entry, web, right, other, tmp_path):
    (tmp_path / (entry.file + ".part")).write_bytes(other[:5000])
    assert fetch(entry, tmp_path, sha256=hashlib.sha256(right).hexdigest()).read_bytes() == right
    assert web.headers("Range") == ["bytes=5000-", None]


@pytest.mark.parametrize(
    "note", [b"", b"[]", b'{"url": 1}', b'{"url":1,"etag":2,"total":"a","sha256":3}', b"\xff"]
)
def test_a_damaged_note_only_costs_the_beginning(entry, web, right, tmp_path, note):
    (tmp_path / (entry.file + ".part")).write_bytes(b"x" * 5000)
    (tmp_path / (entry.file + ".part.json")).write_bytes(note)
    assert fetch(entry, tmp_path).read_bytes() == right


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_servers_that_are_busy_are_asked_again(entry, web, right, tmp_path, status):
    web.script = [fail(status, Retry_After=0), fail(status, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_a_server_that_stays_silent_is_left(entry, web, tmp_path):
    web.script = [silence] * 3
    assert "nothing came" in refused(entry, tmp_path, "3 times in a row")


def test_a_server_that_always_breaks_off_is_left(entry, web, tmp_path):
    web.script = [serve(cut=100, ranges=False)] * 100
    refused(entry, tmp_path, "ended after 100 of")
    web.script = [serve(cut=10)] * 100
    refused(entry, tmp_path, "broke too often")


# mirrors


@pytest.mark.parametrize(
    "bad", [fail(404), fail(403), fail(410), serve(data=b"<html>"), serve(data=b"x" * 9000)]
)
def test_the_next_mirror_is_asked(entry, web, right, tmp_path, bad):
    web.script = [bad]
    web.files["/mirror"] = right
    fetch(entry, tmp_path / "to", urls=(web.url + "/gone", web.url + "/mirror"))
    assert only_the_file(tmp_path / "to", right)


def test_no_mirror_left_says_what_each_answered_and_how_to_help_oneself(entry, web, tmp_path):
    web.script = [fail(403), fail(404)]
    urls = (web.url + "/a", "http://127.0.0.1:1/b", web.url + "/c")
    message = refused(entry, tmp_path, "could not be downloaded", urls=urls)
    for part in (
        "/a: ",
        "403",
        "no connection",
        "404",
        "HF_TOKEN",
        "in a browser",
        str(tmp_path / entry.file),
    ):
        assert part in message


def test_the_same_version_from_elsewhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="from elsewhere: 4.25-github"):
        download(DOWNLOADS["4.25"], tmp_path)


# wrong files


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve(data=b"<!DOCTYPE html><p>Sign in"), "web page"),
        (serve(Content_Type="text/html; charset=utf-8"), "web page"),
        (serve(data=b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "Git LFS pointer"),
        (serve(data=b"weights " * 4000), "it cannot be read as plain weights"),
        (serve(data=b""), "it is empty"),
        (serve(Content_Encoding="gzip"), "packed"),
        (serve(status=203), "203"),
        (serve(length=9000), "it cannot be read as plain weights"),
    ],
    ids=["page", "page by type", "pointer", "junk", "empty", "packed", "odd status", "shorter length"],
)
def test_what_is_not_the_file_never_gets_its_name(entry, web, tmp_path, answer, reason):
    web.script = [answer]
    refused(entry, tmp_path, reason)


def test_a_length_that_never_comes_is_an_error(entry, web, right, tmp_path):
    web.script = [serve(length=len(right) + 500, ranges=False)] * 9
    refused(entry, tmp_path, "ended after")


def test_an_answer_without_end_is_ended(entry, web, right, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_LIMIT", 1000)
    web.script = [serve(length=None)]
    refused(entry, tmp_path, "does not end")


def test_another_version_another_network_and_code_are_refused(entry, web, tmp_path):
    web.files[PATH] = golden.release_file("4.22.lite")
    refused(entry, tmp_path, "it is RIFE 4.22.lite")
    file = io.BytesIO()
    torch.save({"conv.weight": torch.zeros(3)}, file)
    web.files[PATH] = file.getvalue()
    refused(entry, tmp_path, "not a RIFE network")
    file = io.BytesIO()
    torch.save({"conv.weight": Path}, file)
    web.files[PATH] = file.getvalue()
    refused(entry, tmp_path, "it would call pathlib")
    assert not list(tmp_path.glob("*.part*"))


def test_known_size_and_sha256_are_held(entry, web, right, tmp_path):
    refused(entry, tmp_path, f"{len(right):,} bytes, expected {len(right) + 1:,}", size=len(right) + 1)
    web.script = [serve(length=None)]
    refused(entry, tmp_path, "expected 1,000,000", size=1_000_000)
    refused(entry, tmp_path, "sha256", sha256="0" * 64)
    assert fetch(entry, tmp_path, size=len(right), sha256=hashlib.sha256(right).hexdigest().upper())


def test_the_digest_that_a_hub_names_is_held(entry, web, right, other, tmp_path):
    digest = hashlib.sha256(right).hexdigest()
    web.files["/store"] = other
    web.script = [redirect(web.url + "/store", X_Linked_ETag=f'"{digest}"')]
    refused(entry, tmp_path, f"expected {digest}")
    web.files["/store"] = right
    web.script = [redirect(web.url + "/store", X_Linked_ETag=f'"{digest}"')]
    assert fetch(entry, tmp_path).read_bytes() == right


def test_the_digest_that_a_hub_named_once_is_remembered(entry, web, right, other, tmp_path):
    web.files["/store"] = right
    named = redirect(web.url + "/store", X_Linked_ETag=f'"{hashlib.sha256(right).hexdigest()}"')
    plain = redirect(web.url + "/store")
    web.script = [named, serve(cut=5000), plain, serve(data=other, ignore_if_range=True, etag=None), plain]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_whatever_a_server_does_the_file_is_right_or_there_is_none(entry, web, right, other, tmp_path):
    """150 servers at random."""
    chance = random.Random(5)
    arrived = 0
    for i in range(150):
        web.script = [_mischief(chance, right, other, web) for _ in range(chance.randint(1, 5))]
        folder = tmp_path / str(i)
        for _ in range(2):  # a second run meets what the first one left
            try:
                path = fetch(entry, folder)
            except DownloadError:
                assert none_of_that_name(folder, entry)
                continue
            # Whole files of the server's are right; a mixture of two never is.
            assert path.read_bytes() in (right, other) and only_the_file(folder, path.read_bytes())
            arrived += 1
            break
    assert 50 < arrived < 150


def _mischief(chance: random.Random, right: bytes, other: bytes, web: Web):
    data = chance.choice((right, right, right, other))
    cut = chance.randrange(len(right))
    return chance.choice(
        [
            serve(data=data),
            serve(data=data, cut=cut),
            serve(data=data, cut=cut, ignore_if_range=True),
            serve(data=data, cut=cut, etag=None),
            serve(data=data, cut=cut, etag=None, ignore_if_range=True),
            serve(data=data, ranges=False, cut=cut),
            serve(data=data, ignore_if_range=True, shift=chance.randint(-50, 50)),
            serve(data=data, length=cut),
            serve(data=data, length=None, cut=cut),
            serve(data=data[:cut]),
            fail(chance.choice((404, 416, 429, 500, 503))),
            redirect(web.url + PATH),
            redirect(web.url + "/nowhere"),
            hang_up,
        ]
    )


# redirects and tokens


@pytest.fixture
def elsewhere(right):
    with Web().running() as running:
        running.files["/store"] = right
        yield running


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_goes_along_on_its_host_and_to_no_other(entry, web, elsewhere, tmp_path, monkeypatch, status):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    web.script = [redirect("/moved", status), redirect(elsewhere.url + "/store", status)]
    fetch(entry, tmp_path)
    assert web.headers("Authorization") == ["Bearer secret"] * 2
    assert elsewhere.headers("Authorization") == [None]


def test_an_expired_token_is_left_out_the_second_time(entry, web, right, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "old")
    web.script = [fail(401)]
    assert fetch(entry, tmp_path).read_bytes() == right
    assert web.headers("Authorization") == ["Bearer old", None]
    web.script = [fail(401), fail(401)]
    refused(entry, tmp_path / "again", "HF_TOKEN")


def test_a_resumed_download_asks_the_storage_for_the_rest(entry, web, elsewhere, right, tmp_path):
    elsewhere.script = [serve(cut=5000)]
    web.script = [redirect(elsewhere.url + "/store")] * 2
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right) and elsewhere.headers("Range") == [None, "bytes=5000-"]


def test_no_way_leads_out_of_https_or_to_a_local_file(entry, web, tmp_path):
    secure = urllib.request.Request("https://example.org/a")
    with pytest.raises(TransferError, match="from https to http:"):
        transfer._Redirects().redirect_request(secure, None, 302, "", {}, "http://example.org/a")
    for bad in ("file:///etc/passwd", "ftp://example.org/a"):
        web.script = [redirect(bad)]
        refused(entry, tmp_path, "302|refused")
        refused(entry, tmp_path, "neither http nor https", urls=(bad,))


def test_a_python_without_certificates_is_told_apart_from_a_broken_line(entry, web, tmp_path, monkeypatch):
    class Opener:
        def open(self, request, timeout):
            error = ssl.SSLCertVerificationError(1, "failed")
            error.verify_message = "unable to get local issuer certificate"
            raise urllib.error.URLError(error)

    monkeypatch.setattr(transfer, "_opener", lambda redirects: Opener())
    message = refused(entry, tmp_path, "certificate")
    assert "SSL_CERT_FILE" in message and "in a row" not in message


def test_redirects_in_a_circle_end(entry, web, tmp_path):
    web.script = [redirect(web.url + PATH)] * 50
    refused(entry, tmp_path, "302")


def test_the_token_is_looked_up_where_huggingface_hub_keeps_it(monkeypatch, tmp_path):
    hub = "https://huggingface.co/a/b"
    assert catalog._token(hub) == ""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("stored\n")
    assert catalog._token(hub) == "stored"
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "mine"))
    (tmp_path / "mine").write_text("mine")
    assert catalog._token(hub) == "mine"
    monkeypatch.setenv("HF_TOKEN", " given ")
    assert catalog._token(hub) == "given"
    for other in ("https://hf-mirror.com/a", "https://github.com/a", "https://huggingface.co.evil.org/a"):
        assert catalog._token(other) == ""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert catalog._token(hub) == ""


# archives


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, data in members.items():
            out.writestr(name.replace("__", "/"), data)
    return file.getvalue()


def test_one_file_of_an_archive_is_taken_out(entry, web, right, tmp_path):
    web.files[PATH] = archive(train_log__flownet_pkl=right, train_log__model_py=b"import os")
    web.script = [serve(cut=5000)]
    fetch(entry, tmp_path / "to", member="train_log/flownet_pkl")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-"]


def test_an_archive_without_it_or_with_something_else_is_refused(entry, web, right, tmp_path):
    web.files[PATH] = archive(other=right)
    refused(entry, tmp_path, "expected flownet.pkl in it", member="flownet.pkl")
    web.files[PATH] = right[:9000]
    refused(entry, tmp_path, "archive cannot be used", member="flownet.pkl")
    web.files[PATH] = archive(flownet=b"import os")
    refused(entry, tmp_path, "it cannot be read as plain weights", member="flownet")


# this machine


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline_nothing_is_tried_and_the_message_says_what_to_put_where(
    entry, web, tmp_path, monkeypatch, value
):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    message = refused(entry, tmp_path, "HF_HUB_OFFLINE")
    assert entry.urls[0] in message and str(tmp_path / entry.file) in message and not web.requests


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_tried(
    entry, web, tmp_path, monkeypatch
):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="file.* cannot be written to .* Choose another"):
        fetch(entry, tmp_path / "file" / "folder")
    monkeypatch.setattr(catalog.os, "access", lambda *_: False)
    with pytest.raises(DownloadError, match="no permission to write"):
        fetch(entry, tmp_path)
    assert not web.requests


def test_a_full_disk_is_noticed_before_it_is_full(entry, web, tmp_path, monkeypatch):
    usage = transfer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    refused(entry, tmp_path, "cannot be written to .*has 1 MB left, expected .*: make room")


def test_cancelling_does_not_wait_for_the_server(entry, web, right, tmp_path):
    class Cancelled(BaseException):
        pass

    def cancel(done, total):
        if done == 5000:
            raise Cancelled

    web.script = [serve(hang=5000)]
    with pytest.raises(Cancelled):
        # Its server answers again only when this test has ended.
        download(entry, tmp_path, on_progress=cancel, patience=Patience(stall=600, poll=0.01))
    assert none_of_that_name(tmp_path, entry)
    assert fetch(entry, tmp_path).read_bytes() == right
    assert web.headers("Range") == [None, "bytes=5000-"]


def test_a_server_that_does_not_answer_can_be_cancelled_too(entry, web, tmp_path):
    calls = []

    def cancel(done, total):
        calls.append(done)
        if len(calls) == 5:
            raise KeyboardInterrupt

    web.script = [silence]
    with pytest.raises(KeyboardInterrupt):
        download(entry, tmp_path, on_progress=cancel, patience=Patience(stall=600, poll=0.01))


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from rife.checkpoint.catalog import Download, download
print(download(Download("x", "4.15.lite", (sys.argv[2],), "x.pkl"), sys.argv[3]))
"""


def test_two_processes_that_want_one_file_get_it_once(web, right, tmp_path):
    gate = threading.Event()

    def slow(handler, web):
        serve(hang=5000)(handler, web) if not gate.wait(60) else serve()(handler, web)

    web.script = [slow]
    command = [sys.executable, "-c", PROCESS, str(ROOT), web.url + PATH, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        # Both stand at the same file: one at the server, the other one at the lock.
        assert _soon(lambda: len(web.requests) == 1)
        gate.set()
        for process in both:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0 and out.strip() == str(tmp_path / "x.pkl")
    finally:
        gate.set()
        for process in both:
            process.kill()
            process.wait()
    assert len(web.requests) == 1 and only_the_file(tmp_path, right)


def _soon(condition) -> bool:
    waiting = threading.Event()
    return any(condition() or waiting.wait(0.05) for _ in range(1200))


def test_a_lock_is_for_one_at_a_time_and_passes_on(tmp_path):
    class Busy(Exception):
        pass

    def busy():
        raise Busy

    lock = tmp_path / "lock"
    waits, inside, leave = threading.Event(), threading.Event(), threading.Event()

    def second():
        with alone(lock, tick=waits.set, poll=0.01):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=second)
    with alone(lock):
        thread.start()
        assert waits.wait(30) and not inside.is_set()
    # The first one removed the file that the second one waited at.
    assert inside.wait(30)
    with pytest.raises(Busy), alone(lock, tick=busy):
        pass
    leave.set()
    thread.join(30)
    with alone(lock, tick=busy):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_windows_is_used_where_there_is_no_other(tmp_path, monkeypatch):
    class Msvcrt:
        LK_NBLCK = 2
        held: set[int] = set()

        @classmethod
        def locking(cls, fileno, mode, count):
            assert (mode, count) == (cls.LK_NBLCK, 1)
            inode = os.fstat(fileno).st_ino
            if inode in cls.held:
                raise PermissionError(13, "Permission denied")
            cls.held.add(inode)

    monkeypatch.setattr(transfer, "fcntl", None)
    monkeypatch.setattr(transfer, "msvcrt", Msvcrt, raising=False)

    def give_up():
        raise InterruptedError

    with alone(tmp_path / "lock"), pytest.raises(InterruptedError), alone(tmp_path / "lock", tick=give_up):
        pass
    assert not list(tmp_path.iterdir())


def test_a_drive_without_locks_is_used_all_the_same(entry, web, right, tmp_path, monkeypatch):
    class Fcntl:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(handle, mode):
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(transfer, "fcntl", Fcntl)
    assert fetch(entry, tmp_path).read_bytes() == right


# the table


def test_the_table_holds_what_can_be_used():
    assert len(DOWNLOADS) == len(catalog._ROWS)
    assert len({row.file for row in DOWNLOADS.values()}) == len(DOWNLOADS)
    assert len({url for row in DOWNLOADS.values() for url in row.urls}) == sum(
        len(row.urls) for row in DOWNLOADS.values()
    )
    for name, row in DOWNLOADS.items():
        assert row.version in RELEASES and name.startswith(row.version)
        assert row.file.endswith((".pkl", ".safetensors")) and "/" not in row.file
        assert row.sha256 == "" or len(bytes.fromhex(row.sha256)) == 32
        assert all(url.startswith("https://") for url in row.urls) and row.licence
        # What its tensors are taken for, or a loader would run another version under this name.
        assert row.version != "3.8"
    single = {version for version in RELEASES if version[0] in "34"} - {"3.8", "3.9"}
    assert single == {row.version for row in DOWNLOADS.values()}


def test_an_endpoint_takes_the_place_of_the_hub(monkeypatch):
    assert [url.split("/")[2] for url in sources(DOWNLOADS["4.25"])] == ["huggingface.co", "hf-mirror.com"]
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.lan/hf/")
    (url,) = sources(DOWNLOADS["4.25"])
    assert url.startswith("http://mirror.lan/hf/Comfy-Org/frame_interpolation/resolve/main/")
    assert sources(DOWNLOADS["4.7"]) == DOWNLOADS["4.7"].urls
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com")
    assert {url.split("/")[2] for url in sources(DOWNLOADS["4.25"])} == {"hf-mirror.com"}


def test_safetensors_are_proven_as_well(web, tmp_path, monkeypatch):
    from safetensors.torch import save

    monkeypatch.setenv("HF_ENDPOINT", web.url)
    row = DOWNLOADS["4.25.lite"]
    path = row.urls[0].removeprefix("https://huggingface.co")
    data = save({k: torch.zeros(shape, dtype=torch.uint8) for k, shape in golden.shapes("4.25.lite").items()})
    web.files[path] = data
    web.script = [serve(cut=len(data) // 2)]
    assert download(row, tmp_path, patience=QUICK).read_bytes() == data
    web.files[path] = save({"a": torch.zeros(1)})
    with pytest.raises(DownloadError, match="not a RIFE"):
        download(row, tmp_path / "other", patience=QUICK)


# the command line


@pytest.fixture
def on_offer(entry, monkeypatch):
    monkeypatch.setitem(DOWNLOADS, "4.15.lite", entry)
    return entry


def test_the_list_says_what_there_is_and_what_is_here(on_offer, web, tmp_path, capsys):
    (tmp_path / on_offer.file).write_bytes(b"x" * 2_500_000)
    assert cli.main(["download", "--to", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (mine,) = (line.split() for line in lines if line.startswith("4.15.lite"))
    assert mine == ["4.15.lite", "4.15.lite", "2.5", "MB", "MIT", "yes"]
    assert len(lines) == 1 + len(DOWNLOADS) and not web.requests
    assert any(line.split()[:6] == ["4.26", "4.26", "22.7", "MB", "MIT", "no"] for line in lines)


def test_the_command_brings_a_file_and_prints_where_it_is(on_offer, right, tmp_path, capsys):
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / on_offer.file)
    assert only_the_file(tmp_path, right)


def test_the_command_reports_errors_in_one_line(on_offer, web, tmp_path, capsys, monkeypatch):
    assert cli.main(["download", "4.15.light", "--to", str(tmp_path)]) == 1
    assert "4.15.lite" in capsys.readouterr().err
    with pytest.raises(ValueError, match="such as 4.25"):
        find("???")
    web.script = [fail(404)]
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "404" in error and "Traceback" not in error
    monkeypatch.setattr(cli, "download", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 130


def test_notes_beside_a_part_are_json(entry, web, tmp_path):
    web.script = [serve(cut=5000), *[fail(503)] * 2]
    refused(entry, tmp_path, "503")
    note = json.loads((tmp_path / (entry.file + ".part.json")).read_text())
    assert note["url"] == entry.urls[0] and note["total"]
