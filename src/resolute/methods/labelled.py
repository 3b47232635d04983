"""Learning where only a share of the training identities comes with labels.

Letters: N images, I train identities.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resolute.core.rng import Stream, Streams

# What torch's cross entropy leaves out.
NO_CLASS = -100


class Labelled(nn.Module):
    """Which training identities have labels; the labels of the others are read by no loss.

    Attributes:
        is_labelled: shape (I,), bool.
        num_classes: number of identities with labels, the classes of the classifier.
        has_all: whether every identity has labels.
    """

    is_labelled: Tensor

    def __init__(self, is_labelled: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("is_labelled", torch.from_numpy(is_labelled))
        self.num_classes = int(is_labelled.sum())
        self.has_all = self.num_classes == len(is_labelled)

    def classes(self, labels: Tensor) -> Tensor:
        """Number the identities with labels; without them there is no class to learn.

        Args:
            labels: training index of each image's identity, shape (N,), 0..I-1.

        Returns:
            Class of each image, shape (N,), 0..num_classes-1 or ``NO_CLASS``.
        """
        order = self.is_labelled.cumsum(dim=0) - 1  # (I,)
        return torch.where(self.is_labelled, order, NO_CLASS)[labels]


def draw_labelled(num_identities: int, share: float, *, streams: Streams) -> NDArray[np.bool_]:
    """Draw which identities have labels; those of a smaller share are among those of a larger.

    Args:
        num_identities: I.
        share: of identities with labels, 0 < share <= 1; at least one has them.
        streams: of the run's seed.

    Returns:
        Shape (I,), bool.
    """
    order = streams.numpy(Stream.SPLIT, "labelled").permutation(num_identities)
    is_labelled = np.zeros(num_identities, dtype=np.bool_)
    is_labelled[order[: max(1, round(share * num_identities))]] = True
    return is_labelled


def mean_of_labelled(terms: Tensor, classes: Tensor) -> Tensor:
    """Average the loss terms of the images that have a class.

    Args:
        terms: one per image, 0 where there is no class, shape (N,).
        classes: of :meth:`Labelled.classes`, shape (N,).

    Returns:
        A scalar; 0 where no image has a class.
    """
    return terms.sum() / (classes != NO_CLASS).sum().clamp(min=1)
