"""Distances and shares of all pairs of images, counted rather than kept.

Letters: N images, S streams, G gallery, B bins.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.types import Embedding

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# The width of a bin is a power of two, so that rounding puts no distance on the wrong side of an
# edge [ours].
DISTANCE_BINS = 2**16
SHARE_BINS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceCounts:
    """Distances of all pairs, counted; two pairs of one bin cannot be told apart.

    Attributes:
        width: of a bin, a power of two.
        positives: pairs of one identity per bin, shape (B,); the last bin is open.
        negatives: pairs of two identities per bin, shape (B,).
    """

    width: float
    positives: Ints
    negatives: Ints

    def threshold(self, false_match_rate: float) -> float:
        """Find the largest bin edge below which lie at most so many of the negative pairs.

        Args:
            false_match_rate: share of the negative pairs, 0..1.

        Returns:
            A distance t: pairs with d < t are taken as matches.

        Raises:
            ProtocolError: if the rate is no share.
        """
        if not 0 <= false_match_rate <= 1:
            raise ProtocolError(f"false-match rate: expected 0..1, got {false_match_rate}")
        below = np.concatenate([[0], np.cumsum(self.negatives)])  # (B + 1,) below each edge
        allowed = math.floor(false_match_rate * int(below[-1]) + 1e-9)
        return float(np.searchsorted(below, allowed, side="right") - 1) * self.width

    def share_below(self, threshold: float) -> tuple[float, float]:
        """Compute true-match and false-match rate at a bin edge.

        Args:
            threshold: a multiple of ``width``.

        Returns:
            Shares of the positive and of the negative pairs with d < threshold; 0 of none.
        """
        end = round(threshold / self.width)
        shares = [
            float(counts[:end].sum() / max(1, counts.sum()))
            for counts in (self.positives, self.negatives)
        ]
        return shares[0], shares[1]

    def joined(self, other: "DistanceCounts") -> "DistanceCounts":
        """Count the pairs of two runs together, in the wider of their bins.

        Args:
            other: counts of another run.
        """
        width = max(self.width, other.width)
        mine, theirs = self._widened(width), other._widened(width)
        return DistanceCounts(
            width=width,
            positives=mine.positives + theirs.positives,
            negatives=mine.negatives + theirs.negatives,
        )

    def _widened(self, width: float) -> "DistanceCounts":
        factor = round(width / self.width)
        if factor == 1:
            return self
        bins = np.arange(DISTANCE_BINS) // factor
        return DistanceCounts(
            width=width,
            positives=_counted(bins, self.positives, DISTANCE_BINS),
            negatives=_counted(bins, self.negatives, DISTANCE_BINS),
        )


def bin_width(query: Embedding, gallery: Embedding) -> float:
    """Choose the width of the distance bins so that no distance lies beyond them.

    Args:
        query: embeddings of Q images.
        gallery: embeddings of G images.

    Returns:
        A power of two; 2^-14 for squared Euclidean distances of normalised vectors.
    """
    lengths = [np.sqrt(np.square(e.vectors).sum(axis=2)).max(initial=0) for e in (query, gallery)]
    largest = float(sum(lengths)) * 0.999  # rounding makes a normalised vector 1.0000001 long
    if query.metric == "sqeuclidean":
        largest = largest**2
    return float(2.0 ** math.ceil(math.log2(max(largest, 2.0**-20)))) / DISTANCE_BINS


def reads_weights(fusion: str | None) -> bool:
    """Tell whether distances read the weights that images have in two spaces.

    Args:
        fusion: how the spaces join; None if that is left open.
    """
    return fusion not in ("hr", "lr", "mean", "constant")


def relative_quality(embedding: Embedding) -> Floats:
    """Scale qualities so that the larger of each image is 1; only their ratio means anything.

    Args:
        embedding: of N images.

    Returns:
        Shape (N, S); NaN for images whose qualities are all zero.
    """
    quality = embedding.quality.astype(np.float64)
    largest = quality.max(axis=1, keepdims=True)
    relative: Floats = np.full_like(quality, np.nan)
    np.divide(quality, largest, out=relative, where=largest > 0)
    return relative


def hr_share(query: Floats, gallery: Floats) -> Floats:
    """Compute a / (a + b), the share of the HR space in the weighted distance.

    Args:
        query: relative qualities of one image (HR space, LR space), shape (2,).
        gallery: relative qualities, shape (G, 2).

    Returns:
        Shares 0..1, NaN where a + b is zero, shape (G,).
    """
    a, b = query[0] * gallery[:, 0], query[1] * gallery[:, 1]
    total = a + b
    share: Floats = np.full_like(a, np.nan)
    np.divide(a, total, out=share, where=total > 0)
    return share


def counted(values: NDArray[np.floating], num_bins: int) -> Ints:
    """Count values of 0..1 in equal bins; 1 belongs to the last.

    Args:
        values: shape (N,).
        num_bins: number of bins B.

    Returns:
        Counts, shape (B,).
    """
    bins = np.clip((values * num_bins).astype(np.int64), 0, num_bins - 1)
    return np.bincount(bins, minlength=num_bins)


def rebinned(counts: Ints, width: float, edges: Floats) -> Ints:
    """Count fine bins in coarser ones.

    Args:
        counts: per fine bin, shape (B,).
        width: of a fine bin; the first starts at 0.
        edges: rising edges of the coarse bins; fine bins belong where they start.

    Returns:
        Counts per coarse bin; what lies outside the edges is in the first or last.
    """
    starts = np.arange(len(counts)) * width
    bins = np.clip(np.searchsorted(edges, starts, side="right") - 1, 0, len(edges) - 2)
    return _counted(bins, counts, len(edges) - 1)


def _counted(bins: Ints, counts: Ints, num_bins: int) -> Ints:
    summed: Ints = np.zeros(num_bins, dtype=np.int64)
    np.add.at(summed, bins, counts)
    return summed
