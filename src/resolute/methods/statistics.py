"""Running means of training that make the two spaces commensurate at matching.

Letters: N images, P pairs, S = 2 spaces (HR, LR), D embedding; two roles: HR image, LR image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.distance import METRICS

MOMENTUM = 0.05


class MatchingStatistics(nn.Module):
    """What a quality means for its role, and how far apart two people are in each space [ours].

    The means run over training identities, with the last twenty steps weighing most, and change
    nothing in training.

    Attributes:
        log_ratio: mean of t = ln(w_HR / w_LR) per role, shape (2,).
        distance: mean distance of two people, a HR and a LR image, of normalised vectors, per
            metric (squared Euclidean, Euclidean) and space, shape (2, 2).
    """

    log_ratio: Tensor
    distance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.zeros(2))
        self.register_buffer("distance", torch.ones(len(METRICS), 2))

    @torch.no_grad()
    def track_quality(self, quality_hr: Tensor, quality_lr: Tensor) -> None:
        """Take in the qualities of one step.

        Args:
            quality_hr: w_HR of P HR images, then of P LR images, shape (2P,), > 0.
            quality_lr: w_LR of the same, shape (2P,), > 0.
        """
        ratios = quality_hr.float().log() - quality_lr.float().log()
        self.log_ratio.lerp_(ratios.view(2, -1).mean(dim=1), MOMENTUM)

    @torch.no_grad()
    def track_distances(self, vectors_hr: Tensor, vectors_lr: Tensor, labels: Tensor) -> None:
        """Take in the distances between HR and LR images of different people in one step.

        Args:
            vectors_hr: P HR images, then P LR images in the HR space, shape (2P, D).
            vectors_lr: the same images in the LR space, shape (2P, D).
            labels: identity of each pair, shape (P,). A batch of one identity changes nothing.
        """
        is_negative = labels[:, None] != labels[None, :]  # (P, P)
        means = [_mean_distances(vectors, is_negative) for vectors in (vectors_hr, vectors_lr)]
        share = MOMENTUM * is_negative.any().float()
        self.distance.lerp_(torch.stack(means, dim=1), share)

    def centred(self, quality: Tensor, *, role: int) -> Tensor:
        """Divide w_HR / w_LR by what it is for an average image of the role.

        Args:
            quality: w_HR and w_LR, shape (N, 2).
            role: 0 = HR images, 1 = LR images.

        Returns:
            Qualities whose t is less by the role's mean, shape (N, 2).
        """
        half = self.log_ratio[role] / 2
        return quality * torch.stack([-half, half]).exp()

    def scaled(self, vectors: Tensor, *, metric: str) -> Tensor:
        """Shrink or stretch both spaces so that two people are 1 apart in each on average.

        Args:
            vectors: normalised, shape (N, S, D); S = 1 is the HR space alone.
            metric: ``sqeuclidean`` or ``euclidean``, by which the vectors will be compared.

        Returns:
            Vectors whose distances are divided by their space's mean, shape (N, S, D).
        """
        means = self.distance[METRICS.index(metric)]  # (2,)
        lengths = means.sqrt() if metric == "sqeuclidean" else means
        return vectors / lengths[: vectors.shape[1], None]


def _mean_distances(vectors: Tensor, is_negative: Tensor) -> Tensor:
    """Return the mean over negative pairs in both metrics, shape (2,)."""
    of_hr, of_lr = functional.normalize(vectors.float(), dim=1).chunk(2)  # (P, D) each
    with torch.autocast(vectors.device.type, enabled=False):  # bf16 would round the mean
        squared = (2 - 2 * of_hr @ of_lr.T).clamp(min=0)  # (P, P)
    both = torch.stack([squared, squared.sqrt()])
    total = both.masked_fill(~is_negative, 0).sum(dim=(1, 2))
    return total / is_negative.sum().clamp(min=1)
