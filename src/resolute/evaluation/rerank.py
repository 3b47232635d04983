"""k-reciprocal re-ranking [Zhong 2017] in bounded memory.

Two images are alike when their neighbourhoods are. Each image i of the joined list (queries, then
gallery) is described by a sparse vector V_i over all images: its k-reciprocal neighbours, weighted
by exp(-d). The re-ranked distance mixes the Jaccard distance of these vectors with d itself.

The full matrix of N x N distances never exists: one pass over its rows keeps k1 + 1 neighbours per
image, everything after that is sparse.

Letters: N = Q + G images, Q queries, G gallery, K neighbours kept, E entries of a sparse matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import CHUNK_BYTES, distance_matrix, distance_rows
from resolute.core.errors import ConfigError
from resolute.core.types import Embedding

_ABSENT = -1  # pads lists of neighbours of unequal length
_IMAGES_AT_ONCE = 256  # for sets of neighbours: (256, K, K / 2, K) comparisons at once
_ROWS_AT_ONCE = 16  # neighbours in the list are often of one person: their sets overlap

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


def rerank_rows(
    query: Embedding,
    gallery: Embedding,
    *,
    k1: int = 20,
    k2: int = 6,
    share: float = 0.3,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[tuple[slice, Floats]]:
    """Compute re-ranked distances of all queries to all gallery images, a few rows at a time.

    d(i, j) is the embeddings' own distance with i in the query's place, divided by its largest
    value in row i, as the authors' code does. An image is its own nearest neighbour; equal
    distances rank by position, queries before gallery. R(i, k) are those of the k nearest of i
    (and i) that have i among their k nearest in turn. R(j, k1 / 2) joins R(i, k1) where more than
    two thirds of it are there already (the paper's text says at least two thirds, the code more).
    V is then averaged over the k2 nearest of each image, itself among them.

    Args:
        query: embeddings of Q images.
        gallery: embeddings of G images, with the same S, D, metric and fusion.
        k1: neighbours looked at, >= 1.
        k2: neighbours V is averaged over, >= 1; 1 leaves it alone.
        share: lambda, the part of d in the mixture, 0..1; with 0, images that share no neighbour
            are all equally far.
        chunk_bytes: working memory of the distances to aim at, in bytes.

    Returns:
        Iterator over pairs of query positions and distances, shape (rows, G), float32, in 0..1.

    Raises:
        ConfigError: if k1, k2 or share is out of range, or fusions or metrics differ.
        ShapeError: if the sides differ in S or D.
        ProtocolError: if distances are undefined, as for :func:`distance_rows`.
    """
    if k1 < 1 or k2 < 1 or not 0 <= share <= 1:
        raise ConfigError(
            f"rerank: expected k1 and k2 of at least 1 and a share in 0..1, got {k1}, {k2} and "
            f"{share}"
        )
    between = distance_rows(query, gallery, chunk_bytes=chunk_bytes)  # checks both sides
    images = Embedding.concatenate([_bare(query), _bare(gallery)])  # (N, S, D)
    return _mixed_rows(between, images, _Settings(k1, k2, share, chunk_bytes), len(query))


@dataclass(frozen=True, slots=True)
class _Settings:
    k1: int
    k2: int
    share: float
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class _Sparse:
    """Rows of numbers that are mostly zero.

    Attributes:
        starts: where each row begins in the two other arrays, then E; shape (rows + 1,).
        columns: ascending within a row, shape (E,), int32.
        values: shape (E,), float32.
    """

    starts: Positions
    columns: NDArray[np.int32]
    values: Floats

    def entries(self, rows: Positions) -> tuple[Positions, Positions]:
        """List the entries of some rows: which of ``rows`` each is of, and its place."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return owner, self.starts[rows][owner] + within

    def rows(self, chosen: slice) -> "_Sparse":
        """Return some consecutive rows."""
        starts = self.starts[chosen.start : chosen.stop + 1]
        part = slice(starts[0], starts[-1])
        return _Sparse(starts - starts[0], self.columns[part], self.values[part])

    def by_column(self, num_columns: int) -> "_Sparse":
        """Return the same numbers, listed column by column, rows ascending within each."""
        order = np.argsort(self.columns, kind="stable")
        row_of = np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))
        counts = np.bincount(self.columns, minlength=num_columns)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return _Sparse(starts, row_of[order], self.values[order])


def _mixed_rows(
    between: Iterator[tuple[slice, Floats]], images: Embedding, settings: _Settings, num_query: int
) -> Iterator[tuple[slice, Floats]]:
    neighbours, largest = _neighbours(images, settings)  # (N, K), (N,)
    encoded = _encode(images, neighbours[:, : settings.k1 + 1], largest, settings.k1)
    encoded = _averaged(encoded, neighbours[:, : settings.k2])
    of_query = encoded.rows(slice(0, num_query))
    of_gallery = encoded.rows(slice(num_query, len(images))).by_column(len(images))
    num_gallery = len(images) - num_query
    for rows, block in between:
        block /= largest[rows, None]
        block *= settings.share
        for row, out in zip(range(rows.start, rows.stop), block, strict=True):
            common = _common(of_query, row, of_gallery, num_gallery)  # (G,)
            out += (1 - settings.share) * (1 - common / (2 - common))
        yield rows, block


def _neighbours(images: Embedding, settings: _Settings) -> tuple[NDArray[np.int32], Floats]:
    """Find the nearest images of each image, itself first, and the largest distance of its row."""
    num_images = len(images)
    num_kept = min(max(settings.k1 + 1, settings.k2), num_images)
    neighbours = np.empty((num_images, num_kept), dtype=np.int32)
    largest = np.empty(num_images, dtype=np.float32)
    for rows, block in distance_rows(images, images, chunk_bytes=settings.chunk_bytes):
        own = np.arange(rows.start, rows.stop)
        largest[rows] = block.max(axis=1)
        block[own - rows.start, own] = -1  # nearer than any other, also than an exact copy
        for i, row in zip(own.tolist(), block, strict=True):
            # All that are as near as the last one kept; of equal ones the first are kept.
            near = np.flatnonzero(row <= np.partition(row, num_kept - 1)[num_kept - 1])
            neighbours[i] = near[np.argsort(row[near], kind="stable")[:num_kept]]
    largest[largest == 0] = 1  # every image is the same: all distances stay 0
    return neighbours, largest


def _reciprocal(neighbours: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep the neighbours that are mutual, the others become ``_ABSENT``; shape (N, K)."""
    kept = np.empty_like(neighbours)
    for start in range(0, len(neighbours), _IMAGES_AT_ONCE):
        part = neighbours[start : start + _IMAGES_AT_ONCE]  # (n, K)
        own = np.arange(start, start + len(part), dtype=np.int32)[:, None, None]
        is_mutual = (neighbours[part] == own).any(axis=2)  # (n, K, K) -> (n, K)
        kept[start : start + len(part)] = np.where(is_mutual, part, _ABSENT)
    return kept


def _encode(images: Embedding, neighbours: NDArray[np.int32], largest: Floats, k1: int) -> _Sparse:
    """Weigh the expanded k-reciprocal neighbours of each image by exp(-d); rows sum to 1."""
    mutual = _reciprocal(neighbours)  # (N, K)
    mutual_half = _reciprocal(neighbours[:, : round(k1 / 2) + 1])  # (N, H)
    lengths, columns, values = [], [], []
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        own, others = _expanded(mutual[start : start + _IMAGES_AT_ONCE], mutual_half)
        own += start
        weights = np.exp(-_pair_distances(images, own, others) / largest[own])
        own -= start
        num_rows = min(_IMAGES_AT_ONCE, len(images) - start)
        weights /= np.bincount(own, weights=weights, minlength=num_rows)[own]
        lengths.append(np.bincount(own, minlength=num_rows))
        columns.append(others.astype(np.int32))
        values.append(weights.astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return _Sparse(starts, np.concatenate(columns), np.concatenate(values))


def _expanded(
    mutual: NDArray[np.int32], mutual_half: NDArray[np.int32]
) -> tuple[Positions, Positions]:
    """Expand the sets R(i, k1) of a few images; pairs (row, member), sorted, each once."""
    is_there = mutual != _ABSENT  # (n, K)
    half = np.where(is_there[:, :, None], mutual_half[mutual], _ABSENT)  # (n, K, H)
    is_common = (half[:, :, :, None] == mutual[:, None, None, :]).any(axis=3)  # (n, K, H)
    is_member = half != _ABSENT
    is_common &= is_member
    joins = 3 * is_common.sum(axis=2) > 2 * is_member.sum(axis=2)  # (n, K)
    taken = is_member & joins[:, :, None]
    row, _ = np.nonzero(is_there)
    row_half, _, _ = np.nonzero(taken)
    num_images = len(mutual_half)
    pairs = np.unique(
        np.concatenate([row * num_images + mutual[is_there], row_half * num_images + half[taken]])
    )
    return pairs // num_images, pairs % num_images


def _pair_distances(images: Embedding, own: Positions, others: Positions) -> Floats:
    """Compute d(own, others) pair by pair; ``own`` is ascending. Shape (pairs,)."""
    found = np.empty(len(own), dtype=np.float32)
    for first in range(own[0], own[-1] + 1, _ROWS_AT_ONCE):
        begin, end = np.searchsorted(own, [first, first + _ROWS_AT_ONCE])
        rows, columns = np.unique(own[begin:end]), np.unique(others[begin:end])
        block = distance_matrix(images.take(rows), images.take(columns))
        found[begin:end] = block[
            np.searchsorted(rows, own[begin:end]), np.searchsorted(columns, others[begin:end])
        ]
    found[own == others] = 0  # rounding can leave a little more
    return found


def _averaged(encoded: _Sparse, neighbours: NDArray[np.int32]) -> _Sparse:
    """Average the rows of the nearest neighbours of each image (local query expansion)."""
    num_images, num_rows = neighbours.shape
    if num_rows == 1:
        return encoded
    lengths, columns, values = [], [], []
    for start in range(0, num_images, _IMAGES_AT_ONCE):
        part = neighbours[start : start + _IMAGES_AT_ONCE]
        owner, place = encoded.entries(part.reshape(-1).astype(np.int64))
        keys = owner // num_rows * num_images + encoded.columns[place]
        pairs, inverse = np.unique(keys, return_inverse=True)
        sums = np.bincount(inverse.reshape(-1), weights=encoded.values[place])
        lengths.append(np.bincount(pairs // num_images, minlength=len(part)))
        columns.append((pairs % num_images).astype(np.int32))
        values.append((sums / num_rows).astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return _Sparse(starts, np.concatenate(columns), np.concatenate(values))


def _common(
    of_query: _Sparse, row: int, of_gallery: _Sparse, num_gallery: int
) -> NDArray[np.float64]:
    """Sum over images the smaller weight of one query and each gallery image; shape (G,)."""
    own = slice(of_query.starts[row], of_query.starts[row + 1])
    owner, place = of_gallery.entries(of_query.columns[own].astype(np.int64))
    smaller = np.minimum(of_query.values[own][owner], of_gallery.values[place])
    common = np.bincount(of_gallery.columns[place], weights=smaller, minlength=num_gallery)
    return np.minimum(common, 1)  # rows sum to 1 up to rounding


def _bare(embedding: Embedding) -> Embedding:
    """Leave out what no distance needs, and one side may lack."""
    return replace(embedding, norms=None, native_sizes=None, reliability=None, fingerprint="")
