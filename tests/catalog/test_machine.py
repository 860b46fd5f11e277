"""Downloads on this machine: locks, processes, disks, time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
from downloads import PATH, fetch, none_of_that_name, only_the_file, refused
from web import serve, silence

from rife.checkpoint import catalog
from rife.checkpoint import download as transfer
from rife.checkpoint.catalog import DownloadError, download
from rife.checkpoint.download import RetryPolicy
from rife.checkpoint.locking import file_lock

ROOT = Path(__file__).resolve().parents[2]


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
        download(entry, tmp_path, on_progress=cancel, patience=RetryPolicy(stall=600, poll=0.01))
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
        download(entry, tmp_path, on_progress=cancel, patience=RetryPolicy(stall=600, poll=0.01))


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
        with file_lock(lock, tick=waits.set, poll=0.01):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=second)
    with file_lock(lock):
        thread.start()
        assert waits.wait(30) and not inside.is_set()
    # The first one removed the file that the second one waited at.
    assert inside.wait(30)
    with pytest.raises(Busy), file_lock(lock, tick=busy):
        pass
    leave.set()
    thread.join(30)
    with file_lock(lock, tick=busy):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_drive_without_locks_is_used_all_the_same(entry, web, right, tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def flock(handle, mode):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert fetch(entry, tmp_path).read_bytes() == right
    assert only_the_file(tmp_path, right)


def test_where_filelock_3_would_wait_for_ever_there_are_no_locks(entry, web, right, tmp_path, monkeypatch):
    """It takes any error of the system but one for a lock that another process has."""

    def acquire(self, timeout):
        raise filelock.Timeout(str(self.lock_file))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    assert fetch(entry, tmp_path).read_bytes() == right
    assert only_the_file(tmp_path, right)
