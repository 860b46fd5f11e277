"""Makes a network of a checkpoint: file -> clean keys -> detect -> build.

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
from ..networks.ifnet import IFNet
from ..networks.three_networks import LEGACY_RELEASES, LegacyConfig
from ..timeline.numbers import shortened
from .ambiguous import ambiguous_releases, resolve
from .build import Network, build_from_state_dict, check_tensors
from .detection import FILE_PARTS, StateDict, clean_keys, detect_cleaned, is_legacy, with_parts
from .errors import UnknownCheckpointError
from .files import read_file
from .metadata import check_metadata, config_from_metadata
from .parts import Parts, separate
from .releases import release_of

log = logging.getLogger(__name__)

# A file of a folder -> the network that it is of those of three.
_PARTS = {"flownet": "flownet", "contextnet": "contextnet", "unet": "fusionnet", "fusionnet": "fusionnet"}


class Checkpoint(NamedTuple):
    """Holds a network, and what its file was found to be."""

    network: Network  # float32, on the CPU, in eval mode
    decided_by: str  # what told which release it is
    stored_dtype: torch.dtype  # of most of the weights, in the file
    release: str = ""  # exactly, where a digest tells it; else one of `config.versions`
    left_out: tuple[str, ...] = ()  # parts of the file that neither inference nor training needs, a line each

    @property
    def versions(self) -> str:
        """Says in words which release it is, or those that it may be."""
        return self.release or " or ".join(self.network.config.versions) or "own training"


def load_network(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> Network:
    """Returns the network of `read_checkpoint`, whose arguments and errors it has."""
    return read_checkpoint(source, variant).network


def read_checkpoint(source: str | os.PathLike | Mapping[str, Any], variant: str | None = None) -> Checkpoint:
    """Returns the network in float32 on the CPU, in eval mode, from a file, a folder or a state dict; and what tells
    it.

    source: .safetensors, .pkl, .pth, .pt; or a folder with flownet.* (and contextnet.*, unet.* for the
    three-network families); or a state dict in any of the spellings in circulation.
    variant: a key of `RELEASES` or `LEGACY_RELEASES`, to decide between twins (RIFE/RIFE_2R, 3.6/3.8).
    Raises FileNotFoundError, UnknownCheckpointError.
    """
    raw: Mapping[str, Any]
    path: Path | None
    metadata: Mapping[str, str]
    if isinstance(source, Mapping):
        name, raw, metadata, hint, path = "the state dict", source, {}, "", None
    else:
        name, path, (raw, metadata) = str(source), Path(source), read_file(source)
        hint = "/".join(path.parts[-2:])
    try:
        parts, reason, release = _identify(_state_dict_of(raw), metadata, variant, hint, path)
    except UnknownCheckpointError as error:
        raise UnknownCheckpointError(f"{name}: {error}") from error
    network = build_from_state_dict(parts.config, parts.network)
    if isinstance(network, IFNet):
        network.training_parts = {
            key: value.detach().float().clone() for key, value in parts.training.items()
        }
    stored = [value.dtype for value in parts.network.values() if value.is_floating_point()]
    found = Checkpoint(network, reason, max(set(stored), key=stored.count), release, parts.left_out)
    log.info("RIFE from %s: %s, %s, decided by %s", name, parts.config.family, found.versions, reason)
    if found.left_out:
        log.info("left out of %s, as no frame needs it: %s", name, "; ".join(found.left_out))
    return found


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


def _identify(
    state_dict: StateDict, metadata: Mapping[str, str], variant: str | None, hint: str, path: Path | None
) -> tuple[Parts, str, str]:
    """What the file holds, what decided its architecture, and its release where a digest tells it.

    hint: the file's name, with its folder's. Raises UnknownCheckpointError unless the student is whole.
    """
    detected = detect_cleaned(state_dict)
    parts = separate(detected, state_dict)
    if variant is not None:
        config = _config_of(variant, parts.config)
        return _checked(config, state_dict), f"the variant asked for ({variant})", ""
    if "rife_config" in metadata:
        config = check_metadata(config_from_metadata(metadata["rife_config"]), detected)
        return _checked(config, state_dict), "the file's metadata", ""
    check_tensors(parts.config, parts.network)
    if release := release_of(_student(parts), path):
        return _checked(_config_of(release, parts.config), state_dict), "its sha256", release
    candidates = ambiguous_releases(parts.config) if isinstance(parts.config, IFNetConfig) else ()
    if not candidates:
        return parts, "names and shapes of its tensors", ""
    name, reason = resolve(candidates, parts.network, hint)
    return _checked(_config_of(name, parts.config), state_dict), reason, ""


def _checked(config: IFNetConfig | LegacyConfig, state_dict: StateDict) -> Parts:
    parts = separate(config, state_dict)
    check_tensors(parts.config, parts.network)
    return parts


def _student(parts: Parts) -> StateDict:
    """The tensors that all files of a release have: without teacher and refinement."""
    if isinstance(parts.config, LegacyConfig):
        return parts.network
    optional = ("block_tea.", "contextnet.", "unet.")
    return {key: value for key, value in parts.network.items() if not key.startswith(optional)}


def _config_of(variant: str, found: IFNetConfig | LegacyConfig) -> IFNetConfig | LegacyConfig:
    """The release of that name, with the optional networks that the file holds."""
    known: dict[str, IFNetConfig | LegacyConfig] = {**RELEASES, **LEGACY_RELEASES}
    if variant not in known:
        raise UnknownCheckpointError(
            f"there is no variant {shortened(variant)}; known are {', '.join(known)}. Leave it out to detect it."
        )
    row = known[variant]
    if isinstance(row, IFNetConfig) and isinstance(found, IFNetConfig):
        return with_parts(row, {k: getattr(found, k) for k in FILE_PARTS})
    return row
