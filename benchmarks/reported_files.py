"""Eighteen situations from public reports, each through the command line, judged by what is right.

python benchmarks/reported_files.py CASES [FOLDER OF ANOTHER CHECKOUT]     # of which the first column is then

CASES: a folder with the smallest input of each, `01_decode_order_pts/box264.avi` and so on. Frames are compared with
what ffmpeg decodes in its order, positions with the rendered truth.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from checkouts import COMMAND
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LOSSLESS = ("--codec", "ffv1")


class Run:
    """One checkout's commands on one case, in a folder of their own."""

    def __init__(self, tree: str, cases: Path, folder: Path):
        self.tree, self.cases, self.folder = tree, cases, folder
        self.said = ""

    def __call__(self, source: str, target: str, *options: str) -> Path:
        """Interpolates; what was printed is in `said`. Raises AssertionError."""
        return self.of(self.cases / source, target, *options)

    def of(self, source: Path, target: str, *options: str) -> Path:
        """As a call, of any file."""
        made = self.folder / target
        (made.parent if made.suffix else made).mkdir(exist_ok=True)
        words = ["interpolate", str(source), str(made), "--device", "cpu", *options]
        done = subprocess.run(
            [sys.executable, "-P", "-c", COMMAND, self.tree, *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
        )  # fmt: skip
        self.said = done.stdout
        lines = [
            line
            for line in self.said.strip().splitlines()
            if "] " in line or "rror" in line or "annot" in line
        ]
        assert done.returncode == 0, f"rc {done.returncode}: {(lines or ['?'])[-1][:90]}"
        return made

    def says(self, *words: str) -> None:
        """Raises AssertionError where one of the words was not printed."""
        for word in words:
            assert word in self.said, f"does not say {word!r}"


def decoded(path: Path) -> list[np.ndarray]:
    """Frames in the order in which ffmpeg's decoder gives them."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.best("video"))]


def times(path: Path) -> list[float]:
    """When each frame is shown, seconds after the first."""
    with av.open(str(path)) as file:
        found = [frame.time for frame in file.decode(file.streams.best("video"))]
    return [time - found[0] for time in found]


def seconds(path: Path) -> float:
    """To the end of the last frame, or of the sound; of an animation by its own frames."""
    if path.suffix in (".gif", ".webp", ".png"):
        with Image.open(path) as file:
            total = 0.0
            for i in range(file.n_frames):
                file.seek(i)
                file.load()
                total += file.info["duration"] / 1000
            return total
    with av.open(str(path)) as file:
        return file.duration / 1e6


def given(path: Path, source: list[np.ndarray]) -> None:
    """Raises AssertionError where the even frames are not those of the source, in its order, to a few levels."""
    made = decoded(path)
    assert len(made) == 2 * len(source) - 1, f"{len(made)} frames, not {2 * len(source) - 1}"
    wrong = [i for i, (a, b) in enumerate(zip(source, made[::2], strict=True))
             if np.abs(a.astype(int) - b).mean() > 3]  # fmt: skip
    assert not wrong, f"{len(wrong)} of {len(source)} given frames are others, the first {wrong[0]}"


def even(steps: np.ndarray, mean: float, least: float = 0.02) -> str:
    """Raises AssertionError where steps are not all near their mean, or it is not near `mean`."""
    spread = steps.std() / abs(steps.mean())
    text = f"{steps.mean():.2f}, std {100 * spread:.1f} %"
    assert abs(steps.mean() - mean) < 0.02 * mean and spread < least, f"steps of {text}"
    return text


def box(frame: np.ndarray) -> float:
    """Where the yellow box is, along x."""
    colours = frame.astype(float)
    yellow = np.clip(colours[..., :2].min(-1) - colours[..., 2] - 110, 0, 60)
    return float((yellow.sum(0) * np.arange(yellow.shape[1])).sum() / max(yellow.sum(), 1e-9))


def boxes(path: Path) -> np.ndarray:
    """Of each frame."""
    return np.array([box(frame) for frame in decoded(path)])


def exactly(frames: list[np.ndarray]) -> np.ndarray:
    """Where the box is, of each frame, by how much of each column it covers, in front of what is usually there."""
    shown = np.stack(frames).astype(float)
    usual, found = np.median(shown, 0), []
    for frame in shown:
        yellow = frame[..., :2].min(-1) - frame[..., 2]
        lines = np.flatnonzero((yellow > 110).sum(1) >= 12)[1:-1]
        front, behind = frame[lines], usual[lines]
        towards = np.median(front[yellow[lines] > 150], 0) - behind
        covered = ((front - behind) * towards).sum((0, 2)) / (towards * towards).sum((0, 2))
        middle = round(box(frame))
        near = np.arange(max(0, middle - 14), min(len(covered), middle + 15))
        found.append((covered[near] * near).sum() / covered[near].sum())
    return np.array(found)


def decode_order(run: Run) -> str:
    source = "01_decode_order_pts/box264.avi"
    made = run(source, "out.mkv", *LOSSLESS)
    given(made, decoded(run.cases / source))
    assert abs(times(made)[-1] - 49 / 25) < 0.002, f"last at {times(made)[-1]:.3f} s"
    return "50 frames in, in order, 25 fps"


def font(run: Run) -> str:
    for ending in ("mp4", "mov", "webm", "mkv"):
        made = run("02_font_attachment/font.mkv", f"out.{ending}")
        assert len(decoded(made)) == 47, f"{len(decoded(made))} frames"
        if ending != "mkv":
            run.says("Foo.ttf")
    with av.open(str(made)) as file:
        assert [s.type for s in file.streams] == ["video", "attachment"], "the .mkv has no font"
    return "left out of .mp4, .mov, .webm, and said; in .mkv"


def joined(run: Run) -> str:
    source = "03_joined_ts/ab.ts"
    silent = run(source, "silent.mkv", "--no-audio", *LOSSLESS)
    given(silent, decoded(run.cases / source))
    made = run(source, "out.mp4")
    run.says("its clock restarts or jumps")
    with av.open(str(made)) as file:
        sound = sum(f.samples / f.sample_rate for f in file.decode(audio=0))
    assert abs(sound - 4) < 0.1 and abs(times(made)[-1] - 3.96) < 0.002, f"{sound:.2f} s of sound"
    return f"100 frames, 4 s, {sound:.2f} s of sound"


def pause(run: Run) -> str:
    made, twin = (
        run(f"04_pause_in_vfr/{name}.mkv", f"{name}.mkv", *LOSSLESS) for name in ("screen", "screen_cfr")
    )
    at, there = np.array(times(made)), np.array(times(twin))
    there[there > 3] -= there[-1] - at[-1]  # the twin's pause is by a frame longer; a step is 1.5 px
    apart = np.abs(boxes(made) - np.interp(at, there, boxes(twin)))
    assert apart.max() < 1.6, f"up to {apart.max():.1f} px from the constant-rate twin"
    return f"within {apart.max():.2f} px of the constant-rate twin"


def subtitles(run: Run) -> str:
    subprocess.run([sys.executable, "-P", str(run.folder / "cases" / "make" / "subreal.py")], check=True,
                   cwd=run.folder)  # fmt: skip
    copies = {}
    for name in ("subnone", "subreal"):
        made = decoded(run.of(run.folder / f"{name}.mkv", f"made_{name}.mkv", *LOSSLESS))
        copies[name] = sum(
            any(np.array_equal(made[i], made[i + side]) for side in (-1, 1))
            for i in range(1, len(made) - 1, 2)
        )
    assert not any(copies.values()), f"{copies['subreal']} of 96 new frames are copies"
    return "no copies"


def cadence(run: Run) -> str:
    dvd = run("06_cadence/dvd.mkv", "dvd.mkv", *LOSSLESS, "--repeats", "auto")
    run.says("soft telecine")
    speed = np.diff(exactly(decoded(dvd))) / np.diff(times(dvd))
    film = run("06_cadence/film30.mkv", "film.mkv", *LOSSLESS, "--repeats", "auto")
    run.says("one frame in 5 is a repeat")
    steps = np.diff(exactly(decoded(film)))
    moving = np.flatnonzero(np.abs(steps) > 0.1)
    return f"{even(speed, 72, 0.05)} px/s; {even(steps[: moving[-1] + 1], 2, 0.05)} px"


def alpha(run: Run) -> str:
    made = run("07_alpha_one_colour/frames", "out/%03d.png", "--input-fps", "12")
    found = []
    whole = [np.asarray(Image.open(path)).astype(float)[..., 3] for path in sorted(made.parent.iterdir())]
    for k in range(1, len(whole), 2):
        truth = np.roll(whole[k - 1], 6, 1)
        found.append(10 * np.log10(255**2 / ((whole[k] - truth) ** 2).mean()))
    assert len(whole) == 9 and min(found) > 30, f"{min(found):.1f} dB"
    return f"{min(found):.1f} dB at least"


def hdr(run: Run) -> str:
    made = run("08_hdr/frames", "out/%03d.exr", "--input-fps", "24")
    frames = []
    for path in sorted(made.parent.iterdir()):
        with av.open(str(path)) as file:
            (frame,) = file.decode(video=0)
            frames.append(frame.to_ndarray(format="gbrpf32le"))
    brightest = [float(frame.max()) for frame in frames]
    assert len(frames) == 9 and frames[0].shape[-1] == 3, f"{len(frames)} files"
    assert min(brightest) > 11.5 and max(brightest) < 12.5, (
        f"brightest {min(brightest):.1f} to {max(brightest):.1f}"
    )
    return f"{min(brightest):.2f} to {max(brightest):.2f}, RGB"


def last_held(run: Run) -> str:
    found = []
    for options in ((), ("--keep-duration",), ("--loop",)):
        for ending in ("mp4", "gif", "webp", "mkv"):
            made = run("09_last_frame_held/pause.gif", f"out.{ending}", *options)
            assert "missing" not in run.said, "its end is missing"
            found.append(seconds(made))
            assert abs(found[-1] - 3.7) < 0.06, f".{ending} {' '.join(options)}: {found[-1]:.2f} s"
    return f"{min(found):.2f} to {max(found):.2f} s in .mp4, .gif, .webp, .mkv"


def sound(run: Run) -> str:
    for name in ("s_pcmu8.avi", "s_wma.wmv"):
        made = run(f"10_sound/{name}", "out.mp4")
        with av.open(str(made)) as file:
            assert file.streams.audio[0].codec_context.name in ("aac", "alac"), "not encoded"
            length = sum(f.samples / f.sample_rate for f in file.decode(audio=0))
        with av.open(str(run.cases / "10_sound" / name)) as file:
            whole = sum(f.samples / f.sample_rate for f in file.decode(audio=0))
        assert abs(length - whole) < 0.1, f"{length:.2f} of {whole:.2f} s"
        run.says("encoded")
    return "encoded, and said"


def avif(run: Run) -> str:
    source = "11_avif/anim.avif"
    given(run(source, "out.mkv", *LOSSLESS), decoded(run.cases / source))
    return "10 frames in"


def sequences(run: Run) -> str:
    for ending in ("webp", "bmp"):
        made = run("12_webp_sequence/frames", f"{ending}/%03d.{ending}")
        files = sorted(made.parent.iterdir())
        one = {getattr(Image.open(path), "n_frames", 1) for path in files}
        assert len(files) == 11 and one == {1}, f"{len(files)} files of {sorted(one)} frames"
    return "11 files of a frame each, .webp and .bmp"


def apple(run: Run) -> str:
    made = run("13_appledouble/frames", "out/%03d.png")
    assert len(list(made.parent.iterdir())) == 11, f"{len(list(made.parent.iterdir()))} files"
    return "left aside"


def endings(run: Run) -> str:
    made = run("14_endings/AVCHD", "done")
    (file,) = made.iterdir()
    assert len(decoded(file)) == 99, f"{len(decoded(file))} frames"
    return f"{file.name} of 99 frames"


def interlaced(run: Run) -> str:
    run("15_interlaced/i25.mp4", "out.mp4")
    run.says("interlaced", "--deinterlace")
    run("15_interlaced/i25.mp4", "whole.mp4", "--deinterlace")
    assert "are combed" not in run.said, "warns though deinterlaced"
    return "a warning with the way out"


def sphere(run: Run) -> str:
    made = run("16_sphere/vr360.mp4", "out.mp4")
    with av.open(str(made)) as file:
        (frame,) = (f for f, _ in zip(file.decode(video=0), range(1), strict=False))
        assert any("SPHERICAL" in data.type.name for data in frame.side_data), "the tag is gone"
    return "kept"


def begin(run: Run) -> str:
    run("17_end_is_missing/midgop.ts", "out.mp4")
    assert "its end is missing" not in run.said, "its end is missing"
    run.says("begin is missing")
    return "its begin is"


def rgb555(run: Run) -> str:
    made = run("18_rgb555/z_qtrle.mov", "out/%03d.png")
    given = sorted(made.parent.iterdir())[::2]
    white = max(int(np.asarray(Image.open(path)).max()) for path in given)
    assert white == 255, f"white is {white}"
    return "255"


CASES: dict[str, Callable[[Run], str]] = {
    "01 times of decoding (H.264 in AVI)": decode_order,
    "02 an attached font": font,
    "03 two transport streams joined": joined,
    "04 a pause of 3 s in a screen recording": pause,
    "05 subtitles over a slow pan": subtitles,
    "06 soft pulldown; each fourth frame twice": cadence,
    "07 alpha that moves over one colour": alpha,
    "08 a lamp of 12.0 in EXR": hdr,
    "09 a last frame held for 3 s": last_held,
    "10 sound that .mp4 lacks": sound,
    "11 animated AVIF": avif,
    "12 pictures in .webp and .bmp": sequences,
    "13 `._` files of a Mac": apple,
    "14 a folder of .MTS": endings,
    "15 interlaced frames": interlaced,
    "16 a 360 degree video": sphere,
    "17 a stream that begins within a GOP": begin,
    "18 15-bit RGB": rgb555,
}


def judged(tree: str, cases: Path, judge: Callable[[Run], str]) -> str:
    """What was seen of one case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The maker of the subtitles' clip looks for the pictures beside the folder of cases.
        (folder / "cases").symlink_to(cases.resolve())
        try:
            return f"right: {judge(Run(tree, cases.resolve(), folder))}"
        except (
            AssertionError,
            subprocess.TimeoutExpired,
            av.error.FFmpegError,
            IndexError,
            ValueError,
        ) as error:
            return f"**{str(error).splitlines()[0][:100] or type(error).__name__}**"


def main() -> None:
    cases = Path(sys.argv[1])
    trees = [*sys.argv[2:3], str(ROOT)]
    print(f"| case |{' before |' if len(trees) > 1 else ''} now |")
    print("|---" * (1 + len(trees)) + "|")
    for name, judge in CASES.items():
        cells = [judged(tree, cases, judge).replace(json.dumps(tree)[1:-1], "") for tree in trees]
        print(f"| {' | '.join([name, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
