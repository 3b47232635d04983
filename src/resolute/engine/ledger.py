"""Losses of a run on their way from the device to the scalars file and the progress bar."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from resolute.core.errors import ReidError
from resolute.engine.progress import Progress, Standing
from resolute.engine.scalars import Scalars


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one optimiser step gave.

    Attributes:
        step: step of the run, from 1.
        epoch: from 0.
        phase: name of the phase.
        number: of the update within step and phase, from 0.
        learning_rate: of the phase, before the factors of its groups.
        losses: terms by name, on the device, without graph.
    """

    step: int
    epoch: int
    phase: str
    number: int
    learning_rate: float
    losses: Mapping[str, Tensor]


class Ledger:
    """Gathers updates, reads them together, and tells file and bar.

    Attributes:
        images: training images used here, all processes together.
    """

    def __init__(
        self, start: Standing, *, scalars: Scalars | None, progress: Progress | None
    ) -> None:
        self.images = 0
        self._scalars = scalars
        self._progress = progress
        self._start = start
        self._pending: list[Update] = []
        self._sums: dict[str, tuple[float, int]] = {}
        self._begin_s = self._read_s = time.perf_counter()
        self._images_read = 0
        if progress is not None:
            progress.begin(start)

    @property
    def duration_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin_s

    @property
    def images_per_s(self) -> float:
        """Images per second since the start."""
        return self.images / self.duration_s

    def add(self, update: Update) -> None:
        """Take an update; nothing is read from the device yet.

        Args:
            update: the update.
        """
        self._pending.append(update)

    def count(self, images: int) -> None:
        """Count the images of a step.

        Args:
            images: of all processes together.
        """
        self.images += images

    def write_norms(
        self, step: int, epoch: int, phase: str, part: str, norms: Mapping[str, float]
    ) -> None:
        """Write the gradient norms of the loss terms at one part.

        Args:
            step: the step about to be made, from 1.
            epoch: from 0.
            phase: name of the phase.
            part: name of the part.
            norms: by loss term.
        """
        self._write(step, epoch, phase, {"gradient_norms": {part: dict(norms)}})

    def read(self) -> None:
        """Bring the gathered losses from the device, check them, write and show them.

        Raises:
            ReidError: if a loss is infinite or NaN.
        """
        now = time.perf_counter()
        speed = (self.images - self._images_read) / (now - self._read_s)
        self._images_read, self._read_s = self.images, now
        shown: dict[str, float] = {}
        for update in self._pending:
            values = torch.stack([v.float() for v in update.losses.values()]).tolist()
            losses: dict[str, float] = dict(zip(update.losses, values, strict=True))
            _check_finite(update, losses)
            for name, value in losses.items():
                key = f"{update.phase}/{name}"
                total, count = self._sums.get(key, (0.0, 0))
                self._sums[key] = (total + value, count + 1)
                shown[key] = value
            self._write(
                update.step,
                update.epoch,
                update.phase,
                {
                    "update": update.number,
                    "learning_rate": update.learning_rate,
                    "images_per_s": round(speed, 2),
                    "losses": losses,
                },
            )
        if self._pending and self._progress is not None:
            self._progress.step(self._standing(self._pending[-1].step, shown))
        self._pending.clear()

    def begin_epoch(self) -> None:
        """Start the means afresh."""
        self._sums.clear()

    def end_epoch(self, step: int) -> None:
        """Tell the progress that an epoch is complete.

        Args:
            step: steps made.
        """
        if self._progress is not None:
            self._progress.end_epoch(self._standing(step, self.means()))

    def means(self) -> dict[str, float]:
        """Average each loss term since the epoch began, or since the run went on within it.

        Returns:
            Means by ``phase/term``.
        """
        return {name: total / count for name, (total, count) in self._sums.items()}

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._scalars is not None:
            self._scalars.sync()

    def close(self) -> None:
        """Let go of terminal and files."""
        if self._progress is not None:
            self._progress.close()
        if self._scalars is not None:
            self._scalars.close()

    def _write(self, step: int, epoch: int, phase: str, values: Mapping[str, object]) -> None:
        if self._scalars is not None:
            self._scalars.write({"step": step, "epoch": epoch, "phase": phase, **values})

    def _standing(self, step: int, losses: Mapping[str, float]) -> Standing:
        start = self._start
        per_step_s = self.duration_s / max(1, step - start.step)
        steps_per_epoch = start.steps_per_epoch
        return Standing(
            step=step,
            steps=start.steps,
            steps_per_epoch=steps_per_epoch,
            epochs=start.epochs,
            losses=losses,
            images_per_s=self.images_per_s,
            left_s=per_step_s * (start.steps - step),
        )


def _check_finite(update: Update, losses: Mapping[str, float]) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise ReidError(
                f"loss term {name!r} of phase {update.phase!r} became {value} at step "
                f"{update.step} (epoch {update.epoch}); the last checkpoint is from before; lower "
                "optimiser.learning_rate, set optimiser.clip_norm, or turn off train.amp"
            )
