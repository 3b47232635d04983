"""The stage a figure is drawn on: a turned body, projected, and the primitives to draw with.

Body coordinates: x to the person's left, y down from the top of the head, z forward, in body
heights. The camera looks slightly down, so what is nearer appears lower.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

from resolute.data.drawing.cloth import RGB, Point, lay_cloth, scaled
from resolute.data.drawing.identity import Cloth

_TILT = 0.1  # how much lower a point appears per body height that it is nearer [ours]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How a person stands before the camera.

    Attributes:
        yaw: turn in degrees: 0 = facing the camera, 90 = walking to the image's right, 180 = away.
        phase: point of the walking cycle, 0..1.
        stride: swing of the legs in degrees.
        swing: swing of the arms in degrees.
        lean: sideways shift of the head against the feet, in body heights.
    """

    yaw: float
    phase: float
    stride: float
    swing: float
    lean: float


class Joint(NamedTuple):
    """A point of the body on the canvas: column, row, and how near it is to the camera."""

    x: float
    y: float
    near: float


class Section(NamedTuple):
    """A horizontal ellipse through the body: height, half width, half depth, centre forward."""

    y: float
    across: float
    deep: float
    z: float = 0.0


class Stage:
    """A canvas with a body's place, size and turn on it.

    Attributes:
        canvas: RGBA image that is drawn on.
        pen: Pillow's drawing handle on it.
        unit: body height in canvas pixels.
        girth: width of the body, 1 = average.
        sin: sine of the turn: share of the side that is seen, signed.
        cos: cosine of the turn: 1 facing, -1 away.
    """

    def __init__(
        self, canvas: Image.Image, pose: Pose, *, top: Point, unit: float, girth: float
    ) -> None:
        self.canvas = canvas
        self.pen = ImageDraw.Draw(canvas)
        self.unit, self.girth = unit, girth
        self.sin, self.cos = math.sin(math.radians(pose.yaw)), math.cos(math.radians(pose.yaw))
        self._top, self._lean = top, pose.lean

    def joint(self, x: float, y: float, z: float) -> Joint:
        """Project a point of the body.

        Args:
            x: to the person's left.
            y: down from the top of the head.
            z: forward.

        Returns:
            Where it lies on the canvas.
        """
        near = z * self.cos - x * self.sin
        across = x * self.cos + z * self.sin + self._lean * (1 - y)
        return Joint(
            self._top[0] + self.unit * across, self._top[1] + self.unit * (y + _TILT * near), near
        )

    def half_width(self, across: float, deep: float) -> float:
        """Return half of what a section of the body shows, in canvas pixels.

        Args:
            across: its half width from the front.
            deep: its half width from the side.
        """
        return self.girth * self.unit * math.hypot(across * self.cos, deep * self.sin)

    def limb(
        self, start: Joint, end: Joint, widths: Point, fill: RGB | Cloth, light: float = 1.0
    ) -> None:
        """Draw a tapered limb with round ends.

        Args:
            start: its upper end.
            end: its lower end.
            widths: width at both ends in body heights.
            fill: a colour, or a cloth that hangs from the upper end.
            light: factor on the colours.
        """
        upper, lower = (w * self.unit * self.girth / 2 for w in widths)
        dx, dy = end.x - start.x, end.y - start.y
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        tube = [
            (start.x + nx * upper, start.y + ny * upper),
            (end.x + nx * lower, end.y + ny * lower),
            (end.x - nx * lower, end.y - ny * lower),
            (start.x - nx * upper, start.y - ny * upper),
        ]
        self.cover([tube, _octagon(start, upper), _octagon(end, lower)], fill, start, light)

    def trunk(
        self, sections: Sequence[Section], fill: RGB | Cloth, light: float = 1.0
    ) -> list[Point]:
        """Draw a piece of the body through horizontal sections.

        Args:
            sections: from top to bottom.
            fill: a colour, or a cloth that hangs from the first section.
            light: factor on the colours.

        Returns:
            The outline in canvas pixels.
        """
        left: list[Point] = []
        right: list[Point] = []
        for section in sections:
            centre = self.joint(0.0, section.y, section.z)
            half = self.half_width(section.across, section.deep)
            left.append((centre.x - half, centre.y))
            right.append((centre.x + half, centre.y))
        outline = left + right[::-1]
        self.cover([outline], fill, self.joint(0.0, sections[0].y, 0.0), light)
        return outline

    def cover(
        self, pieces: Sequence[Sequence[Point]], fill: RGB | Cloth, origin: Joint, light: float
    ) -> None:
        """Fill polygons with a colour or a cloth.

        Args:
            pieces: polygons in canvas pixels.
            fill: a colour or a cloth.
            origin: where a pattern starts.
            light: factor on the colours.
        """
        if isinstance(fill, Cloth):
            start = (origin.x, origin.y)
            lay_cloth(self.canvas, fill, pieces, origin=start, unit=self.unit, light=light)
            return
        for piece in pieces:
            self.pen.polygon(piece, fill=scaled(fill, light))

    def line(self, points: Sequence[Joint], width: float, fill: RGB) -> None:
        """Draw a strap, seam or stripe.

        Args:
            points: at least two points.
            width: in body heights.
            fill: its colour.
        """
        stroke = max(1, round(width * self.unit))
        self.pen.line([(p.x, p.y) for p in points], fill=fill, width=stroke)

    def oval(self, centre: Joint, half_width: float, half_height: float, fill: RGB) -> None:
        """Draw an ellipse.

        Args:
            centre: its middle.
            half_width: in body heights.
            half_height: in body heights.
            fill: its colour.
        """
        w, h = half_width * self.unit, half_height * self.unit
        self.pen.ellipse((centre.x - w, centre.y - h, centre.x + w, centre.y + h), fill=fill)

    def box(self, centre: Joint, width: float, height: float, fill: RGB) -> None:
        """Draw an upright rectangle.

        Args:
            centre: its middle.
            width: in body heights.
            height: in body heights.
            fill: its colour.
        """
        w, h = width * self.unit / 2, height * self.unit / 2
        self.pen.rectangle((centre.x - w, centre.y - h, centre.x + w, centre.y + h), fill=fill)


def between(start: Joint, end: Joint, share: float) -> Joint:
    """Return the point at a share of the way from one joint to another.

    Args:
        start: where share is 0.
        end: where share is 1.
        share: 0..1.
    """
    return Joint(*(a + (b - a) * share for a, b in zip(start, end, strict=True)))


def _octagon(centre: Joint, radius: float) -> list[Point]:
    corner = 0.41 * radius
    return [
        (centre.x + x, centre.y + y)
        for x, y in (
            (radius, corner), (corner, radius), (-corner, radius), (-radius, corner),
            (-radius, -corner), (-corner, -radius), (corner, -radius), (radius, -corner),
        )
    ]  # fmt: skip
