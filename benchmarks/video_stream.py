"""What the video path promises, measured: memory, sound, speed, equal frames on several processes.

python benchmarks/video_stream.py memory|sync|speed|ranks [--clip CLIP] ...

memory: resident memory of a stream of 10 seconds and of 10 minutes, 1920x1080, encoded as usual: with a stand-in for
the network that returns its first frame, and with the bundled one. `--fps`: frames per second of the four clips; 60
frames are enough to fill all queues, the encoder's too.
sync: an hour of flashes and beeps; how far apart they are in the output file, at its begin and its end.
speed: end to end against the network alone, in turns, on a 1080p clip; and what decoding and encoding take alone. In
seconds, which other work on the machine lengthens, and in seconds of processors, which it hardly does.
ranks: the frames of one process and of `--processes`, one of which is killed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np
import torch

import rife
from rife.video.codecs import Encoding
from rife.video.job import interpolate_video, to_pixels, to_tensor
from rife.video.reader import Clip
from rife.video.writer import VideoWriter


class FirstFrame:
    """A network that costs nothing."""

    run_device, run_dtype = torch.device("cpu"), torch.float32

    def memory_estimate(self, height, width, batch=1, **options):
        return 1

    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        return img0.clone()


def memory(args) -> None:
    streams = [(network, seconds) for network in ("none", "bundled") for seconds in (10, args.seconds)]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        for (network, seconds), fps in zip(streams, args.fps, strict=True):
            _moving(source, seconds, fps)
            command = [sys.executable, __file__, "peak", str(source), str(target), network]
            begun = time.perf_counter()
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"{network}, {seconds} s, {seconds * fps} frames: {peak}, "
                  f"{time.perf_counter() - begun:.0f} s", flush=True)  # fmt: skip


def _moving(path: Path, seconds: int, fps: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1080 + 256, 1920 + 256, 3), np.uint8)
    noise = noise.reshape(167, 8, 272, 8, 3)[:, :1, :, :1].repeat(8, 1).repeat(8, 3).reshape(1336, 2176, 3)
    quick = Encoding("h264", 23, "ultrafast")
    with VideoWriter(path, Fraction(fps), 1920, 1080, encoding=quick) as writer:
        for i in range(seconds * fps):
            x, y = (i * 3) % 256, (i * 2) % 256
            writer.write(np.ascontiguousarray(noise[y : y + 1080, x : x + 1920]))


def peak(source: str, target: str, network: str) -> None:
    """Of this process, while it interpolates: as a whole, and the most in each tenth of the frames."""
    model = FirstFrame() if network == "none" else rife.load_model(device="cpu")
    before, count = _resident("VmRSS"), 2 * len(Clip(source)) - 1
    tenths = [0] * 10

    def look(done: int) -> None:
        tenth = (done - 1) * 10 // count
        tenths[tenth] = max(tenths[tenth], _resident("VmRSS"))

    interpolate_video(model, source, target, 2, on_progress=look)
    print(f"peak {_resident('VmHWM')} MB ({before} before the first frame; by tenths {tenths})")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) >> 10
    raise OSError("this system does not tell the resident memory of a process")


def sync(args) -> None:
    rate, sound_rate = Fraction(10000, 1001), 16000
    every = 600  # frames: about a minute
    count = int(args.seconds * rate)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        _beeps(source, count, every, rate, sound_rate)
        begun = time.perf_counter()
        interpolate_video(FirstFrame(), source, target, 2, cuts="off", repeats="off")
        print(
            f"{count} frames, {float(count / rate):.1f} s, interpolated in {time.perf_counter() - begun:.0f} s"
        )
        flashes, beeps = _flashes(target), _onsets(target)
    assert len(flashes) == len(beeps) == (count - 1) // every + 1, (len(flashes), len(beeps))
    apart = [(b - f) * 1000 for f, b in zip(flashes, beeps, strict=True)]
    frame = 1000 / float(2 * rate)
    for name, i in (("first", 0), ("last", -1)):
        print(f"{name}: flash at {flashes[i]:.4f} s, beep at {beeps[i]:.4f} s: {apart[i]:+.1f} ms")
    print(f"largest distance {max(map(abs, apart)):.1f} ms of {len(apart)}; a frame lasts {frame:.1f} ms")


def _beeps(path: Path, count: int, every: int, rate: Fraction, sound_rate: int) -> None:
    samples = np.zeros((1, int(count / rate * sound_rate)), np.float32)
    wave = np.sin(np.arange(sound_rate // 20) * 0.5).astype(np.float32) * 0.8
    for k in range(0, count, every):
        at = round(k / rate * sound_rate)
        samples[0, at : at + len(wave)] = wave[: samples.shape[1] - at]
    with VideoWriter(path, rate, 64, 48, sound=(samples, sound_rate)) as writer:
        for k in range(count):
            writer.write(np.full((48, 64, 3), 255 if k % every == 0 else 40, np.uint8))


def _flashes(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        bright = [(f.time, f.to_ndarray(format="gray").mean() > 150) for f in container.decode(video=0)]
    pairs = zip([(0, False), *bright], bright, strict=False)
    return [float(time) for (_, before), (time, now) in pairs if now and not before]


def _onsets(path: Path) -> list[float]:
    found, quiet_since = [], -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.2)
            if len(loud):
                at = frame.time + loud[0] / frame.sample_rate
                if at - quiet_since > 1:
                    found.append(at)
                quiet_since = frame.time + loud[-1] / frame.sample_rate
    return found


def speed(args) -> None:
    model = rife.load_model(device="cpu")
    clip = Clip(args.clip)
    frames = [to_tensor(frame).float() / 255 for frame in clip.frames(30, 30 + args.frames)]
    look = clip.look
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.mkv"), Path(folder, "out.mp4")
        with VideoWriter(source, clip.rate, clip.width, clip.height, look=look) as writer:
            for frame in frames:
                writer.write(to_pixels(frame, 8))
        model.inference(*(f.permute(2, 0, 1)[None] for f in frames[:2]))  # what only the first takes
        runs = {
            "network": lambda: rife.interpolate(model, torch.stack(frames), 2),
            "end to end": lambda: interpolate_video(model, source, target, 2),
            "decode": lambda: list(Clip(source).frames()),
            "encode": lambda: _encode(target, clip, frames),
        }
        times = {name: [] for name in runs}
        for _ in range(args.runs):
            for name, run in runs.items():
                begun = time.perf_counter(), time.process_time()
                run()
                times[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
            print("  ".join(f"{name} {took[-1][0]:.1f} s" for name, took in times.items()), flush=True)
    print(f"{args.frames} frames of {clip.width}x{clip.height} to {2 * args.frames - 1}, medians of {args.runs}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for kind, unit in enumerate(("seconds", "seconds of processors")):
        middle = {name: float(np.median([row[kind] for row in took])) for name, took in times.items()}
        share = 100 * middle["network"] / middle["end to end"]
        parts = ", ".join(f"{name} {took:.2f}" for name, took in middle.items())
        print(f"{unit}: {parts}; end to end at {share:.0f}% of the network alone")


def _encode(target: Path, clip: Clip, frames) -> None:
    with VideoWriter(target, 2 * clip.rate, clip.width, clip.height, look=clip.look) as writer:
        for frame in frames:
            for _ in range(2):
                writer.write(to_pixels(frame, 8))


def ranks(args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mkv")
        clip = Clip(args.clip)
        with VideoWriter(
            source, clip.rate or Fraction(24), 320, 180, encoding=Encoding("h264", 12)
        ) as writer:
            for frame in clip.frames(0, args.frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(width=320, height=180)
                writer.write(picture.to_ndarray(format="rgb24"))
        one, many = Path(folder, "one.mkv"), Path(folder, "many.mkv")
        _rank(source, one, 0, 1).wait()
        running = [_rank(source, many, rank, args.processes) for rank in range(args.processes)]
        while not list(many.with_name(many.name + ".parts").glob("*.claim")):
            time.sleep(0.2)
        time.sleep(2)
        running[-1].send_signal(signal.SIGKILL)
        print("exit codes", [process.wait() for process in running])
        sums = [
            hashlib.sha256(b"".join(f.tobytes() for f in Clip(path).frames())).hexdigest()
            for path in (one, many)
        ]
        same = "equal" if sums[0] == sums[1] else "DIFFERENT"
        print(f"{len(Clip(one))} and {len(Clip(many))} frames, {same}: {sums[0][:16]}")


def _rank(source: Path, target: Path, rank: int, processes: int) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "rife",
        "interpolate",
        source,
        target,
        "--codec",
        "ffv1",
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}  # fmt: skip
    if processes == 1:
        environment.pop("WORLD_SIZE")
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def main() -> None:
    if sys.argv[1:2] == ["peak"]:
        peak(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("memory", "sync", "speed", "ranks"))
    parser.add_argument("--clip", type=Path, help="for speed and ranks")
    parser.add_argument("--seconds", type=int, help="of the long clip (default: 600, for sync 3600)")
    parser.add_argument("--fps", type=int, nargs=4, default=(10, 10, 6, 1), help="for memory")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--processes", type=int, default=4)
    args = parser.parse_args()
    args.seconds = args.seconds or {"sync": 3600}.get(args.what, 600)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} CPUs, torch {torch.__version__}, PyAV {av.__version__}")
    {"memory": memory, "sync": sync, "speed": speed, "ranks": ranks}[args.what](args)


if __name__ == "__main__":
    main()
