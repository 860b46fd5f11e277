"""Finds interlaced video and telecined film by flags and by looking, and undoes them by FFmpeg's filters.

An interlaced frame holds two pictures, one in its even lines and one in its odd ones. Where something moves its lines
then look like the teeth of a comb. Film for 60 fields a second has two such frames in each five; every field of it is
one of a whole frame, which can be put together again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
import av.filter
import numpy as np

from .codecs import VideoError
from .colours import is_float

OFF, AUTO, BWDIF, FILM = "off", "auto", "bwdif", "film"
CHOICES = (OFF, AUTO, BWDIF, FILM)
LEAD = 8  # frames before one that the filters want to have seen

_TEETH, _MOVES = 12, 10  # levels: between a line and both beside it, and from frame to frame
_LEAST = 0.0005  # share of the picture that must move to say anything
_COMBED = 0.005  # share of what moves that looks like a comb in a combed frame,
_FINE = 3.0  # and how many times as much as within one field, where fine patterns do
_ENOUGH, _CLEAR, _MOST = 12, 48, 240  # moving frames to judge by, that settle it, frames to look at
_ROWS, _COLUMNS = 480, 400  # of the picture, at most: its middle lines, columns all over it
_INTERLACED, _TELECINED = (
    0.55,
    0.2,
)  # share of the moving frames that are combed, from which on a video is that
_TICK = Fraction(1, 1000)  # of the times that filters see
_FARTHER = 1.15  # times as far apart are fields that are shown farther apart, in frames that tell an order
_AGREE = 0.9  # share of such frames that must agree
_IN_FIVE = 0.8  # of combed frames of telecined film that lie at the same two of five


@dataclass
class Combing:
    """Holds what is seen of a video's fields, frame by frame."""

    flagged: int = 0  # frames that say that they are interlaced
    frames: int = 0
    combed: list[int] = field(default_factory=list)  # numbers of frames that look it,
    moving: list[int] = field(default_factory=list)  # of those in which something moves
    orders: list[bool] = field(default_factory=list)  # of combed ones that tell: upper field first
    said: bool | None = None  # the same by the file's flag
    _top: float = 0.0
    _last: np.ndarray | None = field(default=None, repr=False)

    @property
    def wants_more(self) -> bool:
        """Tells whether another frame would tell something."""
        return self.frames < _MOST and len(self.moving) < _CLEAR

    def look(self, frame: av.VideoFrame) -> None:
        """Looks at the next frame."""
        number, self.frames = self.frames, self.frames + 1
        if frame.interlaced_frame and not self.flagged:
            self.said = flagged_order(frame)
        self.flagged += bool(frame.interlaced_frame)
        if is_float(frame.format.name):
            return  # rendered or graded: no camera writes fields of them
        luma = _luma(frame)
        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape or len(luma) < 8:
            return
        moves = np.abs(luma - last) > _MOVES
        if moves.mean() < _LEAST:
            return
        self.moving.append(number)
        teeth = (_teeth(luma) & moves[1:-1]).sum()
        fine = sum((_teeth(luma[i::2]) & moves[i::2][1:-1]).sum() for i in (0, 1))
        if teeth > _COMBED * moves.sum() and teeth > _FINE * fine:
            self.combed.append(number)
            self._vote(luma, last)
        # A top field that is shown first is farther from the bottom field of the next frame than the other way about.
        self._top += float(np.abs(luma[1::2] - last[: len(luma[1::2]) * 2 : 2]).mean())
        self._top -= float(np.abs(luma[: len(luma[1::2]) * 2 : 2] - last[1::2]).mean())

    def _vote(self, luma: np.ndarray, last: np.ndarray) -> None:
        # Fields lie a line apart: each is held against the mean of both lines around, or what rises would tell orders.
        (top, bottom), (top_before, bottom_before) = ((x[::2], x[1::2]) for x in (luma, last))
        as_top_first = np.abs(2 * bottom[:-1] - top_before[:-1] - top_before[1:]).mean()
        as_bottom_first = np.abs(2 * top[1:] - bottom_before[:-1] - bottom_before[1:]).mean()
        if max(as_top_first, as_bottom_first) > _FARTHER * min(as_top_first, as_bottom_first):
            self.orders.append(bool(as_top_first > as_bottom_first))

    @property
    def top_first(self) -> bool:
        """Tells whether the upper field is shown first, by how things move."""
        return self._top >= 0 if self.order is None else self.order

    @property
    def order(self) -> bool | None:
        """Is `top_first` where that is clear, whatever the file's flag says; else None."""
        share = sum(self.orders) / max(1, len(self.orders))
        if len(self.orders) < _ENOUGH or 1 - _AGREE < share < _AGREE:
            return None
        return share > 0.5

    @property
    def kind(self) -> str:
        """Is `BWDIF` for interlaced video, `FILM` for telecined film, else `OFF`: the filter that undoes it."""
        share = len(self.combed) / max(1, len(self.moving))
        if len(self.moving) < _ENOUGH or share < _TELECINED:
            return BWDIF if self.flagged > self.frames / 2 and share >= _TELECINED else OFF
        if share >= _INTERLACED:
            return BWDIF
        by_phase = np.bincount([number % 5 for number in self.combed], minlength=5)
        adjacent = max(by_phase[i] + by_phase[(i + 1) % 5] for i in range(5))
        return FILM if adjacent >= _IN_FIVE * len(self.combed) else BWDIF

    def warning(self, name: str, way: str) -> str:
        """Says in one line what was found and how to undo it; "" where there is nothing. way: how it is asked for."""
        kind = self.kind
        if kind == FILM:
            return (
                f"{name} is telecined film: {len(self.combed)} of {len(self.moving)} frames are combed. New frames "
                f"would be made of torn ones. {way.format(FILM)} puts the film's own frames together again."
            )
        if kind == BWDIF:
            flags = ", and flagged as such" if self.flagged else ", though not flagged as such"
            return (
                f"{name} is interlaced: {len(self.combed)} of {len(self.moving)} frames are combed{flags}. New frames "
                f"would be made of torn ones. {way.format(BWDIF)} takes the fields apart."
            )
        if self.flagged > self.frames / 2:
            return (
                f"{name} is flagged as interlaced. Where its frames look torn, {way.format(BWDIF)} takes the fields "
                "apart."
            )
        return ""


def looked_at(frames: Iterable[av.VideoFrame]) -> Combing:
    """Returns what is seen of as many of these frames as it takes."""
    combing = Combing()
    for frame in frames:
        combing.look(frame)
        if not combing.wants_more:
            break
    return combing


def _luma(frame: av.VideoFrame) -> np.ndarray:
    """Levels (h,w) int16 of an even number of middle lines, and of some columns."""
    planes = frame.planes
    if len(planes) > 1 and not frame.format.is_rgb and frame.format.components[0].bits == 8:
        picture: np.ndarray = np.frombuffer(memoryview(planes[0]), np.uint8).reshape(frame.height, -1)[
            :, : frame.width
        ]
    else:
        picture = frame.to_ndarray(format="gray")
    top = max(0, (frame.height - _ROWS) // 4 * 2)
    return picture[top : top + _ROWS, :: -(-frame.width // _COLUMNS)].astype(np.int16)


def _teeth(luma: np.ndarray) -> np.ndarray:
    """Where a line is brighter than both beside it, or darker; of all lines but the first and the last."""
    up, down = luma[1:-1] - luma[:-2], luma[1:-1] - luma[2:]
    return (np.minimum(up, down) > _TEETH) | (np.maximum(up, down) < -_TEETH)


def deinterlaced(
    frames: Iterable[av.VideoFrame], kind: str, top_first: bool, sure: bool = False
) -> Iterator[av.VideoFrame]:
    """Yields one whole frame for each, with its time: of the first field (`BWDIF`), or put together again (`FILM`).

    top_first: of frames that do not say which field comes first, or where that is sure, of all. Raises VideoError where
    FFmpeg lacks the filter.
    """
    graph = None
    times: deque = deque()
    for number, frame in enumerate(frames):
        if graph is None:
            graph = _graph(frame, kind, top_first, sure)
        times.append((frame.pts, frame.time_base or _TICK))  # a decoder's frame may have no time base
        frame.pts, frame.time_base = number, _TICK
        graph.push(frame)
        yield from _pulled(graph, times)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, times)


def _pulled(graph: av.filter.Graph, times: deque) -> Iterator[av.VideoFrame]:
    while times:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        frame.pts, frame.time_base = times.popleft()
        yield frame


def flagged_order(frame: av.VideoFrame) -> bool | None:
    """Tells whether a frame says that its upper field is shown first; None: it does not say. PyAV shows only whether it
    is interlaced: a filter that makes it so leaves such frames alone."""
    if not frame.interlaced_frame or "fieldorder" not in av.filter.filters_available:
        return None
    graph = _chain(frame, [("fieldorder", "tff")])
    graph.push(frame)
    made = graph.pull()
    assert isinstance(made, av.VideoFrame)
    return bool(np.array_equal(_luma(made), _luma(frame)))


def _graph(frame: av.VideoFrame, kind: str, top_first: bool, sure: bool) -> av.filter.Graph:
    field_order = "auto" if frame.interlaced_frame and not sure else "tff" if top_first else "bff"
    filters = [("bwdif", f"mode=send_frame:parity={field_order}:deint=all")]
    if kind == FILM:
        # What no two fields make whole, as where two shots meet within a frame, is left to the other filter.
        filters = [
            ("fieldmatch", f"order={field_order}:combmatch=full"),
            ("bwdif", f"mode=send_frame:parity={field_order}:deint=interlaced"),
        ]
    missing = [name for name, _ in filters if name not in av.filter.filters_available]
    if missing:
        raise VideoError(
            f"this build of FFmpeg has no filter {missing[0]}, which --deinterlace {kind} needs. Install PyAV's own "
            "wheel, or deinterlace with another tool first."
        )
    return _chain(frame, filters)


def _chain(frame: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> av.filter.Graph:
    """Filters, by name and options, for frames of this kind."""
    graph = av.filter.Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TICK)
    for name, options in (*filters, ("buffersink", None)):
        this = graph.add(name, options)
        last.link_to(this)
        last = this
    graph.configure()
    return graph
