"""Light as floats, from EXR and into it: every layout, what is above one, what a target cannot hold."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from video_files import Fader, picture

from rife import load_model
from rife.video.codecs import Encoding
from rife.video.colours import Look
from rife.video.convert import samples
from rife.video.frames import read_picture
from rife.video.job import interpolate_video
from rife.video.reader import Clip
from rife.video.writer import VideoWriter

PLAIN = {"cuts": "off", "repeats": "off"}


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
