"""The first grid of a benchmark: scores, cost, and what papers print of the same rows."""

from collections.abc import Iterator, Sequence

from resolute.engine.result import Result
from resolute.evaluation.summary import Summary
from resolute.tables.gains import place
from resolute.tables.layout import NOTHING, Grid, numbers, percent
from resolute.tables.published import BENCHMARKS, Published, published
from resolute.tables.rows import RowKey, Rows

_THEIRS = ("paper's Rank-1", "paper's Rank-5", "paper's Rank-10")


def scores_grid(title: str, rows: Rows, notes: tuple[str, ...]) -> Grid:
    """Lay out the scores of one benchmark.

    Args:
        title: printed name of the benchmark.
        rows: results by row, in order.
        notes: on the settings that differ from the usual recipe.

    Returns:
        Our scores, parameters and minutes; beside them, where papers print any, theirs.

    Raises:
        ProtocolError: if the cells of one row were scored by several protocols.
    """
    members = [result for results in rows.values() for result in results]
    rates = sorted({r for x in members for r in x.scores["protocol"].per_rate}, key=float)
    unseen = sorted({n for x in members for n in x.scores if n.startswith("r=")}, key=_rate)
    # Discriminators and the like: trained, and in no model file.
    has_more = any(_num_trained(result) != result.num_parameters for result in members)
    papers = {key: _paper(results[0]) for key, results in rows.items()}
    has_papers = any(papers.values())
    marks = _marks(members)
    head = ["method", "start", "trials", "Rank-1", "Rank-5", "Rank-10", "mAP"]
    head += list(_THEIRS) * has_papers + [f"r = {rate}" for rate in rates]
    head += [name.replace("=", " = ") for name in unseen] + ["HR query", "parameters"]
    head += ["parameters in training"] * has_more + ["minutes", "trained in"]
    found = []
    for key, results in rows.items():
        cells = [" ".join([key.label, *_marked(results, marks)]), key.start, _trials(results)]
        cells += _score_cells(results)
        cells += _their_cells(papers[key]) * has_papers
        cells += _rate_cells(results, rates, [*unseen, "hr"])
        cells += [f"{results[0].num_parameters:,}"]
        cells += [f"{_num_trained(results[0]):,}"] * has_more
        cells += [_minutes(results), "; ".join(_trained_in(results)) or NOTHING]
        found.append(tuple(cells))
    return Grid(
        title=title,
        head=tuple(head),
        rows=tuple(found),
        notes=(
            *notes,
            *_derived(members),
            *(f"{m} {n}." for n, m in marks.items()),
            *_on_minutes(members),
            *(_on_papers(rows, papers) if has_papers else ()),
        ),
    )


def _rate(name: str) -> float:
    return float(name.removeprefix("r="))


def _score_cells(results: Sequence[Result]) -> list[str]:
    summary = Summary.of([result.scores["protocol"] for result in results])
    ranks = [summary.ranks.get(rank) for rank in (1, 5, 10)]
    return [percent(score) for score in (*ranks, summary.mean_ap)]


def _rate_cells(results: Sequence[Result], rates: Sequence[str], more: Sequence[str]) -> list[str]:
    summary = Summary.of([result.scores["protocol"] for result in results])
    scores = [summary.per_rate.get(rate, {}).get("rank1") for rate in rates]
    for name in more:
        reports = [result.scores[name] for result in results if name in result.scores]
        scores.append(Summary.of(reports).ranks[1] if reports else None)
    return [percent(score) for score in scores]


def _trials(results: Sequence[Result]) -> str:
    by_seed: dict[int, list[int]] = {}
    for trial, seed in map(place, results):
        by_seed.setdefault(seed, []).append(trial)
    by_trials: dict[str, list[int]] = {}
    for seed, trials in sorted(by_seed.items()):
        by_trials.setdefault(numbers(trials), []).append(seed)
    words = [
        trials if seeds == [0] else f"{trials} (seed {numbers(seeds)})"
        for trials, seeds in by_trials.items()
    ]
    return "; ".join(words)


def _num_trained(result: Result) -> int:
    """Count what training moved; results of older versions tell the model file's number alone."""
    number: int = result.training.get("parameters", result.num_parameters)
    return number


def _minutes(results: Sequence[Result]) -> str:
    """Mean minutes of training, of the cells whose time is known."""
    known = [seconds / 60 for r in results if (seconds := _seconds(r)) is not None]
    if not known:
        return NOTHING
    minutes = sum(known) / len(known)
    return f"{minutes:.0f}" if minutes >= 1 else f"{minutes:.1f}"


def _seconds(result: Result) -> float | None:
    """Seconds of training; of a run that went on later, all its steps at the last part's speed."""
    training = result.training
    if not result.is_trained or "from" in training:
        return None
    if "resumed" not in training:
        return float(training["duration_s"])
    if not training["images_per_s"]:  # no step was left when it went on
        return None
    images = training["steps"] * result.config["loader"]["batch_size"]
    return float(images / training["images_per_s"])


def _trained_in(results: Sequence[Result]) -> tuple[str, ...]:
    """List the numbers that training multiplied in, and the devices."""
    return tuple(dict.fromkeys(r.trained_in for r in results if r.is_trained))


def _on_minutes(members: Sequence[Result]) -> Iterator[str]:
    timed = [r for r in members if _seconds(r) is not None]
    if timed:
        yield (
            "Minutes are those of whatever machine trained a cell, beside other work: compare "
            "scores, not minutes."
        )
    rows: dict[int, dict[str, None]] = {}
    for result in timed:
        rows.setdefault(result.config["train"]["threads"], {})[f"`{result.method}`"] = None
    if len(rows) > 1:
        _, *others = sorted(rows, key=lambda number: len(rows[number]), reverse=True)
        told = "; ".join(f"{', '.join(rows[number])} on {number} threads" for number in others)
        yield f"Minutes are not all of one number of threads: {told}."


def _derived(members: Sequence[Result]) -> Iterator[str]:
    derived = {r.method: r.training["from"] for r in members if "from" in r.training}
    for row, source in sorted(derived.items()):
        yield f"`{row}` is not trained: it is `{source}` with other matching, the same weights."


# ---------------------------------------------------------------------- what methods say


def _marks(members: Sequence[Result]) -> dict[str, str]:
    """Number the notes of the methods, each once."""
    notes = dict.fromkeys(note for result in members for note in result.notes)
    return {note: f"[{number}]" for number, note in enumerate(notes, start=1)}


def _marked(results: Sequence[Result], marks: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(marks[note] for result in results for note in result.notes))


# ---------------------------------------------------------------------- what papers say


def _paper(result: Result) -> Published | None:
    if not result.is_trained:
        return None
    return published(result.method, result.config["data"]["name"])


def _their_cells(paper: Published | None) -> list[str]:
    scores = (None, None, None) if paper is None else paper.scores
    return [NOTHING if score is None else f"{score:.1f}" for score in scores]


def _on_papers(rows: Rows, papers: dict[RowKey, Published | None]) -> tuple[str, ...]:
    name = next(rows[key][0].config["data"]["name"] for key, paper in papers.items() if paper)
    benchmark = BENCHMARKS[name]
    sources: dict[str, dict[str, None]] = {}
    remarks: dict[str, dict[str, None]] = {}
    for key, paper in papers.items():
        if paper is not None:
            row = f"`{rows[key][0].method}`"  # once, whatever rows of it there are
            sources.setdefault(paper.source, {})[row] = None
            if paper.remark:
                remarks.setdefault(paper.remark, {})[row] = None
    told = "; ".join(f"{', '.join(names)}: {source}" for source, names in sources.items())
    words = [
        f"The paper's columns are not ours: they are printed for {benchmark}, with other "
        f"backbones, start weights, splits and training. {told}."
    ]
    words += [f"{', '.join(names)}: {remark}." for remark, names in remarks.items()]
    return (" ".join(words),)
