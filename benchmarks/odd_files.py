"""Files with odd times, read: how many frames, which, at which rate, for how long; against what is right.

python benchmarks/odd_files.py [FOLDER OF ANOTHER CHECKOUT]     # of which the first column is then
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from odd_files import CASES  # noqa: E402

READ = """
import json, logging, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
logging.disable(logging.CRITICAL)
try:
    from rife.video.reader import Clip
except ImportError:
    from rife.media import Clip
from odd_files import number
for path in sys.argv[3:]:
    try:
        clip = Clip(path)
        times = [float(time) for time in clip.times]
        found = [number(f) for f in clip.frames()], str(clip.rate), float(clip.clock.duration), times
    except Exception as error:
        found = [type(error).__name__, str(error).replace(path.rpartition("/")[0] + "/", "")[:60]]
    print(json.dumps(found), flush=True)
"""


def judged(case, found) -> str:
    """In a word, what is wrong."""
    if len(found) == 2:
        return f"{found[0]}: {found[1]}"
    frames, rate, seconds, times = found
    wrong = []
    if frames != list(case.frames):
        same = sum(a == b for a, b in zip(frames, case.frames, strict=False))
        wrong.append(f"{len(frames)} of {len(case.frames)} frames, {same} in place")
    if rate != str(case.rate):
        wrong.append(f"rate {rate}")
    if abs(seconds - float(case.seconds)) > 0.002 + 0.001 * float(case.seconds):
        wrong.append(f"{seconds:.3f} s")
    if case.times and any(abs(a - float(b)) > 0.0006 for a, b in zip(times, case.times, strict=False)):
        wrong.append("times of others")
    return ", ".join(wrong) or "right"


def main() -> None:
    trees = [*sys.argv[1:2], str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(case.make(Path(folder) / f"{k:02d}")) for k, case in enumerate(CASES)]
        columns = []
        for tree in trees:
            command = [sys.executable, "-P", "-c", READ, tree, str(ROOT / "tests" / "support"), *paths]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout
            columns.append([json.loads(line) for line in said.splitlines()])
    print(f"| file | frames | rate | seconds |{' before |' if len(trees) > 1 else ''} now |")
    print("|---" * (4 + len(trees)) + "|")
    for case, *found in zip(CASES, *columns, strict=True):
        cells = [judged(case, one) for one in found]
        right = [case.name, str(len(case.frames)), str(case.rate or "variable"), f"{float(case.seconds):.3f}"]
        print(f"| {' | '.join([*right, *cells])} |")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main()
