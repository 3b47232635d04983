"""Check array shapes at public borders."""

from collections.abc import Sequence
from typing import Protocol

from resolute.core.errors import ShapeError


class HasShape(Protocol):
    """Anything with a ``shape``: numpy arrays and torch tensors alike."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes per axis."""


def check_shape(pattern: str, **arrays: HasShape) -> dict[str, int]:
    """Check that every array follows one pattern of dimension letters.

    Letters bind across the arrays of one call: ``N`` must be the same size everywhere.
    A number in the pattern must be met exactly, ``*`` takes any size.

    Args:
        pattern: axis names divided by spaces, for example ``"N C H W"``.
        **arrays: the arrays by the name to use in the message.

    Returns:
        The size each letter was bound to.

    Raises:
        ShapeError: if an array has another number of axes, or a size that differs.

    Examples:
        >>> import numpy as np
        >>> check_shape("N 3", mean=np.zeros((2, 3)))
        {'N': 2}
    """
    axes = pattern.split()
    bound: dict[str, int] = {}
    for name, array in arrays.items():
        shape = tuple(array.shape)
        if len(shape) != len(axes):
            raise ShapeError(f"{name}: expected shape ({pattern}), got {shape}")
        for axis, size in zip(axes, shape, strict=True):
            wanted = int(axis) if axis.isdigit() else bound.setdefault(axis, size)
            if axis != "*" and size != wanted:
                raise ShapeError(f"{name}: expected {axis} = {wanted}, got shape {shape}")
    bound.pop("*", None)
    return bound
