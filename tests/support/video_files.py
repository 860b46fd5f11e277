"""Clips in files, each frame of which is known, and a model that cross-fades them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch

from rife.engine import Interpolator
from rife.timeline.parts import Timing
from rife.training.synthetic import RenderedMotion
from rife.video.job import Encoding, Job, VideoWriter, to_bytes
from rife.video.reader import Clip

NTSC = Fraction(24000, 1001)


class Fader(Interpolator):
    """A stand-in model: cross-fades."""

    run_device, run_dtype = torch.device("cpu"), torch.float32

    def memory_estimate(self, height, width, batch=1, **options):
        return 1

    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        return torch.lerp(img0, img1, timestep.view(-1, 1, 1, 1).to(img0))


def picture(i: int, height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (
        np.stack(((x * 3 + i * 9) % 256, (y * 4) % 256, (x + y + i * 5) % 256), 2).astype(np.uint8) // 2 + 60
    )


def make(path, frames=5, rate=NTSC, height=48, width=64, audio=None, codec="ffv1", pix_fmt="bgr0"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        sound = container.add_stream(audio, rate=48000, layout="mono") if audio else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24")
            container.mux(stream.encode(frame))
        if sound:
            size = sound.codec_context.frame_size or 1024
            for k in range(10):
                wave = np.sin(np.arange(k * size, (k + 1) * size) * 0.05).astype(np.float32)[None] * 0.3
                frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, k * size
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def packets(path, kind="audio"):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.dts is not None]


def make_of(path, frames: torch.Tensor, rate=NTSC):
    """A lossless file of these frames."""
    with VideoWriter(path, rate, *frames.shape[2:0:-1], encoding=Encoding("ffv1")) as writer:
        for frame in frames:
            writer.write(to_bytes(frame))
    return path


def frames_of(path):
    return list(Clip(path).frames())


def same(a, b) -> bool:
    """Whether two files hold the same frames."""
    return all(np.array_equal(x, y) for x, y in zip(frames_of(a), frames_of(b), strict=True))


def rendered(seed: int, n: int) -> torch.Tensor:
    return RenderedMotion(64, 96, seed=seed, max_motion=4.0, objects=4).clip(n).permute(0, 2, 3, 1)


def make_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_at(path, ticks, time_base=Fraction(1, 90000), codec="libx264", pix_fmt="yuv420p", options=None):
    """A clip whose frames are shown at these ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.time_base = time_base
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damage(path, index: int) -> None:
    """Overwrites the frame that is stored `index`-th."""
    with av.open(str(path)) as container:
        spot = [(p.pos, p.size) for p in container.demux(video=0) if p.size][index]
    data = bytearray(path.read_bytes())
    data[spot[0] + spot[1] // 4 : spot[0] + spot[1]] = bytes(spot[1] - spot[1] // 4)
    path.write_bytes(data)


def job_of(source, codec="ffv1", **timing) -> Job:
    return Job(Clip(source), Timing(**timing), Encoding(codec))


def with_sound(path, codec: str, form: str, layout="mono", bad: float | None = None):
    """A second of a tone, its samples as `form`, beside ten frames."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        sound = container.add_stream(codec, rate=44100, layout=layout)
        sound.bit_rate = 64000
        for i in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        wave = np.sin(np.arange(44100) * 0.05)[None] * 0.3
        if bad is not None:
            wave[0, 20000] = bad
        if form == "u8":
            wave = (wave * 127 + 128).astype(np.uint8)
        elif form == "s16":
            wave = wave * 32767
        # Samples of channels side by side, or each in a row of its own.
        wave = np.repeat(wave, av.AudioLayout(layout).nb_channels, 0 if form[-1] == "p" else 1)
        kind = {"u8": np.uint8, "s16": np.int16}.get(form, np.float32)
        frame = av.AudioFrame.from_ndarray(wave.astype(kind), format=form, layout=layout)
        frame.sample_rate = 44100
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(sound.codec_context.frame_size or 1024, partial=True):
            container.mux(sound.encode(part))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return path
