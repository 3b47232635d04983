"""Training curves of a run, from its ``scalars.jsonl``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError
from resolute.engine.scalars import SCALARS_NAME

MAX_POINTS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One number as it went along a training run.

    Attributes:
        steps: mean step of each point, rising, at most ``MAX_POINTS``.
        values: mean over the steps of each point.
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def read_curves(run_dir: Path) -> dict[str, Scalar]:
    """Read everything a run logged.

    A last line that a killed run left half written is passed over.

    Args:
        run_dir: run folder.

    Returns:
        Curves by name, for example ``losses/identity`` or ``gradient_norms/raft/triplet``, with the
        phase in front where there are several; empty where nothing was logged.

    Raises:
        ConfigError: if a line is no row of scalars.
    """
    path = run_dir / SCALARS_NAME
    if not path.is_file():
        return {}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            step, phase = float(row["step"]), str(row["phase"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: line {number} is no row of scalars ({error})") from None
        for name, value in _numbers(row, ""):
            found.setdefault(phase, {}).setdefault(name, []).append((step, value))
    return {
        name if len(found) == 1 else f"{phase}/{name}": _thinned(np.array(points))
        for phase, curves in found.items()
        for name, points in curves.items()
    }


def _numbers(row: Mapping[str, Any], where: str) -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            numbers += _numbers(value, f"{where}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch", "update"):
            numbers.append((f"{where}{name}", float(value)))
    return numbers


def _thinned(points: NDArray[np.float64]) -> Scalar:
    # A phase with several updates per step has one point per step: their mean.
    _, starts, counts = np.unique(points[:, 0], return_index=True, return_counts=True)
    points = np.add.reduceat(points, starts, axis=0) / counts[:, None]
    parts = np.array_split(points, min(len(points), MAX_POINTS))
    means = np.stack([part.mean(axis=0) for part in parts])  # (points, 2)
    return Scalar(steps=means[:, 0], values=means[:, 1])
