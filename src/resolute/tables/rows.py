"""Which results make one row of a table, and what the row is called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from resolute.core.config import to_mapping
from resolute.core.errors import ConfigError, ProtocolError
from resolute.data.benchmark import WRITTEN
from resolute.data.catalogue import data_name
from resolute.engine.result import Result
from resolute.engine.settings import FREE, leaves
from resolute.methods.variants import TITLES
from resolute.recipes.catalogue import FLAVOURS, find_recipe
from resolute.tables.gains import place
from resolute.tables.settings import OF_CELL

_MOST_CHANGES = 4
# As in the paper's tables: its own method and the parts of it behind the others.
_ORDER = sorted(TITLES, key=lambda row: row.startswith("ftwa"))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RowKey:
    """What the cells of one row have in common.

    Attributes:
        order: place in the table: anchors, baselines, other methods, FTWA.
        label: what the row is called.
        start: name of the start weights.
        changes: what differs from the usual recipe, in words.
    """

    order: int
    label: str
    start: str
    changes: str


Rows = dict[RowKey, list[Result]]


def benchmark_of(result: Result) -> str:
    """Return the printed name of a result's benchmark, without its trial.

    Args:
        result: of any cell.
    """
    return "/".join(part for part in result.data.split("/") if not part.startswith("trial"))


def rows_of(results: Sequence[Result]) -> tuple[Rows, tuple[str, ...]]:
    """Gather the cells of each row.

    Args:
        results: of one benchmark.

    Returns:
        The rows in order, and notes on the settings that differ from the usual recipe. Where
        several sets of settings stand in one table, a letter at the row's name tells them apart.
        Of results that differ in further scores alone, the one with most of them is taken.

    Raises:
        ProtocolError: if two results of one row, trial and seed have other scores.
    """
    changes = [_changes(result) if result.is_trained else "" for result in results]
    sets = sorted({words for words, r in zip(changes, results, strict=True) if r.is_trained})
    marks = dict.fromkeys(sets, "")
    notes = [f"Settings other than the recommended recipe's: {sets[0]}."] if any(sets) else []
    if len(sets) > 1:
        marked = [words for words in sets if words]
        marks |= {words: f" ({ascii_lowercase[i % 26]})" for i, words in enumerate(marked)}
        notes = [f"{marks[words].strip()} {words}." for words in marked]
    twinless = {
        r.method: None
        for words, r in zip(changes, results, strict=True)
        if "loader.twin_" in words and r.config["method"].get("twins") is False
    }
    if twinless:
        names = ", ".join(f"`{row}`" for row in sorted(twinless))
        notes.append(f"Trained without twins, whatever their settings: {names}.")
    rows: Rows = {}
    for result, words in zip(results, changes, strict=True):
        rows.setdefault(_key(result, words, marks.get(words, "")), []).append(result)
    return {key: _once(key, rows[key]) for key in sorted(rows)}, tuple(notes)


def _once(key: RowKey, results: Sequence[Result]) -> list[Result]:
    """Have every trial and seed count once.

    Raises:
        ProtocolError: if two results of one have other scores.
    """
    cells: dict[tuple[int, int], Result] = {}
    for result in results:
        trial, seed = place(result)
        first = cells.setdefault((trial, seed), result)
        kept, other = first.scores["protocol"], result.scores["protocol"]
        if kept.protocol != other.protocol:
            raise ProtocolError(
                f"{key.label}, start {key.start}: trial {trial}, seed {seed} was scored by two "
                f"protocols, {kept.protocol} and {other.protocol}; keep one of them, or give them "
                "folders of their own"
            )
        if kept != other:
            raise ProtocolError(
                f"{key.label}, start {key.start}: two results of trial {trial}, seed {seed} have "
                "other scores; keep one of them"
            )
        if len(result.scores) > len(first.scores):
            cells[trial, seed] = result
    return list(cells.values())


def _key(result: Result, changes: str, mark: str) -> RowKey:
    start = Path(result.start["name"]).stem
    if not result.is_trained:
        return RowKey(order=-1, label="embedding as it is, untrained", start=start, changes="")
    order = _ORDER.index(result.method) if result.method in TITLES else len(TITLES)
    return RowKey(order=order, label=f"`{result.method}`{mark}", start=start, changes=changes)


def _changes(result: Result) -> str:
    """Word what differs from the recipe that is nearest; the usual one needs no word."""
    best: tuple[int, str] | None = None
    try:
        kept = _of_training(result.config)
        for flavour in FLAVOURS:
            recipe = find_recipe(result.method, _data_of(result), flavour)
            usual = _of_training(to_mapping(recipe))
            changed = [f"{p}={_word(v)}" for p, v in kept.items() if v != usual[p]]
            if len(changed) > _MOST_CHANGES:
                more = len(changed) - _MOST_CHANGES
                words = [*changed[:_MOST_CHANGES], f"{more} more"]
            else:
                words = changed
            if flavour != "recommended":
                words = [flavour, *words]
            if best is None or len(changed) < best[0]:
                best = len(changed), ", ".join(words)
    except ConfigError:
        return "settings of another version"
    return best[1] if best else ""


def _data_of(result: Result) -> str:
    """Name the data set whose recipe a result goes by."""
    name: str = result.config["data"]["name"]
    return data_name(result.data) if name == WRITTEN else name


def _of_training(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        p: v
        for p, v in leaves(config).items()
        if p not in (*FREE, *OF_CELL) and not p.startswith("evaluation.")
    }


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
