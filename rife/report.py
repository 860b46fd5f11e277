"""What a plan does to a clip, as plain data that can be read and checked."""

from __future__ import annotations

from collections import Counter

from .scenes import Scenes
from .timeline import Plan

_HELD = ("cut", "static", "tail")


def report(plan: Plan, scenes: Scenes | None = None) -> dict:
    """Counts, timing and every pair of `plan`, JSON-ready; with `scenes`, also the motion and evidence of pairs.

    frames_in, frames_out; passed + new + blended + held = frames_out; source_fps, fps as exact fractions; cuts,
    repeats: the frames found or given; timing_error_s: the largest distance between the time that an output frame
    should show and the time its picture is of, where it is not held; held_for_s: the same where it is.
    pairs: [left, right] with kind (new, blend, cut, static, tail), timesteps as fractions, motion_px (that of
    the faster blocks) and unexplained (0..1, see rife.scenes).
    """
    kinds: Counter[str] = Counter()
    pairs: dict[tuple[int, int], dict] = {}
    error = held = 0
    n = plan.clock.count
    for k, step in enumerate(plan):
        kinds[step.kind] += 1
        off = abs(plan.shown(step) - plan.time(k))
        if plan.options.loop:  # a loop's drawing may have begun in the round before
            off = min(off, abs(off - plan.clock.duration))
        if step.kind == "source":
            error = max(error, off)
            continue
        if step.kind in _HELD:
            held = max(held, off)
            left = plan.position(k)
            right = (left + 1) % n if plan.options.loop else min(left + 1, n - 1)
        else:
            error = max(error, off)
            left, right = step.left, step.right
        pair = pairs.setdefault((left, right), {"frames": [left, right], "kind": step.kind, "timesteps": []})
        if step.kind in ("new", "blend"):
            pair["timesteps"].append(str(step.time))
    for (left, right), pair in pairs.items():
        if scenes and right == left + 1 and left < len(scenes.evidence):
            evidence = scenes.evidence[left]
            pair["motion_px"] = round(evidence.motion, 1)
            pair["unexplained"] = round(evidence.unexplained, 3)
    return {
        "frames_in": n,
        "frames_out": len(plan),
        "passed": kinds["source"],
        "new": kinds["new"],
        "blended": kinds["blend"],
        "held": sum(kinds[kind] for kind in _HELD),
        "source_fps": str(plan.clock.mean_rate),
        "fps": str(plan.rate),
        "timing_error_s": float(error),
        "held_for_s": float(held),
        "cuts": _listed(plan.options.cuts),
        "repeats": _listed(plan.options.repeats),
        "pairs": list(pairs.values()),
    }


def _listed(frames) -> list[int]:
    return sorted(frames) if hasattr(frames, "__iter__") else []
