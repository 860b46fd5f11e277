"""Finds when each frame of a stream is shown, from its packets alone: nothing is decoded.

Containers are trusted as far as they go. Clocks that restart or jump are joined, a stray time is put where it belongs,
and where packets carry only decode times, or none, frames are numbered as they come out of the decoder.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from ..timeline.cadence import find_cadence
from .field_pictures import FieldPictures
from .source import packets_of, stated_duration

log = logging.getLogger(__name__)

_NONE = -(1 << 63)  # no time, as FFmpeg has it
_BACKWARD = 0.1  # seconds by which decode times may step back before the clock is taken to restart; FFmpeg's own bound
_FORWARD = (
    10.0  # the same for a step forward, in containers whose clock may jump (FFmpeg's -dts_delta_threshold)
)
_STRAY = 3600.0  # ... in others, where a pause is a pause, and only beyond 50 times the usual distance
_CLOCK_MAY_JUMP = 0x0200  # FFmpeg's AVFMT_TS_DISCONT
_MILLISECOND = Fraction(1, 1000)
_COARSE = 4  # ticks that a frame is shown for, at most, where they are its own clock


class Jump(NamedTuple):
    """Names a place at which a clock was joined: the byte of the first packet after it, and the ticks added from there
    on."""

    byte: int
    shift: int


@dataclass
class FrameIndex:
    """Lists frames in the order in which they are shown.

    ticks, durations: when, and for how long, in units of `time_base`; a duration of 0 is not known. keys: the times of
    frames at which decoding can begin, rising. order: the ticks of all frames, where the decoder's bear no times that
    can be trusted and are counted from the first one on. doubtful: that is so if a frame comes out of the decoder with
    an earlier time than the one before. retimed: the presentation time of each packet in the order of the file, where
    it is not the file's own. estimated: packets have times of their own only here and there (program streams), and are
    given others after a seek than from the begin. hidden: frames that an edit list leaves out; edits: whether it does.
    breaks_off: why the file could not be read to its end, as one that was cut off within a packet cannot. until: the
    byte at which another file begins, which FFmpeg takes for damaged packets of this one.
    """

    time_base: Fraction
    ticks: array
    durations: array
    keys: array
    order: array | None = None
    doubtful: bool = False
    estimated: bool = False
    hidden: int = 0
    edits: bool = True
    breaks_off: str = ""
    until: int | None = None
    retimed: array | None = None
    jumps: list[Jump] = field(default_factory=list)

    @property
    def seekable(self) -> bool:
        """Tells whether a time leads to a frame: clocks that restart show the same time twice."""
        return self.order is None and self.retimed is None and not self.estimated

    @property
    def seconds(self) -> Fraction:
        """Is the time from the first frame's to the end of the last one's, in seconds."""
        return (self.ticks[-1] - self.ticks[0] + self.durations[-1]) * self.time_base

    @property
    def uneven(self) -> bool:
        """Tells whether frames are at other distances than the first two."""
        return bool(len(np.unique(np.diff(np.frombuffer(self.ticks, np.int64)))) > 1)

    def wait(self, delay: int) -> None:
        """Gives frames, which are at the times of decoding, those at which the decoder gives them: `delay` packets
        later, but for where they begin. Nothing is known of the last ones' times: they follow as usual."""
        delay = min(delay, len(self.ticks) - 1)
        if delay < 1:
            return
        ticks, lasts = (np.frombuffer(values, np.int64) for values in (self.ticks, self.durations))
        usual = int(np.median(np.diff(ticks)))
        moved = ticks[delay:] - (ticks[delay] - ticks[0])
        self.ticks = _array(np.concatenate((moved, moved[-1] + usual * np.arange(1, delay + 1))))
        self.durations = _array(np.concatenate((lasts[delay:], lasts[-delay:])))
        if self.order is not None:
            self.order = self.ticks

    def part(self, low: int, high: int) -> None:
        """Leaves the frames from index low to high - 1, and no others."""
        self.ticks, self.durations = self.ticks[low:high], self.durations[low:high]


class Times(Sequence):
    """Lists presentation times in seconds after the first, computed when asked for."""

    def __init__(self, ticks: Sequence[int] | Sequence[Fraction], time_base: Fraction):
        self._ticks, self._base = ticks, time_base

    def __len__(self) -> int:
        return len(self._ticks)

    def __getitem__(self, i):  # type: ignore[no-untyped-def]
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return (self._ticks[i] - self._ticks[0]) * self._base


class _Packets:
    """Times of all packets of a stream, in the order of the file; two that hold the fields of one frame count as one.

    frame_of: which of these each packet of the file is.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, until: int | None = None):
        self.base = Fraction(stream.time_base or 1)
        pts, dts, durations, bytes_, self.frame_of = (array("q") for _ in range(5))
        keys, shown = bytearray(), bytearray()
        self.breaks_off = ""
        fields = FieldPictures(stream)
        try:
            for packet in packets_of(container, stream, until):
                if not packet.size:
                    continue
                if fields.is_second(packet) and pts:
                    durations[-1] += packet.duration or 0
                    self.frame_of.append(len(pts) - 1)
                    continue
                self.frame_of.append(len(pts))
                pts.append(_NONE if packet.pts is None else packet.pts)
                dts.append(_NONE if packet.dts is None else packet.dts)
                durations.append(packet.duration or 0)
                bytes_.append(-1 if packet.pos is None else packet.pos)
                keys.append(packet.is_keyframe)
                shown.append(not packet.is_discard)  # by an edit list, which still needs it for decoding
        except av.error.FFmpegError as error:
            self.breaks_off = error.strerror or str(error)
        self.pts, self.dts, self.durations, self.bytes = (
            np.frombuffer(values, np.int64) for values in (pts, dts, durations, bytes_)
        )
        self.keys, self.shown = (np.frombuffer(flags, bool) for flags in (keys, shown))

    def __len__(self) -> int:
        return len(self.pts)

    def usual_duration(self) -> int:
        """Ticks that most frames are shown for; 1 where none says."""
        known = self.durations[self.durations > 0]
        return max(1, int(np.median(known))) if len(known) else 1


def index_frames(
    container: InputContainer,
    stream: VideoStream,
    name: str,
    held: bool = False,
    until: int | None = None,
    delay: int = 0,
) -> FrameIndex | None:
    """Lists the frames of a stream, some of which at its begin may need others that are not there. None: there are
    none.

    held: the last one is shown for as long as the file states. until: the byte at which another file begins. delay:
    of times of decoding, see `FrameIndex.wait`.
    """
    packets = _Packets(container, stream, until)
    if not packets.shown.any():
        return None
    guessed = container.format.name == "avi" and (packets.pts != packets.dts).any()  # AVI has no such times
    if guessed or (packets.pts == _NONE).any():
        index = _counted(packets, guessed)
    else:
        index = _timed(packets, container, stream, name)
    index.wait(delay)
    stated = stream.duration or 0
    if held:  # FLV says it of the file alone
        stated = round(stated_duration(container, stream, index.ticks[0] * packets.base) / packets.base)
    _hold_the_last(index, packets, stated, held)
    index.breaks_off, index.until = packets.breaks_off, until
    return index


def _timed(packets: _Packets, container: InputContainer, stream: VideoStream, name: str) -> FrameIndex:
    """Lists frames whose packets say when they are shown."""
    may_jump = bool(container.format.flags & _CLOCK_MAY_JUMP)
    pts, jumps = _joined(packets, may_jump)
    durations = packets.durations
    if container.format.name in ("gif", "apng"):  # browsers show for 100 ms what asks for 10 or less
        hundredth = 1 / packets.base / 100
        durations = np.where(durations > float(hundredth), durations, int(10 * hundredth))
        pts = np.concatenate(([0], np.cumsum(durations[:-1])))
    shown = packets.shown
    ticks, first = np.unique(pts[shown], return_index=True)
    if len(ticks) < shown.sum() and may_jump:
        return _counted(packets)  # two frames at one time: it is estimated, and wrong
    index = FrameIndex(
        packets.base,
        _array(ticks),
        _array(durations[shown][first]),
        _array(np.unique(pts[packets.keys])),
        jumps=jumps,
    )
    if (pts != packets.pts).any():
        index.retimed = _array(pts[np.frombuffer(packets.frame_of, np.int64)])
    rising = bool((np.diff(pts) > 0).all())
    index.estimated = container.format.name == "mpeg"
    index.hidden = int((~shown).sum())
    index.doubtful = rising and bool(stream.codec_context.has_b_frames) and not packets.keys.all()
    if jumps:
        log.warning(
            "%s: its clock restarts or jumps %d time%s. It is joined there, with the sound, nothing is left out.",
            name, len(jumps), "s" * (len(jumps) > 1),
        )  # fmt: skip
    return index


def _hold_the_last(index: FrameIndex, packets: _Packets, stated: int, held: bool) -> None:
    """MP4 says how long each frame lasts in the order of decoding: where that of the last one shown is hidden in
    another's, it is what is left of the whole."""
    rest = stated - (index.ticks[-1] - index.ticks[0])
    whole = int(packets.durations[packets.shown].sum())
    # Copies of such a file count on from the last one decoded, often that before the last one shown.
    apart = max([packets.usual_duration(), *(b - a for a, b in pairwise(index.ticks[-2:]))])
    if rest > 0 and (held or abs(whole - stated) <= apart):
        index.durations[-1] = rest


def _array(values: np.ndarray) -> array:
    return array("q", values.astype(np.int64).tobytes())


def _counted(packets: _Packets, guessed: bool = False) -> FrameIndex:
    """Where packets, or some of them, have no presentation time: raw streams, H.264 in a program stream; or FFmpeg has
    guessed them, for a frame too late."""
    usual = packets.usual_duration()
    lasts = np.where(packets.durations > 0, packets.durations, usual)[packets.shown]
    known = packets.pts[packets.pts != _NONE]
    begin = int(known[0]) if len(known) else 0
    decoded = packets.dts[packets.shown]
    if (decoded != _NONE).all() and (np.diff(decoded) > 0).all():
        ticks = decoded if guessed else decoded - decoded[0] + begin
    else:
        ticks = begin + np.concatenate(([0], np.cumsum(lasts[:-1])))
    return FrameIndex(packets.base, _array(ticks), _array(lasts), _array(ticks[:1]), order=_array(ticks))


def _joined(packets: _Packets, may_jump: bool) -> tuple[np.ndarray, list[Jump]]:
    """Presentation times on one clock, and where another one began."""
    base = float(packets.base)
    clock = _decode_times(packets)
    steps = np.diff(clock)
    usual = max(1, int(np.median(steps[steps > 0])) if (steps > 0).any() else packets.usual_duration())
    lasts = np.where(packets.durations > 0, packets.durations, usual)[:-1]
    ahead = steps - lasts
    back = steps * base < -_BACKWARD
    forth = ahead * base > _FORWARD
    reversed_jumps = _reversed_jumps(back, forth, ahead)
    if not may_jump:
        # A pause is a pause, unless the clock comes back from it, or it is beyond all reason.
        forth &= (ahead * base > _STRAY) & (ahead > 50 * usual)
        if len(np.unique(packets.pts)) == len(packets):
            # Where files have no times of decoding FFmpeg guesses them, wrongly for H.266; a restart shows times twice.
            back[:] = False
        for first, second in reversed_jumps:
            back[second] = forth[first] = True
    shift = np.zeros(len(clock), np.int64)
    for jump in np.flatnonzero(back | forth):
        shift[jump + 1 :] -= ahead[jump]
    inner = {jump for pair in reversed_jumps for jump in pair}
    places = [int(i) for i in np.flatnonzero(back | forth) if i not in inner]
    for before, place, after in zip([-1, *places], places, [*places[1:], len(clock) - 1], strict=False):
        # What was cut off has shown frames that were decoded ahead of others, which are not there.
        # And what is of another rate is decoded ahead by another time.
        shown = np.unique((packets.pts + shift)[before + 1 : place + 1])
        end = int(shown[-1]) + (int(np.median(np.diff(shown))) if len(shown) > 1 else usual)
        shift[place + 1 :] += end - int((packets.pts + shift)[place + 1 : after + 1].min())
    pts = packets.pts + shift
    jumps = [Jump(int(packets.bytes[i + 1]), int(shift[i + 1])) for i in places]
    stray = np.zeros(len(pts), bool)
    for first, second in reversed_jumps:
        stray[first + 1 : second + 1] = True
    return _place_strays(pts, stray | _outliers(pts, base), usual), jumps


def _decode_times(packets: _Packets) -> np.ndarray:
    """Times of decoding, in the order of the file. Matroska has none for the first frames."""
    usual = packets.usual_duration()
    known = np.flatnonzero(packets.dts != _NONE)
    count = np.arange(len(packets))
    if not len(known):
        return count * usual
    nearest = known[np.maximum(np.searchsorted(known, count, side="right") - 1, 0)]
    return packets.dts[nearest] + (count - nearest) * usual


def _reversed_jumps(
    back: np.ndarray, forth: np.ndarray, ahead: np.ndarray, near: int = 4
) -> list[tuple[int, int]]:
    """Steps of the clock that another one of the same size, a few packets later, takes back: strays lie between."""
    found: list[tuple[int, int]] = []
    places = np.flatnonzero(back | forth)
    for first, second in zip(places, places[1:], strict=False):
        opposite = abs(ahead[first] + ahead[second]) < 0.1 * abs(ahead[first])
        if opposite and second - first <= near and (not found or found[-1][1] < first):
            found.append((int(first), int(second)))
    return found


def _outliers(pts: np.ndarray, base: float) -> np.ndarray:
    """A few times that lie beyond all reason from the rest."""
    outlying = np.zeros(len(pts), bool)
    if len(pts) < 3:
        return outlying
    rising = np.sort(pts)
    gaps = np.diff(rising)
    few = max(3, len(pts) // 100)
    for place in np.flatnonzero((gaps * base > _STRAY) & (gaps > 50 * max(1, np.median(gaps)))):
        if len(pts) - place - 1 <= few:
            outlying |= pts > rising[place]
        elif place < few:
            outlying |= pts <= rising[place]
    return outlying


def _place_strays(pts: np.ndarray, stray: np.ndarray, usual: int) -> np.ndarray:
    """Gives each frame whose time is off the place that is free near its neighbours in the file."""
    if not stray.any() or stray.all():
        return pts
    pts, good = pts.copy(), np.flatnonzero(~stray)
    for j in np.flatnonzero(stray):
        others = np.sort(pts[~stray])
        around = others[np.searchsorted(others, pts[good[max(0, np.searchsorted(good, j) - 1)]]) :]
        holes = np.flatnonzero(np.diff(around[:40]) > 1.5 * usual)
        pts[j] = around[holes[0]] + usual if len(holes) else others[-1] + usual
        stray = stray.copy()
        stray[j] = False
    log.warning("A frame's time is far from all others: it is put where one is missing.")
    return pts


def constant_rate(
    ticks: array, time_base: Fraction, stated: list[Fraction], exact: bool = False
) -> Fraction | None:
    """Returns the rate, in frames per second, of which all times are multiples, as exactly as the ticks of the file can
    tell; None: there is none.

    stated: rates that the file names. exact: its ticks are what is meant, not the nearest to it (GIF).
    """
    if len(ticks) == 1:
        return stated[0] if stated else Fraction(24)
    since = np.frombuffer(ticks, np.int64) - ticks[0]
    count = np.arange(len(ticks))
    mean = Fraction(len(ticks) - 1, int(since[-1])) / time_base
    if exact and (np.diff(since) == since[1]).all():
        return mean
    # Where ticks are milliseconds, averages are next to the rate that is meant.
    meant = sorted({Fraction(max(1, round(mean))), Fraction(max(1, round(mean * 1001 / 1000)) * 1000, 1001)},
                   key=lambda rate: abs(rate - mean))  # fmt: skip
    usual = [rate for rate in stated if rate.denominator in (1, 1001)]
    named = [*(() if exact else usual), *meant, *usual, *stated]
    if since[1] <= _COARSE and (np.diff(since) == since[1]).all() and mean in stated:
        # Ticks of a frame each are its clock, and not what it was rounded to.
        named = [rate for rate in named if abs(rate - mean) < mean / 5000]
    # A file whose times were whole milliseconds once keeps them on a finer clock; no frame is so short as to mind.
    rounded = max(1.01, min(1.01 * float(_MILLISECOND / time_base), 0.2 * float(1 / (mean * time_base))))
    for near, rates in ((1.01, named), (rounded, [*named, mean.limit_denominator(1001) or mean, mean])):
        for rate in rates:
            if np.abs(since - count * float(1 / (rate * time_base))).max() <= near:
                return rate
    return pulled_down(since, time_base)


def pulled_down(since: np.ndarray, time_base: Fraction) -> Fraction | None:
    """Returns the film's rate, in frames per second, of frames that are shown for two and three fields in turn, as soft
    telecine has them; None where they are not. since: (N,), when each is shown, in ticks after the first."""
    steps = np.diff(since)[:-1]  # how long the last but one is shown is seldom right at a file's end
    if len(steps) < 4:
        return None
    field_counts = np.round(steps / (steps.min() / 2))
    if set(field_counts.tolist()) != {2, 3} or (np.diff(field_counts) == 0).any():
        return None
    length = since[-2] / field_counts.sum()  # of a field
    if np.abs(steps - field_counts * length).max() > max(1.01, 0.1 * length):
        return None
    mean = int(field_counts.sum()) / (int(since[-2]) * Fraction(5, 2) * time_base)
    film = [Fraction(24000, 1001), Fraction(24), Fraction(20000, 1001), Fraction(20)]
    nearest = min(film, key=lambda rate: abs(rate - mean))
    return nearest if abs(nearest - mean) < mean / 500 else mean.limit_denominator(1001)


def evened_fields(ticks: array) -> list[Fraction] | None:
    """Returns when frames are meant to be shown, in ticks, where the file shows them for two or three fields each.

    Film that is shown for two and three in turn was evenly spaced, also where video, an edit or a lost frame breaks the
    turns; all other frames stay at their times. None where there is no such film.
    """
    since = np.frombuffer(ticks, np.int64) - ticks[0]
    steps = np.diff(since)
    if len(steps) < 8:
        return None
    field_counts = np.round(steps / (steps.min() / 2)).astype(int)
    length = since[-1] / field_counts.sum()  # of a field
    if set(field_counts[:-1].tolist()) != {2, 3} or np.abs(steps - field_counts * length)[:-1].max() > max(
        1.01, 0.1 * length
    ):
        return None
    starts = [0, *np.cumsum(field_counts).tolist()]
    repeats = set(range(starts[-1])) - set(starts)
    meant = [Fraction(tick) for tick in ticks]
    changed = False
    for stretch in find_cadence(repeats, (), starts[-1] + 1).stretches:
        if stretch.pattern.per_drawing == Fraction(5, 2):
            changed = True
            for i, start in enumerate(starts):
                if stretch.first <= start < stretch.after and (when := stretch.when(start)) is not None:
                    meant[i] = ticks[0] + when * Fraction(length).limit_denominator(1000)
    rising = all(a < b for a, b in pairwise(meant))
    return meant if changed and rising else None
