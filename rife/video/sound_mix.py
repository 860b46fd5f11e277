"""Mixes the sound of several clips into one track: decoded as needed, faded into the next at their seams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer

from .reader import Clip
from .sound_encode import SoundEncoder, known_layout, no_sound, sound_codec, sound_frame
from .source import open_source

_SHORTEST_FADE = Fraction(1, 50)  # seconds; less clicks


class _Voice:
    """One clip's sound: its samples by their place in the whole, and how loud it is when.

    begin: where its first picture's time is, in samples of the whole. fade_in, fade_out: begin and length of these, in
    samples; fade_out is None until the next seam is found.
    """

    def __init__(self, clip: Clip, rate: int, layout: str, begin: int, fade_in: int):
        self._parts = _samples(clip, rate, layout)
        self._held = np.zeros((_channels(layout), 0), np.float32)
        self._place = begin  # of the first sample that is held
        self.begin, self.fade_in = begin, fade_in
        self.fade_out: tuple[int, int] | None = None

    def add_to(self, mix: np.ndarray, first: int) -> None:
        """Adds what it sounds like in samples first ... of the whole."""
        last = first + mix.shape[1]
        if last <= self.begin or (self.fade_out and first >= sum(self.fade_out)):
            return
        while self._place + self._held.shape[1] < last and (part := next(self._parts, None)) is not None:
            self._held = np.concatenate((self._held, part), 1)
        start, stop = max(first, self._place), min(last, self._place + self._held.shape[1])
        if start < stop:
            piece = self._held[:, start - self._place : stop - self._place]
            mix[:, start - first : stop - first] += piece * self._loudness(np.arange(start, stop))
        consumed = max(0, last - self._place)
        self._held, self._place = self._held[:, consumed:], self._place + min(consumed, self._held.shape[1])

    def _loudness(self, place: np.ndarray) -> np.ndarray:
        loud = np.ones(len(place), np.float32)
        if self.fade_in:
            loud *= ((place - self.begin + 0.5) / self.fade_in).clip(0, 1)
        if self.fade_out:
            begin, length = self.fade_out
            loud *= 1 - ((place - begin + 0.5) / length).clip(0, 1)
        return loud


class JoinedSound:
    """Encodes the sound of clips that follow each other into a file; in the place of `StreamCopier`.

    As many channels as the clip has that has most of them.

    `seam` says when the next clip begins, before sound of that time is asked for. Holds a second or so of two clips.
    """

    def __init__(self, clips: list[Clip]):
        self._clips = list(clips)
        kinds = [_kind(clip) for clip in clips if clip.audio]
        self.rate = kinds[0][0]
        self._layout = max((layout for _, layout in kinds), key=_channels)
        self._channels = _channels(self._layout)
        self._waiting = self._clips[1:]
        self._voices = [_Voice(clips[0], self.rate, self._layout, 0, 0)]
        self._lock = threading.Lock()  # seams are found by one thread, sound is written by another
        self._done = 0
        self._end: int | None = None
        self._encoder: SoundEncoder | None = None

    def into(self, container: OutputContainer, path: Path) -> JoinedSound:
        """Adds its stream to a file of the name `path`, if that holds sound; returns itself."""
        codec = sound_codec(path, self.rate, self._layout)
        self._container, self.said = container, no_sound(path)
        if codec:
            self._encoder = SoundEncoder(container, codec, "the clips")
            self.said = f"sound faded over and encoded as {codec.spoken}"
        return self

    @property
    def has_sound(self) -> bool:
        """Tells whether sound goes into the file."""
        return self._encoder is not None

    def seam(self, time: Fraction, overlap: Fraction) -> None:
        """Learns that the next clip's first picture is shown at `time`, in seconds, and for `overlap` seconds both
        clips are."""
        begin, length = round(time * self.rate), round(max(overlap, _SHORTEST_FADE) * self.rate)
        with self._lock:
            self._voices[-1].fade_out = begin, length
            self._voices.append(_Voice(self._waiting.pop(0), self.rate, self._layout, begin, length))

    def ends(self, time: Fraction) -> None:
        """Learns that the last picture's showing is over at `time`, in seconds."""
        self._end = round(time * self.rate)

    def copy(self, until: Fraction | None) -> None:
        """Writes sound up to a time in seconds, encoded; None: all, and the end."""
        if self._encoder is None:
            return
        end = (self._end or self._done) if until is None else round(until * self.rate)
        while self._done < end:
            count = min(end - self._done, self.rate)
            mix = self._mixed(count)
            frame = sound_frame(mix.clip(-1, 1), self.rate, self._layout, self._done)
            self._container.mux(list(self._encoder.encode(frame)))
            self._done += count
        if until is None:
            self._container.mux(list(self._encoder.end()))

    def _mixed(self, count: int) -> np.ndarray:
        mix = np.zeros((self._channels, count), np.float32)
        with self._lock:
            for voice in self._voices:
                voice.add_to(mix, self._done)
            end = self._done + count
            self._voices = [v for v in self._voices if not v.fade_out or end < sum(v.fade_out)]
        return mix

    def close(self) -> None:
        """Forgets the voices, with which all that is open goes."""
        self._voices.clear()


def _kind(clip: Clip) -> tuple[int, str]:
    """Samples per second, and the layout of the channels."""
    with open_source(clip.source) as container:
        stream = container.streams.audio[0]
        return stream.rate, known_layout(stream.layout.name)


def _channels(layout: str) -> int:
    return av.AudioLayout(layout).nb_channels


def _samples(clip: Clip, rate: int, layout: str) -> Iterator[np.ndarray]:
    """The sound of a clip from its first picture on, (C,S) at `rate`, a packet at a time; none where it has none."""
    if not clip.audio:
        return
    channels = _channels(layout)
    with open_source(clip.source) as container:
        # One channel stays one, and is then taken for both: FFmpeg would make it quieter.
        single = channels == 2 and container.streams.audio[0].channels == 1
        resampler = av.AudioResampler("flt", "mono" if single else layout, rate)
        place = None  # of the next sample, counted from the first picture
        for frame in _decoded(container):
            if place is None:
                start = Fraction(frame.pts or 0) * Fraction(frame.time_base or 1) - clip.origin
                place = round(start * rate)
                if place > 0:
                    yield np.zeros((channels, place), np.float32)
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(part.samples, -1).T
                skipped = min(max(0, -place), samples.shape[1])
                place += samples.shape[1]
                if skipped < samples.shape[1]:
                    yield np.broadcast_to(samples[:, skipped:], (channels, samples.shape[1] - skipped))
            if clip.length is not None and place >= clip.length * rate:
                return


def _decoded(container: InputContainer) -> Iterator[av.AudioFrame]:
    try:
        yield from container.decode(container.streams.audio[0])
    except av.error.FFmpegError:
        return  # damaged from here on: silence, as the copy of a damaged track has
