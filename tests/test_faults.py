"""What fails while files are written or read leaves the old or the new, and is told: `benchmarks/fault_injection.py` in
short, and single faults that it found."""

from __future__ import annotations

import errno
import os

import av.error
import pytest
from fault_scenarios import SCENARIOS, begin, judge, state
from video_files import job_of, make

from rife.video import decode, reader, source
from rife.video.codecs import VideoError


@pytest.mark.parametrize(
    ("name", "call"),
    [("video", "fsync"), ("video", "replace"), ("pictures", "fsync"), ("pictures", "replace"),
     ("training", "replace"), ("training anew", "fsync")],
)  # fmt: skip
def test_each_flush_and_rename_may_fail_once(tmp_path, monkeypatch, name, call):
    """benchmarks/fault_injection.py: also every write and read, of runs under --resume, training and downloads, too."""
    real, counted, failing = getattr(os, call), [0], [0]

    def may_fail(*args, **options):
        counted[0] += 1
        if counted[0] == failing[0]:
            raise OSError(errno.EIO, "Input/output error", *args[:1])
        return real(*args, **options)

    scenario = SCENARIOS[name](tmp_path, None)
    begin(scenario, tmp_path / "it")
    before = state(tmp_path / "it")
    monkeypatch.setattr(os, call, may_fail)
    scenario.run(tmp_path / "it")
    whole = state(tmp_path / "it")
    assert counted[0] > 0
    for nth in {1, counted[0] // 2 + 1, counted[0]}:
        begin(scenario, tmp_path / str(nth))
        counted[0], failing[0] = 0, nth
        error = None
        try:
            scenario.run(tmp_path / str(nth))
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is judged
            error = raised
        failing[0] = 0
        judge(scenario, tmp_path / str(nth), before, whole, error)


class Failing:
    """An open file of which no more than some packets can be read."""

    def __init__(self, container, packets):
        self._container, self._left = container, packets

    def __getattr__(self, name):
        return getattr(self._container, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._container.close()

    def demux(self, *streams):
        for packet in self._container.demux(*streams):
            if self._left == 0:
                raise av.error.FFmpegError(errno.EIO, "Input/output error")
            self._left -= 1
            yield packet


def test_a_drive_that_fails_is_no_film_of_fewer_frames(tmp_path, monkeypatch):
    """Two frames less, and no error: the file was taken for one that was cut off."""
    path = make(tmp_path / "in.mkv", frames=12, codec="mpeg4", pix_fmt="yuv420p")
    job = job_of(path)
    opened = decode.open_source
    monkeypatch.setattr(decode, "open_source", lambda *args: Failing(opened(*args), 10))
    with pytest.raises(VideoError, match="a moment ago"):
        list(job.clip.decoded())


def test_a_drive_that_fails_once_while_a_file_is_looked_through(tmp_path, monkeypatch):
    """Read again, it is whole; one that is cut off is so again, which stays a warning."""
    path = make(tmp_path / "in.mkv", frames=12, codec="mpeg4", pix_fmt="yuv420p")
    limits = iter([5])
    monkeypatch.setattr(
        reader, "open_source", lambda *args: Failing(source.open_source(*args), next(limits, 100))
    )
    assert len(job_of(path).clip) == 12
    limits = iter([5, 7])
    with pytest.raises(VideoError, match="a moment ago"):
        job_of(path)
    limits = iter([5, 5])
    assert len(job_of(path).clip) == 5
