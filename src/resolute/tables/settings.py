"""Which settings make a cell what it is; loads no torch."""

import json
from collections.abc import Mapping
from typing import Any

from resolute.core.config import from_mapping, walk
from resolute.engine.config import RunConfig

# Where files stand and how fast it goes: no part of what a cell is.
FREE = (
    "data.root",
    "data.cache",
    "loader.workers",
    "train.device",
    "train.threads",
    "train.checkpoint_every",
    "train.tensorboard",
    "train.pictures",
    "evaluation.batch_size",
)

# What tells the cells of one table apart; it has places of its own in a cell's name.
OF_CELL = ("name", "data.name", "data.trial", "train.seed", "model.weights")


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
