"""Identity classification: softmax cross entropy and its self-weighted form.

Letters: N images, I train identities.
"""

import torch
from torch import Tensor
from torch.nn import functional

from resolute.core.shapes import check_shape


def identity_terms(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Compute the softmax cross entropy of each image.

    Args:
        logits: classifier output, shape (N, I).
        labels: training index of the true identity, shape (N,), 0..I-1.
        smoothing: mass spread evenly over all identities, 0 <= s < 1.

    Returns:
        One term per image, shape (N,), float32.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    bound = check_shape("N I", logits=logits)
    check_shape(str(bound["N"]), labels=labels)
    return functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=smoothing
    )


def pair_weighted_mean(
    terms: Tensor, terms_paired: Tensor, quality: Tensor, quality_paired: Tensor
) -> Tensor:
    """Average the terms of two paired vectors by their qualities, then over pairs.

    One summand of [FTWA eq. 5]: ``mean((w l + w' l') / (w + w'))``. Multiplying both
    qualities of a pair by one number changes nothing.

    Args:
        terms: loss terms of the first vectors, shape (N,).
        terms_paired: loss terms of their partners, shape (N,).
        quality: w of the first vectors, shape (N,), > 0.
        quality_paired: w of their partners, shape (N,), > 0.

    Returns:
        A scalar.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape(
        "N", terms=terms, terms_paired=terms_paired, quality=quality, quality_paired=quality_paired
    )
    share = quality / (quality + quality_paired)
    return torch.mean(share * terms + (1 - share) * terms_paired)
