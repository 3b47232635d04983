"""How often the right person is found: CMC per rate, Rank-1 against pixel height."""

from collections.abc import Sequence

import numpy as np

from resolute.report.axes import Axis, linear
from resolute.report.figures import legend, numbers, panel, percent, pixels
from resolute.report.html import Markup, element, join, table
from resolute.report.material import Curve
from resolute.report.series import Series
from resolute.report.svg import Plot

MAX_RANK = 20
# More bands than this hide each other; their numbers stand in the table.
MAX_BANDS = 4
# Points of one height stand apart by at most so much in all, so that heights stay apart.
_SPREAD = 18.0
_RANKS = (1, 5, 10, 20)


def cmc_section(series: Sequence[Series]) -> Markup:
    """Draw CMC curves, one picture over all queries and one per rate.

    Args:
        series: methods of one benchmark.
    """
    curves = [s.curves(MAX_RANK) for s in series]
    names = list(dict.fromkeys(name for of_one in curves for name in of_one))
    lowest = min(float(c.mean[0]) for of_one in curves for c in of_one.values())
    y = linear(max(0.0, lowest - 0.02), 1.0, "queries with a match, %", scale=100)
    panels = []
    for name in names:
        members = [(s, c[name]) for s, c in zip(series, curves, strict=True) if name in c]
        title = "All queries" if name == "all" else f"Queries at rate {name}"
        counts = sorted({curve.count for _, curve in members})
        if len(counts) == 1:
            title += f" ({counts[0]})"
        panels.append(panel(title, _cmc_picture(title, members, y)))
    rows = [
        [s.label, name, str(of_one[name].count), *_cmc_cells(of_one[name])]
        for name in names
        for s, of_one in zip(series, curves, strict=True)
        if name in of_one
    ]
    head = ["method", "rate", "queries", *(f"Rank-{rank}" for rank in _RANKS)]
    return join(
        [
            legend(series),
            element("div", panels, class_="panels pairs"),
            numbers(
                table(head, rows, caption="Cumulative match characteristic, in percent", num_text=2)
            ),
        ]
    )


def _cmc_cells(curve: Curve) -> list[str]:
    cells = []
    for rank in _RANKS:
        if rank > len(curve.mean):
            cells.append("–")
            continue
        spread = "" if curve.std is None else f" ± {percent(float(curve.std[rank - 1]))}"
        cells.append(percent(float(curve.mean[rank - 1])) + spread)
    return cells


def _cmc_picture(title: str, members: Sequence[tuple[Series, Curve]], y: Axis) -> Markup:
    last = max(len(curve.mean) for _, curve in members)
    marks = tuple((float(rank), str(rank)) for rank in (*_RANKS, 15) if rank <= last)
    plot = Plot(x=Axis(low=1, high=max(2, last), marks=marks, title="rank"), y=y)
    drawn: list[Markup] = []
    for s, curve in members:
        ranks = np.arange(1, len(curve.mean) + 1)
        if len(members) <= MAX_BANDS and curve.std is not None and curve.std.any():
            low, high = curve.mean - curve.std, curve.mean + curve.std
            drawn.append(plot.band(list(zip(ranks, low, high, strict=True)), series=s.number))
    for s, curve in members:
        points = list(enumerate(curve.mean.tolist(), start=1))
        drawn.append(plot.line(points, series=s.number))
        drawn += [
            plot.dot(
                rank,
                float(curve.mean[rank - 1]),
                series=s.number,
                title=f"{s.label}: Rank-{rank} {_cmc_cells(curve)[at]} %",
            )
            for at, rank in enumerate(_RANKS)
            if rank <= len(curve.mean)
        ]
    said = "; ".join(f"{s.label} {percent(float(c.mean[0]))} % at rank 1" for s, c in members)
    return plot.picture(*drawn, label=f"CMC, {title}: {said}")


def height_section(series: Sequence[Series]) -> Markup:
    """Draw Rank-1 against the native height of the query.

    Args:
        series: methods of one benchmark.
    """
    bins, outside = [s.heights() for s in series], [s.outside() for s in series]
    lows = [b.low for of_one in bins for b in of_one] + [p.height for o in outside for p in o]
    highs = [b.high for of_one in bins for b in of_one] + [p.height for o in outside for p in o]
    if not lows:
        return element("p", "The heights of the queries are not known.")
    tops = [b.interval[1] for of_one in bins for b in of_one]
    tops += [p.interval[1] for of_one in outside for p in of_one]
    plot = Plot(
        x=_height_axis(min(lows), max(highs)),
        y=linear(0, max(tops), "Rank-1, %", scale=100),
        height=280,
    )
    drawn: list[Markup] = []
    rows: list[list[str]] = []
    for at, s in enumerate(series):
        step = min(5.0, _SPREAD / max(1, len(series) - 1))
        shift = step * (at - (len(series) - 1) / 2)
        centres = [(b.low * b.high) ** 0.5 for b in bins[at]]
        shares = [b.rank1 for b in bins[at]]
        points = list(zip(centres, shares, strict=True))
        drawn.append(plot.line(points, series=s.number, shift=shift))
        marks = [
            (c, b.rank1, b.interval, pixels(b.low, b.high), b.count, "")
            for c, b in zip(centres, bins[at], strict=True)
        ]
        marks += [
            (p.height, p.rank1, p.interval, f"about {p.height:.0f}", p.count, _outside(p.name))
            for p in outside[at]
        ]
        for x, rank1, (low, high), words, count, what in sorted(marks):
            text = f"{percent(rank1)} ({percent(low)} to {percent(high)})"
            said = f"{s.label}, {words} px{', ' + what if what else ''}: {text} %, n = {count}"
            drawn.append(plot.whisker(x, low, high, series=s.number, shift=shift))
            drawn.append(
                plot.dot(x, rank1, series=s.number, title=said, is_open=bool(what), shift=shift)
            )
            rows.append([s.label, words, what or "as the protocol", str(count), text])
    label = "Rank-1 against the height of the query. " + "; ".join(
        f"{row[0]}, {row[1]} px: {row[4]} %" for row in rows
    )
    head = ["method", "height in px", "queries", "count", "Rank-1 (95 % interval)"]
    return join(
        [
            legend(series),
            element("div", panel("Rank-1 by pixel height", plot.picture(*drawn, label=label)),
                    class_="panels wide"),
            numbers(table(head, rows, caption="Rank-1 by native height, in percent", num_text=3)),
        ]
    )  # fmt: skip


def _outside(name: str) -> str:
    return "undegraded" if name == "hr" else f"all at {name}"


def _height_axis(low: float, high: float) -> Axis:
    low, high = low / 1.15, max(high, low * 1.2) * 1.15
    steps = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    marks = tuple((float(s), str(s)) for s in steps if low <= s <= high)
    return Axis(low=low, high=high, marks=marks, title="height of the query, px", is_log=True)
