"""Holds what safetensors files that were saved here say of themselves against what they hold."""

from __future__ import annotations

import json
from dataclasses import fields

from ..networks.config import RELEASES, IFNetConfig
from ..networks.three_networks import LegacyConfig
from ..timeline.numbers import first_line, shortened
from .errors import UnknownCheckpointError

_LONGEST = 2**16  # those of releases have 700 characters
_WIDEST = 4096  # pixels of `still_radius`


def config_from_metadata(text: str) -> IFNetConfig | LegacyConfig:
    """Returns the architecture that the entry `rife_config` describes. Raises UnknownCheckpointError."""
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"it has {len(text)} characters, expected less than {_LONGEST}")
        values = json.loads(text)
        if values.pop("network", "ifnet") == "legacy":
            return LegacyConfig.from_dict(values)
        config = IFNetConfig.from_dict(values)
        _check_values(config)
        return config
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownCheckpointError(
            f"the metadata entry rife_config is not usable ({first_line(error)}). Save the checkpoint again."
        ) from error


def _check_values(config: IFNetConfig) -> None:
    """Raises ValueError for what no release has and the network does not know."""
    for field in fields(config):
        value, known = getattr(config, field.name), [getattr(row, field.name) for row in RELEASES.values()]
        if type(value) is not type(known[0]) or (type(value) is tuple and {type(n) for n in value} != {int}):
            raise ValueError(f"{field.name} is {shortened(value)}")
        free = field.name == "family" or (field.name, value) == ("sampling", "bicubic")
        if type(value) is str and value not in known and not free:
            raise ValueError(f"{field.name} is {shortened(value)}, known are {sorted(set(known))}")
    if not 0 <= config.still_radius <= _WIDEST:
        raise ValueError(f"still_radius is {str(config.still_radius)[:40]}, expected 0 to {_WIDEST}")
    if len(config.family) > 40:
        raise ValueError(f"family has {len(config.family)} characters")


_READ_FROM_TENSORS = (
    "channels",
    "act",
    "trunk",
    "trunk_skip",
    "groups",
    "tail",
    "tail_channels",
    "head",
    "head_mid",
    "head_channels",
    "timestep",
    "raw_inputs",
    "zero_init",
    "mask_add",
)


def check_metadata(
    config: IFNetConfig | LegacyConfig, found: IFNetConfig | LegacyConfig
) -> IFNetConfig | LegacyConfig:
    """Returns `config`, held against what the tensors say, so that nothing of another size is ever built. Raises
    UnknownCheckpointError where they do not agree."""
    if type(config) is not type(found):
        wrong = ["network"]
    elif isinstance(config, IFNetConfig):
        wrong = [name for name in _READ_FROM_TENSORS if getattr(config, name) != getattr(found, name)]
        powers = {2**i for i in range(8)}
        falling = list(config.scales) == sorted(config.scales, reverse=True)
        whole = len(config.scales) == len(config.channels) and not set(config.scales) - powers
        wrong += [] if falling and whole else ["scales"]
        wrong += ["pad"] if config.pad not in powers or config.pad < 4 * max(config.scales, default=1) else []
        # What else a network computes must be what some release of that kind does.
        rows = RELEASES.values()
        kinds = {(row.adaptive, row.trunk, len(row.channels)) for row in rows}
        kind = (config.adaptive, config.trunk, len(config.channels))
        wrong += ["adaptive"] if config.adaptive and kind not in kinds else []
        modes = {(row.ensemble, bool(row.feat_channels)) for row in rows}
        wrong += [] if (config.ensemble, bool(config.feat_channels)) in modes else ["ensemble"]
        wrong += ["stem_stride"] if config.stem_stride not in (1, 2) else []
        wrong += ["timed_mask"] if config.timed_mask and not config.timestep else []
        wrong += ["dissolve"] if config.dissolve and not config.feat_channels else []
    else:
        wrong = [] if config == found else ["family"]
    if wrong:
        raise UnknownCheckpointError(
            f"the metadata does not fit the tensors ({', '.join(wrong)}). Somebody edited one of them: load it with "
            "its version as variant, or save it again."
        )
    return config
