"""Segments: as the whole, resumed, shared by processes of which one is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from fractions import Fraction

import av
import numpy as np
import processes
import pytest
from sharing import Slow, joined, ready, share, share_as_launched
from video_files import Fader, frames_of, job_of, make, make_at, packets, same

from rife.timeline.request import PerPair
from rife.video import segments
from rife.video.codecs import VideoError
from rife.video.job import render
from rife.video.reader import Clip
from rife.video.segments import Claims, Segments, cut


def shown(path):
    with av.open(str(path)) as container:
        return sorted(p.pts * p.time_base for p in container.demux(video=0) if p.size)


@pytest.fixture
def short(monkeypatch):
    """Segments of 16 frames."""
    monkeypatch.setattr(segments, "_PER_PROCESS", 100)


@pytest.fixture
def source(tmp_path):
    return make(
        tmp_path / "in.mp4",
        frames=70,
        rate=Fraction(30000, 1001),
        audio="aac",
        codec="libx264",
        pix_fmt="yuv420p",
    )


@pytest.mark.parametrize("codec, name", [("ffv1", "out.mkv"), ("h264", "out.mp4"), ("h265", "out.mov")])
def test_joined_segments_are_what_one_run_writes(tmp_path, source, short, codec, name):
    job = job_of(source, codec)
    with job.writer(tmp_path / f"one-{name}") as writer:
        render(Fader(), job, job.part(), writer)
    work = Segments(job, tmp_path / name, {})
    assert len(work.parts) > 3 and work.run(Fader())
    one, many = frames_of(tmp_path / f"one-{name}"), frames_of(tmp_path / name)
    assert len(one) == len(many) == 139
    if codec == "ffv1":
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
    assert shown(tmp_path / f"one-{name}") == shown(tmp_path / name)
    assert [data for _, data in packets(tmp_path / name)] == [data for _, data in packets(source)]
    assert not (tmp_path / f"{name}.parts").exists()


def test_a_variable_rate_and_a_loop_are_joined_exactly(tmp_path, short):
    ticks = np.cumsum([0, *np.random.default_rng(0).integers(1000, 9000, 59)]).tolist()
    source = make_at(tmp_path / "in.mp4", ticks)
    job = job_of(source, loop=True)
    with job.writer(tmp_path / "one.mkv") as writer:
        render(Fader(), job, job.part(), writer)
    Segments(job, tmp_path / "many.mkv", {}).run(Fader())
    assert same(tmp_path / "one.mkv", tmp_path / "many.mkv")
    assert shown(tmp_path / "one.mkv") == shown(tmp_path / "many.mkv")


class Breaking(Fader):
    """Breaks after some frames; counts."""

    def __init__(self, after: int):
        self.left, self.made = after, 0

    def inference(self, *args, **kwargs):
        self.left -= 1
        self.made += 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().inference(*args, **kwargs)


def test_what_is_finished_is_not_computed_again(tmp_path, source, short):
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        Segments(job_of(source, at_cuts="off", at_repeats="off"), target, {}).run(Breaking(40))
    assert not target.exists()
    again, work = Breaking(1000), Segments(job_of(source, at_cuts="off", at_repeats="off"), target, {})
    left = work.open()
    assert 0 < len(left) < len(work.parts) and work.frames_done > 20
    work.run(again)
    assert again.made == sum((work.parts[i].last - work.parts[i].first) // 2 for i in left)
    assert len(frames_of(target)) == 139


def test_segments_of_another_job_are_refused(tmp_path, source, short):
    with pytest.raises(KeyboardInterrupt):
        Segments(job_of(source), tmp_path / "out.mkv", {"scale": 1}).run(Breaking(20))
    with pytest.raises(VideoError, match="scale differ"):
        Segments(job_of(source), tmp_path / "out.mkv", {"scale": 2})
    with pytest.raises(VideoError, match="timing differ"):
        Segments(job_of(source, request=PerPair.multiplied(3)), tmp_path / "out.mkv", {"scale": 1})
    with pytest.raises(VideoError, match="joined"):
        Segments(job_of(source), tmp_path / "out.gif", {})


def test_segments_begin_where_decoding_can(tmp_path):
    clip = Clip(
        make_at(tmp_path / "in.mp4", range(0, 300 * 3000, 3000), options={"g": "16", "sc_threshold": "0"})
    )
    bounds = cut(clip, 2)
    assert bounds[0] == 0 and bounds[-1] == 300 and bounds == sorted(set(bounds))
    assert all(b - segments.MARGIN in clip.keys for b in bounds[1:-1])


def test_a_claim_is_one_process_own_until_it_is_touched_no_more(tmp_path):
    with Claims(tmp_path, 0.5) as mine, Claims(tmp_path, 0.5) as other:
        assert mine.take("00001") and not other.take("00001")
        time.sleep(1.2)
        assert not other.take("00001")  # it is being touched
        mine.release("00001")
        assert other.take("00001")
    (tmp_path / "00002.claim").write_text("elsewhere 1")
    with Claims(tmp_path, 0.3) as late:
        assert not late.take("00002")
        time.sleep(0.5)
        assert late.take("00002") and not list(tmp_path.glob("00003*"))
    (tmp_path / "00003.claim").write_text(f"{late._host} {2**22 + 1}")
    with Claims(tmp_path, 60) as here:
        assert here.take("00003")  # of a process of this machine that is gone


@contextlib.contextmanager
def workers():
    """Yields what starts a process; whatever becomes of the test, none outlives it."""
    started = []

    def start(work, *arguments):
        started.append(processes.start(work, *arguments))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.terminate()  # so that a launcher ends what it has started, too
            process.join(20)
            process.kill()
            process.join()


def owners(folder):
    """The processes that hold segments now; a claim may go while it is read."""
    for claim in folder.glob("*.claim"):
        with contextlib.suppress(FileNotFoundError):
            yield claim.read_text().split()[-1]


def wait_until(done, started, seconds=240):
    """seconds: a busy machine may take a minute to import torch. Processes that fail are not waited for."""
    end = time.monotonic() + seconds
    while not done():
        ended = {process.pid: process.exitcode for process in started}
        assert not any(ended.values()), f"return codes: {ended}"
        assert time.monotonic() < end, f"waited for {seconds} s in vain; return codes: {ended}"
        time.sleep(0.02)


@pytest.mark.parametrize("victim", [0, 2])
def test_four_processes_share_the_work_and_one_may_be_killed(tmp_path, source, victim, count=4):
    job = job_of(source)
    with job.writer(tmp_path / "one.mkv") as writer:
        render(Fader(), job, job.part(), writer)
    target, folder = tmp_path / "many.mkv", tmp_path / "many.mkv.parts"
    ranks, begin = [rank for rank in range(count) if rank != victim], tmp_path / "begin"
    with workers() as start:
        # It never ends its first frame, and the others begin when it has: they could do all before, on a busy machine.
        killed = start(share, source, target, victim, count, 600)
        others = [start(share, source, target, rank, count, 0.01, begin) for rank in ranks]
        wait_until(
            lambda: str(killed.pid) in owners(folder) and all(ready(target, rank).exists() for rank in ranks),
            [killed, *others],
        )
        begin.touch()

        def busy_or_done():
            """Somebody else works, or has been so fast that all is done, the straggler's segment as well."""
            return {*owners(folder)} > {str(killed.pid)} or all(p.exitcode is not None for p in others)

        wait_until(busy_or_done, [killed, *others])
        os.kill(killed.pid, signal.SIGKILL)
        for process in others:
            process.join(240)
        assert [process.exitcode for process in others] == [0] * len(others)
        assert sum(joined(target, rank).exists() for rank in ranks) == 1
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    assert same(tmp_path / "one.mkv", target)
    assert not folder.exists()


def test_a_straggler_is_overtaken_and_takes_no_harm(tmp_path, source, short):
    """It holds its claim as it should, but the others finish its segment, join, and clear up."""
    results = {}

    def work(rank, model):
        job = job_of(source, at_cuts="off", at_repeats="off")
        results[rank] = Segments(job, tmp_path / "out.mkv", {}, rank=rank, processes=2).run(model)

    straggler = threading.Thread(target=work, args=(1, Slow(0.15)))
    straggler.start()
    while not list(tmp_path.glob("out.mkv.parts/*.claim")):
        time.sleep(0.01)
    work(0, Fader())
    straggler.join()
    assert results == {0: True, 1: False} and len(frames_of(tmp_path / "out.mkv")) == 139


def test_torchrun_restarts_and_goes_on(tmp_path, source):
    """The launcher ends all processes when one dies; with --max-restarts they begin anew and find what is finished."""
    target = tmp_path / "many.mkv"
    with workers() as start:
        launcher = start(processes.launch, share_as_launched, 2, 2, tmp_path / "logs", source, target, 20)
        launcher.join(200)
        assert launcher.exitcode == 0
    assert (tmp_path / "died").exists() and joined(target, 0).exists() != joined(target, 1).exists()
    assert len(frames_of(target)) == 139


def test_the_job_is_written_down_once(tmp_path, source, short):
    first = Segments(job_of(source), tmp_path / "out.mkv", {}, processes=1)
    second = Segments(job_of(source), tmp_path / "out.mkv", {}, processes=3)
    assert first.bounds == second.bounds
    assert json.loads((first.folder / "job.json").read_text())["bounds"] == first.bounds
