"""Brings what is no picture into a file: streams copied packet by packet, or sound encoded from packets or samples.

What the target cannot hold never ends a run: sound is encoded anew, the rest is left out, and both are said.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from .reader import Clip
from .source import main_stream, open_source, unreadable

log = logging.getLogger(__name__)

# What a muxer writes itself; copied, it would be about another file.
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "number_of_frames",
                "number_of_bytes", "handler_name", "vendor_id"}  # fmt: skip
_LOSSLESS = ("flac", "alac", "wavpack", "tta", "truehd", "mlp", "ape", "shorten", "pcm_")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Names of FFmpeg's decoders of what a transport stream says the kind of.
_IN_TRANSPORT_STREAMS = (
    "mp1", "mp2", "mp3", "aac", "ac3", "eac3", "dca", "truehd", "opus", "libopus", "s302m", "pcm_bluray", "dvbsub",
    "dvb_", "pgssub", "hdmv_",
)  # fmt: skip
_SILENCE = 20160  # bytes of it: whole samples of any PCM of up to 8 channels
_BACKWARD, _FORWARD = 0.1, 1.0  # seconds by which sound may be off before it is taken to be on another clock


@dataclass
class _Track:
    """A stream on its way: where to, what encodes it if anything does, and how far its clock is off the first one's."""

    target: Stream
    encoder: SoundEncoder | None
    shift: Fraction = Fraction(0)  # seconds
    since: Fraction | None = None  # where its first packet began, seconds
    until: Fraction | None = None  # where its last packet ended, seconds
    last: int | None = None  # the last time of decoding that was written


class StreamCopier:
    """Copies the streams of a clip's file that are no pictures into another file."""

    def __init__(self, clip: Clip, container: OutputContainer, path: Path):
        self._clip, self._container, self._path = clip, container, path
        self._source = open_source(clip.source)
        self._tracks: dict[int, _Track] = {}
        self._shifts = [Fraction(0), *(jump.shift * clip.time_base for jump in clip.jumps)]
        pictures = main_stream(self._source)
        for stream in self._source.streams:
            if stream is not pictures:
                self._add(stream)
        chapters = self._source.chapters() if hasattr(self._source, "chapters") else []
        if chapters and hasattr(container, "set_chapters"):
            container.set_chapters([c for c in map(self._shifted, chapters) if c])
        sources = [self._source.streams[i] for i in self._tracks]
        self._packets: Iterator[Packet] = self._source.demux(*sources) if sources else iter(())
        self._waiting: Packet | None = None
        self._damaged = False

    @property
    def has_sound(self) -> bool:
        """Tells whether sound goes into the file."""
        return any(track.target.type == "audio" for track in self._tracks.values())

    @property
    def seconds_of_sound(self) -> float | None:
        """Says how many seconds the sound lasts that went into the file's first sound; None where none did, or it was
        damaged."""
        tracks = [track for track in self._tracks.values() if track.target.type == "audio"]
        if not tracks or tracks[0].since is None or tracks[0].until is None or self._damaged:
            return None
        return float(tracks[0].until - tracks[0].since)

    def _add(self, stream: Stream) -> None:
        name = (
            stream.codec_context.name if stream.codec_context else stream.metadata.get("filename", "unknown")
        )
        end = self._path.suffix
        encoder = None
        if stream.type in ("audio", "subtitle", "attachment") and self._holds(stream):
            target: Stream = self._container.add_stream_from_template(stream)
        elif stream.type == "audio" and (encoder := self._encoder_for(stream)):
            target = encoder.stream
            log.warning(
                "%s cannot hold the source's %s sound: it is encoded as %s.%s",
                end, name, encoder.stream.codec_context.name, "" if end == ".mkv" else " .mkv holds most as it is.",
            )  # fmt: skip
        else:
            kind = "cover or second picture" if stream.type == "video" else stream.type
            hint = "" if end == ".mkv" or stream.type in ("video", "data") else " .mkv holds all."
            log.warning("%s does not get the source's %s (%s): it is left out.%s", end, kind, name, hint)
            return
        target.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in OF_THE_FILE})
        try:
            target.disposition = stream.disposition
        except (AttributeError, ValueError):
            log.debug("this PyAV sets no dispositions")
        if stream.type != "attachment":
            self._tracks[stream.index] = _Track(target, encoder)

    def _holds(self, stream: Stream) -> bool:
        """Whether the container takes such a stream, by the one who knows: a file of it alone is begun in memory."""
        name = self._container.format.name
        if stream.type == "attachment" and name != "matroska":
            return False  # other muxers take it, and then refuse to write the file's head
        codec = stream.codec_context.name if stream.codec_context else ""
        if name == "mpegts" and stream.type != "attachment" and not codec.startswith(_IN_TRANSPORT_STREAMS):
            return False  # it is taken for data that nobody reads
        try:
            with av.open(io.BytesIO(), "w", format=name) as trial:
                target = trial.add_stream_from_template(stream)
                trial.start_encoding()
                if codec.startswith("pcm_"):
                    # MP4 refuses channels without names, but only once there is sound, at the end.
                    silence = Packet(bytes(_SILENCE))
                    silence.stream, silence.time_base = target, Fraction(1, 48000)
                    silence.pts = silence.dts = 0
                    trial.mux(silence)
        except (ValueError, OSError, av.error.FFmpegError):
            return False
        return True

    def _encoder_for(self, stream: Stream) -> SoundEncoder | None:
        assert isinstance(stream, AudioStream)
        source = stream.codec_context
        lossless = source.name.startswith(_LOSSLESS)
        wanted = {
            ".webm": ["libopus", "libvorbis"],
            ".ogv": ["libvorbis", "libopus"],
            ".avi": ["libmp3lame", "aac"],
        }
        # The usual ones of so many channels, where it is not said which they are, and for encoders that know no others.
        usual = _LAYOUTS.get(source.channels, "stereo")
        layouts = dict.fromkeys(
            (usual if "channels" in source.layout.name else source.layout.name, usual, "stereo")
        )
        codecs = wanted.get(self._path.suffix.lower(), ["alac", "aac"] if lossless else ["aac"])
        if self._container.format.name == "mpegts":
            codecs = ["aac"]
        for codec, layout in product([*codecs, "aac", "libmp3lame", "libopus"], layouts):
            sound = codec, source.sample_rate, layout, self._clip.name, self._complain
            try:
                with av.open(io.BytesIO(), "w", format=self._container.format.name) as trial:
                    SoundEncoder(trial, *sound)
                    trial.start_encoding()
                return SoundEncoder(self._container, *sound)
            except (ValueError, OSError, av.error.FFmpegError) as error:
                log.debug("%s (%s) is no sound for %s: %s", codec, layout, self._path.suffix, error)
        return None

    def _shifted(self, chapter: Any) -> Any:
        """A chapter within the clip's part of the file, counted from its start."""
        base = Fraction(chapter["time_base"] or 1)
        start, end = (
            Fraction(tick) * base - self._clip.origin for tick in (chapter["start"], chapter["end"])
        )
        length = self._clip.length
        if end <= 0 or (length is not None and start >= length):
            return None
        end = end if length is None else min(end, length)
        return {**chapter, "start": round(max(start, Fraction(0)) / base), "end": round(end / base)}

    def copy(self, until: Fraction | None) -> None:
        """Copies packets up to a time in seconds, so that the muxer never has to hold pictures for sound or sound for
        pictures."""
        while True:
            packet = self._waiting or self._next()
            self._waiting = None
            if packet is None:
                break
            tick = packet.dts if packet.dts is not None else packet.pts
            if tick is None or not packet.size:  # the demuxer's end mark
                continue
            track, base = self._tracks[packet.stream_index], Fraction(packet.time_base)
            shift = self._on_one_clock(track, packet, tick * base)
            seconds = tick * base + shift - self._clip.origin
            length = self._clip.length
            if (self._clip.trimmed and seconds < 0) or (length is not None and seconds >= length):
                continue
            if until is not None and seconds > until:
                self._waiting = packet
                return
            track.since = tick * base + shift if track.since is None else track.since
            track.until = tick * base + shift + (packet.duration or 0) * base
            ticks = round((self._clip.origin - shift) / base)
            packet.pts = packet.pts if packet.pts is None else packet.pts - ticks
            packet.dts = packet.dts if packet.dts is None else packet.dts - ticks
            self._write(track, packet)
        if until is None:
            for track in self._tracks.values():
                if track.encoder:
                    self._mux(track.encoder.end())

    def _on_one_clock(self, track: _Track, packet: Packet, time: Fraction) -> Fraction:
        """Seconds to add to a packet's time where the file's clock restarts: as much as the pictures get there."""
        if len(self._shifts) == 1:
            return track.shift
        if track.until is None or track.target.type != "audio":
            before = [i for i, jump in enumerate(self._clip.jumps, 1) if 0 <= jump.byte <= (packet.pos or 0)]
            track.shift = self._shifts[before[-1] if before else 0]
            return track.shift
        expected = track.until
        if not -_BACKWARD <= time + track.shift - expected <= _FORWARD:
            track.shift = min(self._shifts, key=lambda shift: abs(time + shift - expected))
        return track.shift

    def _write(self, track: _Track, packet: Packet) -> None:
        if track.encoder:
            self._mux(track.encoder.packets(packet))
            return
        if packet.dts is not None:
            if track.last is not None and packet.dts <= track.last and len(self._shifts) > 1:
                return  # sound of before a join that lasts longer than its pictures
            track.last = packet.dts
        packet.stream = track.target
        self._mux([packet])

    def _mux(self, packets: Iterable[Packet]) -> None:
        try:
            for packet in packets:
                self._container.mux(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError):
            self._complain()

    def _next(self) -> Packet | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError as error:
            if not self._clip.breaks_off:
                raise unreadable(error.strerror or str(error)) from error
            self._complain()
            return None

    def _complain(self) -> None:
        if not self._damaged:
            log.warning("The sound or subtitles of %s are damaged: some is left out.", self._clip.name)
        self._damaged = True

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


class SoundEncoder:
    """Decodes sound and encodes it anew into a file."""

    def __init__(
        self,
        container: OutputContainer,
        codec: str,
        rate: int,
        layout: str,
        name: str,
        on_damage: Callable[[], None] | None = None,
    ):
        """Adds a stream to `container`; `rate` becomes the nearest that the codec has. on_damage: told of packets that
        cannot be decoded, which are left out. Raises ValueError."""
        known = av.Codec(codec, "w")
        rates = known.audio_rates
        rate = min(rates, key=lambda other: (abs(other - rate), -other)) if rates else rate
        form = next(
            (f.name for f in known.audio_formats or () if f.name in ("s32p", "fltp", "flt", "s16")), "fltp"
        )
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        stream.format = form
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
    """Encodes samples (C,S) as AAC into a file; in the place of `StreamCopier`."""

    def __init__(self, container: OutputContainer, samples: np.ndarray, rate: int):
        layout = {n: _LAYOUTS[n] for n in (1, 2, 6, 8)}.get(len(samples))
        if layout is None:
            log.warning("The sound has %d channels: the first two are taken.", len(samples))
            samples, layout = samples[:2], "stereo"
        self._samples, self._rate, self._layout = samples, rate, layout
        self._container, self._done = container, 0
        self._encoder = SoundEncoder(container, "aac", rate, layout, "the video")

    def copy(self, until: Fraction | None) -> None:
        """Writes samples up to a time in seconds; None: all, and the end."""
        total = self._samples.shape[1]
        end = total if until is None else min(total, int(until * self._rate) + self._rate)
        if end > self._done:
            part = np.ascontiguousarray(self._samples[:, self._done : end].T, np.float32).reshape(1, -1)
            frame = AudioFrame.from_ndarray(part, format="flt", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
            self._container.mux(list(self._encoder.encode(frame)))
            self._done = end
        if until is None:
            self._container.mux(list(self._encoder.end()))

    def close(self) -> None:
        """Does nothing: nothing is open."""
