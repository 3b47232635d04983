"""The training loop: for each epoch, each batch, each phase at work: its updates.

A run is a function of method, loader, settings and seed. Dropout, and whatever else draws from
torch's global generator, is seeded by (epoch, step, rank): a run that was killed and goes on from
its checkpoint makes the same steps, on one CPU to the bit.
"""

import enum
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from resolute.core.errors import ReidError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.engine.averaging import Average
from resolute.engine.checkpoint import CHECKPOINT_NAME, RunState
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World, agree, device_name, resolve_device, wait_for_all
from resolute.engine.ledger import Ledger, Update
from resolute.engine.phases import PhaseRun, set_modes, start_phases
from resolute.engine.pictures import SamplePictures
from resolute.engine.precision import Precision, precision_of
from resolute.engine.process import interruption, torch_settings
from resolute.engine.progress import LogProgress, Progress, Standing
from resolute.engine.saver import Resume, Saver
from resolute.engine.scalars import Scalars
from resolute.engine.watch import Watch, gradient_norms

_LOG = logging.getLogger(__name__)

# On a GPU, reading a loss waits for everything queued before it: several steps are read together.
_READ_EVERY_ON_GPU = 10


class BatchSource(Protocol):
    """Where batches come from; one (epoch, step) always gives one batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches in one epoch, the same in every process."""

    def batches(self, epoch: int, start_step: int, device: torch.device) -> Iterator[Batch]:
        """Yield batches ``start_step`` to ``steps_per_epoch - 1`` of an epoch, on a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a training run.

    Attributes:
        steps: steps made since the start, those before a resumption too.
        steps_here: steps made by this call.
        epochs: complete epochs.
        is_finished: False when ``stop`` asked for an early end.
        losses: mean of each ``phase/term`` over the last epoch, as far as it was made here.
        duration_s: time spent here.
        images_per_s: training images per second here, all processes together.
        precision: in which numbers it multiplied.
        device: ``cpu``, or the GPU's own name.
        checkpoint: the last checkpoint.
    """

    steps: int
    steps_here: int
    epochs: int
    is_finished: bool
    losses: Mapping[str, float]
    duration_s: float
    images_per_s: float
    precision: Precision
    device: str
    checkpoint: Path


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
    resume: Resume = "no",
    stop: Callable[[], bool] | None = None,
    begun: Callable[[], None] | None = None,
    watch: Watch | None = None,
    has_unused_parameters: bool = False,
) -> TrainResult:
    """Train a method, or go on where a checkpoint left off.

    Writes to the run folder: ``checkpoint.safetensors`` (before the first step, every
    ``checkpoint_every`` epochs, at the end and when interrupted), ``scalars.jsonl`` and, if
    wanted, ``tensorboard/`` and ``pictures/``. Ctrl-C and SIGTERM let the step at hand end, write a
    checkpoint and raise KeyboardInterrupt; a second signal does not wait.

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
        resume: ``no`` starts in a folder without checkpoint and model; ``exact`` goes on if that
            gives the same bits; ``changed`` goes on with other settings, threads or processes too.
        stop: asked after each step; True ends the run early, with a checkpoint.
        begun: called on rank 0 once the folder is accepted, before anything is written there.
        watch: parts whose gradient norms are logged per loss term.
        has_unused_parameters: for DDP: a batch may leave parameters of a phase out of its losses.

    Returns:
        What came of it. The trained weights are in ``method``; with ``config.average`` their
        averages, on rank 0.

    Raises:
        ConfigError: if method, settings, devices or folder do not fit.
        CheckpointError: if a checkpoint is missing, damaged, of another run, or cannot be written.
        ReidError: if a loss or weight becomes infinite or NaN, or the loader runs short.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint to go on from.
    """
    world = World() if world is None else world
    device = resolve_device(config.device, world)
    with (
        _same_flags(method),
        torch_settings(threads=config.threads, device=device) as threads,
        streams.torch_default(Stream.DROPOUT),
        interruption() as is_interrupted,
    ):
        _place(method, device, is_channels_last=config.channels_last)
        precision = precision_of(device, is_mixed=config.amp)
        if config.amp and precision != "bf16" and world.is_main:
            _LOG.info("train.amp: no bf16 instructions on this %s: float32", device.type)
        phases = start_phases(
            method,
            config=config,
            world=world,
            device=device,
            has_unused_parameters=has_unused_parameters,
        )
        pictures = _open_pictures(method, run_dir, config)
        average = Average(method, config.average) if config.average and world.is_main else None
        state = RunState(
            step=0,
            steps_per_epoch=loader.steps_per_epoch,
            seed=streams.seed,
            threads=threads,
            world_size=world.size,
            device=device.type,
            precision=precision,
        )
        saver = Saver(
            run_dir / CHECKPOINT_NAME,
            method=method,
            phases=phases,
            state=state,
            device=device,
            metadata=metadata,
            average=average,
        )
        done = saver.begin(resume) if world.is_main or resume != "no" else 0
        if world.is_main and begun is not None:
            begun()
        start = Standing(
            step=done,
            steps=_last_step(config, loader),
            steps_per_epoch=loader.steps_per_epoch,
            epochs=config.epochs,
        )
        with closing(_open_ledger(run_dir, start, config, world, progress)) as ledger:
            loop = _Loop(
                method=method,
                loader=loader,
                config=config,
                streams=streams,
                world=world,
                device=device,
                phases=phases,
                saver=saver,
                ledger=ledger,
                average=average,
                watch=watch,
                pictures=pictures if world.is_main else None,
                is_interrupted=is_interrupted,
                is_asked=stop,
                step=done,
            )
            result = loop.run()
            if average is not None:
                average.put()
            return result


class _Reason(enum.IntEnum):
    """Why a run ends early; among several processes the largest wins."""

    NONE = 0
    ASKED = 1
    INTERRUPTED = 2


@dataclass(slots=True, kw_only=True)
class _Loop:
    """The loop of one process: what it works with, and how many steps are made."""

    method: nn.Module
    loader: BatchSource
    config: TrainConfig
    streams: Streams
    world: World
    device: torch.device
    phases: Sequence[PhaseRun]
    saver: Saver
    ledger: Ledger
    average: Average | None
    watch: Watch | None
    pictures: SamplePictures | None
    is_interrupted: Callable[[], bool]
    is_asked: Callable[[], bool] | None
    step: int

    def run(self) -> TrainResult:
        """Make all steps that are left, epoch by epoch, with checkpoints in between.

        Raises:
            KeyboardInterrupt: after a signal, behind the checkpoint.
        """
        last = _last_step(self.config, self.loader)
        self._save()  # before the first step: a full disk shows now, and every kill can be mended
        first, reason = self.step, _Reason.NONE
        while self.step < last and reason == _Reason.NONE:
            reason = self._make_epoch(last)
            epochs = self.step // self.loader.steps_per_epoch
            is_end = reason != _Reason.NONE or self.step == last
            is_due = epochs % self.config.checkpoint_every == 0
            if is_end or (is_due and self.saver.pause_s >= self.config.checkpoint_pause):
                self._save()
        wait_for_all(self.world)
        if reason == _Reason.INTERRUPTED:
            _LOG.info("interrupted after step %d; %s can be resumed", self.step, self.saver.path)
            raise KeyboardInterrupt
        return TrainResult(
            steps=self.step,
            steps_here=self.step - first,
            epochs=self.step // self.loader.steps_per_epoch,
            is_finished=self.step >= last,
            losses=self.ledger.means(),
            duration_s=self.ledger.duration_s,
            images_per_s=self.ledger.images_per_s,
            precision=precision_of(self.device, is_mixed=self.config.amp),
            device=device_name(self.device),
            checkpoint=self.saver.path,
        )

    def _make_epoch(self, last: int) -> _Reason:
        """Make the steps that are left of this epoch; end earlier when there is a reason to.

        Raises:
            ReidError: if the loader gives too few batches.
        """
        epoch, first = divmod(self.step, self.loader.steps_per_epoch)
        end = min(last, (epoch + 1) * self.loader.steps_per_epoch)
        read_every = 1 if self.device.type == "cpu" else _READ_EVERY_ON_GPU
        reason = _Reason.NONE
        set_modes(self.method, self.phases, epoch)
        self.ledger.begin_epoch()
        with _closing(self.loader.batches(epoch, first, self.device)) as batches:
            while self.step < end and reason == _Reason.NONE:
                batch = next(batches, None)
                if batch is None:
                    raise ReidError(
                        f"loader: expected {self.loader.steps_per_epoch} batches in epoch {epoch}, "
                        f"got {self.step % self.loader.steps_per_epoch}"
                    )
                self._make_step(batch, epoch)
                if self.step % read_every == 0 or self.step == end:
                    self.ledger.read()
                    reason = self._reason()
        if self.step == (epoch + 1) * self.loader.steps_per_epoch:
            self.ledger.end_epoch(self.step)
        return reason

    def _make_step(self, batch: Batch, epoch: int) -> None:
        """Update every phase at work on one batch."""
        position = self.step % self.loader.steps_per_epoch
        seeded = partial(
            self.streams.torch_default, Stream.DROPOUT, epoch, position, self.world.rank
        )
        active = [run for run in self.phases if run.is_active(epoch, self.config.epochs)]
        if self.watch is not None and position == 0 and epoch % self.watch.every == 0:
            with seeded():
                self._measure(self.watch, batch, active, epoch)
        if self.pictures is not None and position == 0 and self.pictures.is_due(epoch):
            with seeded():
                self.pictures.draw(batch, epoch)
        self.step += 1
        with seeded():
            for run in active:
                factor = run.factor(
                    self.step - 1,
                    steps_per_epoch=self.loader.steps_per_epoch,
                    epochs=self.config.epochs,
                )
                for number in range(run.phase.updates_per_step):
                    losses = run.update(batch, epoch=epoch, factor=factor)
                    update = Update(
                        step=self.step,
                        epoch=epoch,
                        phase=run.phase.name,
                        number=number,
                        learning_rate=run.phase.optimiser.learning_rate * factor,
                        losses=losses,
                    )
                    self.ledger.add(update)
        if self.average is not None:
            self.average.update(self.step)
        self.ledger.count(len(batch) * self.world.size)

    def _measure(self, watch: Watch, batch: Batch, active: Sequence[PhaseRun], epoch: int) -> None:
        """Log the gradient norms of the loss terms at the watched parts, before a step."""
        for run in active:
            run.select(epoch)
            for name, part in watch.parts.items():
                if any(parameter.requires_grad for parameter in part.parameters()):
                    with run.autocast():
                        norms = gradient_norms(run.method, batch, run.phase, part)
                    self.ledger.write_norms(self.step + 1, epoch, run.phase.name, name, norms)

    def _reason(self) -> _Reason:
        """Ask for reasons to end early, in all processes alike."""
        reason = _Reason.NONE
        if self.is_interrupted():
            reason = _Reason.INTERRUPTED
        elif self.is_asked is not None and self.is_asked():
            reason = _Reason.ASKED
        return _Reason(agree(reason, self.world, self.device))

    def _save(self) -> None:
        """Write the checkpoint on rank 0; the scalars first, they must not trail it."""
        if self.world.is_main and self.saver.saved_step != self.step:
            self.ledger.sync()
            self.saver.save(self.step)


def _last_step(config: TrainConfig, loader: BatchSource) -> int:
    steps = config.epochs * loader.steps_per_epoch
    return min(steps, config.max_steps or steps)


def _open_pictures(method: nn.Module, run_dir: Path, config: TrainConfig) -> SamplePictures | None:
    if not config.pictures:
        return None
    return SamplePictures(method, run_dir, every=config.pictures, epochs=config.epochs)


def _open_ledger(
    run_dir: Path,
    start: Standing,
    config: TrainConfig,
    world: World,
    progress: Progress | None,
) -> Ledger:
    """Open the scalars file behind the steps that are done, and show progress; rank 0 alone."""
    if not world.is_main:
        return Ledger(start, scalars=None, progress=None)
    scalars = Scalars(run_dir, done_steps=start.step, tensorboard=config.tensorboard)
    return Ledger(start, scalars=scalars, progress=progress or LogProgress())


def _place(method: nn.Module, device: torch.device, *, is_channels_last: bool) -> None:
    method.zero_grad(set_to_none=True)
    method.to(device)
    if is_channels_last:
        method.to(memory_format=torch.channels_last)


@contextmanager
def _same_flags(method: nn.Module) -> Iterator[None]:
    """Give back every parameter's ``requires_grad``, which phases and freezing switch."""
    flags = {parameter: parameter.requires_grad for parameter in method.parameters()}
    try:
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad = flag


@contextmanager
def _closing(batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
    """Close a generator of batches at once, so that its workers end before anything else."""
    try:
        yield batches
    finally:
        if isinstance(batches, Generator):
            batches.close()
