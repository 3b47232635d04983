"""How far the cells of a table are: looked up, compared, nothing run."""

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resolute.core.config import from_mapping, to_mapping
from resolute.core.errors import ConfigError
from resolute.core.types import Split
from resolute.data.benchmark import DataConfig, open_split
from resolute.engine.checkpoint import CHECKPOINT_NAME
from resolute.engine.config import RunConfig
from resolute.engine.lock import is_held
from resolute.engine.provenance import portable
from resolute.engine.result import Result
from resolute.engine.settings import FREE, leaves
from resolute.inference.load import MODEL_NAME
from resolute.inference.model_file import read_metadata
from resolute.tables.cells import Cell

# An untrained network depends on its data, its weights and its scoring alone.
_OF_ANCHOR = ("data.", "model.", "evaluation.", "method.")


class State(enum.Enum):
    """How far a cell is."""

    DONE = "done"
    DIFFERS = "differs"
    MISSING = "missing"
    SCORING = "trained, not scored"
    INTERRUPTED = "interrupted"
    BUSY = "another process is at it"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A cell and how far it is.

    Attributes:
        cell: the cell.
        state: how far it is.
        detail: what differs, or what went wrong.
        result: of a finished cell; of one that differs, what is kept, if it can be read.
        minutes: that it should take, from finished cells of this data set; None without any.
    """

    cell: Cell
    state: State
    detail: str = ""
    result: Result | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a table keeps what.

    Attributes:
        results: folder of result files, one folder per benchmark in it.
        runs: folder of run folders, one folder per benchmark in it.
    """

    results: Path
    runs: Path

    def result(self, cell: Cell) -> Path:
        """Return the result file of a cell.

        Args:
            cell: the cell.
        """
        return self.results / cell.config.data.name / f"{cell.name}.json"

    def run(self, cell: Cell) -> Path:
        """Return the run folder whose weights a cell scores.

        Args:
            cell: the cell.
        """
        return self.runs / cell.config.data.name / cell.run_name

    def lock(self, cell: Cell) -> Path:
        """Return the lock file of a cell; cells that share their weights share it.

        Args:
            cell: the cell.
        """
        return self.runs / cell.config.data.name / f"{cell.run_name}.lock"


@dataclass(slots=True)
class Splits:
    """The records of each trial, read once.

    Where the data set's folder is not given, nothing is known of its records.
    """

    _known: dict[DataConfig, Split] = field(default_factory=dict)

    def digest(self, cell: Cell) -> str:
        """Return the split digest a cell would have now; empty where the folder is not given.

        Args:
            cell: the cell.

        Raises:
            ConfigError: if the data settings do not fit.
            DatasetError: if the data set cannot be read.
        """
        data = cell.config.data
        if not data.root and "synthetic" not in data.name:
            return ""
        if data not in self._known:
            self._known[data] = open_split(data)
        return self._known[data].digest()


def stand(cells: Sequence[Cell], places: Places, splits: Splits) -> list[Standing]:
    """Look how far cells are; nothing is run.

    Args:
        cells: of one table.
        places: where results and runs are kept.
        splits: records by trial.

    Returns:
        One standing per cell, in order.

    Raises:
        ConfigError: if the data settings do not fit.
        DatasetError: if the data set cannot be read.
    """
    standings = [stand_one(cell, places, splits) for cell in cells]
    known = [s.result for s in standings if s.state is State.DONE and s.result is not None]
    return [replace(s, minutes=_expected(s.cell, known)) for s in standings]


def differences(
    cell: Cell, *, config: Mapping[str, Any], start: Mapping[str, str], kept: str, asked: str
) -> list[str]:
    """Name what tells a kept result or model from the cell that is asked for.

    Args:
        cell: what is asked for.
        config: the kept settings; those it lacks have their defaults.
        start: the kept name and sha256 of the start weights.
        kept: the kept split digest.
        asked: the split digest now; empty where it is not known.

    Returns:
        One line each; none when they are the same.
    """
    told = []
    try:
        then = leaves(portable(to_mapping(from_mapping(RunConfig, config))))
    except ConfigError as error:
        return [f"its settings are of another version ({error})"]
    now = leaves(portable(to_mapping(cell.config)))
    paths = [p for p in now if p not in (*FREE, "name")]
    if cell.is_anchor:
        paths = [p for p in paths if p.startswith(_OF_ANCHOR)]
    told += [f"{p} was {then.get(p)} and is {now[p]}" for p in paths if then.get(p) != now[p]]
    for name in ("name", "sha256"):
        if start[name] != cell.start[name]:
            told.append(
                f"start weights' {name} was {start[name][:40] or 'none'} and is "
                f"{cell.start[name][:40] or 'none'}"
            )
    if asked and kept and kept != asked:
        told.append(f"split digest was {kept[:12]} and is {asked[:12]}: other records or roles")
    return told


def stand_one(cell: Cell, places: Places, splits: Splits) -> Standing:
    """Look how far one cell is.

    Args:
        cell: the cell.
        places: where results and runs are kept.
        splits: records by trial.

    Returns:
        Its standing, without expected minutes.
    """
    path, run_dir = places.result(cell), places.run(cell)
    asked = splits.digest(cell)
    if path.exists():
        try:
            kept = Result.read(path)
        except ConfigError as error:
            detail = f"{error}; --again runs it anew"
            return Standing(cell=cell, state=State.DIFFERS, detail=detail)
        found = differences(
            cell, config=kept.config, start=kept.start, kept=kept.split_digest, asked=asked
        )
        if not found:
            return Standing(cell=cell, state=State.DONE, result=kept)
        detail = f"{path}: {'; '.join(found)}; --again runs it anew"
        return Standing(cell=cell, state=State.DIFFERS, detail=detail, result=kept)
    state = State.MISSING
    if is_held(places.lock(cell)):
        state = State.BUSY
    elif (run_dir / MODEL_NAME).exists():
        state = State.SCORING
    elif (run_dir / CHECKPOINT_NAME).exists():
        state = State.INTERRUPTED
    return Standing(cell=cell, state=state)


def model_differences(cell: Cell, run_dir: Path, splits: Splits) -> list[str]:
    """Compare a trained model with what a cell would train; scoring settings may differ.

    Args:
        cell: what is asked for.
        run_dir: run folder with a model.
        splits: records by trial.

    Returns:
        One line per difference; none when the model is the cell's.
    """
    metadata = read_metadata(run_dir / MODEL_NAME)
    now = portable(to_mapping(cell.train_config))
    config = {**metadata["config"], "evaluation": now["evaluation"]}
    return differences(
        replace(cell, config=cell.train_config, source=cell.train_config.name),
        config=config,
        start=metadata["start"],
        kept=metadata["split_digest"],
        asked=splits.digest(cell),
    )


def _expected(cell: Cell, known: Sequence[Result]) -> float | None:
    """Expect the median of finished cells: of this method where there are any."""
    own: list[float] = []
    others: list[float] = []
    for result in known:
        if not result.is_trained or result.training.keys() & {"resumed", "from"}:
            continue
        taken = result.training["duration_s"] + result.measures.get("scoring_s", 0.0)
        (own if result.method == cell.config.name else others).append(taken / 60)
    if cell.is_anchor or cell.is_derived:
        scored = [r.measures["scoring_s"] / 60 for r in known if "scoring_s" in r.measures]
        return statistics.median(scored) if scored else None
    return statistics.median(own or others) if own or others else None
