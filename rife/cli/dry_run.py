"""Says what `rife interpolate` would do, for --dry-run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ..timeline.cadence import Cadence
from ..timeline.parts import OFF, found_in
from ..video.codecs import available
from ..video.deinterlace import OFF as DEINTERLACE_OFF
from ..video.holding import encoder_for
from ..video.job import Job

_DRY_RUN = 600  # frames that are looked at, at most


def described(job: Job, target: Path) -> str:
    """Returns what would be done, and with what, in lines."""
    clip, look = job.clip, job.clip.look
    encoder, pix_fmt = encoder_for(target, job.encoding, look)
    kind = f"{clip.width}x{clip.height}, {look.bits} bits{', alpha' if look.alpha else ''}"
    rate = f"{rate_text(clip.rate)} fps" if clip.rate else "a variable rate"
    settings = "".join(
        f", {name} {value}" for name, value in job.encoding.settings(encoder, look.hdr).items()
    )
    seen = _seen(job)
    new = sum(step.kind == "new" for step in job.plan)
    lines = [
        f"{clip.name}: {kind}, {len(clip)} frames at {rate}, {float(clip.clock.duration):.2f} s",
        f"{target}: {len(job.plan)} frames at {rate_text(job.rate)} fps, {float(job.time(len(job.plan))):.2f} s",
        f"  encoder {encoder.name}, {pix_fmt}{settings}",
        *(f"  {line}" for line in (job.sound_said(target),) if line),
        f"  {new} new frames, less what cuts and repeated frames leave out",
        *(f"  {line}" for line in seen),
        f"  encoders here: {', '.join(available())}",
    ]
    return "\n".join(lines)


def _seen(job: Job) -> list[str]:
    """What the first frames tell of cadence and interlacing, for --dry-run; all of them where repeats give way."""
    clip, timing = job.clip, job.timing
    job.look_through()
    lines = [line for line in (clip.look_at_fields(),) if line]
    if clip.deinterlace != DEINTERLACE_OFF:
        lines.append(f"deinterlaced: {clip.deinterlace}")
    if pauses := job.plan.clock.pauses:
        lines.append(
            f"{len(pauses)} pauses of more than {float(job.plan.clock.gap_limit or 0):.3g} s are held"
        )
    if timing.at_repeats == OFF:
        return lines + ([clip.flagged_cadence] if clip.flagged_cadence else [])
    count = len(clip) if timing.wants_whole else min(len(clip), _DRY_RUN)
    cadence = job.timing.found.cadence if job.timing.found else found_in(job.scenes(count), count).cadence
    lines.append(cadence_line(cadence, job) or "no repeated frames in a pattern")
    if count < len(clip):
        lines[-1] += f", in the first {count} frames"
    return lines


def cadence_line(cadence: Cadence, job: Job) -> str:
    """Returns the pattern of repeated frames, or what flags say, and what is done about it; "" where there is none."""
    said = cadence.described(job.clip.rate)
    if not said:
        return job.clip.flagged_cadence
    undone = job.timing.at_repeats in ("retime", "auto")
    return f"cadence: {said}; " + ("undone" if undone else "held as it is, --repeats auto undoes it")


def rate_text(rate: Fraction) -> str:
    """Returns a rate as people read it: 24, or 24000/1001 (23.976)."""
    return str(rate) if rate.denominator == 1 else f"{rate} ({float(rate):.3f})"
