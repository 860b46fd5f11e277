"""Says when frames are shown: the form of timing, loop, cuts and repeats, and the request that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from comfy_api.latest import io

from ..rife.engine.keep import check_mask
from ..rife.timeline.clock import Clock, exact_rate
from ..rife.timeline.curve import Curve
from ..rife.timeline.numbers import exact_number, shortened
from ..rife.timeline.parts import OFF
from ..rife.timeline.plans import AT_CUTS, AT_REPEATS
from ..rife.timeline.request import AtRate, AtTimes, PerPair, Request
from ..rife.timeline.text import parse_curve, parse_timesteps
from .model_management import send_forecast

MULTIPLIER, FRAME_RATE, TIMESTEPS, CURVE = "multiplier", "frame rate", "timesteps", "retime curve"
LONGEST_TIME = 1_000_000  # seconds
COGVIDEO = "cogvideo demo"  # only where the whole clip is looked at first
CHOICES = (MULTIPLIER, FRAME_RATE, TIMESTEPS, CURVE)
# Without which of its own inputs a choice says nothing; a default would be a curve that nobody wrote.
_WANTED = {TIMESTEPS: "times", CURVE: "curve"}
DROP, KEEP = "drop", "keep"


def timing_inputs(cogvideo: bool = False) -> list[io.Input]:
    """Returns inputs that are all optional and leave the result as it was without them. cogvideo: with
    CogVideo's demo."""
    return [_timing_input(cogvideo), *_end_inputs(), *_scene_inputs()]


def _timing_input(cogvideo: bool) -> io.Input:
    return io.DynamicCombo.Input(
        "timing",
        options=[
            io.DynamicCombo.Option(MULTIPLIER, []),
            io.DynamicCombo.Option(FRAME_RATE, [_rate_input(), _speed_input()]),
            io.DynamicCombo.Option(TIMESTEPS, [_times_input()]),
            io.DynamicCombo.Option(CURVE, [_curve_input(), _curve_rate_input()]),
            *([io.DynamicCombo.Option(COGVIDEO, [_exp_input()])] if cogvideo else []),
        ],
        optional=True,
        # Without it the browser's "Reset all parameters" takes the first option's description for its value.
        extra_dict={"default": MULTIPLIER},
        tooltip="What says which frames are made. multiplier: the inputs multiplier and timesteps. frame rate: any, "
        "such as 16 to 24 or 30 to 59.94. retime curve: ramps, freezes, reverse."
        + " cogvideo demo: as the demo of CogVideo decides, to compare with it."
        * cogvideo,
    )


def _rate_input() -> io.Input:
    return io.Float.Input(
        "target_fps",
        default=60.0,
        min=0.01,
        max=1000.0,
        step=1.0,
        round=0.001,
        optional=True,
        tooltip="Frames per second of the result, counted exactly: 23.976, 29.97 and 59.94 mean 24000/1001, "
        "30000/1001 and 60000/1001. The input fps must be that of the given frames.",
    )


def _speed_input() -> io.Input:
    return io.Float.Input(
        "speed",
        default=1.0,
        min=0.01,
        max=100.0,
        step=0.05,
        round=0.0001,
        optional=True,
        tooltip="Speed of the motion: 0.25 with target_fps at the clip's own fps is four times slow motion that keeps "
        "the rate.",
    )


def _times_input() -> io.Input:
    return io.String.Input(
        "times",
        default="1/3, 2/3",
        optional=True,
        tooltip="Times between 0 and 1 of the frames that are made between each two, such as 0.25, 0.5 or 1/3, 2/3.",
    )


def _curve_input() -> io.Input:
    return io.String.Input(
        "curve",
        default="0:0, 1:1, 3:1.5",
        multiline=True,
        optional=True,
        tooltip="Points result second : clip second, joined by straight lines. 0:0, 1:1, 3:1.5 plays one second and "
        "then half a second in two; level is a freeze, falling runs backward.",
    )


def _curve_rate_input() -> io.Input:
    return io.Float.Input(
        "target_fps",
        default=0.0,
        min=0.0,
        max=1000.0,
        step=1.0,
        round=0.001,
        optional=True,
        tooltip="Frames per second of the result; 0: as many as the clip has.",
    )


def _exp_input() -> io.Input:
    return io.Int.Input(
        "exp",
        default=1,
        min=1,
        max=7,
        optional=True,
        tooltip="2 to the power of exp times as many frames. Cuts and static frames are found as CogVideo's demo finds "
        "them, by 32x32 pictures; with keep_duration as many frames come out as there, 49 become 98.",
    )


def clip_input() -> io.Input:
    """Returns an input that is last in the form."""
    return io.Int.Input(
        "clip_length",
        default=0,
        min=0,
        max=1_000_000,
        optional=True,
        advanced=True,
        tooltip="Frames per clip where the batch holds several clips of the same length: each is treated as if it "
        "were alone, nothing is made between two. 0: the batch is one clip.",
    )


def loop_inputs() -> list[io.Input]:
    """Says what becomes of the ends of a loop; last in the form."""
    return [
        io.Combo.Input(
            "loop_twin",
            options=[DROP, KEEP],
            default=DROP,
            optional=True,
            advanced=True,
            tooltip="With loop, where the last frame is the first again, as after generating from first to last frame: "
            "left out, so that nothing freezes (drop), or kept.",
        ),
        io.Combo.Input(
            "loop_drift",
            options=[OFF, "auto"],
            default=OFF,
            optional=True,
            advanced=True,
            tooltip="With loop, where colours or exposure drift from begin to end: the change is spread over the clip, "
            "so that it does not jump back (auto). It changes given frames.",
        ),
    ]


def steady_input() -> io.Input:
    """Returns an input that is last in the form."""
    return io.Boolean.Input(
        "steady",
        default=False,
        optional=True,
        tooltip="Even sharpness: all frames are made, at times half a step later, so that given and made ones do not "
        "alternate between sharp and soft. The number of frames is the same.",
    )


def finish_inputs() -> list[io.Input]:
    """Returns motion blur and kept regions; last in the form."""
    return [
        io.Float.Input(
            "shutter",
            default=0.0,
            min=0.0,
            max=360.0,
            step=5.0,
            optional=True,
            tooltip="Motion blur: the angle of a shutter in degrees, of 360 for the time from frame to frame. 180 is a "
            "film camera's; 0 is none. With timing frame rate it brings 60 fps to 24 as if filmed so.",
        ),
        io.Mask.Input(
            "keep",
            optional=True,
            tooltip="What it covers (logo, subtitles, HUD) comes from the nearer given frame and is never warped; one "
            "mask for all frames, edges are feathered.",
        ),
        io.Combo.Input(
            "overlays",
            options=[OFF, "auto"],
            default=OFF,
            optional=True,
            tooltip="Where no mask is connected to keep: finds logos, subtitles and displays that stand still over "
            "motion, and keeps them (auto).",
        ),
    ]


def _end_inputs() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "loop",
            default=False,
            optional=True,
            tooltip="The last frame leads back to the first, so that the clip can be repeated without a jump: N "
            "frames become N x multiplier.",
        ),
        io.Boolean.Input(
            "keep_duration",
            default=False,
            optional=True,
            tooltip="The last frame is held for as long as the clip shows it, so that sound keeps its length: N "
            "frames become N x multiplier.",
        ),
    ]


def _scene_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "cuts",
            options=[*AT_CUTS, OFF],
            default="hold",
            optional=True,
            tooltip="What the frames between two scenes show: the old one (hold), the nearer one, a cross-fade "
            "(blend), or a morph (off). The number of frames is always the same.",
        ),
        io.String.Input(
            "cut_frames",
            default="",
            optional=True,
            advanced=True,
            placeholder="24, 60",
            tooltip="Frames that begin a scene, counted from 0, such as 24, 60. Empty: they are found.",
        ),
        io.Combo.Input(
            "repeated_frames",
            options=[*AT_REPEATS, OFF],
            default="hold",
            optional=True,
            advanced=True,
            tooltip="Frames that are the same as the one before: stay as they are (hold), or give way to motion from "
            "drawing to drawing (retime), for animation on twos and threes and for film in 60 or 30 fps, whose cadence "
            "is undone. auto: retime where such a pattern is certain, else hold. off: as any other frames.",
        ),
    ]


def check_timing(node, timing: dict | None, choices: Sequence[str] = CHOICES) -> dict:
    """Returns `timing` as a dict, {} where it was not sent. Raises ValueError where it was and is none of ours.

    ComfyUI leaves out a choice that it does not know without a word; the prompt still has it.
    """
    if timing is None:
        hidden = getattr(node, "hidden", None)
        prompt, node_id = getattr(hidden, "prompt", None) or {}, getattr(hidden, "unique_id", None)
        sent = prompt.get(str(node_id), {}).get("inputs", {}).get("timing")
        timing = {"timing": sent} if sent is not None else {}
    if not isinstance(timing, dict):
        raise ValueError(
            f"timing is {shortened(timing)} over a link, expected a choice of the form: what it asks for hangs on it. "
            f"Disconnect it, and choose one of {', '.join(choices)}."
        )
    if timing and timing.get("timing") not in choices:
        raise ValueError(
            f"timing is {shortened(timing.get('timing'))}, expected one of {', '.join(choices)}. Choose one of them; a "
            "workflow of a newer version may need that version."
        )
    # What was not sent of the choice's own inputs comes as None.
    found = {name: value for name, value in timing.items() if value is not None}
    wanted = _WANTED.get(found.get("timing"))
    if wanted and wanted not in found:
        came = ", ".join(["timing", *(f"timing.{name}" for name in found if name != "timing")])
        raise ValueError(
            f"timing is {shortened(found['timing'])} and timing.{wanted} did not come, only {came}; expected both. A "
            "subgraph that shows timing alone keeps the inputs of the choice that was made inside: choose it inside, "
            f"or show timing.{wanted} on the subgraph, too."
        )
    return found


def request(timing: dict, multiplier: int, timesteps: str, clock: Clock) -> Request:
    """Returns what the form asks for; multiplier: new frames per frame. Raises ValueError."""
    choice = timing.get("timing", MULTIPLIER)
    if choice == FRAME_RATE:
        rate = exact_rate(float(timing.get("target_fps", 60.0)))
        return AtRate(rate, exact_number(float(timing.get("speed", 1.0))).limit_denominator(10_000))
    if choice == CURVE:
        rate = float(timing.get("target_fps", 0.0))
        rate = exact_rate(rate) if rate else clock.moving_rate
        return AtTimes(Curve(parse_curve(timing.get("curve", "0:0, 1:1, 3:1.5")), rate), rate)
    if choice == COGVIDEO:
        return PerPair.multiplied(
            2 ** min(int(timing.get("exp", 1)), 64)
        )  # more than can be is refused there
    times = parse_timesteps(timing.get("times", "1/3, 2/3") if choice == TIMESTEPS else timesteps)
    return PerPair.multiplied(multiplier) if times is None else PerPair(times)


def seconds_of(name: str, value: float) -> Fraction:
    """Returns an input that is a time in seconds, 0 or more, exactly. Raises ValueError, as of what came over a
    link."""
    if not 0 <= value <= LONGEST_TIME:
        raise ValueError(
            f"{name} is {shortened(value)}, expected seconds from 0 to {LONGEST_TIME:,}. Give such a number."
        )
    return Fraction(value)


def frames_per_clip(clip_length: int, count: int) -> int:
    """Returns `clip_length`, or `count` for 0. Raises ValueError unless `count` frames are a whole number of clips."""
    if clip_length and count % clip_length:
        raise ValueError(
            f"clip_length is {clip_length} for {count} frames, expected clips of the same length: a number that "
            f"divides {count}. Set it to the frames of one clip, or to 0 for one clip."
        )
    return clip_length or count


def kept_region(keep, overlays: str, height: int, width: int):
    """Returns what `rife.engine.keep` takes: a mask (H,W), "auto" or None. Raises ValueError for a mask of another
    size."""
    if keep is not None:
        return check_mask(keep.float().cpu(), height, width)
    return None if overlays == OFF else overlays


class Forecast:
    """Tells what a run will take where its report will be, once that is known; `text` is it from then on.

    given: frames of the clip; rate: frames a second of what is made.
    """

    def __init__(self, node, given: int, rate: float | None):
        self._node, self._given, self._rate = node, given, rate
        self.text = ""

    def __call__(self, made: int, new: int, seconds: float | None) -> None:
        """Is the `on_plan` of a run."""
        self.text = plan_line(self._given, made, new, seconds, self._rate)
        send_forecast(self._node, self.text)


def plan_line(given: int, made: int, new: int, seconds: float | None, fps: float | None = None) -> str:
    """Says what is to be made, in one line, before it is; `seconds` is about what it will take."""
    rate = f", {fps:g} fps, {made / fps:.2f} s" if fps else ""
    takes = "" if seconds is None else f", about {in_minutes(seconds)}"
    return f"{given} → {made} frames{rate}; {new} new{takes}"


def in_minutes(seconds: float) -> str:
    """Writes seconds for people: 7 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def result_line(given: int, made: int, seconds: float, fps: float | None = None, cuts: int = 0) -> str:
    """Says frames, rate, length and cuts of a result in one line, for the node's face; `seconds` is what it took."""
    rate = f", {fps:g} fps, {made / fps:.2f} s" if fps else ""
    found = f", {cuts} cut{'s' * (cuts != 1)}" if cuts else ""
    return f"{given} → {made} frames{rate}{found}; took {seconds:.1f} s"
