"""Pictures in files and animated WebP as clips; what Pillow writes and reads is the reference."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, features
from video_files import Fader, make, picture

from rife.video.codecs import VideoError
from rife.video.colours import Look
from rife.video.frames import read_picture
from rife.video.images import find_image_sequence, is_pattern
from rife.video.job import VideoWriter, interpolate_video, read_frames
from rife.video.reader import Clip, DamagedError

LASTING = [100, 50, 70, 200, 100, 30, 40]


def pictures(folder, names) -> None:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(folder / name)


def shown(source, **options) -> list[int]:
    """Which of `picture`'s the frames are."""
    frames = list(Clip(source, **options).frames())
    return [next(i for i in range(20) if np.array_equal(frame, picture(i))) for frame in frames]


def animation(path, alpha=True, sides=(47, 61), **options):
    """Pictures that fill the canvas, and one that lies over a part of it."""
    frames = [picture(i, *sides) for i in range(len(LASTING))]
    frames[-1] = frames[-2].copy()
    frames[-1][10:20, 10:30] = 7
    if alpha:
        veils = [
            np.tile(np.arange(sides[1]) * 4 % 200 + 40 + i, (sides[0], 1)).astype(np.uint8) for i in range(6)
        ]
        veils.append(veils[-1].copy())
        veils[-1][10:20, 10:30] = 128
        frames = [np.dstack((frame, veil)) for frame, veil in zip(frames, veils, strict=True)]
    first, *rest = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=rest, duration=LASTING, loop=0, **options)
    return path


def by_pillow(path, mode) -> list[np.ndarray]:
    with Image.open(path) as image:
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.array(image.convert(mode)))
        return frames


def test_numbers_in_names_are_the_order_whatever_they_begin_with(tmp_path):
    pictures(tmp_path / "in", [f"frame{i + 8}.png" for i in range(5)])
    assert shown(tmp_path / "in") == shown(tmp_path / "in" / "*.png") == [0, 1, 2, 3, 4]
    assert shown(tmp_path / "in" / "frame%d.png") == [0, 1, 2, 3, 4]
    pictures(tmp_path / "late", [f"{i + 1001:05d}.png" for i in range(3)])
    assert shown(tmp_path / "late" / "%05d.png", rate=Fraction(12)) == [0, 1, 2]
    assert Clip(tmp_path / "late", rate=Fraction(12)).clock.duration == Fraction(1, 4)


def test_a_missing_number_is_told(tmp_path, caplog):
    pictures(tmp_path / "in", ["1.png", "2.png", "5.png"])
    assert shown(tmp_path / "in" / "%d.png") == [0, 1, 2] and "2 pictures are missing" in caplog.text


def test_what_is_no_picture_of_the_clip_is_left_aside(tmp_path):
    pictures(tmp_path / "in", ["²1.jpg", "²2.jpeg", "²10.JPG"])
    pictures(tmp_path / "in", [".²0.png", "._²1.jpg"])
    (tmp_path / "in" / "²3.jpg").mkdir()
    names = [file.name for file in find_image_sequence(tmp_path / "in").files]
    assert names == ["²1.jpg", "²2.jpeg", "²10.JPG"]


@pytest.mark.parametrize(
    "head",
    [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF....WEBPVP8X", b"\x76\x2f\x31\x01", b"SDPX", b"II*\0"],
)
def test_a_file_that_ends_in_its_head_is_damaged(tmp_path, head):
    for name in ("1.png", "1.webp"):
        (tmp_path / name).write_bytes(head)
        for source in (tmp_path / name, tmp_path / name.replace("1", "%d")):
            with pytest.raises(VideoError, match="damaged|no frames"):
                Clip(source)


def test_a_picture_that_cannot_be_read_is_damage(tmp_path):
    pictures(tmp_path / "in", [f"{i}.png" for i in range(6)])
    (tmp_path / "in" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DamagedError, match="frame 3"):
        list(Clip(tmp_path / "in").frames())
    assert len(list(Clip(tmp_path / "in", conceal=True).frames())) == 6


def test_pictures_are_not_overwritten_by_their_own(tmp_path):
    pictures(tmp_path / "in", ["1.png", "2.png"])
    for source in (tmp_path / "in", tmp_path / "in" / "%d.png"):
        with pytest.raises(VideoError, match="input and output"):
            interpolate_video(Fader(), source, tmp_path / "in" / "%d.png")
    assert shown(tmp_path / "in") == [0, 1]


def test_a_per_cent_sign_is_no_pattern(tmp_path):
    assert is_pattern(tmp_path / "x%05d.png") and not is_pattern(tmp_path / "50% off.mp4")
    interpolate_video(Fader(), make(tmp_path / "100% in.mkv"), tmp_path / "50% off.mp4")
    assert len(Clip(tmp_path / "50% off.mp4")) == 9


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("sides", [(47, 61), (52, 84)])
def test_an_animated_webp_is_what_pillow_shows(tmp_path, alpha, lossless, sides):
    path = animation(tmp_path / "in.webp", alpha, sides, lossless=lossless)
    clip = Clip(path)
    assert clip.rate is None and clip.look.alpha == alpha
    assert [int(t * 1000) for t in clip.times] == [0, 100, 150, 220, 420, 520, 550]
    assert clip.clock.duration == Fraction(sum(LASTING), 1000)
    for frame, true in zip(clip.frames(), by_pillow(path, "RGBA" if alpha else "RGB"), strict=True):
        apart = np.abs(frame.astype(int) - true)
        assert (
            apart.max() == 0 if lossless else apart.mean() < 2.5
        )  # colours of half the size, enlarged two ways
    assert all(np.array_equal(a, b) for a, b in zip(clip.frames(4), list(clip.frames())[4:], strict=True))
    assert len(list(read_frames(path))) == len(LASTING)


def test_pictures_of_an_animation_are_laid_over_or_cleared(tmp_path):
    """As libwebp's own encoder seldom does it: translucent over what is there, and gone afterwards."""
    data = bytearray(animation(tmp_path / "in.webp", lossless=True).read_bytes())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"ANMF"]
    for k, flags in enumerate((0, 1, 0, 0, 1, 0, 0)):
        data[places[k] + 8 + 15] = flags
    (tmp_path / "in.webp").write_bytes(data)
    for frame, true in zip(
        Clip(tmp_path / "in.webp").frames(), by_pillow(tmp_path / "in.webp", "RGBA"), strict=True
    ):
        seen = true[..., 3:] / 255
        assert (
            np.abs(frame * seen - true * seen).max() < 3
            and np.abs(frame[..., 3].astype(int) - true[..., 3]).max() < 3
        )


def test_a_webp_that_is_cut_off_gives_what_is_there(tmp_path, caplog):
    path = animation(tmp_path / "in.webp", lossless=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 < len(list(Clip(path).frames())) < len(LASTING) and "breaks off" in caplog.text
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(VideoError, match="no frames"):
        Clip(path)


@pytest.mark.parametrize("clears", [True, False])
def test_a_gif_that_begins_opaque_may_become_transparent(tmp_path, clears):
    frames = [Image.fromarray(np.dstack((picture(i), np.full((48, 64), 255, np.uint8)))) for i in range(3)]
    if clears:
        for frame in frames[1:]:
            frame.paste((0, 0, 0, 0), (0, 0, 32, 48))
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2 if clears else 1
    )
    clip = Clip(tmp_path / "x.gif")
    assert clip.look.alpha == clears
    if clears:
        assert list(clip.frames())[2][..., 3].min() == 0


@pytest.mark.parametrize(
    ("mode", "said"), [("RGBA", "has alpha, unlike"), ("I;16", "has more than 8 bits, unlike"), ("L", "")]
)
def test_pictures_that_have_more_than_the_first_are_told(tmp_path, caplog, mode, said):
    pictures(tmp_path, ["1.png"])
    for name in ("2.png", "3.png"):
        still = picture(1)[..., 0].astype(np.uint16) * 256 if mode == "I;16" else picture(1)
        image = Image.fromarray(still)
        (image if mode == "I;16" else image.convert(mode)).save(tmp_path / name)
    assert [frame.shape[2] for frame in Clip(tmp_path).frames()] == [3, 3, 3]
    assert said in caplog.text and caplog.text.count("unlike") == bool(said)


def test_a_still_webp_is_one_of_many(tmp_path):
    pictures(tmp_path / "in", ["1.png"])
    Image.fromarray(picture(3)).save(tmp_path / "x.webp", lossless=True)
    assert find_image_sequence(tmp_path / "x.webp") is None
    assert np.array_equal(next(Clip(tmp_path / "x.webp").frames()), picture(3))


@pytest.mark.parametrize("name", ["x.webp", "x.gif", "x.apng"])
def test_animations_loop_and_last_as_long_as_they_should(tmp_path, name):
    with VideoWriter(tmp_path / name, Fraction(20), 61, 47) as writer:
        for i in range(5):
            writer.write(picture(i, 47, 61))
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 5 and image.info["loop"] == 0  # for ever
        lasting = []
        for i in range(5):
            image.seek(i)
            image.load()
            lasting.append(image.info["duration"])
    assert lasting == [50] * 5
    clip = Clip(tmp_path / name)
    assert (len(clip), clip.rate) == (5, 20) and abs(
        list(clip.frames())[3][:47, :61].astype(int) - picture(3, 47, 61)
    ).mean() < 4


def test_an_animated_webp_becomes_another_with_its_times(tmp_path):
    source = animation(tmp_path / "in.webp", lossless=True)
    interpolate_video(Fader(), source, tmp_path / "out.webp", cuts="off", repeats="off")
    clip = Clip(tmp_path / "out.webp")
    assert [int(t * 1000) for t in clip.times][::2] == [0, 100, 150, 220, 420, 520, 550] and clip.look.alpha
    interpolate_video(Fader(), source, tmp_path / "out.mp4", rate=30)
    assert Clip(tmp_path / "out.mp4").rate == 30


def still(path, mode: str, **options):
    Image.fromarray(picture(3)).convert(mode).save(path, **options)
    frame = next(Clip(path.parent).frames())
    assert np.array_equal(read_picture(path), frame[..., :3])
    return frame


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_pictures_are_read_as_they_were_written(tmp_path, name, mode):
    frame = still(tmp_path / name, mode, **({"lossless": True} if name == "x.webp" else {}))
    true = Image.fromarray(picture(3)).convert(mode).convert("RGB")
    assert frame.dtype == np.uint8 and np.array_equal(frame[..., :3], np.asarray(true))


def test_sixteen_bits_of_a_picture_are_sixteen(tmp_path):
    deep = picture(3).astype(np.uint16) * 257 + 5
    for name in ("x_%d.png", "x_%d.tif"):
        with VideoWriter(tmp_path / name, Fraction(1), 64, 48, look=Look(bits=16, rgb=True)) as writer:
            writer.write(deep)
        assert np.array_equal(next(Clip(tmp_path / name).frames()), deep)


def test_a_jpeg_is_as_bright_as_its_picture_and_cmyk_has_no_alpha(tmp_path):
    for mode, options in (("RGB", {}), ("CMYK", {"subsampling": 0})):
        frame = still(tmp_path / "x.jpg", mode, quality=95, **options).astype(float)
        assert frame.shape == (48, 64, 3) and abs((frame - picture(3)).mean()) < 0.1


def test_a_bitmap_of_os2_is_read(tmp_path):
    rows = picture(3)[::-1, :, ::-1].tobytes()
    head = struct.pack("<2sIHHI", b"BM", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, 64, 48, 1, 24)
    (tmp_path / "1.bmp").write_bytes(head + rows)
    assert shown(tmp_path) == shown(tmp_path / "1.bmp") == [3]


def test_a_picture_is_shown_the_way_up_that_its_camera_says(tmp_path):
    turned = Image.Exif()
    turned[274] = 6  # shown turned by a quarter, clockwise
    frame = still(tmp_path / "x.png", "RGB", exif=turned)
    assert np.array_equal(frame, np.rot90(picture(3), -1))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_alpha_of_an_animated_avif_is_named_once(tmp_path, caplog):
    frames = [Image.new("RGBA", (64, 48), (255, 0, 0, 60 + 40 * i)) for i in range(4)]
    frames[0].save(tmp_path / "in.avif", save_all=True, append_images=frames[1:], duration=100)
    interpolate_video(Fader(), tmp_path / "in.avif", tmp_path / "out.mp4", cuts="off", repeats="off")
    (said,) = [
        record.message
        for record in caplog.records
        if "alpha" in record.message or "picture" in record.message
    ]
    assert "in.avif has alpha" in said and "WebP" in said
