"""Writing: colours, depth, alpha, odd sides, times, what is copied, what goes wrong; with files made here."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import Fader, damage, make, make_at, picture

from rife.video.codecs import CODECS, ENCODERS, Encoding, Hdr, VideoError, available, choose
from rife.video.colours import Look
from rife.video.job import interpolate_video
from rife.video.reader import Clip
from rife.video.writer import VideoWriter, tick_of

ROOT = Path(__file__).resolve().parent.parent
GREEN = np.array([30, 180, 60], np.uint8)


def flat(dtype=np.uint8, alpha=None, height=48, width=64):
    colour = [*GREEN, *([] if alpha is None else [alpha])]
    frame = np.broadcast_to(np.array(colour, np.uint8), (height, width, len(colour)))
    return frame if dtype == np.uint8 else frame.astype(np.uint16) * 257


def write(path, frame, look=None, count=4, **more):
    with VideoWriter(path, Fraction(10), frame.shape[1], frame.shape[0], look=look, **more) as writer:
        for _ in range(count):
            writer.write(frame)
    return path


@pytest.mark.parametrize("matrix", [1, 5, 6, 9, 2])
@pytest.mark.parametrize("range_", [1, 2, 0])
@pytest.mark.parametrize("bits", [8, 10])
def test_every_matrix_and_range_comes_back_with_its_tags(tmp_path, matrix, range_, bits):
    look = Look(matrix=matrix, primaries=1, transfer=1, range=range_, bits=bits)
    quality = Encoding("h264" if bits == 8 else "h265", 1)
    clip = Clip(write(tmp_path / "x.mkv", flat(np.uint8 if bits == 8 else np.uint16), look, encoding=quality))
    frame = next(clip.frames())
    level = frame.reshape(-1, 3).mean(0) / (1 if bits == 8 else 257)
    assert np.abs(level - GREEN).max() < 3.5  # BT.601 taken for BT.709 would be 22 off
    assert (clip.look.matrix, clip.look.primaries, clip.look.bits) == (matrix, 1, bits)
    assert clip.look.range == range_ or not range_


@pytest.mark.parametrize("name", ["x.mkv", "x.mov", "x.webm", "x.apng", "x_%03d.png"])
def test_alpha_is_kept_where_the_codec_has_it(tmp_path, name):
    write(tmp_path / name, flat(alpha=100), Look(alpha=True, rgb=True))
    clip = Clip(tmp_path / name)
    frame = next(clip.frames()) / (1 if clip.look.bits == 8 else 257)
    assert clip.look.alpha and abs(frame[..., 3].mean() - 100) < 2
    assert np.abs(frame[..., :3].reshape(-1, 3).mean(0) - GREEN).max() < 4


def test_alpha_that_is_lost_is_told(tmp_path, caplog):
    write(tmp_path / "x.mp4", flat(alpha=100), Look(alpha=True, rgb=True))
    assert "alpha" in caplog.text and not Clip(tmp_path / "x.mp4").look.alpha


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.apng", "x_%03d.png", "x_%03d.jpg", "x_%03d.tif"])
def test_pictures_that_move(tmp_path, name):
    with VideoWriter(tmp_path / name, Fraction(20), 61, 47) as writer:
        for i in range(5):
            writer.write(picture(i, 47, 61))
    if name != "x.webp":  # FFmpeg writes them, but does not read them
        frames = list(Clip(tmp_path / name).frames())
        assert len(frames) == 5
        assert abs(frames[3].astype(int) - picture(3, 47, 61)).mean() < 4
    assert not list(tmp_path.glob(".rife*"))


@pytest.mark.parametrize(
    "codec", [c for c in CODECS if {r.name for r in ENCODERS if r.codec == c} & set(available())]
)
def test_every_codec_of_the_table_writes_an_odd_size(tmp_path, codec):
    if codec in ("gif", "webp", "webp_still", "apng", "png", "jpg", "tiff", "bmp", "exr", "dpx"):
        pytest.skip("pictures")
    frame = flat(height=67, width=81)
    clip = Clip(
        write(tmp_path / ("x.mkv" if codec != "prores" else "x.mov"), frame, encoding=Encoding(codec))
    )
    assert len(clip) == 4 and clip.width in (81, 82) and clip.height in (67, 68)
    got = next(clip.frames())[:67, :81, :3] / (1 if clip.look.bits == 8 else 257)
    assert np.abs(got.reshape(-1, 3).mean(0) - GREEN).max() < 5


def test_an_encoder_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path):
    for encoding in (Encoding("h266"), Encoding("h264", hardware=True)):
        if encoding.hardware and any(row.hardware for row in ENCODERS if row.name in available()):
            continue
        with pytest.raises(VideoError, match="libx264"):
            choose(Path("x.mp4"), encoding)
    with pytest.raises(VideoError, match="cannot hold"):
        write(tmp_path / "x.webm", flat(), encoding=Encoding("h264"))
    with pytest.raises(VideoError, match="_%05d.png"):
        write(tmp_path / "x.png", flat())


def rich(path):
    """A file with two sounds that begin before the pictures, subtitles, chapters, metadata, wide pixels."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        sounds = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for sound, language in zip(sounds, ("deu", "fra"), strict=True):
            sound.metadata["language"] = language
        container.metadata.update({"title": "T", "prompt": "{}"})
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "A"}}]
        )
        for sound in sounds:
            for k in range(40):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 48000, k * 1024
                container.mux(sound.encode(frame))
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = i + 5, Fraction(1, 25)
            container.mux(video.encode(frame))
        for stream in (*sounds, video):
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_all_else_of_the_file_is_kept(tmp_path, name):
    source = rich(tmp_path / "in.mp4")
    interpolate_video(Fader(), source, tmp_path / name, 2)
    with av.open(str(source)) as before, av.open(str(tmp_path / name)) as after:
        assert [s.metadata.get("language") for s in after.streams.audio] == ["deu", "fra"]
        assert {k.lower(): v for k, v in after.metadata.items()}.items() >= {
            "title": "T",
            "prompt": "{}",
        }.items()
        assert after.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        titles = [(c["metadata"]["title"], c["end"] * c["time_base"]) for c in after.chapters()]
        assert titles == [("A", Fraction(1, 2))] and len(before.streams.audio) == 2
    clip, was = Clip(tmp_path / name), Clip(source)
    # mkv has no times before 0 and moves all by the 21 ms that AAC begins early.
    assert abs(clip.start - was.start) < Fraction(1, 40) and was.start == Fraction(1, 5)


def test_a_variable_rate_stays_variable_unless_one_is_asked_for(tmp_path):
    ticks = [0, 3000, 6000, 15000, 18000, 18600, 30000]
    source = make_at(tmp_path / "in.mp4", ticks)
    interpolate_video(Fader(), source, tmp_path / "out.mp4", 3, cuts="off", repeats="off")
    pairs = zip(ticks, ticks[1:], strict=False)
    expected = [a + (b - a) * Fraction(j, 3) for a, b in pairs for j in range(3)] + ticks[-1:]
    assert list(Clip(tmp_path / "out.mp4").times) == [Fraction(tick) / 90000 for tick in expected]
    interpolate_video(Fader(), source, tmp_path / "even.mp4", rate=60)
    assert Clip(tmp_path / "even.mp4").rate == 60


def test_the_good_part_before_the_damage_is_kept_under_a_name_of_its_own(tmp_path):
    source = make(tmp_path / "in.mp4", frames=24, audio="aac", codec="libx264", pix_fmt="yuv420p")
    damage(source, 18)
    with pytest.raises(VideoError, match=r"damaged at .* frames before it are in .*out\.partial\.mp4"):
        interpolate_video(Fader(), source, tmp_path / "out.mp4", 2)
    assert not (tmp_path / "out.mp4").exists() and not list(tmp_path.glob(".rife*"))
    assert 10 < len(Clip(tmp_path / "out.partial.mp4")) < 47


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {root!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import numpy as np
from fractions import Fraction
from rife.video.writer import VideoWriter
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
try:
    with VideoWriter(sys.argv[1], Fraction(10), 320, 240, crf=1) as writer:
        for i in range(100):
            writer.write(np.roll(noise, i, 0))
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, name):
    command = [sys.executable, "-c", FULL_DISK.format(root=str(ROOT)), str(tmp_path / name)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "is full after" in said.stdout, said
    assert not list(tmp_path.iterdir())


def test_ticks_hold_all_times_exactly():
    assert tick_of(Fraction(1001, 60000), Fraction(1, 50)) == Fraction(1, 60000)
    assert tick_of(Fraction(1, 25), Fraction(0)) == Fraction(1, 25)
    assert tick_of(Fraction(1001, 24000), Fraction(1, 999_983)) == Fraction(1001, 24000)


@pytest.mark.parametrize("name", ["x.webm", "x.webp", "x_%d.webp"])
def test_colours_that_nobody_sees_do_not_leak_through_chroma_of_half_the_size(tmp_path, name):
    y, x = np.mgrid[:48, :64]
    seen = (np.hypot(x - 30.5, y - 24) < 12)[..., None]
    frame = np.where(seen, [200, 60, 40, 255], [0, 255, 0, 0]).astype(np.uint8)
    write(tmp_path / name, frame, Look(alpha=True, rgb=True))
    found = next(Clip(tmp_path / name).frames()).astype(int)
    assert np.abs((found - frame)[seen[..., 0]]).max() < 25  # 140 to 190 with green from beside them


@pytest.mark.parametrize("width", [84, 852])
def test_alpha_reaches_the_last_column(tmp_path, width):
    """FFmpeg's own way to RGBA leaves out the last ones of such widths."""
    write(tmp_path / "x.webm", flat(alpha=100, width=width), Look(alpha=True, rgb=True))
    frame = next(Clip(tmp_path / "x.webm").frames()).astype(int)
    assert np.abs(frame - [*GREEN, 100]).max() < 5


DISPLAY = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000)  # P3, D65


@pytest.mark.parametrize("codec", ["h265", "av1", "h264"])
@pytest.mark.parametrize("hdr", [Hdr(DISPLAY, (1000, 400)), Hdr(None, (900, 300))])
def test_hdr10_says_what_it_said(tmp_path, codec, hdr):
    if (
        not {row.name for row in ENCODERS if row.codec == codec}
        & set(available())
        & {"libx264", "libx265", "libsvtav1"}
    ):
        pytest.skip("no such encoder here")
    look = Look(matrix=9, primaries=9, transfer=16, range=1, bits=10, hdr=hdr)
    path = write(tmp_path / "x.mp4", flat(np.uint16, height=96, width=128), look, encoding=Encoding(codec))
    found = Clip(path).look.hdr
    assert found.content == hdr.content and (found.display is None) == (hdr.display is None)
    if hdr.display:
        assert found.display == pytest.approx(hdr.display, abs=2e-4)
    interpolate_video(
        Fader(),
        path,
        tmp_path / "out.mkv",
        encoding=Encoding("h265", options=(("x265-params", "bframes=0"),)),
    )
    assert Clip(tmp_path / "out.mkv").look.hdr.content == hdr.content


@pytest.mark.parametrize("ending, fastest", [("gif", 50), ("webp", 90), ("apng", 90)])
def test_an_animation_that_browsers_slow_down_is_told(tmp_path, caplog, ending, fastest):
    for rate in fastest, 100:
        assert "Browsers" not in caplog.text
        with VideoWriter(tmp_path / f"x.{ending}", Fraction(rate), 64, 48) as writer:
            writer.write(picture(0))
    assert f"{ending.upper()} at {fastest} fps at most, this one of 100" in caplog.text


def test_a_gif_that_no_gif_can_be_is_refused_before_it_is_begun(tmp_path):
    with pytest.raises(VideoError, match="100 frames a second at most, this one would have 120"):
        with VideoWriter(tmp_path / "x.gif", Fraction(120), 64, 48) as writer:
            writer.write(picture(0))
    assert list(tmp_path.iterdir()) == []


def test_hdr10_that_is_lost_is_told(tmp_path, caplog):
    write(tmp_path / "x.mov", flat(np.uint16), Look(bits=10, hdr=Hdr(DISPLAY)), encoding=Encoding("prores"))
    assert "mastering display" in caplog.text


@pytest.mark.parametrize("count", range(7, 15))
@pytest.mark.parametrize("times", ["even", "apart"])
def test_a_held_end_outlives_a_copy_of_the_packets(tmp_path, count, times):
    """As ComfyUI's Save Video does it: with B-frames the last packet need not be that of the last frame."""
    frames = [np.full((64, 64, 3), 20 * (i % 9), np.uint8) for i in range(count)]
    step = Fraction(1, 10)
    at = [k * step + (k == count - 1 and times == "apart") * Fraction(1, 2) for k in range(count)]
    made, copied = tmp_path / "made.mp4", tmp_path / "copied.mp4"
    with VideoWriter(made, Fraction(10), 64, 64, tick=step) as writer:
        for k, frame in enumerate(frames):
            writer.write(frame, at[k], Fraction(3) if k == count - 1 else None)
    with av.open(str(made)) as source, av.open(str(copied), "w") as target:
        stream = target.add_stream_from_template(template=source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert Clip(made).clock.duration == Clip(copied).clock.duration == at[-1] + 3
