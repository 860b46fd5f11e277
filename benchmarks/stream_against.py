"""The streamed speed of this checkout against another one, in turns on the same machine: seconds of processors.

python benchmarks/stream_against.py OTHER_CHECKOUT CLIP [--frames 24] [--runs 3] [--network none bundled]

none: a stand-in that returns its first frame, so that reading, judging of scenes and writing are left; bundled: the
bundled network. Seconds of processors, as other work on the machine lengthens all others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from checkouts import COMMAND, FIRST

ROOT = Path(__file__).resolve().parent.parent
RUN = (
    FIRST
    + """
tree, network, source, target = sys.argv[1:]
torch.set_num_threads(1)
model = First() if network == "none" else rife.load_model(device="cpu")
begun, wall = time.process_time(), time.perf_counter()
done = interpolate_video(model, source, target, 2, encoding=Encoding(preset="ultrafast"))
took = time.process_time() - begun, time.perf_counter() - wall
print(json.dumps([*took, done.frames_out, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10]))
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, nargs=2, default=(24, 4), help="for each network")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for network, frames in zip(("none", "bundled"), args.frames, strict=True):
            source, target = Path(folder, f"{network}.mp4"), Path(folder, "out.mp4")
            words = [
                "interpolate",
                str(args.clip),
                str(source),
                "--multi",
                "1",
                "--to",
                f"{frames}f",
                "--no-audio",
            ]
            subprocess.run(
                [sys.executable, "-P", "-c", COMMAND, str(ROOT), *words], check=True, capture_output=True
            )
            least: dict[str, list[float]] = {}
            for _ in range(args.runs):
                for name, tree in (("other", args.other), ("this", str(ROOT))):
                    command = [sys.executable, "-P", "-c", RUN, tree, network, str(source), str(target)]
                    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    took = json.loads(said.splitlines()[-1])
                    least[name] = min(least.get(name, took), took)
                    print(f"{network}, {name}: {took[0]:.2f} s of processors, {took[1]:.2f} s, {took[2]} frames, "
                          f"{took[3]} MB", flush=True)  # fmt: skip
            ratio = least["other"][0] / least["this"][0]
            print(
                f"{network}: this is {ratio:.2f} times as fast as the other, in the least seconds of processors"
            )


if __name__ == "__main__":
    main()
