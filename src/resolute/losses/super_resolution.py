"""How far sharpened images are from the pictures they were made of.

Letters: N images, C channels, H, W size.
"""

from typing import Literal

from torch import Tensor

from resolute.core.shapes import check_shape


def image_euclidean(
    restored: Tensor, target: Tensor, *, reduction: Literal["image_sum", "mean"] = "image_sum"
) -> Tensor:
    """Compute the squared Euclidean distance between images [SING].

    Args:
        restored: grey levels 0..255, shape (N, C, H, W).
        target: what they should be, grey levels 0..255, shape (N, C, H, W).
        reduction: ``image_sum`` is half the sum over an image, averaged over images, as Caffe's
            Euclidean loss [SING]; ``mean`` is the mean square in units of 255 levels [ours].

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("N C H W", restored=restored, target=target)
    squares = (restored.float() - target.float()).square()
    if reduction == "image_sum":
        return squares.sum() / (2 * len(squares))
    return squares.mean() / 255**2


def image_l1(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute difference between images.

    Args:
        restored: shape (N, C, H, W), in any unit.
        target: what they should be, same shape and unit.

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("N C H W", restored=restored, target=target)
    return (restored.float() - target.float()).abs().mean()
