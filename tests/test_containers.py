"""What a target cannot hold never ends a run; pictures that claim too much, kinds without a decoder, floats."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from odd_files import X264, encode, joined, number
from video_files import Fader, make, picture, with_sound

from rife import load_model
from rife.video.codecs import Encoding, VideoError
from rife.video.colours import Look
from rife.video.convert import samples
from rife.video.frames import read_picture
from rife.video.job import Job, Timing, interpolate_video, read_frames
from rife.video.reader import Clip
from rife.video.segments import Segments
from rife.video.spherical import spherical_of, write_spherical
from rife.video.stream_copy import SoundEncoder
from rife.video.writer import VideoWriter

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
    interpolate_video(Fader(), with_sound(tmp_path / source, codec, form), tmp_path / target, 2, **PLAIN)
    ((found, seconds),) = sounds(tmp_path / target)
    assert found == encoded and abs(seconds - 1) < 0.1
    assert "is encoded as" in caplog.text and len(Clip(tmp_path / target)) == 19


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
    assert found == "opus" and abs(seconds - 1) < 0.1 and "is encoded as libopus" in caplog.text


def test_eight_channels_in_planes_are_encoded_and_made_numbers(tmp_path, caplog):
    wave = np.sin(np.arange(48000) * 0.05).astype(np.float32)[:, None] * np.full(8, 0.3, np.float32)
    wave[24000, 5] = np.nan
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        encoder = SoundEncoder(container, "aac", 48000, "7.1", "in.mkv")
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
        encoder = SoundEncoder(container, "aac", 44100, "mono", "in.mkv", lambda: told.append(True))

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


def bright(i: int) -> np.ndarray:
    """Light above 1, and below 0."""
    frame = (picture(i) / 255).astype(np.float32)
    frame[10:20, 10:20] = 12.0
    frame[30:34, 30:34] = -0.5
    return frame


@pytest.mark.parametrize("form, planes", [("gbrpf32le", 3), ("gbrapf32le", 4), ("grayf32le", 1)])
def test_half_floats_of_an_exr_are_read(tmp_path, form, planes):
    """Most programs write these, and PyAV makes no arrays of them."""
    values = np.linspace(0, 4, planes * 48 * 40, dtype=np.float32).reshape(planes, 48, 40).astype(np.float16)
    with av.open(str(tmp_path / "x_%02d.exr"), "w", format="image2") as container:
        stream = container.add_stream("exr", rate=24, options={"format": "half"})
        stream.width, stream.height, stream.pix_fmt = 40, 48, form
        frame = av.VideoFrame(40, 48, form)
        for k, plane in enumerate(frame.planes):
            samples(plane, np.float32)[:] = values[k]
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (image,) = Clip(tmp_path / "x_01.exr").frames()
    shown = values[[2, 0, 1, 3][:planes]] if planes > 1 else values.repeat(3, 0)  # planes are G, B, R, A
    assert np.array_equal(image, shown.transpose(1, 2, 0).astype(np.float32))


def small_exr(path, values: dict[str, np.ndarray]):
    """An EXR of channels (H,W) by name, as other programs write it: each line by itself, not compressed."""

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + len(value).to_bytes(4, "little") + value

    names = sorted(values)
    height, width = values[names[0]].shape
    kind = {"float16": 1, "float32": 2}[values[names[0]].dtype.name]
    channels = b"".join(name.encode() + struct.pack("<x4i", kind, 0, 1, 1) for name in names) + b"\0"
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = struct.pack("<2i", 20000630, 2) + attribute("channels", "chlist", channels)
    head += attribute("compression", "compression", b"\0") + attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += (
        attribute("screenWindowCenter", "v2f", bytes(8))
        + attribute("screenWindowWidth", "float", bytes(4))
        + b"\0"
    )
    rows = [b"".join(values[name][y].tobytes() for name in names) for y in range(height)]
    size = 8 + len(rows[0])
    places = [len(head) + 8 * height + y * size for y in range(height)]
    lines = b"".join(struct.pack("<2i", y, size - 8) + row for y, row in enumerate(rows))
    path.write_bytes(head + struct.pack(f"<{height}Q", *places) + lines)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("names", ["Y", "YA", "RGB", "RGBA"])
def test_every_kind_of_floats_is_read_as_it_is(tmp_path, kind, names):
    levels = np.linspace(-2, 8, len(names) * 16 * 24).reshape(len(names), 16, 24).astype(kind)
    values = {
        name: np.abs(plane) / 8 if name == "A" else plane for name, plane in zip(names, levels, strict=True)
    }
    (tmp_path / "in").mkdir()
    for i in range(3):
        small_exr(tmp_path / "in" / f"{i}.exr", values)
    clip = Clip(tmp_path / "in")
    assert clip.look.alpha == ("A" in names) and clip.look.rgb
    shown = [values["Y"]] * 3 if "Y" in names else [values[name] for name in "RGB"]
    shown += [values[name] for name in names if name == "A"]
    assert all(np.array_equal(image, np.dstack(shown).astype(np.float32)) for image in clip.frames())
    small = read_picture(tmp_path / "in" / "0.exr").numpy()
    assert np.array_equal(small, (np.dstack(shown[:3]).astype(np.float32).clip(0, 1) * 255).round())


def test_floats_come_through_an_exr_and_out_of_it(tmp_path):
    for name, alpha in (("x_%02d.exr", False), ("a_%02d.exr", True)):
        folder = tmp_path / name[0]
        folder.mkdir()
        frames = [
            np.dstack((bright(i), np.full((48, 64), 0.5, np.float32))) if alpha else bright(i)
            for i in range(3)
        ]
        look = Look(bits=32, alpha=alpha, premultiplied=alpha, rgb=True)
        with VideoWriter(folder / name, Fraction(24), 64, 48, look=look) as writer:
            for frame in frames:
                writer.write(frame)
        clip = Clip(folder)
        assert clip.look.alpha == alpha
        assert all(np.array_equal(a, b) for a, b in zip(clip.frames(), frames, strict=True))
        out = tmp_path / f"out{name[0]}"
        out.mkdir()
        interpolate_video(Fader(), folder, out / name, 2, **PLAIN)
        found = list(Clip(out).frames())
        assert len(found) == 5 and found[0].dtype == np.float32
        assert all(np.array_equal(a, b) for a, b in zip(found[::2], frames, strict=True))


def discs(folder, colour=(1.0, 0.6, 0.2), glow=0.0):
    """Three EXR of a disc that moves, its colours multiplied by its opacity, and a light without any; what is between
    the first two."""
    folder.mkdir()
    y, x = np.mgrid[:48, :64]
    frames = []
    for i in range(5):
        alpha = np.clip(10.5 - np.hypot(y - 24, x - 20 - 4 * i), 0, 1).astype(np.float16)
        planes = {
            name: (alpha * level + glow).astype(np.float16) for name, level in zip("RGB", colour, strict=True)
        }
        frames.append(np.dstack((*planes.values(), alpha)).astype(np.float32))
        if i % 2 == 0:
            small_exr(folder / f"{i}.exr", {**planes, "A": alpha})
    return frames


@pytest.mark.parametrize("glow", [0.0, 0.25])
def test_colours_of_exr_stay_multiplied_by_alpha(tmp_path, glow):
    frames = discs(tmp_path / "in", glow=glow)
    (tmp_path / "out").mkdir()
    model = load_model(device="cpu")
    interpolate_video(model, tmp_path / "in", tmp_path / "out" / "%d.exr", 2, **PLAIN)
    found = list(Clip(tmp_path / "out").frames())
    assert np.abs(found[0] - frames[0]).max() < 1e-6
    apart = np.abs(found[1] - frames[1])
    assert apart.mean() < 0.01 and apart[..., :3].max() < 0.25  # light at the edge was 0.6 off
    assert np.abs(found[1][..., :3] - glow - found[1][..., 3:] * (1.0, 0.6, 0.2)).max() < 0.05


def test_alpha_goes_into_exr_and_out_of_it_as_each_has_it(tmp_path):
    frames = discs(tmp_path / "in")
    interpolate_video(Fader(), tmp_path / "in", tmp_path / "out.mov", 1, **PLAIN)
    interpolate_video(Fader(), tmp_path / "out.mov", tmp_path / "%d.exr", 1, **PLAIN)
    straight, back = (next(Clip(tmp_path / name).frames()) for name in ("out.mov", "%d.exr"))
    seen = frames[0][..., 3] > 0.2
    assert np.abs(straight[..., :3][seen] / 65535 - (1.0, 0.6, 0.2)).max() < 0.05
    assert np.abs(back - frames[0]).max() < 0.03


def test_light_that_a_target_cannot_hold_is_said(tmp_path, caplog):
    with VideoWriter(tmp_path / "x_%02d.exr", Fraction(24), 64, 48, encoding=Encoding("exr")) as writer:
        for i in range(3):
            writer.write(bright(i))
    interpolate_video(Fader(), tmp_path / "x_%02d.exr", tmp_path / "out.mkv", 2, **PLAIN)
    assert "above 1 is cut off" in caplog.text and Clip(tmp_path / "out.mkv").look.bits > 8


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
