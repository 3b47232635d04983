"""Between a run in memory and its checkpoint file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resolute.core.errors import CheckpointError, ConfigError, ReidError
from resolute.engine.averaging import Average
from resolute.engine.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    RunState,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from resolute.engine.optimiser import capture_state, restore_state
from resolute.engine.phases import PhaseRun
from resolute.inference.load import MODEL_NAME
from resolute.inference.model_file import load_weights

Resume = Literal["no", "exact", "changed"]


def check_no_run(folder: Path) -> None:
    """Refuse to make a run where there is one.

    Args:
        folder: run folder.

    Raises:
        ConfigError: if it holds a checkpoint or a model: a finished run may have lost the former.
    """
    for name in (CHECKPOINT_NAME, MODEL_NAME):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name}: holds a run; resume it or choose another folder")


class Saver:
    """Writes and restores the checkpoint of one run.

    Attributes:
        path: the checkpoint file.
        saved_step: step of the checkpoint on disk; -1 before the first.
    """

    def __init__(
        self,
        path: Path,
        *,
        method: nn.Module,
        phases: Sequence[PhaseRun],
        state: RunState,
        device: torch.device,
        metadata: Mapping[str, Any],
        average: Average | None = None,
    ) -> None:
        self.path = path
        self.saved_step = -1
        self._saved_s = time.monotonic()
        self._method = method
        self._phases = phases
        self._state = state
        self._device = device
        self._metadata = metadata
        self._average = average

    @property
    def pause_s(self) -> float:
        """Seconds since the last checkpoint was written."""
        return time.monotonic() - self._saved_s

    def begin(self, resume: Resume) -> int:
        """Make the run folder, or restore what it holds.

        Args:
            resume: as in :func:`resolute.engine.trainer.train`.

        Returns:
            The number of steps that are done.

        Raises:
            ConfigError: if a run is to start where one lies already, or the folder cannot be made.
            CheckpointError: if the checkpoint is missing, damaged or of another run.
        """
        if resume != "no":
            return self._restore(accept_changes=resume == "changed")
        check_no_run(self.path.parent)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.path.parent}: cannot become a run folder: {error.strerror}"
            ) from error
        return 0

    def save(self, step: int) -> None:
        """Write the checkpoint of a step.

        Args:
            step: steps made.

        Raises:
            ReidError: if a weight is infinite or NaN; the checkpoint before is kept.
            CheckpointError: if the file cannot be written; the checkpoint before is kept.
        """
        for name, parameter in self._method.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise ReidError(
                    f"parameter {name} is no longer finite after step {step}; the last checkpoint "
                    f"is of step {self.saved_step}; lower optimiser.learning_rate or set "
                    "optimiser.clip_norm"
                )
        checkpoint = Checkpoint(
            model=self._method.state_dict(),
            optimisers={r.phase.name: capture_state(r.optimiser, r.groups) for r in self._phases},
            rng=self._rng(),
            state=replace(self._state, step=step),
            metadata=self._metadata,
            average={} if self._average is None else self._average.state(),
        )
        save_checkpoint(self.path, checkpoint)
        self.saved_step = step
        self._saved_s = time.monotonic()

    def _restore(self, *, accept_changes: bool) -> int:
        checkpoint = load_checkpoint(self.path)
        where = str(self.path)
        check_same_run(
            checkpoint,
            state=self._state,
            metadata=self._metadata,
            where=where,
            accept_changes=accept_changes,
        )
        load_weights(self._method, checkpoint.model, where=where)
        if self._average is not None:
            self._average.restore(checkpoint.average)
        unknown = sorted(set(checkpoint.optimisers) - {run.phase.name for run in self._phases})
        if unknown:
            raise CheckpointError(f"{where}: this method has no phase {', '.join(unknown)}")
        for run in self._phases:
            restore_state(run.optimiser, run.groups, checkpoint.optimisers.get(run.phase.name, {}))
        for kind in self._rng().keys() & checkpoint.rng.keys():
            if kind == "cpu":
                torch.set_rng_state(checkpoint.rng[kind])
            else:
                torch.cuda.set_rng_state(checkpoint.rng[kind], self._device)
        self.saved_step = checkpoint.state.step
        return self.saved_step

    def _rng(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        return states
