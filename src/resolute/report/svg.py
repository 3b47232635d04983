"""Charts as SVG: a plot area with two axes, and the few marks a report needs.

Sizes are in units of a picture 360 wide, which a phone shows at about one pixel each. Colours are
classes of the page's style sheet, so that a chart follows light and dark mode. A series has one of
eight colours (``s0`` to ``s7``) and one of four dash patterns (``d0`` to ``d3``): no two of the
first 32 share both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from resolute.report.axes import Axis
from resolute.report.html import Markup, element, join

WIDTH = 360
_COLOURS, _DASHES = 8, 4
_TOP, _RIGHT = 26, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot area between two axes.

    Attributes:
        x: horizontal axis.
        y: vertical axis.
        height: of the whole picture.
        left: room for the vertical axis.
        bottom: room for the horizontal axis.
        is_ruled: whether the marks of the vertical axis run across as lines.
    """

    x: Axis
    y: Axis
    height: float = 232
    left: float = 46
    bottom: float = 42
    is_ruled: bool = True

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place a point.

        Args:
            x: value on the horizontal axis.
            y: value on the vertical axis.

        Returns:
            Position from the top left.
        """
        across = WIDTH - _RIGHT - self.left
        upwards = self.height - self.bottom - _TOP
        return (
            self.left + self.x.share(x) * across,
            self.height - self.bottom - self.y.share(y) * upwards,
        )

    def picture(self, *marks: Markup, label: str) -> Markup:
        """Draw axes and marks as one picture.

        Args:
            *marks: drawn over the grid, first to last.
            label: says in words what is to be seen.
        """
        return element(
            "svg",
            self._grid(),
            marks,
            self._titles(),
            viewBox=f"0 0 {WIDTH} {self.height:g}",
            role="img",
            tabindex="0",
            aria_label=label,
        )

    def _grid(self) -> Markup:
        lines: list[Markup] = []
        left, bottom = self.at(self.x.low, self.y.low)
        right = WIDTH - _RIGHT
        for value, text in self.y.marks:
            y = self.at(self.x.low, value)[1]
            if self.is_ruled:
                lines.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
            lines.append(
                element("text", text, x=left - 6, y=y + 4, text_anchor="end", class_="tick")
            )
        for value, text in self.x.marks:
            x = self.at(value, self.y.low)[0]
            lines.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
            lines.append(
                element("text", text, x=x, y=bottom + 17, text_anchor="middle", class_="tick")
            )
        lines.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        return join(lines)

    def _titles(self) -> Markup:
        middle, below = (self.left + WIDTH - _RIGHT) / 2, self.height - 6
        attributes = {"text_anchor": "middle", "class_": "title"}
        return join(
            [
                element("text", self.x.title, x=middle, y=below, **attributes),
                element("text", self.y.title, x=2, y=12, class_="title"),
            ]
        )

    def line(
        self, points: Sequence[tuple[float, float]], *, series: int, shift: float = 0
    ) -> Markup:
        """Join points.

        Args:
            points: (x, y) values, rising in x.
            series: number of the series.
            shift: moved to the right by so much.
        """
        placed = [self.at(x, y) for x, y in points]
        path = " ".join(_pair(x + shift, y) for x, y in placed)
        return element("polyline", points=path, class_=f"line {look(series)}")

    def band(self, points: Sequence[tuple[float, float, float]], *, series: int) -> Markup:
        """Shade between two curves.

        Args:
            points: (x, low, high) values, rising in x.
            series: number of the series.
        """
        upper = [_pair(*self.at(x, high)) for x, _, high in points]
        lower = [_pair(*self.at(x, low)) for x, low, _ in reversed(points)]
        return element("polygon", points=" ".join(upper + lower), class_=f"band {look(series)}")

    def dot(
        self,
        x: float,
        y: float,
        *,
        series: int,
        title: str,
        is_open: bool = False,
        shift: float = 0,
    ) -> Markup:
        """Mark a point, with words that a pointer brings up.

        Args:
            x: value.
            y: value.
            series: number of the series.
            title: what is there.
            is_open: an open circle, for what stands apart.
            shift: moved to the right by so much.
        """
        cx, cy = self.at(x, y)
        kind = "dot open" if is_open else "dot"
        return element(
            "circle",
            element("title", title),
            cx=cx + shift,
            cy=cy,
            r=3.5,
            class_=f"{kind} {look(series)}",
        )

    def whisker(
        self, x: float, low: float, high: float, *, series: int, shift: float = 0
    ) -> Markup:
        """Draw an interval upwards.

        Args:
            x: value.
            low: lower end.
            high: upper end.
            series: number of the series.
            shift: moved to the right by so much.
        """
        (at, bottom), (_, top) = self.at(x, low), self.at(x, high)
        return element(
            "line",
            x1=at + shift,
            x2=at + shift,
            y1=bottom,
            y2=top,
            class_=f"whisker {look(series)}",
        )

    def steps(
        self, edges: Sequence[float], values: Sequence[float], *, kind: str, base: float = 0
    ) -> Markup:
        """Draw a histogram as one outline.

        Args:
            edges: of B bins, B + 1 rising values.
            values: where the bins end, B values.
            kind: class: ``positive`` is filled, ``negative`` an outline.
            base: value the bins stand on.
        """
        points = [_pair(*self.at(edges[0], base))]
        for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
            points += [_pair(*self.at(left, value)), _pair(*self.at(right, value))]
        points.append(_pair(*self.at(edges[-1], base)))
        return element("polygon", points=" ".join(points), class_=f"histogram {kind}")

    def rule(self, x: float, *, title: str) -> Markup:
        """Draw an upright line from bottom to top.

        Args:
            x: value.
            title: what a pointer brings up.
        """
        (at, top), (_, bottom) = self.at(x, self.y.high), self.at(x, self.y.low)
        return element(
            "line", element("title", title), x1=at, x2=at, y1=top, y2=bottom, class_="rule"
        )

    def rule_label(self, x: float, text: str, *, row: int) -> Markup:
        """Write beside the top of an upright line.

        Args:
            x: value.
            text: label.
            row: lines down from the top, so that labels near each other do not meet.
        """
        at, top = self.at(x, self.y.high)
        is_left = at > WIDTH * 0.75
        return element(
            "text",
            text,
            x=at - 4 if is_left else at + 4,
            y=top + 10 + 14 * row,
            text_anchor="end" if is_left else "start",
            class_="note",
        )


def look(series: int) -> str:
    """Name the classes that tell a series by colour and by dash pattern.

    Args:
        series: its number.

    Examples:
        >>> look(1), look(8)
        ('s1 d1', 's0 d1')
    """
    return f"s{series % _COLOURS} d{(series + series // _COLOURS) % _DASHES}"


def swatch(series: int) -> Markup:
    """Draw the line of a series for the legend.

    Args:
        series: its number.
    """
    return element(
        "svg",
        element("line", x1=1, x2=27, y1=6, y2=6, class_=f"line {look(series)}"),
        element("circle", cx=14, cy=6, r=3.5, class_=f"dot {look(series)}"),
        viewBox="0 0 28 12",
        class_="swatch",
        aria_hidden="true",
    )


def _pair(x: float, y: float) -> str:
    return f"{x:.2f},{y:.2f}"
