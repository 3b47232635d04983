"""What all of the report's charts share: titles, legends, and the same in numbers."""

from collections.abc import Sequence

from resolute.report.html import Markup, element
from resolute.report.series import Series
from resolute.report.svg import swatch


def percent(share: float, digits: int = 1) -> str:
    """Word a share.

    Args:
        share: 0..1.
        digits: behind the point.
    """
    return f"{100 * share:.{digits}f}"


def legend(series: Sequence[Series]) -> Markup:
    """Say which line is which method; nothing where there is only one.

    Args:
        series: all series of a chart.
    """
    if len(series) < 2:
        return Markup("")
    items = [element("li", swatch(s.number), element("span", s.label)) for s in series]
    return element("ul", items, class_="legend")


def panel(title: str | Markup, picture: Markup) -> Markup:
    """Put a title over a picture.

    Args:
        title: in words, or markup.
        picture: an SVG.
    """
    return element("figure", element("figcaption", title), picture, class_="panel")


def numbers(content: Markup) -> Markup:
    """Fold away the table that says the same as a chart.

    Args:
        content: tables.
    """
    return element("details", element("summary", "The numbers"), content)


def pixels(low: int, high: int) -> str:
    """Word a range of heights.

    Args:
        low: smallest height.
        high: largest height.
    """
    return str(low) if low == high else f"{low}–{high}"
