"""What goes into a file beside its pictures: streams copied packet by packet, or sound encoded from samples."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from .codecs import VideoError
from .reader import Clip
from .source import main_stream, open_source

log = logging.getLogger(__name__)

# What a muxer writes itself; copied, it would be about another file.
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "number_of_frames",
                "number_of_bytes", "handler_name", "vendor_id"}  # fmt: skip


class StreamCopier:
    """The streams of a clip's file that are no pictures, on their way into another file."""

    def __init__(self, clip: Clip, container, path: Path):
        self._clip = clip
        self._source = open_source(clip.source)
        self._targets: dict[int, object] = {}
        pictures = main_stream(self._source)
        for stream in self._source.streams:
            if stream.type in ("audio", "subtitle", "attachment") and stream is not pictures:
                self._add(stream, container, path)
        chapters = self._source.chapters() if hasattr(self._source, "chapters") else []
        if chapters and hasattr(container, "set_chapters"):
            container.set_chapters([c for c in map(self._shifted, chapters) if c])
        sources = [self._source.streams[i] for i in self._targets]
        self._packets = self._source.demux(*sources) if sources else iter(())
        self._waiting = None
        self._damaged = False

    def _add(self, stream, container, path: Path) -> None:
        try:
            target = container.add_stream_from_template(stream)
        except (ValueError, av.error.FFmpegError) as error:
            name = stream.codec_context.name if stream.codec_context else stream.type
            if stream.type == "audio":
                other = "" if path.suffix.lower() == ".mkv" else "Write to .mkv, which holds nearly all; or l"
                raise VideoError(
                    f"{path.suffix} cannot hold the source's {name} sound ({error}). {other or 'L'}eave the sound "
                    "out."
                ) from error
            kind, end = stream.type, path.suffix
            log.warning(
                "%s cannot hold the source's %s (%s): it is left out. .mkv holds all.", end, kind, name
            )
            return
        target.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in OF_THE_FILE})
        try:
            target.disposition = stream.disposition
        except (AttributeError, ValueError):
            log.debug("this PyAV sets no dispositions")
        if stream.type != "attachment":
            self._targets[stream.index] = target

    def _shifted(self, chapter: dict) -> dict | None:
        """A chapter within the clip's part of the file, counted from its start."""
        base = Fraction(chapter["time_base"])
        start, end = (Fraction(chapter[side]) * base - self._clip.origin for side in ("start", "end"))
        length = self._clip.length
        if end <= 0 or (length is not None and start >= length):
            return None
        end = end if length is None else min(end, length)
        return {**chapter, "start": round(max(start, Fraction(0)) / base), "end": round(end / base)}

    def copy(self, until: Fraction | None) -> None:
        """Packets up to a time, so that the muxer never has to hold pictures for sound or sound for pictures."""
        while True:
            packet = self._waiting or self._next()
            self._waiting = None
            if packet is None:
                return
            time = packet.dts if packet.dts is not None else packet.pts
            if time is None:  # the demuxer's end mark
                continue
            base = Fraction(packet.time_base)
            seconds = time * base - self._clip.origin
            length = self._clip.length
            if (self._clip.trimmed and seconds < 0) or (length is not None and seconds >= length):
                continue
            if until is not None and seconds > until:
                self._waiting = packet
                return
            shift = round(self._clip.origin / base)
            packet.pts = packet.pts if packet.pts is None else packet.pts - shift
            packet.dts = packet.dts if packet.dts is None else packet.dts - shift
            packet.stream = self._targets[packet.stream_index]
            try:
                packet.stream.container.mux(packet)
            except av.error.InvalidDataError:
                self._complain()

    def _next(self):
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:
            self._complain()
            return None

    def _complain(self) -> None:
        if not self._damaged:
            log.warning("The sound or subtitles of %s are damaged: some is left out.", self._clip.name)
        self._damaged = True

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


class AudioEncoder:
    """Samples (C,S) on their way into a file, encoded; in the place of `StreamCopier`."""

    def __init__(self, container, samples: np.ndarray, rate: int):
        layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(len(samples))
        if layout is None:
            log.warning("The sound has %d channels: the first two are taken.", len(samples))
            samples, layout = samples[:2], "stereo"
        self._samples, self._rate, self._layout = samples, rate, layout
        self._container, self._done = container, 0
        self._stream = container.add_stream("aac", rate=rate, layout=layout)

    def copy(self, until: Fraction | None) -> None:
        """Samples up to a time; None: all, and the end."""
        total = self._samples.shape[1]
        end = total if until is None else min(total, int(until * self._rate) + self._rate)
        if end > self._done:
            part = np.ascontiguousarray(self._samples[:, self._done : end], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
            self._container.mux(self._stream.encode(frame))
            self._done = end
        if until is None:
            self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        """Nothing is open."""
