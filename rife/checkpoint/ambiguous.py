"""Tells releases apart whose files have the same tensors but compute differently.

Asked in this order: the file's own metadata, the variant that the user names, the file's name, a functional probe
(which of the candidates interpolates better?), and where even that does not tell, the table's default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.config import AMBIGUOUS, RELEASES, IFNetConfig
from ..networks.ifnet import IFNet
from .build import build_from_state_dict

# Better than the others by this many dB, and better than averaging the frames, or the probe decides nothing. Weights
# trained for minutes only differed by 0.24 dB (RIFE) and 1.1 dB (RIFE_2R) when run as the wrong one.
_MARGIN = 0.2

_NAMES = {
    "RIFE_2R": r"2r(?![a-z])|rife[-_ ]?large",
    "3.6": r"(?<!\d)(?<!\d[._])3[._]?6(?!\d)",
    "3.8": r"(?<!\d)(?<!\d[._])3[._]?8(?!\d)",
    "4.7": r"(?<!\d)(?<!\d[._])4[._]?[789](?!\d)",
    "elexor": r"elexor",
}


def ambiguous_releases(config: IFNetConfig) -> tuple[str, ...]:
    """Returns the releases that a file of this architecture may be, the likeliest first; none where it is
    unambiguous."""
    return next((group for group in AMBIGUOUS if group[0] in config.versions), ())


def resolve(candidates: Sequence[str], state_dict: Mapping[str, Tensor], name: str) -> tuple[str, str]:
    """Returns (which of `candidates` it is, why), from the name of the file (and its folder) and, failing that, by a
    probe."""
    named = [one for one in candidates if one in _NAMES and re.search(_NAMES[one], name.lower())]
    if len(named) == 1:
        return named[0], f"the file's name ({name})"
    scores, average = probe(candidates, state_dict)
    ranked = sorted(candidates, key=lambda release: -scores[release])
    best, second = scores[ranked[0]], scores[ranked[1]]
    found = ", ".join(f"{scores[release]:.2f} dB as {release}" for release in candidates)
    found += f", averaging {average:.2f} dB"
    if best - second >= _MARGIN and best > average:
        return ranked[0], f"a probe on moving pictures ({found})"
    why = f"default, {' or '.join(candidates)} have the same tensors and a probe cannot tell ({found})"
    return candidates[0], why


@torch.no_grad()
def probe(candidates: Sequence[str], state_dict: Mapping[str, Tensor]) -> tuple[dict[str, float], float]:
    """Measures the PSNR in dB of the middle frame of moving textures, run as each of `candidates`, and of plain
    averaging."""
    img0, truth, img1 = _moving_textures()
    scores = {}
    for release in candidates:
        network = build_from_state_dict(_with_parts_of(RELEASES[release], state_dict), state_dict)
        assert isinstance(network, IFNet)
        scores[release] = _psnr(network.predict(img0, img1).image.clamp(0, 1), truth)
    return scores, _psnr((img0 + img1) / 2, truth)


def _with_parts_of(config: IFNetConfig, state_dict: Mapping[str, Tensor]) -> IFNetConfig:
    """`config` without the parts that these tensors lack and inference can do without."""
    values = config.to_dict()
    if not any(key.startswith("block_tea.") for key in state_dict):
        values["teacher"] = False
    if not any(key.startswith("contextnet.") for key in state_dict):
        values["refine"] = ""
    return IFNetConfig.from_dict(values)


def _moving_textures(size: int = 128, margin: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Three textures (3,3,size,size) in 0..1 at times 0, 1/2 and 1, shifted by 3, 7 and 12 px in all."""
    generator = torch.Generator().manual_seed(7)
    side = size + 2 * margin
    octaves = [
        F.interpolate(torch.rand(3, 3, n, n, generator=generator), (side, side), mode="bicubic")
        for n in (10, 20, 40)
    ]
    texture = (sum(octaves, torch.zeros(())) / 3).clamp(0, 1)
    frames = []
    for time in (-1, 0, 1):
        shifts = ((2 * time, time), (-3 * time, 4 * time), (6 * time, 3 * time))
        frames.append(
            torch.stack(
                [texture[i, :, margin + y : margin + y + size, margin + x : margin + x + size] for i, (x, y) in
                 enumerate(shifts)]
            )
        )  # fmt: skip
    return frames[0], frames[1], frames[2]


def _psnr(image: Tensor, truth: Tensor) -> float:
    # Without the border, where there is nothing to fetch.
    inside = (..., slice(16, -16), slice(16, -16))
    return float(-10 * torch.log10((image - truth)[inside].square().mean() + 1e-12))
