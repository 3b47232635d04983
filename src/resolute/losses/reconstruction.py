"""How far transformed features are from their target.

Letters: N images, C channels, H, W of a feature map.
"""

from typing import Literal

from torch import Tensor

from resolute.core.shapes import check_shape


def feature_l1(
    features_hr: Tensor,
    transformed: Tensor,
    *,
    reduction: Literal["mean", "channel_sum"] = "mean",
) -> Tensor:
    """Compute the L1 distance between HR features and transformed LR features [FTWA eq. 2].

    The target takes no gradient, or both sides could meet at zero [assumed].

    Args:
        features_hr: F_HR, the target, shape (N, C, H, W).
        transformed: T(F'_LR), shape (N, C, H, W).
        reduction: ``mean`` over all elements; ``channel_sum`` sums over channels and averages
            over images and places, C times as large [assumed].

    Returns:
        A scalar.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("N C H W", features_hr=features_hr, transformed=transformed)
    difference = (features_hr.detach() - transformed).abs().float()
    if reduction == "channel_sum":
        return difference.sum(dim=1).mean()
    return difference.mean()
