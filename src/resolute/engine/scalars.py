"""Training scalars as JSON lines, and for TensorBoard where wanted."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.core.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

SCALARS_NAME = "scalars.jsonl"


class Scalars:
    """Appends rows to ``scalars.jsonl`` of a run folder.

    A row has ``step`` (1 = the first step), ``epoch`` (from 0), ``phase`` and nested numbers. When
    a run goes on from a checkpoint, rows after its step are cut off first, so no step is there
    twice.

    Attributes:
        path: the file.
    """

    def __init__(self, run_dir: Path, *, done_steps: int, tensorboard: bool) -> None:
        self.path = run_dir / SCALARS_NAME
        self._board = _open_board(run_dir / "tensorboard", done_steps) if tensorboard else None
        _cut(self.path, done_steps)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Args:
            row: what JSON can hold, with ``step`` and ``phase``.
        """
        self._file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for tag, value in _numbers(row, str(row["phase"])):
                self._board.add_scalar(tag, value, row["step"])

    def sync(self) -> None:
        """Bring all rows to the disk; done before each checkpoint, which they must not trail."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _cut(path: Path, done_steps: int) -> None:
    """Keep the rows up to a step; they rise, so the first one beyond it ends what is kept."""
    if not path.exists():
        return
    kept = path.with_name(f"{path.name}.partial")
    with path.open("rb") as source, kept.open("wb") as target:
        for line in source:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > done_steps:
                    break
            except ValueError:
                break  # half written by a killed run, hence after the checkpoint
            target.write(line)
    kept.replace(path)


def _numbers(row: Mapping[str, Any], tag: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{tag}/{name}")
        elif isinstance(value, int | float) and name not in ("step", "update"):
            found.append((f"{tag}/{name}", float(value)))
    return found


def _open_board(folder: Path, done_steps: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise ConfigError(
            'train.tensorboard: needs an extra: pip install "resolute-reid[tensorboard]"'
        ) from None
    # purge_step hides what a killed run wrote after the checkpoint.
    board: SummaryWriter = SummaryWriter(str(folder), purge_step=done_steps + 1)
    return board
