"""Restoration that counts most where a person stands: in the middle of the picture.

Letters: N images, H, W input size.
"""

import torch
from torch import Tensor

from resolute.core.shapes import check_shape


def foreground_mask(height: int, width: int, *, rows_twice: bool = False) -> Tensor:
    """Compute the fixed weight of every place, 1 in the middle, falling outwards [Mao 2019].

    ``2^(-|i - (H - 1) / 2| / H) * 2^(-|j - (W - 1) / 2| / W)`` of row i and column j, from 0.

    Args:
        height: H.
        width: W.
        rows_twice: put the row in the place of j too, as the published code does.

    Returns:
        Weights in (0, 1], shape (H, W), float32.
    """
    rows, columns = torch.arange(height), torch.arange(width)
    down = 2 ** (-(rows - (height - 1) / 2).abs() / height)
    across = 2 ** (-((rows if rows_twice else columns) - (width - 1) / 2).abs() / width)
    if rows_twice:
        return (down * across)[:, None].expand(height, width)
    return down[:, None] * across


def foreground_loss(restored: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared error of two images that were both multiplied by a mask.

    The mask multiplies before the square, so that its weight counts squared [Mao 2019].

    Args:
        restored: what a network made, shape (N, 3, H, W).
        target: what it should be, shape (N, 3, H, W).
        mask: of :func:`foreground_mask`, shape (H, W).

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    bound = check_shape("N 3 H W", restored=restored, target=target)
    check_shape(f"{bound['H']} {bound['W']}", mask=mask)
    return (mask * (restored.float() - target.float())).square().mean()


def attention_loss(attentions: Tensor, resolution: Tensor) -> Tensor:
    """Compute how far the attentions of two streams are from the resolution [Mao 2019].

    Those of the HR stream should equal it, those of the LR stream 1 less it. Mean over images,
    sum over levels and streams [assumed].

    Args:
        attentions: in 0..1, shape (N, L, 2) with L levels; the HR stream first.
        resolution: size of each image over that of HR images, 0..1, shape (N,).

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    bound = check_shape("N L 2", attentions=attentions)
    check_shape(str(bound["N"]), resolution=resolution)
    wanted = torch.stack([resolution, 1 - resolution], dim=1)[:, None]  # (N, 1, 2)
    return (attentions.float() - wanted).square().sum(dim=(1, 2)).mean()
