"""Video files, with clips made here."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from video_files import NTSC, Fader, make, make_of, make_sound, packets, picture, rendered

import rife
from rife.timeline.parts import Timing
from rife.timeline.request import request_of
from rife.video import job as video
from rife.video.colours import kind_of
from rife.video.convert import to_rgb
from rife.video.job import VideoError, VideoWriter, interpolate_video, probe, read_frames, write_png


def test_probe_and_read_are_exact(tmp_path):
    path = make(tmp_path / "in.mkv")
    info = probe(path)
    assert (info.width, info.height, info.rate, info.has_audio) == (64, 48, NTSC, False)
    frames = list(read_frames(path))
    assert len(frames) == 5
    assert all(np.array_equal(frame, picture(i)) for i, frame in enumerate(frames))
    assert len(list(read_frames(path, max_frames=2))) == 2


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_counts_rates_and_originals(tmp_path, multiplier):
    source = make(tmp_path / "in.mkv")
    summary = interpolate_video(Fader(), source, tmp_path / "out.mp4", multiplier, crf=1)
    count = 4 * multiplier + 1
    assert (summary.frames_in, summary.frames_out, summary.rate) == (5, count, NTSC * multiplier)
    assert probe(tmp_path / "out.mp4").rate == NTSC * multiplier
    frames = list(read_frames(tmp_path / "out.mp4"))
    assert len(frames) == count
    for i in range(5):  # 4:2:0 and crf 1 cost a few levels at these colour ramps
        difference = np.abs(frames[i * multiplier].astype(int) - picture(i).astype(int))
        assert difference.mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = sorted(p.pts * p.time_base for p in container.demux(video=0) if p.pts is not None)
    assert times == [pytest.approx(float(k / (NTSC * multiplier)), abs=1e-4) for k in range(count)]


def test_colours_survive(tmp_path):
    """A file tagged BT.709 but converted as BT.601 turns greens by several levels."""
    with VideoWriter(tmp_path / "flat.mp4", Fraction(10), 64, 48, crf=1) as writer:
        for _ in range(3):
            writer.write(np.broadcast_to(np.array([30, 180, 60], np.uint8), (48, 64, 3)))
    frame = list(read_frames(tmp_path / "flat.mp4"))[1]
    assert (
        np.abs(frame.reshape(-1, 3).mean(0) - [30, 180, 60]).max() < 3
    )  # 8-bit YUV rounds; BT.601 would be 22 off


def test_frames_of_a_stream_equal_the_batch(tmp_path, monkeypatch):
    source, written = make(tmp_path / "in.mkv"), spied(monkeypatch)
    interpolate_video(Fader(), source, tmp_path / "out.mp4", 2)
    frames = torch.from_numpy(np.stack(list(read_frames(source)))).float() / 255
    expected = [video.to_bytes(frame) for frame in rife.interpolate(Fader(), frames, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(written, expected, strict=True))
    assert np.array_equal(written[2], picture(1))


@pytest.mark.parametrize("container", [".mp4", ".mkv"])
def test_sound_is_copied_packet_for_packet(tmp_path, container):
    source = make(tmp_path / "in.mp4", audio="aac", codec="libx264", pix_fmt="yuv420p")
    summary = interpolate_video(Fader(), source, tmp_path / f"out{container}", 2)
    assert summary.audio and summary.sound == "sound copied"
    before, after = packets(source), packets(tmp_path / f"out{container}")
    assert [data for _, data in before] == [data for _, data in after]
    # Matroska has no negative times: it moves picture and sound together. What counts is the one against the other.
    # FFmpeg also subtracts AAC's priming of 1024 samples there, 21 ms, half a frame: not heard.
    tolerance = 0.002 if container == ".mp4" else 0.023
    shift = packets(tmp_path / f"out{container}", "video")[0][0] - packets(source, "video")[0][0]
    assert [t - shift for t, _ in after] == [pytest.approx(t, abs=tolerance) for t, _ in before]


def test_slow_motion_keeps_the_rate_and_drops_the_sound(tmp_path):
    source = make(tmp_path / "in.mp4", audio="aac", codec="libx264", pix_fmt="yuv420p")
    summary = interpolate_video(Fader(), source, tmp_path / "slow.mp4", 4, keep_fps=True)
    assert (summary.rate, summary.audio) == (NTSC, False)
    assert not probe(tmp_path / "slow.mp4").has_audio


def test_odd_sides_lose_no_pixel(tmp_path):
    source = make(tmp_path / "odd.mkv", height=47, width=61)
    interpolate_video(Fader(), source, tmp_path / "out.mp4", 2, crf=1)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (62, 48)


def test_a_rate_is_exact_and_the_sound_stays(tmp_path):
    source = make(tmp_path / "in.mkv", frames=9, rate=Fraction(16), audio="aac")
    summary = interpolate_video(Fader(), source, tmp_path / "out.mp4", rate="60000/1001", keep_duration=True)
    assert (summary.frames_in, summary.frames_out, summary.rate) == (9, 34, Fraction(60000, 1001))
    assert 0 <= summary.frames_out / summary.rate - Fraction(9, 16) < 1 / summary.rate
    assert [data for _, data in packets(tmp_path / "out.mp4")] == [data for _, data in packets(source)]


@pytest.mark.parametrize("cuts", ["hold", "off"])
def test_a_cut_is_found_while_it_streams(tmp_path, monkeypatch, cuts):
    frames = torch.cat([rendered(1, 8), rendered(2, 8)])
    source = make_of(tmp_path / "in.mkv", frames)
    written = spied(monkeypatch)
    interpolate_video(Fader(), source, tmp_path / "out.mp4", 2, loop=True, cuts=cuts)
    assert len(written) == 32
    blended = np.abs(np.int16(written[15]) - (np.int16(written[14]) + written[16]) / 2).max() <= 1
    assert blended == (cuts == "off") and np.array_equal(written[15], written[14]) == (cuts == "hold")
    middle = (np.int16(written[30]) + written[0]) / 2
    assert np.abs(written[31] - middle).max() <= 1  # back to the first frame


def spied(monkeypatch) -> list[np.ndarray]:
    """The frames that are written from now on."""
    written, write = [], VideoWriter.write

    def spy(self, frame, *times):
        decoded = isinstance(frame, av.VideoFrame)
        written.append(to_rgb(frame, self.look, kind_of(self.look)) if decoded else frame)
        write(self, frame, *times)

    monkeypatch.setattr(VideoWriter, "write", spy)
    return written


def test_one_frame_stays_one_frame(tmp_path):
    source = make(tmp_path / "one.mkv", frames=1)
    assert interpolate_video(Fader(), source, tmp_path / "out.mp4", 2).frames_out == 1


def _no_leftovers(folder, *expected):
    assert sorted(p.name for p in folder.iterdir()) == sorted(expected)


def test_a_failing_run_leaves_what_was_there(tmp_path):
    source = make(tmp_path / "in.mkv")
    (tmp_path / "out.mp4").write_bytes(b"mine")

    def fail(count):
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpolate_video(Fader(), source, tmp_path / "out.mp4", 2, on_progress=fail)
    assert (tmp_path / "out.mp4").read_bytes() == b"mine"
    _no_leftovers(tmp_path, "in.mkv", "out.mp4")


def test_errors_name_cause_and_way_out(tmp_path):
    source = make(tmp_path / "in.mkv")
    (tmp_path / "text.mp4").write_text("not a video")
    make_sound(tmp_path / "sound.mka")
    cases = [
        ({"source": tmp_path / "none.mp4"}, FileNotFoundError, "none.mp4"),
        ({"source": tmp_path / "text.mp4"}, VideoError, "damaged"),
        ({"source": tmp_path / "sound.mka"}, VideoError, "only audio"),
        ({"target": source}, VideoError, "input and output"),
        ({"target": tmp_path / "missing" / "out.mp4"}, VideoError, "no folder"),
        ({"target": tmp_path / "out.xyz"}, VideoError, "container"),
    ]
    for change, kind, said in cases:
        with pytest.raises(kind, match=said):
            interpolate_video(Fader(), **{"source": source, "target": tmp_path / "out.mp4", **change})
    _no_leftovers(tmp_path, "in.mkv", "text.mp4", "sound.mka")


def test_png_round_trip(tmp_path):
    write_png(tmp_path / "x.png", picture(3))
    with av.open(str(tmp_path / "x.png")) as container:
        assert np.array_equal(next(container.decode(video=0)).to_ndarray(format="rgb24"), picture(3))


@pytest.mark.parametrize("options", [{}, {"rate": 30, "loop": True}, {"ensemble": True, "cuts": "off"}])
def test_the_bundled_network_gives_the_bytes_of_the_image_path(tmp_path, monkeypatch, options):
    """Decoded, through `rife.interpolate` at once, rounded: what the stream encodes."""
    model = rife.load_model(device="cpu")
    source = make_of(tmp_path / "in.mkv", rendered(3, 7))
    written = spied(monkeypatch)
    interpolate_video(model, source, tmp_path / "out.mp4", **options)
    frames = torch.from_numpy(np.stack(list(read_frames(source)))).float() / 255
    timing = Timing(request_of(rate=options.get("rate")), options.get("loop", False))
    plan = timing.plan(video.Clip(source).clock)
    expected = rife.interpolate(model, frames, plan=plan, ensemble=options.get("ensemble", False))
    assert np.array_equal(np.stack(written), np.stack([video.to_bytes(frame) for frame in expected]))
