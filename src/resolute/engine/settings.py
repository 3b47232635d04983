"""Which settings make a run what it is; loads no torch."""

import json
from collections.abc import Mapping
from typing import Any

from resolute.core.config import from_mapping, walk
from resolute.engine.config import RunConfig

# Where files stand and how fast it goes: no part of what a run is.
FREE = (
    "data.root",
    "data.cache",
    "loader.workers",
    "train.device",
    "train.threads",
    "train.checkpoint_every",
    "train.checkpoint_pause",
    "train.tensorboard",
    "train.pictures",
    "evaluation.batch_size",
)

_OF_TRIAL = ("data.trial", "train.seed")


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """List a run's settings by dotted path; those it lacks have their defaults.

    Args:
        config: nested, as a result or model file keeps it.

    Returns:
        Every setting of this version.

    Raises:
        ConfigError: if a setting is of another version.
    """
    return dict(walk(from_mapping(RunConfig, json.loads(json.dumps(config)))))


def in_common(config: Mapping[str, Any]) -> dict[str, Any]:
    """List what the trials of one row have in common: all settings but trial, seed and places.

    Args:
        config: nested, as a result or model file keeps it.

    Returns:
        Values by dotted path.

    Raises:
        ConfigError: if a setting is of another version.
    """
    return {p: v for p, v in leaves(config).items() if p not in (*FREE, *_OF_TRIAL)}
