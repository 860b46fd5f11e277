"""tests/test_released.py in figures: released files are named, make a frame, and equal their packages' classes.

    python benchmarks/prove_released.py [--mutations] [--csv benchmarks/released_parity.csv]

The files are those of tests/support/released.py, which pip brings (190 MB, once). By file: what `rife info` says of it;
PSNR of the middle of two rendered frames, of their average, and of a part whose sides need padding; the largest
difference to the class that its package ships, in frames of 0 to 1, at each timestep and scale that the class can do.
--mutations: each file of one network is written anew with each change of tests/support/mutations.py and read again.
Those of parts that only training needs must load with every weight of the student, those of the student must be
refused; each refusal is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from mutations import DAMAGE, HARMLESS, StateDict, student_keys
from released import RELEASED, Released, brought, cases, frames, psnr, weights_of

import rife
from rife.checkpoint.load import read_checkpoint
from rife.cli import main as command
from rife.evaluation.scoring import write_csv

INFO = ("release", "decided by", "parameters", "timestep", "ensemble", "teacher", "left out")
PART = (..., slice(203), slice(187))  # sides that no network takes without padding
HEADER = ("release", "package", "timestep", "scale", "largest_difference")


def info(path: Path) -> dict[str, str]:
    """What `rife info` prints of a file."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        command(["info", str(path)])
    lines = (
        line.partition(" ") if line[11:12] != " " else (line[:11], "", line[12:])
        for line in out.getvalue().splitlines()
    )
    return {name.strip(): value.strip() for name, _, value in lines}


def parity(release: Released, folder: Path, model: rife.Model) -> list[tuple[str, ...]]:
    """Rows of HEADER."""
    reference = release.reference(folder)
    img0, img1, _ = frames()
    rows = []
    for t, scale in cases(release):
        with torch.no_grad():
            theirs = reference(img0, img1, t, scale).clamp(0, 1)
        apart = float((model.inference(img0, img1, scale, timestep=t) - theirs).abs().max())
        rows.append((release.version, release.package, f"{t:g}", f"{scale:g}", f"{apart:.1e}"))
    return rows


def loads_whole(path: Path, wanted: StateDict) -> bool:
    """Whether a file loads with every weight of the student."""
    mine = read_checkpoint(path).network.state_dict()
    return all(torch.equal(mine[key], wanted[key]) for key in student_keys(wanted))


def mutations(release: Released, state_dict: StateDict, wanted: StateDict, folder: Path) -> tuple[int, int]:
    """How many changed files are taken, and how many damaged ones refused. Prints each refusal, and what is wrong."""
    path = folder / "flownet.pkl"
    taken = refused = 0
    for name, change in HARMLESS.items():
        torch.save(change(state_dict), path)
        try:
            taken += loads_whole(path, wanted)
        except rife.UnknownCheckpointError as error:
            print(f"REFUSED, {release.version} with {name}: {error}")
    for name, (damage, _) in DAMAGE.items():
        torch.save(damage(state_dict), path)
        try:
            rife.load_model(path)
            print(f"TAKEN, {release.version}, damaged: {name}")
        except rife.UnknownCheckpointError as error:
            refused += 1
            print(f"    {name}: {str(error).removeprefix(f'{path}: ')[:200]}")
    return taken, refused


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--csv", type=Path, help="the differences")
    args = parser.parse_args()

    rows: list[tuple[str, ...]] = []
    counts = [0, 0, 0, 0]
    img0, img1, truth = frames()
    for release in RELEASED:
        folder = brought(release)
        if isinstance(folder, str):
            print(f"{release.version}: {folder}")
            continue
        path = folder / release.path
        model = rife.load_model(path)
        print(f"\n{release.package}, {release.path}")
        print("\n".join(f"  {name}: {value}" for name, value in info(path).items() if name in INFO))
        whole = model.inference(img0, img1)
        print(f"  one frame: {psnr(whole, truth):.2f} dB, averaging {psnr((img0 + img1) / 2, truth):.2f} dB")
        made = [psnr(x, truth[PART]) for x in (model.inference(img0[PART], img1[PART]), whole[PART])]
        print(f"  187x203 of it: {made[0]:.2f} dB, cut out of the whole {made[1]:.2f} dB")
        found = parity(release, folder, model)
        for _, _, t, scale, apart in found:
            print(f"  its class at {t}, scale {scale}: differs by {apart} at most")
        rows += found
        if args.mutations and path.is_file():
            with tempfile.TemporaryDirectory() as temporary:
                taken, refused = mutations(release, weights_of(path), model.net.state_dict(), Path(temporary))
            print(f"  taken {taken} of {len(HARMLESS)}, refused {refused} of {len(DAMAGE)}")
            counts = [
                a + b for a, b in zip(counts, (taken, len(HARMLESS), refused, len(DAMAGE)), strict=True)
            ]
    if args.mutations:
        print("\nmutated files: taken {} of {}, damaged ones: refused {} of {}".format(*counts))
    if args.csv:
        write_csv(args.csv, HEADER, rows)


if __name__ == "__main__":
    main()
