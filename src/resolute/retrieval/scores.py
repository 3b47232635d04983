"""One pair's distance by its definition in float64, and float32 bounds below it for many pairs.

Letters: Q queries, N stored images of one stretch, B images of a block, P pairs, S streams, D
embedding. The bounds hold for any order of summation, so for any BLAS: with u = 2^-24, a float32
inner product of length D is off by at most D u / (1 - D u) times both lengths [Higham 2002].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.types import Embedding
from resolute.retrieval.types import VectorSpace

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

UNIT = 2.0**-24  # unit roundoff of float32
_TINY = 1e-37  # above any underflow of a product of float32 numbers, summed
_ROUNDINGS = 32  # more than the float32 operations between inner products and bound


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Stored images as a search reads them.

    Attributes:
        streams: vectors per stream, each (N, D), float32, contiguous.
        quality: trust per stream, shape (N, S).
        squares: squared length of each vector, shape (N, S), float64.
        first: position of the first image in the gallery.
    """

    streams: tuple[Floats, ...]
    quality: Floats
    squares: Doubles
    first: int = 0

    def __len__(self) -> int:
        return len(self.quality)

    @cached_property
    def longest(self) -> Doubles:
        """Largest length of a vector per stream, shape (S,)."""
        longest: Doubles = np.sqrt(self.squares.max(axis=0, initial=0))
        return longest

    @cached_property
    def shortest(self) -> Doubles:
        """Smallest length of a vector per stream, shape (S,)."""
        shortest: Doubles = np.sqrt(self.squares.min(axis=0))
        return shortest

    @cached_property
    def squares_single(self) -> Floats:
        """Squared lengths in float32, one row per stream, shape (S, N)."""
        return np.ascontiguousarray(self.squares.T, dtype=np.float32)

    @cached_property
    def ratio(self) -> Floats:
        """Weight of the LR over that of the HR stream, shape (N,); inf where only LR counts."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            quality = self.quality.astype(np.float64)
            return (quality[:, 1] / quality[:, 0]).astype(np.float32)

    @cached_property
    def angles(self) -> Floats:
        """Weights divided by their length, one row per stream, shape (S, N)."""
        return np.ascontiguousarray(_directions(self.quality).T, dtype=np.float32)

    @cached_property
    def fused_squares(self) -> Floats:
        """Squared length of the fused vectors, shape (N,)."""
        squares: Doubles = (_directions(self.quality) ** 2 * self.squares).sum(axis=1)
        return squares.astype(np.float32)

    @cached_property
    def untrusted(self) -> tuple[Indices, ...]:
        """Images with weight 0 in a stream, positions per stream."""
        return tuple(np.flatnonzero(column == 0) for column in self.quality.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Distances of P pairs by the definition, in float64.

    Attributes:
        distances: fused, shape (P,).
        streams: per stream, shape (P, S).
        shares: share of the HR space, a / (a + b), shape (P,).
    """

    distances: Doubles
    streams: Doubles
    shares: Doubles

    def take(self, index: Indices | slice) -> "Pairs":
        """Return the pairs at the given positions.

        Args:
            index: positions, shape (M,).
        """
        return Pairs(
            distances=self.distances[index],
            streams=self.streams[index],
            shares=self.shares[index],
        )

    def joined(self, other: "Pairs") -> "Pairs":
        """Append other pairs.

        Args:
            other: of the same space.
        """
        return Pairs(
            distances=np.concatenate([self.distances, other.distances]),
            streams=np.concatenate([self.streams, other.streams]),
            shares=np.concatenate([self.shares, other.shares]),
        )


class Scorer:
    """Compares queries with stored images under the metric and fusion of a space.

    Args:
        query: embeddings of Q images.
        space: of both sides.

    Attributes:
        quality: of the queries, shape (Q, S).
        lengths: of their vectors, shape (Q, S).
    """

    def __init__(self, query: Embedding, space: VectorSpace) -> None:
        self._query = query
        self._space = space
        self._streams = streams_of(space)
        self._is_fused = space.fusion == "fused" and space.num_streams == 2
        self._vectors = query.vectors.astype(np.float32).astype(np.float64)  # (Q, S, D)
        self.quality: Doubles = query.quality.astype(np.float64)  # (Q, S)
        self._squares: Doubles = (self._vectors**2).sum(axis=2)  # (Q, S)
        self.lengths: Doubles = np.sqrt(self._squares)
        scale = -2 * (_directions(query.quality) if self._is_fused else np.ones_like(self.quality))
        # One contiguous matrix per stream; factors of two are exact, fused weights round once.
        self._scaled = [
            np.ascontiguousarray(self._vectors[:, s] * scale[:, s, None], dtype=np.float32)
            for s in range(space.num_streams)
        ]
        self._weights = pair_weights(space, self.quality)

    def __len__(self) -> int:
        return len(self._vectors)

    def take(self, queries: Indices) -> "Scorer":
        """Return the scorer of some of the queries.

        Args:
            queries: which, shape (M,).
        """
        return Scorer(self._query.take(queries), self._space)

    @property
    def num_buffers(self) -> int:
        """How many arrays (Q, B) :meth:`bounds` needs."""
        return 1 if len(self._streams) == 1 else 3

    def check_common_trust(self, stretch: Stretch, passing: NDArray[np.bool_] | None) -> None:
        """Refuse pairs without a stream that both trust: their distance is undefined.

        Args:
            stretch: stored images.
            passing: which of them count, shape (N,); None for all.

        Raises:
            ProtocolError: if there is such a pair.
        """
        if self._space.fusion != "weighted" or self._space.num_streams == 1:
            return
        for stream, name in enumerate(("hr", "lr")):
            queries = np.flatnonzero(self.quality[:, 1 - stream] == 0)
            rows = stretch.untrusted[stream] if len(queries) else queries
            rows = rows if passing is None else rows[passing[rows]]
            if len(rows):
                raise ProtocolError(
                    f"query image {queries[0]} trusts only its {name} stream and gallery image "
                    f"{stretch.first + rows[0]} only the other: their weighted distance is "
                    "undefined (a + b = 0); use the fusion 'mean' or a quality floor above 0"
                )

    def exact(self, stretch: Stretch, queries: Indices, rows: Indices) -> Pairs:
        """Compute distances of pairs by the definition, in float64.

        Args:
            stretch: stored images.
            queries: query of each pair, shape (P,).
            rows: image of each pair, its position in the stretch, shape (P,).

        Returns:
            The distances; the same pair always gives the same bits.
        """
        is_euclidean = self._space.metric == "euclidean"
        per_stream = np.empty((len(rows), self._space.num_streams))
        stored = [vectors[rows].astype(np.float64) for vectors in stretch.streams]
        for s, vectors in enumerate(stored):
            per_stream[:, s] = ((self._vectors[queries, s] - vectors) ** 2).sum(axis=1)
        if is_euclidean:
            np.sqrt(per_stream, out=per_stream)
        weights = np.ones((len(rows), 1))
        if self._space.num_streams == 2:
            weights = self._weights[queries]
            if self._space.fusion in ("weighted", "fused"):
                weights = weights * stretch.quality[rows].astype(np.float64)
        total = weights.sum(axis=1)
        if self._is_fused:
            ours = _directions(self.quality)[queries]
            theirs = _directions(stretch.quality[rows])
            distances = np.zeros(len(rows))
            for s, vectors in enumerate(stored):
                apart = self._vectors[queries, s] * ours[:, s, None] - vectors * theirs[:, s, None]
                distances += (apart**2).sum(axis=1)
            distances = np.sqrt(distances) if is_euclidean else distances
            total = np.where(total == 0, np.inf, total)  # informs only; the distance is defined
        else:
            distances = (weights * per_stream).sum(axis=1) / total
        return Pairs(distances=distances, streams=per_stream, shares=weights[:, 0] / total)

    def bounds(
        self, stretch: Stretch, block: Sequence[Floats], rows: slice | Indices, out: Floats
    ) -> tuple[Floats, Doubles, Doubles]:
        """Bound distances from below: those of query i are at least ``scale(bounds[i] - ...)``.

        An image of row i can only be as near as ``distance`` if its number in the result is at
        most :meth:`limit` of that distance.

        Args:
            stretch: stored images.
            block: their vectors per stream, each (B, D).
            rows: which images of the stretch they are.
            out: working memory, shape (``num_buffers``, Q, B).

        Returns:
            Numbers that order like the bounds, shape (Q, B), in ``out``; and per query what
            :meth:`limit` takes: offset and slack, shape (Q,).
        """
        products = [out[i] for i in range(len(self._streams))]
        for product, s in zip(products, self._streams, strict=True):
            if len(self) == 1:
                np.matmul(block[s], self._scaled[s][0], out=product[0])
            else:
                np.matmul(self._scaled[s], block[s].T, out=product)
        reach = (self.lengths + stretch.longest) ** 2  # (Q, S): no squared distance is beyond
        if self._is_fused:
            return self._fused(stretch, rows, products, reach)
        errors = self._errors(stretch, reach)
        constants = self._squares - errors  # (Q, S)
        for product, s in zip(products, self._streams, strict=True):
            if self._is_even(stretch, s):
                constants[:, s] += stretch.shortest[s] ** 2
            else:
                product += stretch.squares_single[s, rows]
        if len(products) == 1:
            s = self._streams[0]
            return products[0], constants[:, s], _ROUNDINGS * UNIT * reach[:, s]
        return self._joined(stretch, rows, out, constants, reach)

    def limit(self, distances: Doubles, offset: Doubles, slack: Doubles) -> Floats:
        """Turn distances into limits on the numbers of :meth:`bounds`.

        Args:
            distances: one per query, shape (Q,); inf for no limit.
            offset: of :meth:`bounds`.
            slack: of :meth:`bounds`.

        Returns:
            Shape (Q,), rounded up.
        """
        is_squared = len(self._streams) == 1 or self._is_fused
        if is_squared and self._space.metric == "euclidean":
            distances = distances * distances * (1 + 1e-15)
        limits = (distances - offset + slack).astype(np.float32)
        return np.nextafter(limits, np.float32(np.inf))

    def _is_even(self, stretch: Stretch, stream: int) -> bool:
        # Normalised vectors: the smallest length bounds all as well as each its own would.
        small, large = stretch.shortest[stream] ** 2, stretch.longest[stream] ** 2
        return bool(large - small < self._space.dim * UNIT * large)

    def _errors(self, stretch: Stretch, reach: Doubles) -> Doubles:
        gamma = 1.5 * (self._space.dim + 4) * UNIT  # n u / (1 - n u) < 1.5 n u for n < 5 million
        return 2 * gamma * self.lengths * stretch.longest + _ROUNDINGS * UNIT * reach + _TINY

    def _joined(
        self,
        stretch: Stretch,
        rows: slice | Indices,
        out: Floats,
        constants: Doubles,
        reach: Doubles,
    ) -> tuple[Floats, Doubles, Doubles]:
        high, low, ratio = out[0], out[1], out[2]
        largest = reach.max(axis=1)  # (Q,)
        if self._space.metric == "euclidean":
            for s, product in enumerate((high, low)):
                product += constants[:, s, None].astype(np.float32)
                np.maximum(product, 0, out=product)
                np.sqrt(product, out=product)
            gap, offset, largest = np.zeros(len(self)), np.zeros(len(self)), np.sqrt(largest)
        else:
            gap, offset = constants[:, 0] - constants[:, 1], constants[:, 1]
        # d_lr + share (d_hr - d_lr), where share = 1 / (1 + ratio of the weights)
        high -= low
        if (np.abs(gap) > UNIT * largest).any():
            high += gap[:, None].astype(np.float32)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            theirs = (self._weights[:, 1] / self._weights[:, 0]).astype(np.float32)
            if self._space.fusion == "weighted":
                np.multiply(theirs[:, None], stretch.ratio[rows], out=ratio)
                ratio += 1
                high /= ratio
            else:
                high /= theirs[:, None] + 1
        high += low
        return high, offset, _ROUNDINGS * UNIT * largest

    def _fused(
        self, stretch: Stretch, rows: slice | Indices, products: list[Floats], reach: Doubles
    ) -> tuple[Floats, Doubles, Doubles]:
        for s, product in enumerate(products):
            product *= stretch.angles[s, rows]
        joined = products[0]
        joined += products[1]
        joined += stretch.fused_squares[rows]
        squares: Doubles = (_directions(self.quality) ** 2 * self._squares).sum(axis=1)
        errors = self._errors(stretch, reach).sum(axis=1)
        return joined, squares - errors, _ROUNDINGS * UNIT * reach.sum(axis=1)


def streams_of(space: VectorSpace) -> tuple[int, ...]:
    """List the streams that a space's fusion looks at.

    Args:
        space: any.

    Returns:
        Their numbers; with one stream it is that one, whatever the fusion.
    """
    if space.num_streams == 1 or space.fusion == "hr":
        return (0,)
    return (1,) if space.fusion == "lr" else (0, 1)


def pair_weights(space: VectorSpace, quality: Doubles) -> Doubles:
    """Return the weights of the streams that the query decides.

    Args:
        space: of the gallery.
        quality: of the queries, shape (Q, S).

    Returns:
        Shape (Q, 2): a and b, for the fusions ``weighted`` and ``fused`` still to be multiplied by
        the quality of the stored image.
    """
    fixed = {
        "hr": (1, 0),
        "lr": (0, 1),
        "mean": (1, 1),
        "constant": (space.constant, 1 - space.constant),
    }
    if space.fusion in fixed:
        return np.tile(np.array(fixed[space.fusion], dtype=np.float64), (len(quality), 1))
    return quality if space.num_streams == 2 else np.ones((len(quality), 2))


def _directions(quality: NDArray[np.floating]) -> Doubles:
    wide = quality.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True))
    return wide / np.where(lengths == 0, 1, lengths)
