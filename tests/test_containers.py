"""What a target cannot hold never ends a run; pictures that claim too much, kinds without a decoder, floats."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from odd_files import X264, encode, joined, number
from video_files import Fader, make, picture, with_sound

from rife.cli import main
from rife.video.codecs import Encoding, VideoError, available
from rife.video.job import Job, Timing, interpolate_video, read_frames
from rife.video.reader import Clip
from rife.video.segments import Segments
from rife.video.sound_encode import SoundCodec, SoundEncoder
from rife.video.spherical import spherical_of, write_spherical
from rife.video.stream_copy import StreamCopier
from rife.video.timecode import recounted
from rife.video.writer import VideoWriter

ROOT = Path(__file__).parent.parent
PLAIN = {"cuts": "off", "repeats": "off"}


def sounds(path) -> list[tuple[str, float]]:
    """The codec of each sound, and how long it is."""
    with av.open(str(path)) as container:
        found = []
        for stream in container.streams.audio:
            container.seek(0)
            samples = sum(frame.samples for frame in container.decode(stream))
            found.append((stream.codec_context.name, samples / stream.codec_context.sample_rate))
        return found


@pytest.mark.parametrize(
    ("source", "codec", "form", "target", "encoded"),
    [("in.avi", "pcm_u8", "u8", "out.mp4", "alac"), ("in.avi", "pcm_u8", "u8", "out.webm", "opus"),
     ("in.avi", "pcm_s16le", "s16", "out.ts", "aac"), ("in.mkv", "pcm_f32le", "flt", "out.ts", "aac"),
     ("in.wmv", "wmav2", "fltp", "out.mp4", "aac"), ("in.wmv", "wmav2", "fltp", "out.mkv", "aac")],
)  # fmt: skip
def test_sound_that_the_target_lacks_is_encoded_and_said(
    tmp_path, caplog, source, codec, form, target, encoded
):
    path = with_sound(tmp_path / source, codec, form)
    job = Job(Clip(path), Timing())
    done = interpolate_video(Fader(), path, tmp_path / target, 2, **PLAIN)
    ((found, seconds),) = sounds(tmp_path / target)
    spoken = {"opus": "Opus"}.get(encoded, encoded.upper())
    assert done.sound == job.sound_said(tmp_path / target) == f"sound encoded as {spoken}"
    assert found == encoded and abs(seconds - 1) < 0.1
    assert "is encoded as" in caplog.text and len(Clip(tmp_path / target)) == 19


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.gif", "no sound: .gif holds none"), ("out_%d.png", "no sound: .png holds none"),
     ("out.mkv", "sound copied")],
)  # fmt: skip
def test_what_became_of_sound_is_said_as_it_is(tmp_path, capsys, name, said):
    """It was "copied" into all files, and out of nothing too."""
    source = with_sound(tmp_path / "in.mkv", "aac", "fltp")
    silent, target = make(tmp_path / "silent.mkv", frames=3), str(tmp_path / name)
    for clip, told in ((source, said), (silent, "")):
        done = interpolate_video(Fader(), clip, target, 2, **PLAIN)
        assert done.sound == told and done.audio == (told == "sound copied")
        assert main(["interpolate", str(clip), target, "--dry-run", "--device", "cpu"]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert [line for line in lines if "sound" in line and "/" not in line] == [told] * bool(told)


@pytest.mark.parametrize(
    "name, codec, form", [("in.avi", "pcm_s16le", "s16"), ("in.mkv", "pcm_f32le", "flt")]
)
def test_channels_without_names_do_not_end_a_run(tmp_path, name, codec, form):
    """MP4 takes such sound, and refuses it once all is written."""
    source = with_sound(tmp_path / name, codec, form, "stereo")
    with av.open(str(source)) as container:
        assert container.streams.audio[0].layout.name == "2 channels"
    interpolate_video(Fader(), source, tmp_path / "out.mp4", 2, **PLAIN)
    ((found, seconds),) = sounds(tmp_path / "out.mp4")
    assert found == "alac" and abs(seconds - 1) < 0.1


def test_surround_whose_layout_the_encoder_does_not_know_stays_surround(tmp_path, caplog):
    """AC-3 has its channels at the sides; Opus knows six channels only with two at the back. It was left out."""
    source = with_sound(tmp_path / "in.mkv", "ac3", "fltp", "5.1(side)")
    interpolate_video(Fader(), source, tmp_path / "out.webm", 2, **PLAIN)
    ((found, seconds),) = sounds(tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].channels == 6
    assert found == "opus" and abs(seconds - 1) < 0.1 and "is encoded as Opus" in caplog.text


def test_eight_channels_in_planes_are_encoded_and_made_numbers(tmp_path, caplog):
    wave = np.sin(np.arange(48000) * 0.05).astype(np.float32)[:, None] * np.full(8, 0.3, np.float32)
    wave[24000, 5] = np.nan
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        encoder = SoundEncoder(container, SoundCodec("aac", 48000, "7.1"), "in.mkv")
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="flt", layout="7.1")
        frame.sample_rate = 48000
        for planar in av.AudioResampler("fltp", "7.1", 48000).resample(frame):
            container.mux(list(encoder.encode(planar)))
        container.mux(list(encoder.end()))
    ((found, seconds),) = sounds(tmp_path / "out.mkv")
    assert found == "aac" and abs(seconds - 1) < 0.1 and "no numbers" in caplog.text


def test_packets_of_sound_that_cannot_be_decoded_are_told(tmp_path):
    told = []
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        encoder = SoundEncoder(
            container, SoundCodec("aac", 44100, "mono"), "in.mkv", lambda: told.append(True)
        )

        class Packet:
            def decode(self):
                raise av.error.InvalidDataError(1, "invalid data")

        assert not list(encoder.packets(Packet())) and told == [True]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sound_with_no_numbers_is_named_and_becomes_silence(tmp_path, caplog, bad):
    source = with_sound(tmp_path / "in.avi", "pcm_f32le", "flt", bad=bad)
    interpolate_video(Fader(), source, tmp_path / "out.webm", 2, **PLAIN)
    assert "no numbers (NaN or infinite) at 0.4" in caplog.text
    ((_, seconds),) = sounds(tmp_path / "out.webm")
    assert abs(seconds - 1) < 0.06


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [("out.ogv", "h264", r"\.ogv cannot hold h264 .*write to \.mkv"), ("out.mov", "av1", "choose one of .*prores"),
     ("out.ts", "vp9", r"nobody could read it.*h264, h265, or write to \.mkv"), ("out.y4m", None, "cannot hold h264"),
     ("out.mkv", "wmv2", r"choose one of these codecs: h264, .*ffv1[^:]*\.$")],
)  # fmt: skip
@pytest.mark.parametrize("how", ["file", "segments", "dry run"])
def test_what_a_container_cannot_hold_is_refused_before_the_work(
    tmp_path, caplog, capsys, how, name, codec, said
):
    """It was found out in the end, told as damage of the source, or not at all."""
    source, target = make(tmp_path / "in.mkv", audio="aac"), tmp_path / name
    job = Job(Clip(source), Timing(), Encoding(codec))
    with pytest.raises(VideoError, match=said):
        if how == "file":
            job.writer(target).__enter__()
        elif how == "segments":
            Segments(job, target, {})
        else:
            options = ["--codec", codec] if codec else []
            assert main(["interpolate", str(source), str(target), "--dry-run", *options]) == 1
            raise VideoError(capsys.readouterr().err.strip())
    assert not target.exists() and "damaged" not in caplog.text


def test_a_head_that_is_refused_is_no_damage_of_the_source(tmp_path, caplog):
    with av.open(str(tmp_path / "out.ogv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        clip = Clip(with_sound(tmp_path / "in.mkv", "aac", "fltp"))
        copier = StreamCopier(clip, container, tmp_path / "out.ogv")
        with pytest.raises(av.error.ArgumentError):
            copier.copy(None)
        copier.close()
    assert "damaged" not in caplog.text


def test_theora_is_what_ogg_holds(tmp_path):
    """Not every build encodes it."""
    job = Job(Clip(make(tmp_path / "in.mkv")), Timing())
    try:
        assert job.codec_for(tmp_path / "out.ogv") == "libtheora"
    except VideoError as error:
        assert str(error).startswith(".ogv holds theora, and there is no encoder for it here. Write to .mkv")


@pytest.mark.parametrize(
    ("name", "codec", "found"),
    [("out.webm", None, "vp9"), ("out.m4v", None, "hevc"), ("out.y4m", "rawvideo", "rawvideo")],
)
def test_files_of_their_own_codec_are_written(tmp_path, name, codec, found):
    """Segments of WebM were H.264, which was found out when they were joined; .m4v of 10 bits was refused."""
    bits = {"codec": "libx265", "pix_fmt": "yuv420p10le"} if name == "out.m4v" else {}
    job = Job(Clip(make(tmp_path / "in.mkv", **bits)), Timing(), Encoding(codec))
    if name == "out.webm":
        assert Segments(job, tmp_path / name, {}).run(Fader())
    else:
        interpolate_video(Fader(), tmp_path / "in.mkv", tmp_path / name, encoding=Encoding(codec))
    with av.open(str(tmp_path / name)) as container:
        name = container.streams.video[0].codec_context.name
    assert name in (found, "libvpx-vp9")


@pytest.mark.skipif("libsvtav1" not in available(), reason="this build encodes no AV1 by SVT")
@pytest.mark.parametrize("level", [None, "3"])
def test_svt_av1_says_nothing_of_itself_unless_it_is_asked(level):
    """In a process of its own: it looks at what is asked once."""
    code = "import os; from rife.video.holding import *; from rife.video.colours import Look; " \
        "encoder_for(Path('x.mp4'), Encoding('av1'), Look()); print(os.environ.get('SVT_LOG'))"  # fmt: skip
    environment = {
        **{k: v for k, v in os.environ.items() if k != "SVT_LOG"},
        **({"SVT_LOG": level} if level else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(level) and ("Svt[info]" in done.stderr) == (level == "3")


def with_timecode(path, timecode="01:00:00:12"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = timecode
        if hasattr(container, "set_chapters"):
            chapter = {
                "id": 1,
                "start": 0,
                "end": 200,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": "A"},
            }
            container.set_chapters([chapter])
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48000
        container.mux(sound.encode(silence))
        container.mux([*stream.encode(None), *sound.encode(None)])
    return path


@pytest.mark.parametrize("name", ["out.mov", "out.mp4", "out.mkv"])
def test_a_timecode_is_kept_or_named(tmp_path, caplog, name):
    """It, and the text that chapters are of, were both "data (unknown)", left out."""
    interpolate_video(Fader(), with_timecode(tmp_path / "in.mov"), tmp_path / name, 2, **PLAIN)
    with av.open(str(tmp_path / name)) as container:
        found = container.streams.video[0].metadata.get("timecode")
    if name == "out.mkv":
        assert caplog.messages == [".mkv does not get the source's data (timecode 01:00:00:12): left out."]
    else:
        assert found == "01:00:00:24" and not caplog.messages


def test_a_timecode_counts_the_frames_of_its_rate():
    ntsc = Fraction(30000, 1001)
    assert recounted("10:00:59:29", Fraction(30), Fraction(120)) == "10:00:59:116"
    assert recounted("10:00:59;28", ntsc, 2 * ntsc) == "10:00:59;56"
    assert recounted("10:00:59;28", ntsc, Fraction(50)) is None  # numbers are left out there alone
    assert recounted("soon", ntsc, ntsc) is None and recounted("10:00:59:10", ntsc, Fraction(1000)) is None


def with_font(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.add_attachment("Foo.ttf", "font/ttf", b"\0\1\0\0" + bytes(60))
        for i in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm", "out.mkv"])
def test_a_font_goes_where_it_can_and_is_said_where_it_cannot(tmp_path, caplog, name):
    if not hasattr(av.container.OutputContainer, "add_attachment"):
        pytest.skip("this PyAV attaches nothing")
    interpolate_video(Fader(), with_font(tmp_path / "in.mkv"), tmp_path / name, 2, **PLAIN)
    assert len(Clip(tmp_path / name)) == 11
    with av.open(str(tmp_path / name)) as container:
        kept = [stream for stream in container.streams if stream.type == "attachment"]
    assert bool(kept) == (name == "out.mkv") and ("Foo.ttf" in caplog.text) == (name != "out.mkv")


def test_sound_follows_where_recordings_are_joined(tmp_path):
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    for k, part in enumerate(parts):
        encode(part, count=24, first=24 * k, container="mpegts", options=X264, sound=True)
    source = joined(tmp_path / "in.ts", *parts)
    interpolate_video(Fader(), source, tmp_path / "out.mkv", 2, **PLAIN)
    ((_, seconds),) = sounds(tmp_path / "out.mkv")
    assert len(Clip(tmp_path / "out.mkv")) == 95 and abs(seconds - 1.92) < 0.1
    with av.open(str(tmp_path / "out.mkv")) as container:
        times = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.pts is not None]
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 0.1 and times[-1] < 2.1


GIANT = {
    "x.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    "x.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 60000, 60000, 8, 2, 0, 0, 0, 0),
    "x.webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xff\x3f\0" * 2 + bytes(8),
    "x.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, -60000, 1, 24, 0, 0, 0, 0, 0, 0),
    "x.dpx": b"SDPX" + bytes(768) + struct.pack(">II", 60000, 60000) + bytes(1268),
    "x.exr": b"\x76\x2f\x31\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0"
    + struct.pack("<4i", 0, 0, 59999, 59999) + bytes(9),
}  # fmt: skip


@pytest.mark.parametrize("name", GIANT)
def test_a_canvas_of_gigapixels_is_refused_with_its_size_and_the_limit(tmp_path, name):
    (tmp_path / name).write_bytes(GIANT[name])
    sources = [tmp_path / name] if name == "x.gif" else [tmp_path / name, tmp_path]
    for source in sources:
        with pytest.raises(VideoError, match=r"claims \d+x\d+ pixels.*at most 134 million"):
            Clip(source)


def test_frames_of_an_animation_that_leave_its_canvas_are_refused(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(picture(i)) for i in range(3)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    data = bytearray((tmp_path / "x.webp").read_bytes())
    at = data.index(b"ANMF", data.index(b"ANMF") + 4)
    data[at + 14 : at + 17] = (16000).to_bytes(3, "little")
    (tmp_path / "x.webp").write_bytes(data)
    with pytest.raises(VideoError, match=r"16001x\d+ at .* outside of the canvas of 64x48"):
        Clip(tmp_path / "x.webp")


def test_a_kind_without_a_decoder_is_named(tmp_path):
    path = make(tmp_path / "x.mkv", frames=3)
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_FOO1"))
    (tmp_path / "x.jxl").write_bytes(bytes.fromhex("ff0a7f10") + bytes(60))
    for name in ("x.mkv", "x.jxl"):
        with pytest.raises(VideoError, match="no decoder for"):
            Clip(tmp_path / name)
        with pytest.raises(VideoError, match="no decoder for"):
            next(read_frames(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "within"), [("x_%d.dpx", 0), ("x_%d.bmp", 0), ("x_%d.webp", 6), ("x_%d.tif", 0)]
)
def test_pictures_of_each_kind_are_a_file_a_frame_in_colour(tmp_path, name, within):
    with VideoWriter(tmp_path / name, Fraction(24), 64, 48) as writer:
        for i in range(3):
            writer.write(picture(i))
    assert len(list(tmp_path.iterdir())) == 3
    for i, frame in enumerate(Clip(tmp_path / name).frames()):
        assert frame.shape == (48, 64, 3) and np.abs(frame.astype(int) - picture(i)).mean() <= within


def test_fifteen_bits_reach_full_white(tmp_path):
    with av.open(str(tmp_path / "x.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb555be"
        white = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255, np.uint8), format="rgb24")
        container.mux(stream.encode(white.reformat(format="rgb555be")))
        container.mux(stream.encode(None))
    assert (next(Clip(tmp_path / "x.mov").frames()) == 255).all()


@pytest.mark.parametrize(
    ("name", "container", "codec"), [("x.h264", "h264", "libx264"), ("x.mpg", "mpeg", "mpeg2video")]
)
def test_segments_of_a_raw_stream_have_the_frames_of_the_whole(tmp_path, name, container, codec):
    """Frames without times used to be counted from wherever a seek led."""
    clip = Clip(encode(tmp_path / name, codec, 100, container=container, options={"g": "10", "bf": "2"}))
    assert [number(frame) for frame in clip.frames()] == list(range(100))
    assert [number(frame) for frame in clip.frames(60, 70)] == list(range(60, 70))


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
@pytest.mark.parametrize("segments", [False, True])
def test_a_video_of_360_degrees_stays_one(tmp_path, name, segments):
    """FFmpeg's numbers: equirectangular, turned by 90 degrees, a quarter of the sphere's height at the top missing."""
    mapping = struct.pack("=i3i5I", 2, 90 << 16, 0, -5 << 16, 0, 1 << 30, 0, 0, 0)
    flat = with_sound(tmp_path / "flat.mkv", "aac", "fltp")
    interpolate_video(Fader(), flat, tmp_path / "in.mp4", 1, **PLAIN)
    write_spherical(tmp_path / "in.mp4", mapping)
    assert spherical_of(Clip(tmp_path / "in.mp4").first) == mapping
    before = [frame.tobytes() for frame in Clip(tmp_path / "in.mp4").frames()]
    assert len(before) == 10
    if segments:
        job = Job(Clip(tmp_path / "in.mp4"), Timing(at_cuts="off", at_repeats="off"))
        assert Segments(job, tmp_path / name, {}).run(Fader())
    else:
        interpolate_video(Fader(), tmp_path / "in.mp4", tmp_path / name, 2, **PLAIN)
    clip = Clip(tmp_path / name)
    assert spherical_of(clip.first) == mapping and len(list(clip.frames())) == 19
    assert len(sounds(tmp_path / name)) == 1


def test_360_degrees_that_a_target_cannot_say_are_said(tmp_path, caplog):
    source = encode(tmp_path / "in.mp4", count=3)
    write_spherical(source, struct.pack("=i3i5I", 0, 0, 0, 0, 0, 0, 0, 0, 0))
    interpolate_video(Fader(), source, tmp_path / "out.mkv", 2, **PLAIN)
    assert "360 degree" in caplog.text
