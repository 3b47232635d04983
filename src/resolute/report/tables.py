"""The scores as tables: one row per method, and one per run."""

from collections.abc import Sequence
from dataclasses import replace

from resolute.evaluation.summary import Spread
from resolute.report.figures import percent
from resolute.report.html import Markup, join, table
from resolute.report.series import Series

_SCORES = {"rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mean_ap": "mAP"}


def scores_table(series: Sequence[Series]) -> Markup:
    """Write one row per method where one has several runs, one per run, and one per fusion.

    Args:
        series: methods of one benchmark.
    """
    rates, outside, fusions = _names(series)
    parts: list[Markup] = []
    columns = [("protocol", score) for score in _SCORES]
    columns += [("protocol", f"r={rate}") for rate in rates]
    columns += [(name, "rank1") for name in outside]
    head = ["method", "trials", *_SCORES.values(), *(f"r = {rate}" for rate in rates)]
    head += ["HR query" if name == "hr" else name.replace("=", " = ") for name in outside]
    rows = [
        [s.label, str(len(s.exhibits)), *(_cell(s.spread(*column)) for column in columns)]
        for s in series
    ]
    if any(len(s.exhibits) > 1 for s in series):
        parts.append(table(head, rows, caption="Methods"))
    parts.append(_runs_table(series))
    if fusions:
        rows = [
            [s.label, name.removeprefix("fusion="), *(_cell(s.spread(name, n)) for n in _SCORES)]
            for s in series
            for name in fusions
            if s.reports(name)
        ]
        head = ["method", "fusion", *_SCORES.values()]
        parts.append(table(head, rows, caption="Other fusions of the same embeddings", num_text=2))
    return join(parts)


def _runs_table(series: Sequence[Series]) -> Markup:
    rates, outside, _ = _names(series)
    head = ["method", *_SCORES.values()]
    head += [f"r = {rate}" for rate in rates]
    head += ["HR query" if name == "hr" else name.replace("=", " = ") for name in outside]
    head += ["run", "trial", "seed", "start"]
    rows = []
    for s in series:
        for exhibit in s.exhibits:
            alone = replace(s, exhibits=(exhibit,))
            scores = [alone.spread("protocol", score) for score in _SCORES]
            scores += [alone.spread("protocol", f"r={rate}") for rate in rates]
            scores += [alone.spread(name, "rank1") for name in outside]
            known = [exhibit.name, str(exhibit.trial), str(exhibit.seed), exhibit.start]
            rows.append([s.label, *(_cell(score) for score in scores), *known])
    return table(head, rows, caption="Runs")


def _names(series: Sequence[Series]) -> tuple[list[str], list[str], list[str]]:
    scores = [e.scores for s in series for e in s.exhibits]
    rates = sorted({rate for names in scores for rate in names["protocol"].per_rate}, key=float)
    known = list(dict.fromkeys(name for names in scores for name in names))
    outside = [name for name in known if name == "hr" or name.startswith("r=")]
    fusions = [name for name in known if name.startswith("fusion=")]
    return (rates if len(rates) > 1 else []), outside, fusions


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    if not spread.std:
        return percent(spread.mean)
    return f"{percent(spread.mean)} ± {percent(spread.std)}"
