"""Files are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from fractions import Fraction

import pytest

from rife.atomic_write import atomic_write, refuse_device, write_text
from rife.video.codecs import VideoError
from rife.video.writer import VideoWriter


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path, capsys):
    """A report to /dev/null, as root, left a machine without one."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "pipe.mkv"):
        if name != "pipe":
            os.rename(tmp_path / "pipe", tmp_path / name)
        with pytest.raises(OSError, match="is a device or a pipe"):
            write_text(tmp_path / name, "new")
        assert stat.S_ISFIFO((tmp_path / name).stat().st_mode) and os.listdir(tmp_path) == [name]
    with pytest.raises(VideoError, match="pipe.mkv is a device or a pipe"):
        VideoWriter(tmp_path / "pipe.mkv", Fraction(24), 64, 48).__enter__()
    with pytest.raises(OSError, match="is a device"):
        refuse_device("/dev/stdout")
    with pytest.raises(OSError, match="is a device"):
        refuse_device("/dev/nothing.json")
    assert stat.S_ISFIFO((tmp_path / "pipe.mkv").stat().st_mode) and os.listdir(tmp_path) == ["pipe.mkv"]


def test_others_may_read_it_as_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.txt"
    path.write_text("old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out.txt"]


def test_a_full_disk_is_told_with_the_file_that_it_concerns(tmp_path):
    """A training run that ended there said no more than "No space left on device"."""
    with pytest.raises(OSError, match="out.txt"), atomic_write(tmp_path / "out.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "out") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_it_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("flush"), flush(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("rename"), rename(*paths)))
    write_text(tmp_path / "out", "text")
    assert calls[:2] == ["flush", "rename"]


def test_names_as_long_as_a_file_system_takes(tmp_path):
    path = tmp_path / ("n" * 250 + ".txt")
    write_text(path, "text")
    assert path.read_text() == "text"
