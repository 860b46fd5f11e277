"""Reports what a plan does to a clip, as plain data that can be read and checked."""

from __future__ import annotations

from collections import Counter

from .clock import ZERO
from .plans import ConcatenatedPlan, Plan, Step
from .scenes import Scenes

_HELD = ("cut", "static", "tail")


def report(plan: Plan | ConcatenatedPlan, scenes: Scenes | None = None) -> dict:
    """Returns counts, timing and every pair of `plan`, JSON-ready; with `scenes`, also the motion and evidence of
    pairs.

    frames_in, frames_out; passed + new + blended + held = frames_out; source_fps, fps as exact fractions; cuts,
    repeats: the frames found or given; timing_error_s: the largest distance between the time that an output frame
    should show and the time its picture is of, where it is not held; held_for_s: the same where it is.
    cadence: stretches of frames (first, after) whose repeats follow a pattern, with how many drawings a second that is.
    pairs: [left, right] with kind (new, blend, cut, static, tail), timesteps as fractions, motion_px (that of
    the faster blocks) and unexplained (0..1, see rife.timeline.scenes).
    """
    tally = _Tally(scenes)
    for first, part in plan.parts():
        tally.add(first, part)
    return {
        "frames_in": plan.clock.count,
        "frames_out": len(plan),
        "clips": len(plan.parts()),
        "passed": tally.kinds["source"],
        "new": tally.kinds["new"],
        "blended": tally.kinds["blend"],
        "held": sum(tally.kinds[kind] for kind in _HELD),
        "source_fps": str(plan.clock.mean_rate),
        "fps": str(plan.rate),
        "timing_error_s": float(tally.error),
        "held_for_s": float(tally.held),
        "cuts": _listed(plan, "cuts"),
        "repeats": _listed(plan, "repeats"),
        "cadence": [stretch for first, part in plan.parts() for stretch in _stretches(first, part)],
        "pairs": list(tally.pairs.values()),
    }


class _Tally:
    """What the steps of one clip after the other add up to; frames are counted through all of them."""

    def __init__(self, scenes: Scenes | None):
        self.evidence = scenes.evidence if scenes else []
        self.kinds: Counter[str] = Counter()
        self.pairs: dict[tuple[int, int], dict] = {}
        self.error = self.held = ZERO

    def add(self, first: int, plan: Plan) -> None:
        """The clip whose first frame is `first`."""
        for k, step in enumerate(plan):
            self.kinds[step.kind] += 1
            off = abs(plan.shown(step) - plan.time(k))
            if plan.options.loop:  # a loop's drawing may have begun in the round before
                off = min(off, abs(off - plan.clock.duration))
            if step.kind in _HELD:
                self.held = max(self.held, off)
            else:
                self.error = max(self.error, off)
            if step.kind != "source":
                self._note(first, plan, k, step)

    def _note(self, first: int, plan: Plan, k: int, step: Step) -> None:
        """What became of the pair that a step is of."""
        left, right, n = step.left, step.right, plan.clock.known_count
        if step.kind in _HELD:
            left = plan.position(k)
            right = (left + 1) % n if plan.options.loop else min(left + 1, n - 1)
        frames = first + left, first + right
        pair = self.pairs.setdefault(frames, {"frames": list(frames), "kind": step.kind, "timesteps": []})
        if step.time:
            pair["timesteps"].append(str(step.time))
        evidence = self.evidence[frames[0]] if frames[0] < len(self.evidence) else None
        if evidence and right == left + 1:
            pair["motion_px"] = round(evidence.motion, 1)
            pair["unexplained"] = round(evidence.unexplained, 3)


def _stretches(first: int, plan: Plan) -> list[dict]:
    cadence, rate = plan.options.cadence, plan.clock.mean_rate
    return [
        {
            "frames": [first + stretch.first, first + stretch.after],
            "pattern": str(stretch.pattern),
            "drawings_per_s": round(float(rate / stretch.pattern.per_drawing), 3),
        }
        for stretch in (cadence.stretches if cadence else ())
    ]


def _listed(plan: Plan | ConcatenatedPlan, what: str) -> list[int]:
    found = ((first, getattr(part.options, what)) for first, part in plan.parts())
    return sorted(first + i for first, frames in found if hasattr(frames, "__iter__") for i in frames)
