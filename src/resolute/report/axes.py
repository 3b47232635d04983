"""Axes: where values stand, and which round numbers are written beside them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A range of values and where its marks stand.

    Attributes:
        low: value at the left or bottom.
        high: value at the right or top; more than ``low``.
        marks: values with a label, and the labels.
        title: what is measured, with its unit.
        is_log: whether equal steps are equal ratios.
    """

    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    title: str
    is_log: bool = False

    def share(self, value: float) -> float:
        """Place a value between the ends of the axis.

        Args:
            value: to place; beyond the ends it stands at the nearer one.

        Returns:
            0 at ``low``, 1 at ``high``.
        """
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, title: str, *, suffix: str = "", scale: float = 1.0) -> Axis:
    """Make an axis whose marks are round numbers and enclose the values.

    Args:
        low: smallest value.
        high: largest value.
        title: what is measured.
        suffix: after each label, for example a percent sign.
        scale: what values are multiplied by in the labels.
    """
    step = nice_step((high - low) * scale or abs(high * scale) or 1.0)
    first, last = math.floor(low * scale / step + 1e-9), math.ceil(high * scale / step - 1e-9)
    last = max(last, first + 1)
    digits = max(0, -math.floor(math.log10(step)))
    marks = [(n * step / scale, f"{n * step:.{digits}f}{suffix}") for n in range(first, last + 1)]
    return Axis(low=first * step / scale, high=last * step / scale, marks=tuple(marks), title=title)


def nice_step(span: float, *, most: int = 5) -> float:
    """Choose the step between marks: 1, 2, 2.5 or 5 times a power of ten.

    Args:
        span: what the axis covers, > 0.
        most: steps in it.

    Examples:
        >>> [nice_step(span) for span in (1, 7, 40)]
        [0.2, 2.0, 10.0]
    """
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= span / most * (1 - 1e-9))
