"""How training went."""

from collections.abc import Sequence

import numpy as np

from resolute.report.axes import linear
from resolute.report.curves import Scalar
from resolute.report.figures import legend, panel
from resolute.report.html import Markup, element, join
from resolute.report.series import Series
from resolute.report.svg import Plot


def training_section(series: Sequence[Series]) -> Markup:
    """Draw what runs logged: the losses, and folded away everything else.

    Args:
        series: methods of one benchmark.
    """
    exhibits = [exhibit for s in series for exhibit in s.exhibits]
    names = list(dict.fromkeys(name for exhibit in exhibits for name in exhibit.curves))
    losses = [name for name in names if "losses/" in name]
    others = [name for name in names if "losses/" not in name]
    silent = [exhibit.name for exhibit in exhibits if not exhibit.curves]
    parts: list[Markup] = []
    if silent:
        words = f"Nothing was logged by {', '.join(silent)}: not trained here, or the file is gone."
        parts.append(element("p", words, class_="said"))
    if names:
        parts += [legend(series), training_panels(series, losses)]
    if others:
        parts.append(
            element(
                "details",
                element("summary", "Learning rate, speed and gradient norms"),
                training_panels(series, others),
            )
        )
    return join(parts)


def training_panels(series: Sequence[Series], names: Sequence[str]) -> Markup:
    """Draw training curves, one picture per logged number and one line per run.

    Args:
        series: methods of one benchmark.
        names: which numbers, as the runs call them.
    """
    panels = []
    for name in names:
        lines = [
            (s, exhibit.name, exhibit.curves[name])
            for s in series
            for exhibit in s.exhibits
            if name in exhibit.curves
        ]
        panels.append(panel(name.replace("/", ": ").replace("_", " "), _training(name, lines)))
    return element("div", panels, class_="panels")


def _training(name: str, lines: Sequence[tuple[Series, str, Scalar]]) -> Markup:
    values = np.concatenate([scalar.values for _, _, scalar in lines])
    last = max(float(scalar.steps[-1]) for _, _, scalar in lines)
    plot = Plot(
        x=linear(0, last, "step"),
        y=linear(float(values.min()), float(values.max()), name.rsplit("/", 1)[-1]),
        left=58,
    )
    drawn = []
    for s, run, scalar in lines:
        points = list(zip(scalar.steps.tolist(), scalar.values.tolist(), strict=True))
        if len(points) == 1:
            drawn.append(plot.dot(*points[0], series=s.number, title=f"{run}: {points[0][1]:.4g}"))
        drawn.append(plot.line(points, series=s.number))
    said = "; ".join(
        f"{run} from {scalar.values[0]:.4g} to {scalar.values[-1]:.4g}" for _, run, scalar in lines
    )
    return plot.picture(*drawn, label=f"{name}: {said}")
