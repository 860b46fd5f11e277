"""Tells one film of `rife interpolate` from another, so that no finished part is taken for another's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..evaluation.checkpoint_names import checkpoint_digest
from ..model import BUNDLED_CHECKPOINT
from ..timeline.parts import OFF
from ..version import __version__
from ..video.proof import digest_of
from .options import AUTO

# What has no part in the frames, or is told otherwise: by its digest, by what it became, by the job.
_NO_PART = set("input output run debug log_format resume dry_run device batch_size".split())
_TOLD_OTHERWISE = set("model keep scale".split())


def identity_of(args: argparse.Namespace, scale: float) -> dict[str, Any]:
    """Lists what a film depends on besides clip and timing: what was asked for, digests of files that were named."""
    masks = [] if args.keep in (None, AUTO, OFF) else [Path(args.keep)]
    return {
        "version": __version__,  # another one may make other frames
        "checkpoint": checkpoint_digest(args.model or BUNDLED_CHECKPOINT),
        "network": [scale, args.tta, args.ensemble, args.precision, args.variant],
        "keep": [digest_of(masks) if masks else args.keep],
        "options": {
            name: str(value)
            for name, value in sorted(vars(args).items())
            if name not in _NO_PART | _TOLD_OTHERWISE
        },
    }
