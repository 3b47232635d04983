"""The training loop: for each epoch, each batch, each phase at work: its updates.

A run is a function of method, loader, settings and seed. Dropout, and whatever else draws from
torch's global generator, is seeded by (epoch, step, rank): a run that was killed and goes on from
its checkpoint makes the same steps, on one CPU to the bit.
"""

import enum
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from resolute.core.errors import CheckpointError, ConfigError, ReidError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.engine.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    RunState,
    check_same_run,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World, agree, resolve_device, wait_for_all
from resolute.engine.optimiser import capture_state, restore_state
from resolute.engine.phases import PhaseRun, set_modes, start_phases
from resolute.engine.process import interruption, torch_settings
from resolute.engine.progress import LogProgress, Progress, Standing
from resolute.engine.scalars import Scalars
from resolute.engine.schedule import learning_rate_factor
from resolute.engine.watch import Watch, gradient_norms

_LOG = logging.getLogger(__name__)

# On a GPU, reading a loss waits for it: several steps are read together.
_READ_EVERY_ON_GPU = 10


class BatchSource(Protocol):
    """Where batches come from; the same (epoch, step) always gives the same batch.

    Attributes:
        steps_per_epoch: batches in one epoch, the same in every process.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches in one epoch."""

    def batches(
        self, epoch: int, start_step: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield the batches ``start_step .. steps_per_epoch - 1`` of an epoch, on a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a training run.

    Attributes:
        steps: steps made since the start, before a resumption too.
        epochs: complete epochs.
        is_finished: False when ``stop`` asked for an early end.
        losses: mean of each loss term over the last epoch, as far as it was made here.
        duration_s: time spent here.
        images_per_s: training images per second here, all processes together.
        checkpoint: the last checkpoint.
    """

    steps: int
    epochs: int
    is_finished: bool
    losses: Mapping[str, float]
    duration_s: float
    images_per_s: float
    checkpoint: Path


class _Stop(enum.IntEnum):
    """Why a run ends early; the larger reason wins among several processes."""

    NO = 0
    ASKED = 1
    INTERRUPTED = 2


def train(
    method: nn.Module,
    loader: BatchSource,
    *,
    config: TrainConfig,
    streams: Streams,
    run_dir: Path,
    metadata: Mapping[str, Any],
    world: World | None = None,
    progress: Progress | None = None,
    resume: Literal["no", "exact", "changed"] = "no",
    stop: Callable[[], bool] | None = None,
    watch: Watch | None = None,
    has_unused_parameters: bool = False,
) -> TrainResult:
    """Train a method, or go on where a checkpoint left off.

    Writes ``checkpoint.safetensors`` (before the first step, every ``checkpoint_every`` epochs, at
    the end and when interrupted), ``scalars.jsonl`` and, if wanted, ``tensorboard/`` to the run
    folder. Ctrl-C and SIGTERM let the step at hand end, write a checkpoint and raise
    KeyboardInterrupt; a second signal does not wait.

    Args:
        method: keeps the contract of :mod:`resolute.methods.contract`; moved to the device and
            trained in place.
        loader: gives batches.
        config: the loop.
        streams: of the run's seed; dropout draws from it.
        run_dir: folder of the run, seen by every process.
        metadata: travels in the checkpoint: ``config``, ``input_spec``, ``split_digest``, which
            have to be the same when a run goes on, and whatever else JSON can hold.
        world: this process's place; one process by default.
        progress: is told how it goes; one log line per epoch by default.
        resume: ``no`` starts in a folder without checkpoint; ``exact`` goes on if that gives the
            same bits; ``changed`` goes on with other settings, threads or processes too.
        stop: asked after each step; True ends the run with a checkpoint.
        watch: parts whose gradient norms are logged per loss term.
        has_unused_parameters: for DDP, where a batch leaves parameters of a phase out of its losses.

    Returns:
        What came of it; the trained weights are in ``method``.

    Raises:
        ConfigError: if method, settings, devices or folder do not fit.
        CheckpointError: if a checkpoint is missing, damaged, of another run, or cannot be written.
        ReidError: if a loss or weight becomes infinite or NaN, or the loader breaks its promise.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint to go on from.
    """
    place = World() if world is None else world
    device = resolve_device(config.device, place)
    with (
        torch_settings(threads=config.threads, device=device) as threads,
        streams.torch_default(Stream.DROPOUT),
        interruption() as is_interrupted,
    ):
        flags = {p: p.requires_grad for p in method.parameters()}
        run = _Run(
            method=method,
            loader=loader,
            config=config,
            streams=streams,
            path=run_dir / CHECKPOINT_NAME,
            metadata=metadata,
            world=place,
            progress=LogProgress() if progress is None else progress,
            device=device,
            threads=threads,
            watch=watch,
            reasons=(is_interrupted, stop),
        )
        try:
            run.prepare(resume, has_unused_parameters=has_unused_parameters)
            return run.loop()
        finally:
            run.close()
            for parameter, flag in flags.items():
                parameter.requires_grad_(flag)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run in one process: what was given to :func:`train`, and where it stands."""

    method: nn.Module
    loader: BatchSource
    config: TrainConfig
    streams: Streams
    path: Path
    metadata: Mapping[str, Any]
    world: World
    device: torch.device
    threads: int
    watch: Watch | None
    reason: Callable[[], _Stop]

    phases: list[PhaseRun]
    ledger: Ledger
    step: int = 0

    def loop(self) -> TrainResult:
        """Make all steps that are left."""
        reason = _Stop.NO
        while self.step < self.last_step and reason == _Stop.NO:
            reason = self._make_epoch()
            epochs = self.step // self.loader.steps_per_epoch
            is_due = epochs % self.config.checkpoint_every == 0
            if is_due or reason != _Stop.NO or self.step == self.last_step:
                self.save()
        wait_for_all(self.world)
