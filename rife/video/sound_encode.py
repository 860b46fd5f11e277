"""Encodes sound into a file, from packets or samples, as what the file can hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from .holding import begun, container_of, holds_sound

log = logging.getLogger(__name__)

LEFT_OUT = "sound left out"  # as asked, or because it would not fit
_LOSSLESS = ("flac", "alac", "wavpack", "tta", "truehd", "mlp", "ape", "shorten", "pcm_")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_WANTED = {
    ".webm": ("libopus", "libvorbis"),
    ".ogv": ("libvorbis", "libopus"),
    ".ogg": ("libvorbis", "libopus"),
    ".avi": ("libmp3lame", "aac"),
}
_ELSE = ("aac", "ac3", "libmp3lame", "libopus")
_SPOKEN = {"aac": "AAC", "ac3": "AC-3", "alac": "ALAC", "libmp3lame": "MP3", "libopus": "Opus",
           "libvorbis": "Vorbis"}  # fmt: skip


class SoundCodec(NamedTuple):
    """Says how sound is encoded: FFmpeg's encoder, samples per second, layout of channels."""

    encoder: str
    rate: int
    layout: str

    @property
    def spoken(self) -> str:
        """Returns the codec's name as people say it."""
        return _SPOKEN.get(self.encoder, self.encoder)


def usual_layout(layout: str) -> str:
    """Returns the usual layout of as many channels."""
    return _LAYOUTS.get(av.AudioLayout(layout).nb_channels, "stereo")


def known_layout(layout: str) -> str:
    """Returns the layout, or the usual one where it is not said which channels there are."""
    return usual_layout(layout) if "channels" in layout else layout


def sound_frame(samples: np.ndarray, rate: int, layout: str, place: int) -> AudioFrame:
    """Makes a frame of samples (C,S), the first of which is number `place` of the sound."""
    # Side by side: PyAV's arrays of planes do not fit all layouts.
    packed = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
    frame = AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
    return frame


def sound_codec(path: Path, rate: int, layout: str, lossless: bool = False) -> SoundCodec | None:
    """Returns what encodes such sound for a file of that name, by trial; None where it holds no sound.

    lossless: the sound has lost nothing yet, and shall not where the file has a codec for that.
    """
    container = container_of(path)
    layouts = dict.fromkeys((known_layout(layout), usual_layout(layout)))  # some encoders know no others
    wanted = _WANTED.get(path.suffix.lower(), ("alac", "aac") if lossless else ("aac",))
    codecs = dict.fromkeys((*(("aac",) if container == "mpegts" else wanted), *_ELSE))
    for names in (layouts, ("stereo",)):  # two channels only where nothing takes all
        for kind in product(codecs, (rate,), names):
            try:
                with begun(container) as trial:
                    encoder = SoundEncoder(trial, SoundCodec(*kind), "")
                    trial.start_encoding()
                return encoder.codec
            except (ValueError, OSError, av.error.FFmpegError) as error:
                log.debug("%s is no sound for %s: %s", kind, path.suffix, error)
    return None


def codec_for(path: Path, source: AudioCodecContext) -> SoundCodec | None:
    """Returns what encodes the sound of a file's stream for a file of another name, see `sound_codec`."""
    lossless = source.name.startswith(_LOSSLESS)
    return sound_codec(path, source.sample_rate, source.layout.name, lossless)


def no_sound(path: Path) -> str:
    """Says that no sound comes into a file of that name."""
    if holds_sound(path):
        return f"no sound: {path.suffix} holds none that is encoded here"
    return f"no sound: {path.suffix} holds none"


class Sound(Protocol):
    """Is what brings sound into a file, and perhaps more."""

    @property
    def has_sound(self) -> bool:
        """Tells whether sound goes into the file."""

    @property
    def said(self) -> str:
        """Says what becomes of the sound; "" where there is none."""

    def copy(self, until: Fraction | None) -> None:
        """Writes what is heard up to a time in seconds; None: all, and the end."""

    def close(self) -> None:
        """Closes what is open."""


class SoundEncoder:
    """Decodes sound and encodes it anew into a file."""

    def __init__(
        self,
        container: OutputContainer,
        codec: SoundCodec,
        name: str,
        on_damage: Callable[[], None] | None = None,
    ):
        """Adds a stream to `container`; the rate becomes the nearest that the codec has. on_damage: told of packets
        that cannot be decoded, which are left out. Raises ValueError."""
        known, rate = av.Codec(codec.encoder, "w"), codec.rate
        rates = known.audio_rates
        rate = min(rates, key=lambda other: (abs(other - rate), -other)) if rates else rate
        form = next(
            (f.name for f in known.audio_formats or () if f.name in ("s32p", "fltp", "flt", "s16")), "fltp"
        )
        stream = container.add_stream(codec.encoder, rate=rate, layout=codec.layout)
        assert isinstance(stream, AudioStream)
        stream.format = form
        self.codec = codec._replace(rate=rate)
        self.stream, self._name, self._on_damage = stream, name, on_damage
        self._packers: dict[tuple[str, str, int], Any] = {}
        self._resampler: Any = None
        self._form, self._rate = form, rate
        self._silenced = False

    def packets(self, packet: Packet) -> Iterator[Packet]:
        """Yields what comes of a packet of the source."""
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            log.debug("a packet of sound cannot be decoded: %s", error)
            if self._on_damage is not None:
                self._on_damage()
            return
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            yield from self.encode(frame)

    def encode(self, frame: AudioFrame) -> Iterator[Packet]:
        """Yields what comes of decoded samples; such as are no numbers become silence, which is said."""
        if self._resampler is None:
            self._resampler = av.AudioResampler(self._form, self.stream.layout, self._rate)
        for ready in self._resampler.resample(self._finite(frame)):
            yield from self.stream.encode(ready)

    def _finite(self, frame: AudioFrame) -> AudioFrame:
        if not frame.format.name.startswith(("flt", "dbl")):
            return frame
        frame = self._packed(frame)
        samples = frame.to_ndarray()
        if np.isfinite(samples).all():
            return frame
        if not self._silenced:
            log.warning(
                "The sound of %s has samples that are no numbers (NaN or infinite) at %.2f s: they become silence.",
                self._name, float(frame.time or 0),
            )  # fmt: skip
            self._silenced = True
        mended: Any = np.nan_to_num(samples, nan=0, posinf=0, neginf=0)
        mended = AudioFrame.from_ndarray(mended, format=frame.format.name, layout=frame.layout.name)
        mended.sample_rate, mended.pts, mended.time_base = frame.sample_rate, frame.pts, frame.time_base
        return mended

    def _packed(self, frame: AudioFrame) -> AudioFrame:
        """The frame with the samples of all channels side by side: PyAV's arrays of planes do not fit all layouts."""
        if not frame.format.is_planar:
            return frame
        kind = frame.format.packed.name, frame.layout.name, frame.sample_rate
        packer = self._packers.setdefault(kind, av.AudioResampler(*kind))
        (packed,) = packer.resample(frame)
        return packed

    def end(self) -> Iterator[Packet]:
        """Yields what is still held."""
        if self._resampler is not None:
            for ready in self._resampler.resample(None):
                yield from self.stream.encode(ready)
        yield from self.stream.encode(None)


class AudioEncoder:
    """Encodes samples (C,S) into a file, as what it holds; in the place of `StreamCopier`."""

    def __init__(self, container: OutputContainer, path: Path, samples: np.ndarray, rate: int):
        layout = {n: _LAYOUTS[n] for n in (1, 2, 6, 8)}.get(len(samples))
        if layout is None:
            log.warning("The sound has %d channels: the first two are taken.", len(samples))
            samples, layout = samples[:2], "stereo"
        self._samples, self._rate, self._layout = samples, rate, layout
        self._container, self._done = container, 0
        codec = sound_codec(path, rate, layout)
        self._encoder = SoundEncoder(container, codec, "the video") if codec else None
        self.said = f"sound encoded as {codec.spoken}" if codec else no_sound(path)

    @property
    def has_sound(self) -> bool:
        """Tells whether sound goes into the file."""
        return self._encoder is not None

    def copy(self, until: Fraction | None) -> None:
        """Writes samples up to a time in seconds; None: all, and the end."""
        if self._encoder is None:
            return
        total = self._samples.shape[1]
        end = total if until is None else min(total, int(until * self._rate) + self._rate)
        if end > self._done:
            frame = sound_frame(self._samples[:, self._done : end], self._rate, self._layout, self._done)
            self._container.mux(list(self._encoder.encode(frame)))
            self._done = end
        if until is None:
            self._container.mux(list(self._encoder.end()))

    def close(self) -> None:
        """Does nothing: nothing is open."""
