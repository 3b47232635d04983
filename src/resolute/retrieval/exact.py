"""Exact search: filter by float32 bounds, refine by the definition in float64.

A block of images is bounded from below; those that could still be among the k nearest are rescored
pair by pair; the k-th best rescored distance is the limit for the next block. No image whose true
distance is among the k smallest can be passed over, so the answer is the one of a search over all
pairs in float64 [Seidl 1998].

Letters: Q queries, N images of a stretch, B images of a block, P pairs, S streams, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.types import Embedding
from resolute.retrieval.scores import Doubles, Floats, Indices, Pairs, Scorer, Stretch
from resolute.retrieval.types import VectorSpace

WORKING_BYTES = 2**23  # of bounds: near enough to a processor's cache
_MOST_QUERIES = 256  # at once; more are searched in turns
_MOST_ROWS = 2**16
_MOST_PAIRS = 2048  # rescored at once: 2 x 256-d in float64 are 8 MiB a side
_GATHER_BELOW = 0.25  # share of a block that passes, below which its vectors are copied out


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The nearest images of one query.

    Attributes:
        positions: in the gallery, nearest first, ties by position, shape (R,), R <= k.
        pairs: their distances.
        num_rescored: pairs computed in float64 on the way.
    """

    positions: Indices
    pairs: Pairs
    num_rescored: int


def search(
    query: Embedding,
    stretches: Sequence[tuple[Stretch, NDArray[np.bool_] | None]],
    *,
    space: VectorSpace,
    k: int,
) -> list[Nearest]:
    """Find the k nearest images of each query among all that pass.

    Beside the stored vectors it needs some 64 MiB at 2 x 256-d, whatever the size of the gallery.

    Args:
        query: embeddings of Q images, checked.
        stretches: stored images in the order of their positions, with which of them pass, shape
            (N,); None for all.
        space: of both sides.
        k: how many, >= 1.

    Returns:
        One result per query.

    Raises:
        ProtocolError: if query and image have no stream that both trust.
    """
    found: list[Nearest] = []
    for start in range(0, len(query), _MOST_QUERIES):
        scorer = Scorer(query.take(slice(start, start + _MOST_QUERIES)), space)
        best = Best(scorer, k)
        for stretch, passing in stretches:
            scorer.check_common_trust(stretch, passing)
            best.scan(stretch, passing)
        found += best.results()
    return found


class Best:
    """The k best of each query so far.

    Args:
        scorer: of the queries.
        k: how many to keep.

    Attributes:
        scorer: as given.
        k: as given.
        stretch: whose images come now.
        limits: distance of the k-th best, inf while there are fewer, shape (Q,).
    """

    def __init__(self, scorer: Scorer, k: int) -> None:
        self.scorer = scorer
        self.k = k
        self.stretch: Stretch
        self.limits: Doubles = np.full(len(scorer), np.inf)
        self._num_rescored = np.zeros(len(scorer), dtype=np.int64)
        self._queries = np.empty(0, dtype=np.int64)
        self._positions = np.empty(0, dtype=np.int64)
        self._pairs: Pairs | None = None

    def scan(
        self,
        stretch: Stretch,
        passing: NDArray[np.bool_] | None,
        *,
        queries: Indices | None = None,
    ) -> None:
        """Take in whatever of a stretch is among the best.

        Args:
            stretch: stored images.
            passing: which of them pass, shape (N,); None for all.
            queries: which queries look at it; None for all.
        """
        self.stretch = stretch
        scorer = self.scorer if queries is None else self.scorer.take(queries)
        numbers = np.arange(len(self.scorer)) if queries is None else queries
        step = WORKING_BYTES // (4 * scorer.num_buffers * len(scorer))
        step = max(256, min(_MOST_ROWS, step, len(stretch)))
        buffer = np.empty(scorer.num_buffers * len(scorer) * step, dtype=np.float32)
        for start in range(0, len(stretch), step):
            rows, allowed = _chosen(slice(start, min(start + step, len(stretch))), passing)
            block = [vectors[rows] for vectors in stretch.streams]
            if not len(block[0]):
                continue
            shape = (scorer.num_buffers, len(scorer), len(block[0]))
            out = buffer[: shape[0] * shape[1] * shape[2]].reshape(shape)
            bounds, offset, slack = scorer.bounds(stretch, block, rows, out)
            if allowed is not None:
                bounds[:, ~allowed] = np.inf
            self._offer(scorer, numbers, rows, bounds, (offset, slack))

    def rescore(self, queries: Indices, rows: Indices) -> None:
        """Take in pairs by their distance in float64; pairs that are in already do no harm.

        Args:
            queries: query of each pair, shape (P,).
            rows: image of each pair in the stretch, shape (P,).
        """
        for start in range(0, len(queries), _MOST_PAIRS):
            q, r = queries[start : start + _MOST_PAIRS], rows[start : start + _MOST_PAIRS]
            self._merge(q, r, self.scorer.exact(self.stretch, q, r))

    def results(self) -> list[Nearest]:
        """Return what was found, per query.

        Returns:
            One result per query.
        """
        empty = Pairs(distances=np.empty(0), streams=np.empty((0, 1)), shares=np.empty(0))
        pairs = self._pairs or empty
        bounds = np.searchsorted(self._queries, np.arange(len(self.scorer) + 1))
        return [
            Nearest(
                positions=self._positions[start:stop],
                pairs=pairs.take(slice(start, stop)),
                num_rescored=int(count),
            )
            for start, stop, count in zip(bounds[:-1], bounds[1:], self._num_rescored, strict=True)
        ]

    def _offer(
        self,
        scorer: Scorer,
        numbers: Indices,
        rows: slice | Indices,
        bounds: Floats,
        shift: tuple[Doubles, Doubles],
    ) -> None:
        open_ended = np.flatnonzero(np.isinf(self.limits[numbers]))
        if len(open_ended):
            # Without a limit everything would be rescored: start with the lowest bounds.
            width = min(self.k, bounds.shape[1])
            columns = np.argpartition(bounds[open_ended], width - 1, axis=1)[:, :width].reshape(-1)
            queries = np.repeat(open_ended, width)
            kept = np.isfinite(bounds[queries, columns])
            self.rescore(numbers[queries[kept]], _rows_of(rows, columns[kept]))
            bounds[queries, columns] = np.inf
        limits = scorer.limit(self.limits[numbers], *shift)
        limits = np.minimum(limits, np.finfo(np.float32).max)  # inf marks what does not pass
        wanted = bounds <= limits[:, None]
        if not wanted.any():
            return
        queries, columns = np.nonzero(wanted)
        for start in range(0, len(queries), _MOST_PAIRS):
            q, c = queries[start : start + _MOST_PAIRS], columns[start : start + _MOST_PAIRS]
            kept = bounds[q, c] <= scorer.limit(self.limits[numbers], *shift)[q]
            self.rescore(numbers[q[kept]], _rows_of(rows, c[kept]))

    def _merge(self, queries: Indices, rows: Indices, pairs: Pairs) -> None:
        self._num_rescored += np.bincount(queries, minlength=len(self.scorer))
        queries = np.concatenate([self._queries, queries])
        positions = np.concatenate([self._positions, self.stretch.first + rows])
        pairs = pairs if self._pairs is None else self._pairs.joined(pairs)
        order = np.lexsort((positions, pairs.distances, queries))
        # A pair that came twice stands beside itself.
        again = np.zeros(len(order), dtype=bool)
        again[1:] = (np.diff(positions[order]) == 0) & (np.diff(queries[order]) == 0)
        order = order[~again]
        first = np.searchsorted(queries[order], np.arange(len(self.scorer)))
        rank = np.arange(len(order)) - first[queries[order]]
        order, rank = order[rank < self.k], rank[rank < self.k]
        self._queries, self._positions = queries[order], positions[order]
        self._pairs = pairs.take(order)
        last = rank == self.k - 1
        self.limits[self._queries[last]] = self._pairs.distances[last]


def _chosen(
    rows: slice, passing: NDArray[np.bool_] | None
) -> tuple[slice | Indices, NDArray[np.bool_] | None]:
    """Choose how to read a block: whole, whole with a mask, or only the rows that pass."""
    if passing is None:
        return rows, None
    allowed = passing[rows]
    count = np.count_nonzero(allowed)
    if count == len(allowed):
        return rows, None
    if count < _GATHER_BELOW * len(allowed):
        return rows.start + np.flatnonzero(allowed), None
    return rows, allowed


def _rows_of(rows: slice | Indices, columns: Indices) -> Indices:
    return rows.start + columns if isinstance(rows, slice) else rows[columns]
