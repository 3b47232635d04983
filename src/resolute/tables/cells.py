"""A table as a list of cells: method x data set x trial x seed, each with complete settings.

Nothing is run or read here but the start weights' digest and the records of each split.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from resolute.core.config import override, to_mapping, unknown_name, walk
from resolute.core.errors import ConfigError
from resolute.data.benchmark import MLR, benchmark_names, check_written
from resolute.engine.config import RunConfig
from resolute.engine.provenance import portable, start_of
from resolute.engine.settings import FREE, leaves
from resolute.methods.variants import TABLE1, TABLE2, VARIANTS
from resolute.models.pretrained import recognise
from resolute.recipes.base import NATIVE_LR
from resolute.recipes.catalogue import find_recipe
from resolute.tables.settings import OF_CELL

TABLES: dict[str, tuple[str, ...]] = {
    "table2": TABLE2,  # the variants of the paper and their controls [FTWA table 2]
    "table1": TABLE1,  # every method [FTWA table 1]
}

# What people call a benchmark. Published MLR-CUHK03 splits 1367/100; labelled boxes [assumed].
ALIASES = {
    "mlr-market": "mlr-market1501",
    "mlr-cuhk03": "mlr-cuhk03-classic-labeled",
    "mlr-caviar": "caviar",
}

# The fusions that a cell with two spaces is scored with, from one checkpoint.
FUSIONS = ("hr", "lr", "mean", "weighted", "query_weighted")

# The start of the kept tables: cells from any other have its name in theirs.
USUAL_START = "osnet_gn_x0_5_msmt17"
ONNX_OR_IR = (".onnx", ".xml")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        config: complete settings; ``config.name`` is the row.
        recipe: the flavour they started from; ``untrained`` for an anchor.
        changes: settings asked for over the recipe, by dotted path.
        source: the row whose weights are scored; another one where this row differs in matching
            alone and needs no training of its own.
        table: name of the table, for the command.
    """

    config: RunConfig
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    table: str = "table2"

    @property
    def row(self) -> str:
        """Name of the method, or of the weight file of an anchor."""
        return Path(self.config.model.weights).stem if self.is_anchor else self.config.name

    @property
    def is_anchor(self) -> bool:
        """Whether the network is scored as it comes."""
        return self.recipe == "untrained"

    @property
    def is_derived(self) -> bool:
        """Whether another row's weights are scored."""
        return bool(self.source) and self.source != self.config.name

    @property
    def trial(self) -> int:
        """Number of the split."""
        return self.config.data.trial

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.train.seed

    @cached_property
    def name(self) -> str:
        """File name without suffix: row, trial, seed, and whatever differs from the usual table."""
        return self._name(self.row)

    @cached_property
    def run_name(self) -> str:
        """Name of the run folder whose weights are scored, in whatever way."""
        return self._name(self.source or self.row, apart=("evaluation.",))

    @cached_property
    def start(self) -> dict[str, str]:
        """Name and sha256 of the start weights as they are now."""
        return start_of(self.config.model.weights, "")

    @property
    def matching(self) -> dict[str, Any]:
        """Settings that turn the source row's run into this row, by dotted path."""
        if not self.is_derived:
            return {}
        theirs = dict(walk(VARIANTS[self.source]))
        own = dict(walk(VARIANTS[self.config.name]))
        return {f"method.{n}": v for n, v in own.items() if v != theirs[n]}

    @property
    def train_config(self) -> RunConfig:
        """The settings that the scored weights are trained with."""
        if not self.is_derived:
            return self.config
        theirs = {p: getattr(VARIANTS[self.source], p.split(".")[1]) for p in self.matching}
        return replace(override(self.config, theirs), name=self.source)

    @property
    def command(self) -> str:
        """The command that fills this cell again, without where files stand on this machine."""
        words = ["resolute", "table", self.table, "--data", self.config.data.name]
        weights = Path(self.config.model.weights).name
        if self.is_anchor:
            words += ["--rows", "none", "--anchors", weights]
        else:
            words += ["--rows", self.config.name]
            words += (
                []
                if self.recipe == usual_recipe(self.config.data.name)
                else [
                    "--recipe",
                    self.recipe,
                ]
            )
        words += ["--trials", str(self.trial), "--seeds", str(self.seed)]
        own, plain = dict(walk(self.config)), leaves(portable(to_mapping(self.config)))
        sources = ",".join(f"{source}=ROOT" for source in plain["data.also_train"])
        placeholders = {"data.root": "ROOT", "data.also_train": sources}
        for path, value in self.changes.items():
            if path in placeholders or path not in FREE:
                shown = value if plain[path] == own[path] else plain[path]
                words += [f"--{path}", placeholders.get(path, _word(shown))]
        return shlex.join(words)

    def _name(self, row: str, *, apart: tuple[str, ...] = ()) -> str:
        parts = [row]
        if self.is_anchor:
            parts.append("untrained")
        elif self.recipe != "recommended":
            parts.append(self.recipe)
        start = Path(self.config.model.weights).stem
        if not self.is_anchor and start != USUAL_START:
            parts.append(start or "random")
        parts.append(f"t{self.trial}")
        if not self.is_anchor:
            parts.append(f"s{self.seed}")
        told = {
            p: v
            for p, v in self._changed().items()
            if p not in (*FREE, *OF_CELL) and not p.startswith(apart)
        }
        if told:
            text = json.dumps(told, sort_keys=True)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
        return "-".join(parts)

    def _changed(self) -> dict[str, str]:
        """What was asked for, as the settings took it: ``6`` and ``6.0`` are one."""
        values = dict(walk(self.config))
        plain = portable(to_mapping(self.config))
        sources = {"data.also_train": plain["data"]["also_train"]}
        return {p: str(sources.get(p, values[p])) for p in self.changes}


def plan(
    table: str,
    data: str,
    *,
    recipe: str = "",
    rows: Sequence[str] = (),
    trials: Sequence[int] = (0,),
    seeds: Sequence[int] = (0,),
    changes: Mapping[str, Any] | None = None,
    anchors: Sequence[Path] = (),
) -> list[Cell]:
    """List the cells of a table, those of one trial and seed together.

    Args:
        table: ``table1`` or ``table2``.
        data: a benchmark, or one of its common names.
        recipe: flavour; the benchmark's usual one when empty.
        rows: methods, those outside the table too, such as ablations; all of the table when
            empty, none for the single word ``none``.
        trials: numbers of splits.
        seeds: of training; anchors have none.
        changes: settings by dotted path, for every cell.
        anchors: weight files to score untrained.

    Returns:
        Cells in the order they are to be filled.

    Raises:
        ConfigError: if a name or setting is unknown, a written set is of another trial, or a
            weight file is of a kind that this library cannot convert.
        DatasetError: if there is no written set.
    """
    if table not in TABLES:
        raise ConfigError(unknown_name("table", table, list(TABLES)))
    for row in rows:
        if row not in VARIANTS and list(rows) != ["none"]:
            raise ConfigError(unknown_name("row", row, list(VARIANTS)))
    chosen = () if list(rows) == ["none"] else rows or TABLES[table]
    asked = dict(changes or {})
    for path in ("data.name", "data.trial", "train.seed"):
        if path in asked:
            raise ConfigError(f"--{path}: a table takes --data, --trials and --seeds")
    name = benchmark_of(data)
    flavour = recipe or usual_recipe(name)
    cells = [_anchor(table, file, name, trial, asked) for trial in trials for file in anchors]
    for seed in seeds:
        for trial in trials:
            where = {"data.trial": trial, "train.seed": seed}
            made = [_cell(table, row, name, flavour, asked, where) for row in chosen]
            cells += sorted(made, key=lambda cell: cell.is_derived)  # behind what they score
    for config in dict.fromkeys(cell.config.data for cell in cells):
        check_written(config)
    return cells


def benchmark_of(data: str) -> str:
    """Find the benchmark that is meant by a name.

    Args:
        data: for example ``mlr-viper``, ``viper``, ``synthetic``, ``mlr-market``.

    Returns:
        What ``data.name`` takes.

    Raises:
        ConfigError: if there is none of that name.
    """
    full = data if data.startswith(MLR) or data in NATIVE_LR else f"{MLR}{data}"
    name = ALIASES.get(full, full)
    if name not in benchmark_names():
        raise ConfigError(unknown_name("data set", data, [*benchmark_names(), *ALIASES]))
    return name


def usual_recipe(data: str) -> str:
    """Return the flavour a benchmark's table is made with when none is named.

    Args:
        data: a benchmark.
    """
    return "quickstart" if data == "mlr-synthetic" else "recommended"


def trained_row(row: str) -> str:
    """Return the row whose training gives this row's weights, the row itself where it is its own.

    Rows that differ in matching alone (FTWA-const is FTWA matched with its mean qualities) share
    every weight, so that training each would only compare a run with itself [ours].

    Args:
        row: a method.
    """
    if row not in VARIANTS:
        return row
    trained = VARIANTS[row].as_trained()
    plain = [name for name, settings in VARIANTS.items() if settings == trained]
    return row if row in plain or not plain else plain[0]


def _cell(
    table: str,
    row: str,
    data: str,
    flavour: str,
    asked: Mapping[str, Any],
    where: Mapping[str, Any],
) -> Cell:
    base = find_recipe(row, data, flavour, root=str(asked.get("data.root", "")))
    fusions: dict[str, Any] = {}
    if base.method.has_two_spaces:
        fusions = {"evaluation.fusions": FUSIONS}
    config = override(base, {**fusions, **asked, **where})
    cell = Cell(
        config=config, recipe=flavour, changes=dict(asked), source=trained_row(row), table=table
    )
    # Asked for by hand, what tells the two rows apart is the same in both: no derivation then.
    return replace(cell, source=row) if cell.matching.keys() & asked.keys() else cell


def _anchor(table: str, file: Path, data: str, trial: int, asked: Mapping[str, Any]) -> Cell:
    if file.suffix in ONNX_OR_IR:
        raise ConfigError(
            f"{file.name}: foreign networks are scored by: python benchmarks/anchors.py {file.name}"
        )
    usable = {p: v for p, v in asked.items() if p.startswith(("data.", "evaluation.")) or p in FREE}
    base = RunConfig(
        name="baseline",
        model=recognise(file),
        method=VARIANTS["baseline"],
    )
    config = override(base, {**usable, "data.name": data, "data.trial": trial})
    return Cell(config=config, recipe="untrained", changes=usable, table=table)


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
