"""Checkpoints that a killed run goes on from.

A checkpoint is one safetensors file (see :mod:`resolute.core.tensorfile`) with ``model/`` weights
and buffers, ``average/`` of them if the run keeps one, ``optimiser/`` moments of every phase and
``rng/`` states; everything else is JSON.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resolute.core.errors import CheckpointError
from resolute.core.tensorfile import read_tensors, section, write_tensors
from resolute.engine.optimiser import State
from resolute.engine.precision import Precision

_LOG = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.safetensors"

# What must be the same when a run goes on, apart from settings that move no weight.
_COMPARED = ("config", "input_spec", "split_digest")
_FREE = (
    "config.evaluation",
    "config.data.root",
    "config.data.cache",
    "config.loader.workers",
    "config.train.max_steps",
    "config.train.checkpoint_every",
    "config.train.checkpoint_pause",
    "config.train.keep_start",
    "config.train.tensorboard",
    "config.train.pictures",
    # The device's kind and the threads in use are compared themselves.
    "config.train.device",
    "config.train.threads",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands and what its bits depend on.

    Attributes:
        step: steps made since the start.
        steps_per_epoch: steps in one epoch.
        seed: of the run's streams.
        threads: CPU threads in use.
        world_size: processes.
        device: kind of device, for example ``cpu``.
        precision: in which numbers it multiplies.
        torch_version: torch's version.
    """

    step: int
    steps_per_epoch: int
    seed: int
    threads: int
    world_size: int
    device: str
    precision: Precision
    torch_version: str = str(torch.__version__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
        model: the method's state dict.
        optimisers: moments by phase, parameter and name.
        rng: states of torch's global generators by device kind. Every draw of a run is seeded by
            its place (seed, epoch, step, rank), so these move nothing; they are kept for methods
            from elsewhere that draw without streams.
        state: where the run stands.
        metadata: what travels with the run: ``config``, ``input_spec``, ``split_digest`` and
            whatever else JSON can hold.
        average: averaged weights and buffers; empty if the run keeps no average.
    """

    model: Mapping[str, Tensor]
    optimisers: Mapping[str, State]
    rng: Mapping[str, Tensor]
    state: RunState
    metadata: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write or replace.
        checkpoint: what to write.

    Raises:
        CheckpointError: if the file cannot be written; the previous one is untouched then.
    """
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint.model.items()}
    tensors |= {f"average/{name}": tensor for name, tensor in checkpoint.average.items()}
    tensors |= {f"rng/{name}": tensor for name, tensor in checkpoint.rng.items()}
    for phase, state in checkpoint.optimisers.items():
        for name, moments in state.items():
            for key, tensor in moments.items():
                tensors[f"optimiser/{phase}/{name}/{key}"] = tensor
    document = {
        "state": dataclasses.asdict(checkpoint.state),
        "metadata": dict(checkpoint.metadata),
    }
    write_tensors(path, tensors, document, kind="checkpoint")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify its digest.

    Args:
        path: file to read.

    Returns:
        The checkpoint, on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged or no checkpoint.
    """
    tensors, document = read_tensors(path, kind="checkpoint")
    named: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "rng": {}}
    optimisers: dict[str, State] = {}
    for full_name, tensor in tensors.items():
        part, _, name = full_name.partition("/")
        if part in named:
            named[part][name] = tensor
        else:
            phase, _, rest = name.partition("/")
            parameter, _, key = rest.rpartition("/")
            optimisers.setdefault(phase, {}).setdefault(parameter, {})[key] = tensor
    try:
        state = RunState(**section(document, "state", where=str(path)))
    except TypeError as error:
        raise CheckpointError(f"{path}: written by another version: {error}") from None
    metadata = section(document, "metadata", where=str(path))
    return Checkpoint(**named, optimisers=optimisers, state=state, metadata=metadata)


def check_same_run(
    checkpoint: Checkpoint,
    *,
    state: RunState,
    metadata: Mapping[str, Any],
    where: str,
    accept_changes: bool = False,
) -> None:
    """Check that a checkpoint and the run that is to go on from it would give the same bits.

    Args:
        checkpoint: as read.
        state: of the new run; its step is not compared.
        metadata: of the new run; ``config``, ``input_spec`` and ``split_digest`` are compared, but
            for settings that move no weight (paths, evaluation, how often to save).
        where: what the checkpoint was read from, for messages.
        accept_changes: log differences in place of raising; the steps of an epoch must be the
            same all the same.

    Raises:
        CheckpointError: if something differs; both values are named.
    """
    then, now = dict(_facts(checkpoint.state, checkpoint.metadata)), dict(_facts(state, metadata))
    changes = [
        f"{name} was {_word(then, name)} and is {_word(now, name)}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if not changes:
        return
    if accept_changes and checkpoint.state.steps_per_epoch == state.steps_per_epoch:
        _LOG.warning("%s: goes on with changes: %s", where, "; ".join(changes))
        return
    raise CheckpointError(
        f"{where}: was written by another run: {'; '.join(changes)}; use the old values, or "
        "start again in another folder"
        + ("" if accept_changes else ", or accept the changes and with them other bits")
    )


def _facts(state: RunState, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in dataclasses.asdict(state).items():
        if name != "step":
            yield name, value
    compared = {name: metadata[name] for name in _COMPARED if name in metadata}
    for name, value in _leaves(json.loads(json.dumps(compared))):
        if not any(name == free or name.startswith(f"{free}.") for free in _FREE):
            yield name, value


def _leaves(tree: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{name}.")
        else:
            yield f"{where}{name}", value


def _word(facts: Mapping[str, Any], name: str) -> str:
    return repr(facts[name]) if name in facts else "absent"
