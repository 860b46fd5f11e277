"""What safetensors files that were saved here say of themselves, held against what they hold."""

from __future__ import annotations

import json
from dataclasses import fields

from ..networks.config import RELEASES, IFNetConfig
from ..networks.three_networks import LegacyConfig
from .errors import UnknownCheckpointError, first_line


def config_from_metadata(text: str) -> IFNetConfig | LegacyConfig:
    """The architecture that the entry `rife_config` describes. Raises UnknownCheckpointError."""
    try:
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
            raise ValueError(f"{field.name} is {str(value)[:40]!r}")
        free = field.name == "family" or (field.name, value) == ("sampling", "bicubic")
        if type(value) is str and value not in known and not free:
            raise ValueError(f"{field.name} is {value[:40]!r}, known are {sorted(set(known))}")


_READ_FROM_TENSORS = (
    "channels",
    "trunk",
    "groups",
    "tail",
    "tail_channels",
    "head",
    "head_mid",
    "head_channels",
)


def check_metadata(
    config: IFNetConfig | LegacyConfig, found: IFNetConfig | LegacyConfig
) -> IFNetConfig | LegacyConfig:
    """`config`, held against what the tensors say, so that nothing of another size is ever built."""
    if type(config) is not type(found):
        wrong = ["network"]
    elif isinstance(config, IFNetConfig):
        wrong = [name for name in _READ_FROM_TENSORS if getattr(config, name) != getattr(found, name)]
        powers = {2**i for i in range(8)}
        wrong += (
            ["scales"] if len(config.scales) != len(config.channels) or set(config.scales) - powers else []
        )
        wrong += ["pad"] if config.pad not in powers else []
        wrong += ["stem_stride"] if config.stem_stride not in (1, 2) else []
        wrong += ["dissolve"] if config.dissolve and not config.feat_channels else []
    else:
        wrong = [] if config == found else ["family"]
    if wrong:
        raise UnknownCheckpointError(
            f"the metadata does not fit the tensors ({', '.join(wrong)}). Somebody edited one of them: load it with "
            "its version as variant, or save it again."
        )
    return config
