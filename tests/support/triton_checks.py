"""What `test_kernels.py` asks of a Python that has Triton: figures as JSON.

    TRITON_INTERPRET=1 python tests/support/triton_checks.py interpreted
    python tests/support/triton_checks.py compiled

Neither needs a GPU: Triton's interpreter runs kernels on tensors of the CPU, and its compilers know all targets.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measure import load_core, tame_weights  # noqa: E402

rife = load_core()
from rife.model import acceleration  # noqa: E402
from rife.model.acceleration import Accelerated  # noqa: E402
from rife.networks import triton_kernels as kernels  # noqa: E402
from rife.networks.adaptive import build_network  # noqa: E402
from rife.networks.multiscale import FastPaths, WarpGrids  # noqa: E402
from rife.ops import row_strips  # noqa: E402
from rife.ops.warp import resize, warp  # noqa: E402

RANDOM_CASES = 24
# (features, channels of the rest, points per pixel, dtype of the network)
VARIANTS = {
    "4.26 fine": (4, 9, 1, torch.float16),
    "4.26 coarse": (4, 9, 2, torch.float16),
    "4.26 fine, float32": (4, 9, 1, torch.float32),
    "4.26.heavy coarse": (16, 9, 2, torch.float16),
    "4.6 coarse": (0, 1, 2, torch.float16),
}
TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}


def plain(src0, src1, flow, mask_feat, t, scale, dtype):
    """`warp_and_concatenate` in PyTorch, without rounding samples of half sources to halves in between."""
    grids = WarpGrids(*src0.shape[-2:], src0.device)
    grid = grids.grid if scale < 4 else grids.central(scale)
    warped0, warped1 = (
        warp(src.float(), part, grid, halve=scale > 1)
        for src, part in zip((src0, src1), flow.split(2, 1), strict=True)
    )
    frames = warped0[:, :3], warped1[:, :3], warped0[:, 3:], warped1[:, 3:]
    return torch.cat(
        [x.to(dtype) for x in (*frames, t, mask_feat, resize(flow, 0.5 if scale > 1 else 1) / scale)], 1
    )


def drawn(seed: int) -> dict:
    """A call: sizes that no tile divides, any strides, flows within the picture or far out of it."""
    torch.manual_seed(seed)
    pick = lambda *choices: choices[int(torch.randint(len(choices), ()))]  # noqa: E731
    batch, scale = pick(1, 2, 3), pick(1, 2, 4, 8, 16)
    rows, cols = (int(torch.randint(1, 20 if scale < 4 else 7, ())) for _ in range(2))
    rows += scale == 1  # a side of one pixel has no extent, in either way to sample
    cols += scale == 1
    size, features, channels = (rows * scale, cols * scale), pick(0, 4, 8, 16), pick(1, 9)
    source_dtype = pick(torch.float32, torch.float32, torch.float16)
    # Frames with maps behind their features: each sample's planes lie together, the samples do not.
    src0, src1 = (
        torch.rand(batch, 5 + features, *size).to(source_dtype)[:, : 3 + features] for _ in range(2)
    )
    points = 1 if scale == 1 else 2
    flow = torch.randn(batch, 4, points * rows, points * cols) * pick(0.0, 1.0, 20.0, 1e4)
    dtype = pick(torch.float32, torch.float32, torch.float16, torch.bfloat16)
    rest = torch.randn(batch, channels, rows, cols).to(dtype)
    rest = pick(rest, rest.to(memory_format=torch.channels_last), rest.mT.contiguous().mT)
    t = pick(torch.rand(batch, 1, 1, 1).expand(-1, -1, rows, cols), torch.rand(batch, 1, rows, cols))
    inputs = {"src0": src0, "src1": src1, "flow": flow, "mask_feat": rest, "t": t}
    return inputs | {"scale": scale, "dtype": dtype}


def random_cases() -> list[dict]:
    found = []
    for seed in range(RANDOM_CASES):
        call = drawn(seed)
        made, expected = kernels.warp_and_concatenate(**call), plain(**call)
        # In a half the two may round to neighbours.
        step = torch.finfo(call["dtype"]).eps if call["dtype"] != torch.float32 else 1e-5
        off = ((made.float() - expected.float()).abs() / expected.float().abs().clamp(min=1)).amax() / step
        assert made.is_contiguous(memory_format=torch.channels_last) and made.dtype == call["dtype"]
        found.append({"seed": seed, "shape": list(made.shape), "off": float(off)})
    return found


def wild_flows() -> bool:
    """Whether flows that are no numbers, or end nowhere, give finite samples."""
    call = drawn(3)
    call["flow"].view(-1)[::3] = torch.nan
    call["flow"].view(-1)[1::7] = torch.inf
    call["flow"].view(-1)[2::7] = -torch.inf
    return bool(kernels.warp_and_concatenate(**call)[:, : 2 * call["src0"].shape[1]].isfinite().all())


def far_apart() -> float:
    """Largest difference where the third sample begins more than 2**31 elements behind the first."""
    call = {"scale": 1, "dtype": torch.float32, "flow": torch.randn(3, 4, 6, 40)}
    call |= {"mask_feat": torch.randn(3, 1, 6, 40), "t": torch.rand(3, 1, 6, 40)}
    stride, shape = (1 << 30) + 8, (3, 3, 6, 40)
    for name in ("src0", "src1"):
        # Not touched, memory that is asked for is not there.
        space = torch.empty(2 * stride + 3 * 6 * 40, dtype=torch.float16)
        call[name] = space.as_strided(shape, (stride, 6 * 40, 40, 1)).copy_(torch.rand(shape))
    return float((kernels.warp_and_concatenate(**call) - plain(**call)).abs().amax())


def network(release: str):
    if release == "bundled":
        return rife.load_model(device="cpu").net
    net = build_network(rife.RELEASES[release]).eval()
    net.load_state_dict(tame_weights(rife, release))
    return net


def passes(release: str) -> dict[str, float]:
    """Largest differences of picture and flow of a whole pass, whole and with the finest block in strips."""
    net, found = network(release), {}
    side = net.pad_multiple()
    sources = [net.source(x) for x in torch.rand(2, 1, 3, side, side)]
    expected = net.predict_from(*sources, 0.3)
    calls = []
    count = lambda *given: calls.append(1) or kernels.warp_and_concatenate(*given)  # noqa: E731
    pixels = row_strips.STRIP_PIXELS
    for name, strip in (("whole", pixels), ("strips", side * 22)):
        row_strips.STRIP_PIXELS = strip
        made = net.predict_from(*sources, 0.3, fast_paths=FastPaths(fused_input=count))
        found[name] = max(
            float((a - b).abs().amax()) for a, b in ((made.image, expected.image), (made.flow, expected.flow))
        )
    row_strips.STRIP_PIXELS = pixels
    return found | {"calls": len(calls)}


def choice() -> dict:
    """What `Accelerated` makes of three passes: with the interpreter, which cannot win, and where it did."""
    net = network("4.22.lite")
    run = Accelerated(net, "triton")
    sources = [net.source(x) for x in torch.rand(2, 1, 3, 32, 32)]
    grids = WarpGrids(32, 32, torch.device("cpu"))
    images = [run(*sources, 0.5, net.config.scales, False, grids=grids).image for _ in range(3)]
    lost = list(acceleration._kernel_wins.values())
    run._ways = dict.fromkeys(run._ways)  # to be made anew
    acceleration._kernel_wins.update(dict.fromkeys(acceleration._kernel_wins, True))
    images.append(run(*sources, 0.5, net.config.scales, False, grids=grids).image)
    return {"wins": lost, "off": [float((x - images[0]).abs().amax()) for x in images], "works": run.works}


def interpreted() -> dict:
    with torch.inference_mode():
        releases = ("4.25", "4.26.heavy", "4.6", "bundled")
        return {
            "random": random_cases(),
            "wild": wild_flows(),
            "far": far_apart(),
            "passes": {release: passes(release) for release in releases},
            "choice": choice(),
        }


class Absent:
    """A device that is not there, as far as Triton asks before a launch; launched, the kernel is compiled only."""

    def __init__(self, number: int, target):
        self.number, self.target = number, target

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self):
        return self.target

    def compiled(self, variant: str):
        """The kernel as a call from the middle of a pass has it compiled: with its types, sizes and strides."""
        from triton import runtime

        features, channels, points, dtype = VARIANTS[variant]
        sources = torch.empty(2, 1, 3 + features, 64, 96)
        height, width = (64, 96) if points == 1 else (32, 48)
        rest = torch.empty(1, channels, height, width, dtype=dtype, memory_format=torch.channels_last)
        t = torch.empty(1, 1, 1, 1).expand(1, 1, height, width)
        runtime.driver.set_active(self)
        kernels._warp_size = lambda _: self.target.warp_size
        kernel, made = kernels._jitted(), []

        class Launcher:
            def __getitem__(self, grid):
                return lambda *given, **named: made.append(kernel.warmup(*given, grid=grid, **named))

        jitted, kernels._jitted = kernels._jitted, Launcher
        kernels.warp_and_concatenate(*sources, torch.empty(1, 4, 64, 96), rest, t, points, dtype)
        kernels._jitted = jitted
        return made[0]


def nvidia(made) -> dict:
    """Registers, spilled bytes, and stores by their width, of what ptxas makes."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(made.asm["ptx"])
        architecture = re.search(r"\.target (\w+)", made.asm["ptx"])[1]
        # There are two: the one for newer GPUs also reads PTX that the other does not.
        for ptxas in sorted(tools.glob("ptxas*")):
            done = subprocess.run(
                [ptxas, "-v", f"--gpu-name={architecture}", source, "-o", Path(folder, "kernel.cubin")],
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                break
        else:
            raise RuntimeError(done.stderr)
    said = done.stderr
    return {
        "registers": int(re.search(r"Used (\d+) registers", said)[1]),
        "spilled": sum(int(n) for n in re.findall(r"(\d+) bytes spill", said)),
        "stores": sorted(set(re.findall(r"st\.global\.(\S+)", made.asm["ptx"]))),
    }


def amd(made) -> dict:
    text = made.asm["amdgcn"]
    count = lambda name: int(re.search(rf"\.{name}:\s*(\d+)", text)[1])  # noqa: E731
    return {
        "registers": count("vgpr_count"),
        "spilled": count("vgpr_spill_count"),
        "stores": sorted(set(re.findall(r"(?:global|buffer)_store_(\w+)", text))),
    }


def compiled() -> dict:
    from triton.backends.compiler import GPUTarget

    found = {}
    for number, (name, target) in enumerate(TARGETS.items()):
        device = Absent(number, GPUTarget(*target))
        for variant in VARIANTS:
            made = device.compiled(variant)
            found[f"{name} {variant}"] = nvidia(made) if target[0] == "cuda" else amd(made)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert os.environ.get("TRITON_INTERPRET", "0") == ("1" if sys.argv[1] == "interpreted" else "0")
    print(json.dumps({"interpreted": interpreted, "compiled": compiled}[sys.argv[1]]()))
