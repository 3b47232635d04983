"""What the quality weights do: per kind of image, per height, and in pairs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resolute.report.axes import Axis, linear
from resolute.report.exhibit import Qualities
from resolute.report.figures import numbers, panel, pixels
from resolute.report.html import Markup, element, join, table
from resolute.report.material import height_ranges
from resolute.report.pairs import SHARE_BINS, counted, reads_weights
from resolute.report.separation import pair_key
from resolute.report.series import Series
from resolute.report.svg import Plot

# A weight that varies less than this over all images of a kind is one number.
_SAME = 1e-6
_BINS = 40


def weights_section(series: Sequence[Series]) -> Markup:
    """Draw the four weights against pixel height and their share in pairs, method by method.

    Args:
        series: methods of one benchmark.
    """
    plain = [s.label for s in series if s.first.qualities is None]
    parts = [_of_method(s) for s in series if s.first.qualities is not None]
    if plain:
        words = f"One space, so there is nothing to weigh: {', '.join(plain)}."
        parts.append(element("p", words, class_="said"))
    return join(parts)


def _of_method(series: Series) -> Markup:
    given = [e.qualities for e in series.exhibits if e.qualities is not None]
    qualities = Qualities(
        is_lr=np.concatenate([q.is_lr for q in given]),
        heights=np.concatenate([q.heights for q in given]),
        quality=np.concatenate([q.quality for q in given]),
    )
    kinds = _kinds(qualities)
    title = element("h4", series.label)
    if all(np.ptp(weights) < _SAME for _, _, weights in kinds):
        values = "; ".join(f"{name} {weights[0]:.3f}" for name, _, weights in kinds)
        words = f"Every image has the same weights: {values}. {_fusion_words(series)}"
        return join([title, element("p", words)])
    lowest = min(float(weights.min()) for _, _, weights in kinds)
    highest = max(float(weights.max()) for _, _, weights in kinds)
    axis = linear(lowest, highest, "weight")
    drawn = [quality_panel(*kind, axis=axis) for kind in kinds]
    rows = [row for _, rows in drawn for row in rows]
    head = ["weight", "height in px", "images", "mean", "deviation"]
    return join(
        [
            title,
            element("p", _fusion_words(series), class_="said"),
            element("div", [picture for picture, _ in drawn], class_="panels pairs"),
            element("h5", "Their share in pairs of images"),
            pair_key(),
            element("div", share_panel(series), class_="panels"),
            numbers(table(head, rows, caption=f"Weights of {series.label}", num_text=2)),
        ]
    )


def _kinds(
    qualities: Qualities,
) -> list[tuple[str, NDArray[np.int64], NDArray[np.float32]]]:
    """List the weights with their heights: a prime marks what was made from the image."""
    names = (
        (False, 0, "HR image: w_HR"),
        (False, 1, "HR image: w′_LR"),
        (True, 0, "LR image: w′_HR"),
        (True, 1, "LR image: w_LR"),
    )
    kinds = []
    for is_lr, space, name in names:
        mask = qualities.is_lr == is_lr
        if mask.any():
            kinds.append((name, qualities.heights[mask], qualities.quality[mask, space]))
    return kinds


def _subscripted(title: str) -> Markup:
    words, _, space = title.partition("_")
    return join([words, element("sub", space)])


def _fusion_words(series: Series) -> str:
    fusion = series.first.fusion
    if reads_weights(fusion):
        return f"Matched with the fusion {fusion}, which uses these weights."
    return f"Matched with the fusion {fusion}, in which these weights play no part."


def quality_panel(
    title: str, heights: NDArray[np.int64], weights: NDArray[np.floating], *, axis: Axis
) -> tuple[Markup, list[list[str]]]:
    """Draw one weight of one kind of image: a histogram for each range of heights.

    Args:
        title: which weight of which images.
        heights: native heights in pixels, shape (N,).
        weights: shape (N,).
        axis: of the weights, the same for all four so that they can be compared.

    Returns:
        The picture, and per range a table row: weight, height, images, mean, deviation.
    """
    ranges = height_ranges(heights) or [(0, 0)]
    edges = np.linspace(axis.low, axis.high, _BINS + 1).tolist()
    marks = tuple((at + 0.35, pixels(low, high)) for at, (low, high) in enumerate(ranges))
    plot = Plot(
        x=axis,
        y=Axis(low=0, high=len(ranges), marks=marks, title="height, px"),
        height=68 + 34 * len(ranges),
        left=64,
        is_ruled=False,
    )
    drawn: list[Markup] = []
    rows: list[list[str]] = []
    for at, (low, high) in enumerate(ranges):
        members = weights[(heights >= low) & (heights <= high)]
        counts = counted((members - axis.low) / (axis.high - axis.low), _BINS)
        tops = at + 0.85 * counts / max(1, counts.max())
        middle = float(np.median(members))
        drawn.append(plot.steps(edges, tops.tolist(), kind="positive", base=at))
        drawn.append(plot.whisker(middle, at, at + 0.95, series=7))
        spread = float(members.std(ddof=1)) if len(members) > 1 else 0.0
        rows.append(
            [title, pixels(low, high), str(len(members)), f"{members.mean():.3f}", f"{spread:.3f}"]
        )
    label = f"{title}: " + "; ".join(f"{r[1]} px mean {r[3]} of {r[2]} images" for r in rows)
    return panel(_subscripted(title), plot.picture(*drawn, label=label)), rows


def share_panel(series: Series) -> Markup:
    """Draw how much the HR space counts in the distances of all pairs.

    Args:
        series: one method with two spaces.
    """
    edges = np.linspace(0, 1, SHARE_BINS + 1)
    totals = np.sum([e.found.shares for e in series.exhibits if e.found.shares is not None], axis=0)
    shares = [kind / max(1, kind.sum()) for kind in totals]
    plot = Plot(
        x=linear(0, 1, "a / (a + b): share of the HR space"),
        y=linear(0, float(max(s.max() for s in shares)), "share of pairs, %", scale=100),
    )
    drawn = [
        plot.steps(edges.tolist(), share.tolist(), kind=kind)
        for share, kind in zip(shares, ("positive", "negative"), strict=True)
    ]
    middle = [float((kind * (edges[:-1] + edges[1:]) / 2).sum()) for kind in shares]
    label = f"{series.label}: mean share of the HR space {middle[0]:.2f} in positive and "
    label += f"{middle[1]:.2f} in negative pairs"
    return panel("a / (a + b)", plot.picture(*drawn, label=label))
