"""Show how a training run is going: a bar on a terminal, a log line per epoch elsewhere."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands.

    Attributes:
        step: steps made.
        steps: steps in the run.
        steps_per_epoch: steps in one epoch.
        epochs: epochs in the run.
        losses: loss terms by ``phase/term``.
        images_per_s: images per second of the whole run, all processes together.
        left_s: seconds left at this speed.
    """

    step: int
    steps: int
    steps_per_epoch: int
    epochs: int
    losses: Mapping[str, float] = field(default_factory=dict)
    images_per_s: float = 0.0
    left_s: float = 0.0

    @property
    def epoch(self) -> int:
        """Number of the epoch that the last step belongs to, from 1."""
        return -(-max(1, self.step) // self.steps_per_epoch)

    def __str__(self) -> str:
        # The phase of a method with one phase is no news.
        phases = {name.partition("/")[0] for name in self.losses}
        names = [n.partition("/")[2] if len(phases) == 1 else n for n in self.losses]
        terms = ", ".join(
            f"{n} {value:.3f}" for n, value in zip(names, self.losses.values(), strict=True)
        )
        return (
            f"epoch {self.epoch}/{self.epochs}: {terms}; "
            f"{self.images_per_s:.1f} images/s, {duration(self.left_s)} left"
        )


class Progress(Protocol):
    """What the trainer tells; calls come from rank 0 alone."""

    def begin(self, standing: Standing) -> None:
        """Training begins or goes on.

        Args:
            standing: where it begins.
        """

    def step(self, standing: Standing) -> None:
        """Steps were made.

        Args:
            standing: where the run stands, with the losses of the last step.
        """

    def end_epoch(self, standing: Standing) -> None:
        """An epoch is complete.

        Args:
            standing: where the run stands, with the mean losses of the epoch.
        """

    def close(self) -> None:
        """Training ended, well or not."""


class LogProgress:
    """One log line per epoch."""

    def begin(self, standing: Standing) -> None:
        """Log where training begins.

        Args:
            standing: where it begins.
        """
        _LOG.info(
            "training %d epochs, %d steps; %d steps are done",
            standing.epochs,
            standing.steps,
            standing.step,
        )

    def step(self, standing: Standing) -> None:
        """Say nothing.

        Args:
            standing: where the run stands.
        """

    def end_epoch(self, standing: Standing) -> None:
        """Log the epoch.

        Args:
            standing: where the run stands.
        """
        _LOG.info("%s", standing)

    def close(self) -> None:
        """Do nothing."""


class RichProgress:
    """A bar with loss terms, images per second and time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Bar(BarColumn(bar_width=24), TextColumn("{task.description}"), console=console)
        self._task: TaskID | None = None

    def begin(self, standing: Standing) -> None:
        """Draw the bar.

        Args:
            standing: where training begins.
        """
        self._task = self._bar.add_task(
            f"epoch {standing.epoch}/{standing.epochs}",
            total=standing.steps,
            completed=standing.step,
        )
        self._bar.start()

    def step(self, standing: Standing) -> None:
        """Move the bar.

        Args:
            standing: where the run stands.
        """
        if self._task is not None:
            self._bar.update(self._task, completed=standing.step, description=str(standing))

    def end_epoch(self, standing: Standing) -> None:
        """Leave the epoch's line above the bar.

        Args:
            standing: where the run stands.
        """
        self._bar.console.print(str(standing), highlight=False, markup=False)

    def close(self) -> None:
        """Let go of the terminal."""
        self._bar.stop()


def make_progress(console: Console) -> Progress:
    """Choose a bar for a terminal, log lines for anything else.

    Args:
        console: where the bar would go.
    """
    return RichProgress(console) if console.is_terminal else LogProgress()


def duration(seconds: float) -> str:
    """Word a duration.

    Args:
        seconds: not negative.

    Returns:
        Two units at most.

    Examples:
        >>> duration(7), duration(95), duration(4000)
        ('7 s', '1 min 35 s', '1 h 6 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
