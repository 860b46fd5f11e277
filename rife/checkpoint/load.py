"""From a checkpoint to a network: file -> clean keys -> detect -> build.

A checkpoint tells by its tensors what it is. What tensors cannot tell comes, in this order, from `variant`, from the
file's own metadata (files saved here), or from `ambiguous.resolve`.
Nothing in a file is ever executed: see `files`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..networks.config import RELEASES, IFNetConfig
from ..networks.three_networks import LEGACY_RELEASES, LegacyConfig
from .ambiguous import ambiguous_releases, resolve
from .build import Network, build_from_state_dict, check_tensors
from .detection import FILE_PARTS, StateDict, clean_keys, detect_cleaned, is_legacy, with_parts
from .errors import UnknownCheckpointError
from .files import read_file
from .metadata import check_metadata, config_from_metadata

log = logging.getLogger(__name__)

# A file of a folder -> the network that it is of those of three.
_PARTS = {"flownet": "flownet", "contextnet": "contextnet", "unet": "fusionnet", "fusionnet": "fusionnet"}


class Checkpoint(NamedTuple):
    """A network, and what its file was found to be."""

    network: Network  # float32, on the CPU, in eval mode
    decided_by: str  # what told which release it is
    stored_dtype: torch.dtype  # of most of the weights, in the file


def load_network(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> Network:
    """The network of `read_checkpoint`."""
    return read_checkpoint(source, variant).network


def read_checkpoint(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> Checkpoint:
    """Network in float32 on the CPU, in eval mode, from a file, a folder or a state dict; and what tells it.

    source: .safetensors, .pkl, .pth, .pt; or a folder with flownet.* (and contextnet.*, unet.* for the
    three-network families); or a state dict in any of the spellings in circulation.
    variant: a key of `RELEASES` or `LEGACY_RELEASES`, to decide between twins (RIFE/RIFE_2R, 3.6/3.8).
    Raises FileNotFoundError, UnknownCheckpointError.
    """
    raw: Mapping[str, Any]
    metadata: Mapping[str, str]
    if isinstance(source, Mapping):
        name, raw, metadata, hint = "the state dict", source, {}, ""
    else:
        name, (raw, metadata) = str(source), read_file(source)
        hint = "/".join(Path(source).parts[-2:])
    try:
        state_dict = _state_dict_of(raw)
        config, reason = _config_of(state_dict, metadata, variant, hint)
        check_tensors(config, state_dict)
    except UnknownCheckpointError as error:
        raise UnknownCheckpointError(f"{name}: {error}") from error
    network = build_from_state_dict(config, state_dict)
    versions = ", ".join(config.versions) or "own training"
    log.info("RIFE from %s: %s, versions %s, decided by %s", name, config.family, versions, reason)
    wanted = network.state_dict()
    stored = [value.dtype for key, value in state_dict.items() if key in wanted and value.is_floating_point()]
    return Checkpoint(network, reason, max(set(stored), key=stored.count))


def _state_dict_of(raw: Mapping[str, Any]) -> StateDict:
    """One state dict, its keys cleaned, of what a file or a folder's files hold."""
    parts = {part: clean_keys(raw[part]) for part in _PARTS if isinstance(raw.get(part), Mapping)}
    if "flownet" not in parts:
        return clean_keys(raw)
    # The folder of a later version may still hold the other two files of an old one.
    if not is_legacy(parts["flownet"]):
        return parts["flownet"]
    return {
        f"{_PARTS[part]}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()
    }


def _config_of(
    state_dict: StateDict, metadata: Mapping[str, str], variant: str | None, hint: str
) -> tuple[IFNetConfig | LegacyConfig, str]:
    """The architecture, and what decided it; `hint` is the file's name."""
    found = detect_cleaned(state_dict)
    if variant is not None:
        return _named(variant, found), f"the variant asked for ({variant})"
    if "rife_config" in metadata:
        return check_metadata(config_from_metadata(metadata["rife_config"]), found), "the file's metadata"
    twins = ambiguous_releases(found) if isinstance(found, IFNetConfig) else ()
    if not twins:
        return found, "names and shapes of its tensors"
    check_tensors(found, state_dict)
    twin, reason = resolve(twins, state_dict, hint)
    return _named(twin, found), reason


def _named(variant: str, found: IFNetConfig | LegacyConfig) -> IFNetConfig | LegacyConfig:
    """The release of that name, with the optional networks that the file holds."""
    known: dict[str, IFNetConfig | LegacyConfig] = {**RELEASES, **LEGACY_RELEASES}
    if variant not in known:
        raise UnknownCheckpointError(
            f"there is no variant {variant!r}; known are {', '.join(known)}. Leave it out to detect it."
        )
    row = known[variant]
    if isinstance(row, IFNetConfig) and isinstance(found, IFNetConfig):
        return with_parts(row, {k: getattr(found, k) for k in FILE_PARTS})
    return row
