"""The grids of one benchmark: scores, fusions, weights, transform, gains."""

from collections.abc import Sequence

from resolute.engine.result import Result
from resolute.evaluation.paired import MIN_CELLS, SAME_SIGN
from resolute.evaluation.report import Metric
from resolute.evaluation.summary import Spread, Summary
from resolute.tables.gains import Gain, gains
from resolute.tables.layout import (
    BEYOND,
    DIFFERING,
    METRICS,
    NOTHING,
    Grid,
    claim,
    differing,
    interval,
    percent,
)
from resolute.tables.rows import Rows, benchmark_of, rows_of
from resolute.tables.scores import scores_grid

FUSIONS = ("hr", "lr", "mean", "weighted", "query_weighted", "constant")


def grids(results: Sequence[Result]) -> list[Grid]:
    """Lay out what is known of one benchmark.

    Args:
        results: of one benchmark; trials and seeds of one method become one row.

    Returns:
        The scores first, then whatever else there is something to say of.

    Raises:
        ProtocolError: if the cells of one row were scored by several protocols, or two of one
            trial and seed have other scores.
    """
    rows, notes = rows_of(results)
    found = [scores_grid(benchmark_of(results[0]), rows, notes)]
    for build in (_fusions, _shares, _recovery):
        grid = build(rows)
        if grid.rows:
            found.append(grid)
    names = {name for result in results for name in result.scores if name.startswith("r=")}
    unseen = sorted(names, key=lambda name: float(name.removeprefix("r=")))
    asked: list[tuple[str, Metric]] = [
        ("protocol", "rank1"),
        ("protocol", "map"),
        *((score, "rank1") for score in unseen),
        ("hr", "rank1"),
    ]
    for score, metric in asked:
        grid = _gains(rows, score, metric)
        if grid.rows:
            found.append(grid)
    return found


def _fusions(rows: Rows) -> Grid:
    found = []
    chosen_on: dict[str, None] = {}
    for key, results in rows.items():
        scored = [r for r in results if "constant" in r.measures]
        if not scored:
            continue
        cells = []
        for fusion in FUSIONS:
            reports = [
                r.scores[f"fusion={fusion}"] for r in scored if f"fusion={fusion}" in r.scores
            ]
            cells.append(percent(Summary.of(reports).ranks[1] if reports else None))
        shares = Spread.of([r.measures["constant"]["share"] for r in scored])
        deviation = f" ± {shares.std:.2f}" if shares.std is not None else ""
        chosen_on |= dict.fromkeys(r.measures["constant"]["identities"] for r in scored)
        bounds = [
            r.measures["constant"]["best_of_each"]
            for r in scored
            if "best_of_each" in r.measures["constant"]
        ]
        bound = percent(Spread.of(bounds) if bounds else None)
        found.append((key.label, key.start, *cells, f"{shares.mean:.2f}{deviation}", bound))
    return Grid(
        title="Fusions of one checkpoint, Rank-1",
        head=("method", "start", *FUSIONS, "share of HR", "best of each"),
        rows=tuple(found),
        notes=(
            f"`constant` is the best constant share of the HR space, chosen on "
            f"{' and '.join(chosen_on)} identities. `best of each` looks at the answers: for each "
            "person the share that is best for it. It bounds what a weight per person could win, "
            "and is no score.",
        ),
    )


def _shares(rows: Rows) -> Grid:
    found = []
    for key, results in rows.items():
        shares = [r.measures["share_of_hr"] for r in results if "share_of_hr" in r.measures]
        if not shares:
            continue
        counts = [sum(column) for column in zip(*(s["counts"] for s in shares), strict=True)]
        parts = [f"{100 * count / sum(counts):.1f}" for count in counts]
        mean, std = (sum(s[k] for s in shares) / len(shares) for k in ("mean", "std"))
        found.append((key.label, key.start, *parts, f"{mean:.2f}", f"{std:.3f}"))
    bins = tuple(f"{i / 10:.1f}–{(i + 1) / 10:.1f}" for i in range(10))
    return Grid(
        title="Share of the HR space a / (a + b), percent of query-gallery pairs",
        head=("method", "start", *bins, "mean", "std"),
        rows=tuple(found),
        notes=("std is over the pairs of one cell, averaged over cells.",),
    )


def _recovery(rows: Rows) -> Grid:
    found: list[tuple[str, ...]] = []
    rates = sorted(
        {r for results in rows.values() for x in results for r in x.measures.get("recovery", {})},
        key=float,
    )
    for key, results in rows.items():
        known = [r.measures for r in results if "recovery" in r.measures]
        if not known:
            continue
        found_at = [[m["recovery"][r] for m in known if r in m["recovery"]] for r in rates]
        cells = [percent(Spread.of(values) if values else None) for values in found_at]
        cost = known[0]["transform"]
        found.append(
            (key.label, key.start, *cells, f"{cost['parameters']:,}", f"{cost['macs'] / 1e6:.0f}")
        )
    return Grid(
        title="What T recovers: 1 - |T(F'_LR) - F_HR| / |F'_LR - F_HR|, percent",
        head=("method", "start", *(f"r = {rate}" for rate in rates), "parameters of T", "MMAC"),
        rows=tuple(found),
        notes=("On the HR gallery images of identities that were not trained on.",),
    )


def _gains(rows: Rows, score: str, metric: Metric) -> Grid:
    """Lay out gains by one score; how to read them stands below the first."""
    is_first = (score, metric) == ("protocol", "rank1")
    is_hr = score == "hr"  # its control has no gap: it is what others are held against
    if is_hr:
        where = " to undegraded queries"
    else:
        where = "" if score == "protocol" else f" at {score.replace('=', ' = ')}"
    groups: dict[tuple[str, str], list[Result]] = {}
    labels: dict[tuple[str, str, str], str] = {}
    for key, results in rows.items():
        if key.order >= 0:
            groups.setdefault((key.start, key.changes), []).extend(results)
            labels[results[0].method, key.start, key.changes] = key.label
    found = [
        (
            labels[gain.row, start, changes],
            ", ".join([f"`{gain.control}`", *([gain.trained_in] if gain.trained_in else [])]),
            start,
            gain.part,
            *differing(gain.difference),
            *(() if is_hr else _gap_cells(gain)),
            claim(gain.difference),
        )
        for (start, changes), results in groups.items()
        for gain in gains(results, score=score, metric=metric)
    ]
    gap = () if is_hr else ("gap of the control", "share of it", BEYOND)
    return Grid(
        title=f"What each part gives{where}, {METRICS[metric]} in points",
        head=("row", "against", "start", "part", *DIFFERING, *gap, "claim"),
        rows=tuple(found),
        notes=(
            "Primary interval: bootstrap over identities, each with its differences in all trials "
            f"and seeds. A claim needs it to exclude zero, {MIN_CELLS} cells or more, and the same "
            f"sign in {100 * SAME_SIGN:.0f} % of them: the interval knows neither other trials nor "
            "seeds. The gap is what the control gains when its queries are not degraded, with its "
            "interval over identities: what modules for resolution could win. No share is given of "
            f"a gap that cannot be told from none. `{BEYOND}` is the gain less what undegraded "
            "queries gain, person by person: what of the gap is closed, be it that undegraded "
            "queries lose. Behind a control stands what it was trained in, where the row was "
            "trained in other numbers or elsewhere.",
        )
        * is_first,
    )


def _gap_cells(gain: Gain) -> tuple[str, str, str]:
    """Word what could be won, the share of it that is, and what of it HR queries do not win."""
    share = NOTHING if gain.share_of_gap is None else f"{100 * gain.share_of_gap:.0f} %"
    return interval(gain.gap), share, interval(gain.beyond)
