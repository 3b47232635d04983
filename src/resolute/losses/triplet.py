"""Triplet loss within one space and its self-weighted form over two spaces.

Letters: N vectors, D embedding, P pairs of a HR and a LR image of one identity.
"""

from typing import Literal

import torch
from torch import Tensor

from resolute.core.shapes import check_shape


def euclidean_distances(vectors: Tensor) -> Tensor:
    """Compute all pairwise Euclidean distances, D_ij of [FTWA eq. 6].

    Args:
        vectors: shape (N, D).

    Returns:
        Distances in float32, shape (N, N). A distance of zero has gradient zero.
    """
    vectors = vectors.float()
    squared = vectors.square().sum(dim=1)
    with torch.autocast(vectors.device.type, enabled=False):  # bf16 would drown near distances
        product = vectors @ vectors.T  # (N, N)
    return (squared[:, None] + squared[None, :] - 2 * product).clamp(min=1e-12).sqrt()


def triplet_terms(
    vectors: Tensor,
    labels: Tensor,
    sources: Tensor,
    *,
    margin: float,
    mining: Literal["hard", "all"] = "hard",
) -> Tensor:
    """Compute the triplet loss of each anchor over a union of vectors [FTWA eq. 6].

    Two vectors of one source picture are neither positive nor negative of each other [ours]:
    otherwise a picture and its own twin would be the easiest positive there is.

    Args:
        vectors: the union, for example v_HR and v'_HR, shape (N, D), not normalised.
        labels: identity of each vector, shape (N,).
        sources: index of each vector's source picture, shape (N,).
        margin: m.
        mining: ``hard`` takes the farthest positive and the nearest negative of the anchor
            [Hermans 2017]; ``all`` the mean over the anchor's triplets with positive loss.

    Returns:
        One term per anchor, shape (N,), float32; 0 for an anchor without positive or negative.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    bound = check_shape("N D", vectors=vectors)
    check_shape(str(bound["N"]), labels=labels, sources=sources)
    distances = euclidean_distances(vectors)
    is_same = labels[:, None] == labels[None, :]
    is_positive = is_same & (sources[:, None] != sources[None, :])
    is_negative = ~is_same
    if mining == "all":
        return _mean_of_active(distances, is_positive, is_negative, margin)
    farthest = distances.masked_fill(~is_positive, -torch.inf).amax(dim=1)  # (N,)
    nearest = distances.masked_fill(~is_negative, torch.inf).amin(dim=1)  # (N,)
    has_both = is_positive.any(dim=1) & is_negative.any(dim=1)
    gap = torch.where(has_both, farthest - nearest + margin, 0.0)
    return gap.clamp(min=0)


def _mean_of_active(
    distances: Tensor, is_positive: Tensor, is_negative: Tensor, margin: float
) -> Tensor:
    gap = distances[:, :, None] - distances[:, None, :] + margin  # (anchor, positive, negative)
    is_active = (is_positive[:, :, None] & is_negative[:, None, :]) & (gap > 0)
    total = torch.where(is_active, gap, 0.0).sum(dim=(1, 2))  # (N,)
    return total / is_active.sum(dim=(1, 2)).clamp(min=1)


def self_weighted_triplet_loss(
    terms_hr: Tensor, terms_lr: Tensor, weight_hr: Tensor, weight_lr: Tensor
) -> Tensor:
    """Average the triplet terms of both spaces by the qualities of each pair [FTWA eq. 7].

    A pair is a HR image and a LR image of one identity, the same row of a batch [assumed].

    Args:
        terms_hr: l_HR of each pair, the mean of the terms of anchors v_HR and v'_HR, shape (P,).
        terms_lr: l_LR of each pair, the mean of the terms of anchors v_LR and v'_LR, shape (P,).
        weight_hr: a = w_HR w'_HR of each pair, shape (P,), > 0.
        weight_lr: b = w_LR w'_LR of each pair, shape (P,), > 0.

    Returns:
        ``mean((a l_HR + b l_LR) / (a + b))``, a scalar.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("P", terms_hr=terms_hr, terms_lr=terms_lr, weight_hr=weight_hr, weight_lr=weight_lr)
    share = weight_hr / (weight_hr + weight_lr)
    return torch.mean(share * terms_hr + (1 - share) * terms_lr)
