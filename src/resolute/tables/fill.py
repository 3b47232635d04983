"""Fill the cells of a table: what is finished stays, what broke off goes on, the rest runs."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resolute.core.config import to_mapping, walk
from resolute.core.errors import ConfigError, ReidError
from resolute.engine.checkpoint import CHECKPOINT_NAME
from resolute.engine.convert import convert
from resolute.engine.lock import held
from resolute.engine.measure import measure
from resolute.engine.progress import Progress
from resolute.engine.provenance import portable
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.run import train
from resolute.engine.score import evaluate
from resolute.inference.load import MODEL_NAME
from resolute.tables.cells import Cell
from resolute.tables.standing import (
    Places,
    Splits,
    Standing,
    State,
    model_differences,
    stand,
    stand_one,
)

_LOG = logging.getLogger(__name__)

# Where files stand and what computes: of this call, whatever the run was trained with.
_HERE = ("data.root", "data.cache", "train.device", "train.threads")


def fill(
    cells: Sequence[Cell],
    places: Places,
    *,
    again: bool = False,
    rescore: bool = False,
    keep_checkpoints: bool = False,
    progress: Callable[[], Progress | None] = lambda: None,
) -> list[Standing]:
    """Fill what is missing, one cell after another.

    A cell that fails is reported and the rest goes on. Cells that another process works on are
    left to it. Ctrl-C leaves a checkpoint; the next call goes on from there.

    Args:
        cells: of one table.
        places: where results and runs are kept.
        again: run every cell anew, finished or not. Its old run and result are removed when its
            turn comes, so that after Ctrl-C a call without this goes on with it.
        rescore: score finished cells anew from their kept models; nothing is trained twice.
        keep_checkpoints: keep the checkpoint of a finished run (three times its model's size).
        progress: gives what is told how a training goes.

    Returns:
        One standing per cell: done, failed, differing, or left to another process.

    Raises:
        ConfigError: if the data settings do not fit.
        DatasetError: if the data set cannot be read.
        KeyboardInterrupt: after Ctrl-C.
    """
    worker = _Worker(
        places,
        Splits(),
        again=again,
        rescore=rescore,
        keep_checkpoints=keep_checkpoints,
        progress=progress,
    )
    standings = stand(cells, places, worker.splits)
    for i, standing in enumerate(standings):
        if standing.state is State.DONE and not (again or rescore):
            continue
        _LOG.info("[%d/%d] %s", i + 1, len(cells), _titled(standing.cell))
        standings[i] = worker.run(standing.cell)
        if standings[i].state is not State.DONE:
            _LOG.warning(
                "%s: %s: %s", standing.cell.name, standings[i].state.value, standings[i].detail
            )
    return standings


class _Worker:
    """Runs cells one after another."""

    def __init__(
        self,
        places: Places,
        splits: Splits,
        *,
        again: bool,
        rescore: bool,
        keep_checkpoints: bool,
        progress: Callable[[], Progress | None],
    ) -> None:
        self.splits = splits
        self._places, self._progress = places, progress
        self._again, self._rescore, self._keeps = again, rescore, keep_checkpoints
        self._fresh: set[Path] = set()  # run folders made anew by this call

    def run(self, cell: Cell) -> Standing:
        """Fill one cell under its lock."""
        with held(self._places.lock(cell)) as other:
            if other is not None:
                return Standing(cell=cell, state=State.BUSY, detail=f"process {other}")
            if self._again:
                self._forget(cell)
            # Another process may have filled it meanwhile.
            before = stand_one(cell, self._places, self.splits)
            is_kept = before.state in (State.DONE, State.DIFFERS)
            if is_kept and not self._rescore:
                return before
            try:
                if cell.is_anchor:
                    result = self._anchor(cell)
                else:
                    result = self._trained(cell, may_train=not is_kept)
            except (ReidError, OSError, RuntimeError) as error:  # torch reports by RuntimeError
                return Standing(cell=cell, state=State.FAILED, detail=" ".join(str(error).split()))
            result.write(self._places.result(cell))
            if not self._keeps:
                (self._places.run(cell) / CHECKPOINT_NAME).unlink(missing_ok=True)
            return Standing(cell=cell, state=State.DONE, result=result)

    def _forget(self, cell: Cell) -> None:
        """Remove what is kept of a cell, but for weights that this call has trained."""
        self._places.result(cell).unlink(missing_ok=True)
        run_dir = self._places.run(cell)
        if run_dir not in self._fresh:
            shutil.rmtree(run_dir, ignore_errors=True)

    def _trained(self, cell: Cell, *, may_train: bool) -> Result:
        """Train and score, or score what is trained.

        Raises:
            ConfigError: if there is nothing to score and nothing may be trained.
        """
        run_dir = self._places.run(cell)
        if not may_train and not (run_dir / MODEL_NAME).exists():
            raise ConfigError(f"{run_dir}: no model is kept to score anew; --again trains one")
        self._train(cell, run_dir)
        self._fresh.add(run_dir)
        begin = time.perf_counter()
        overrides = _scoring(cell)
        result = evaluate(run_dir, overrides=overrides)
        measured = measure(run_dir, overrides=overrides)
        training = dict(result.training)
        if cell.is_derived:
            training["from"] = cell.source
        whole = replace(
            result,
            method=cell.config.name,
            config=portable(to_mapping(cell.config)),
            scores={**result.scores, **measured.scores},
            measures={**measured.measures, "scoring_s": round(time.perf_counter() - begin, 1)},
            training=training,
            command=cell.command,
        )
        if not cell.is_derived:
            whole.write(run_dir / RESULT_NAME)
        return whole

    def _train(self, cell: Cell, run_dir: Path) -> None:
        """Train the weights that a cell scores, unless they are there.

        Raises:
            ConfigError: if the folder holds the weights of another run.
        """
        if (run_dir / MODEL_NAME).exists():
            faults = model_differences(cell, run_dir, self.splits)
            if faults:
                raise ConfigError(
                    f"{run_dir} holds another run: {'; '.join(faults)}; --again trains anew"
                )
            _LOG.info("  weights of %s are there", run_dir)
            return
        begun = (run_dir / CHECKPOINT_NAME).exists()
        train(
            cell.train_config,
            run_dir,
            resume="exact" if begun else "no",
            progress=self._progress(),
            command=replace(cell, config=cell.train_config).command,
        )

    def _anchor(self, cell: Cell) -> Result:
        run_dir = self._places.run(cell)
        shutil.rmtree(run_dir, ignore_errors=True)  # made from the weight file in a second
        convert(Path(cell.config.model.weights), run_dir, model=cell.config.model)
        of_data = {p: v for p, v in walk(cell.config) if p.startswith("data.")}
        overrides = {**of_data, **_scoring(cell)}
        begin = time.perf_counter()
        result = evaluate(run_dir, overrides=overrides)
        measured = measure(run_dir, overrides=overrides)
        shutil.rmtree(run_dir, ignore_errors=True)
        measures = {**measured.measures, "scoring_s": round(time.perf_counter() - begin, 1)}
        return replace(result, command=cell.command, measures=measures)


def _scoring(cell: Cell) -> dict[str, Any]:
    """Settings that the run may not know: how this cell is scored, from where and on what."""
    own = {p: v for p, v in walk(cell.config) if p in _HERE or p.startswith("evaluation.")}
    return {**own, **cell.matching}


def _titled(cell: Cell) -> str:
    if cell.is_derived:
        return f"{cell.name}: scored from the weights of {cell.source}, not trained again"
    return cell.name
