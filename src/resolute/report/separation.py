"""How far apart pairs of one person and pairs of two people lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resolute.report.axes import linear
from resolute.report.figures import panel, percent
from resolute.report.html import Markup, element, join, table
from resolute.report.pairs import DistanceCounts, rebinned
from resolute.report.series import Series
from resolute.report.svg import Plot

_BINS = 48


def distance_section(series: Sequence[Series], rates: Sequence[float]) -> Markup:
    """Draw the distances of positive and negative pairs, one picture per method.

    Args:
        series: methods of one benchmark.
        rates: false-match rates to draw the threshold at, 0..1.
    """
    drawn = [distance_panel(s, rates) for s in series]
    head = ["method", "false matches allowed", "threshold", "false matches", "matches found"]
    return join(
        [
            pair_key(),
            element("div", [picture for picture, _ in drawn], class_="panels"),
            table(
                head,
                [row for _, rows in drawn for row in rows],
                caption="Thresholds: pairs nearer than this are taken as one person",
            ),
        ]
    )


def distance_panel(series: Series, rates: Sequence[float]) -> tuple[Markup, list[list[str]]]:
    """Draw the distances of positive and negative pairs with thresholds.

    Args:
        series: one method.
        rates: false-match rates to draw the threshold at.

    Returns:
        The picture, and per rate a table row: method, rate wanted, threshold, rates reached.
    """
    counts = series.distances()
    edges = _display_edges(counts)
    shares = [
        rebinned(c, counts.width, edges) / max(1, c.sum())
        for c in (counts.positives, counts.negatives)
    ]
    plot = Plot(
        x=linear(float(edges[0]), float(edges[-1]), "distance"),
        y=linear(0, 1.2 * float(max(s.max() for s in shares)), "share of pairs, %", scale=100),
    )
    drawn = [
        plot.steps(edges.tolist(), share.tolist(), kind=kind)
        for share, kind in zip(shares, ("positive", "negative"), strict=True)
    ]
    labels: list[Markup] = []
    rows: list[list[str]] = []
    for row, rate in enumerate(sorted(rates)):
        if rate * counts.negatives.sum() < 1:
            rows.append([series.label, f"{100 * rate:g} %", "too few pairs", "–", "–"])
            continue
        threshold = counts.threshold(rate)
        true, false = counts.share_below(threshold)
        said = f"d < {threshold:.4f}: {percent(true)} % of the matches, {percent(false, 3)} % false"
        drawn.append(plot.rule(threshold, title=said))
        labels.append(plot.rule_label(threshold, f"{100 * rate:g} %", row=row))
        rows.append(
            [
                series.label,
                f"{100 * rate:g} %",
                f"{threshold:.4f}",
                f"{percent(false, 3)} %",
                f"{percent(true)} %",
            ]
        )
    number = [int(c.sum()) for c in (counts.positives, counts.negatives)]
    label = (
        f"{series.label}: distances of {number[0]} positive and {number[1]} negative pairs; "
        + "; ".join(f"threshold {r[2]} at {r[1]} false matches finds {r[4]}" for r in rows)
    )
    return panel(series.label, plot.picture(*drawn, *labels, label=label)), rows


def _display_edges(counts: DistanceCounts) -> NDArray[np.float64]:
    total = np.cumsum(counts.positives / max(1, counts.positives.sum()))
    total += np.cumsum(counts.negatives / max(1, counts.negatives.sum()))
    first, last = np.searchsorted(total, [0.0005, total[-1] - 0.0005])
    step = max(1, -(-int(last + 1 - first) // _BINS))
    edges: NDArray[np.float64] = (first + step * np.arange(_BINS + 1)) * counts.width
    return edges


def pair_key() -> Markup:
    """Say which histogram is which."""
    kinds = (("positive", "same person (filled)"), ("negative", "different people (outline)"))
    box = "0,11 0,3 10,3 10,0 20,0 20,6 28,6 28,11"
    return element(
        "ul",
        [
            element(
                "li",
                element(
                    "svg",
                    element("polygon", points=box, class_=f"histogram {kind}"),
                    viewBox="0 0 28 12",
                    class_="swatch",
                    aria_hidden="true",
                ),
                element("span", words),
            )
            for kind, words in kinds
        ],
        class_="legend",
    )
