"""Brings what is no picture from one file into another: streams copied packet by packet, or sound encoded.

What the target cannot hold never ends a run: sound is encoded anew, the rest is left out, and both are said.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from .holding import container_of, holds, holds_sound
from .reader import Clip
from .sound_encode import SoundCodec, SoundEncoder, codec_for, no_sound
from .source import main_stream, open_source, unreadable
from .timecode import recounted

log = logging.getLogger(__name__)

# What a muxer writes itself; copied, it would be about another file.
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "number_of_frames",
                "number_of_bytes", "handler_name", "vendor_id"}  # fmt: skip
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


@dataclass(frozen=True)
class _Sound:
    """What becomes of a sound of a clip's file. codec: None where it is not encoded."""

    name: str
    copied: bool
    codec: SoundCodec | None

    @classmethod
    def of(cls, stream: AudioStream, path: Path) -> _Sound:
        """Asks what a file of the name `path` does with it."""
        copied = holds(container_of(path), stream)
        source = stream.codec_context
        return cls(source.name, copied, None if copied else codec_for(path, source))


def sound_said(clip: Clip, path: Path) -> str:
    """Says what becomes of a clip's sound in a file of that name; "" where there is none."""
    if not clip.audio:
        return ""
    if not holds_sound(path):
        return no_sound(path)
    with open_source(clip.source) as source:
        return _said([_Sound.of(stream, path) for stream in source.streams.audio], path)


def _said(sounds: Sequence[_Sound], path: Path) -> str:
    names = " and ".join(dict.fromkeys(sound.codec.spoken for sound in sounds if sound.codec))
    done = ["copied"] * any(sound.copied for sound in sounds) + [f"encoded as {names}"] * bool(names)
    left = [sound.name for sound in sounds if not (sound.copied or sound.codec)]
    if sounds and not done:
        return no_sound(path)
    lost = f", {len(left)} of {len(sounds)} left out" if left else ""
    return f"sound {' and '.join(done)}{lost}" if sounds else ""


class StreamCopier:
    """Copies the streams of a clip's file that are no pictures into another file."""

    def __init__(self, clip: Clip, container: OutputContainer, path: Path):
        self._clip, self._container, self._path = clip, container, path
        self._source = open_source(clip.source)
        self._tracks: dict[int, _Track] = {}
        self._sounds: list[_Sound] = []
        self._shifts = [Fraction(0), *(jump.shift * clip.time_base for jump in clip.jumps)]
        pictures = main_stream(self._source)
        chapters = self._source.chapters() if hasattr(self._source, "chapters") else []
        if chapters and hasattr(container, "set_chapters"):
            container.set_chapters([c for c in map(self._shifted, chapters) if c])
        data = [stream for stream in self._source.streams if stream.type == "data"]
        others = [stream for stream in self._source.streams.video if stream is not pictures]
        for stream in self._source.streams:
            if stream is not pictures and stream not in data and stream not in others:
                self._add(stream)
        self._tell_pictures(others)
        # FFmpeg has a track refer to one other: without sound the chapters' text would be taken for subtitles.
        free = self.has_sound or not chapters
        timecode = free and pictures is not None and self._keeps_timecode(pictures)
        self._tell_data(data, bool(chapters), timecode)
        sources = [self._source.streams[i] for i in self._tracks]
        self._packets: Iterator[Packet] = self._source.demux(*sources) if sources else iter(())
        self._waiting: Packet | None = None
        self._damaged = False

    @property
    def has_sound(self) -> bool:
        """Tells whether sound goes into the file."""
        return any(track.target.type == "audio" for track in self._tracks.values())

    @property
    def said(self) -> str:
        """Says what becomes of the sound; "" where there is none."""
        return _said(self._sounds, self._path)

    @property
    def seconds_of_sound(self) -> float | None:
        """Says how many seconds the sound lasts that went into the file's first sound; None where none did, or it was
        damaged."""
        tracks = [track for track in self._tracks.values() if track.target.type == "audio"]
        if not tracks or tracks[0].since is None or tracks[0].until is None or self._damaged:
            return None
        return float(tracks[0].until - tracks[0].since)

    def _keeps_timecode(self, pictures: Stream) -> bool:
        """Whether the file gets a timecode like the source's, which MP4 and QuickTime make of the pictures' own tag."""
        timecode, target = pictures.metadata.get("timecode"), self._container.streams.video[0]
        if not timecode or self._container.format.name not in ("mp4", "mov") or self._clip.trimmed:
            return False
        if not self._clip.rate or not target.average_rate:
            return False
        counted = recounted(timecode, self._clip.rate, Fraction(target.average_rate))
        if counted:
            target.metadata["timecode"] = counted
        return counted is not None

    def _tell_pictures(self, streams: Sequence[VideoStream]) -> None:
        """Says which other pictures the file does not get. AVIF has its alpha as a grey stream, and may show a still of
        the animation besides."""
        if self._clip.name.lower().endswith(".avif"):
            if any(stream.pix_fmt and stream.pix_fmt.startswith("gray") for stream in streams):
                log.warning(
                    "%s has alpha in a stream of its own, which is not read: frames are opaque. Save it as animated "
                    "WebP or APNG first, whose alpha is.",
                    self._clip.name,
                )
        elif streams:
            names = ", ".join(stream.name or "unknown" for stream in streams)
            log.warning(
                "%s does not get the source's cover or second picture (%s): left out.",
                self._path.suffix,
                names,
            )

    def _tell_data(self, streams: Sequence[Stream], chapters: bool, timecode: bool) -> None:
        """Says which data the file does not get; not of a track that is but another form of what it gets."""
        names = []
        for stream in streams:
            handler = stream.metadata.get("handler_name", "")
            if "timecode" in stream.metadata:
                names += [] if timecode else [f"timecode {stream.metadata['timecode']}"]
            elif not (chapters and re.search("text|subtitle|chapter", handler, re.IGNORECASE)):
                names.append(handler.strip() or stream.name or "unknown")
        if names:
            log.warning(
                "%s does not get the source's data (%s): left out.", self._path.suffix, ", ".join(names)
            )

    def _add(self, stream: Stream) -> None:
        name = (
            stream.codec_context.name if stream.codec_context else stream.metadata.get("filename", "unknown")
        )
        end = self._path.suffix
        encoder = sound = None
        if isinstance(stream, AudioStream):
            sound = _Sound.of(stream, self._path)
            self._sounds.append(sound)
            copied = sound.copied
        else:
            copied = stream.type in ("subtitle", "attachment") and holds(self._container.format.name, stream)
        if copied:
            target: Stream = self._container.add_stream_from_template(stream)
        elif sound and sound.codec:
            encoder = SoundEncoder(self._container, sound.codec, self._clip.name, self._complain)
            target = encoder.stream
            log.warning(
                "%s cannot hold the source's %s sound: it is encoded as %s.%s",
                end, name, sound.codec.spoken, "" if end == ".mkv" else " .mkv holds most as it is.",
            )  # fmt: skip
        else:
            hint = "" if end == ".mkv" else " .mkv holds all."
            log.warning(
                "%s does not get the source's %s (%s): it is left out.%s", end, stream.type, name, hint
            )
            return
        target.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in OF_THE_FILE})
        try:
            target.disposition = stream.disposition
        except (AttributeError, ValueError):
            log.debug("this PyAV sets no dispositions")
        if stream.type != "attachment":
            self._tracks[stream.index] = _Track(target, encoder)

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
        self._container.start_encoding()  # a head that is refused is no fault of these packets
        try:
            for packet in packets:
                self._container.mux(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if not self._damaged:
                log.warning(
                    "%s does not take all sound or subtitles of %s (%s): some is left out.",
                    self._path.suffix, self._clip.name, error.strerror,
                )  # fmt: skip
            self._damaged = True

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
