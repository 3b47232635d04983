"""FAISS finds candidates in a gallery folder; distances and proof stay ours.

The index holds the fused vectors u of each segment in memory, coarsely: it is built when first
needed and never written or read as a file, as FAISS files are no safe input. With <u_q, u_g> at
most t among the images that are not candidates, their weighted similarity is at most t / rho_min,
rho_min the smallest cosine between the weights of the query and of any image of the segment [ours].

Letters: Q queries, N images of a segment, S streams, D embedding.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.distance import fused_vectors
from resolute.core.errors import ConfigError
from resolute.core.types import Embedding
from resolute.retrieval.exact import Best, Nearest
from resolute.retrieval.scores import UNIT, Doubles, Floats, Scorer, Stretch
from resolute.retrieval.types import VectorSpace

KINDS = ("int8", "hnsw")
_CHUNK = 2**14
_NORMALISED = 1e-4  # how far from length 1 a stream may be
_FEW_QUERIES = 16  # more are scanned: one matrix product serves them all
_MOSTLY = 0.5  # share of a segment that passes, below which it is scanned
_SECOND_TRY = 8  # times the candidates, where the first did not prove the answer
_GRAPH_LINKS = 16
_GRAPH_WIDTH = 128  # beam of a search in the graph, at least


class FaissAccelerator:
    """Finds candidates for :meth:`Gallery.search` on one host.

    ``int8`` scans a quarter of the bytes with a proven bound, and searches a segment in full where
    the bound does not prove the answer: always exact. ``hnsw`` walks a graph: fast on many images,
    and the answers say that they are not proven. Each gallery it is given to has indexes of its
    own, see :meth:`for_gallery`.

    Args:
        kind: one of ``KINDS``.
        num_candidates: images per segment to rescore at least.

    Raises:
        ConfigError: if the kind is unknown or faiss is not installed.
    """

    def __init__(self, kind: str = "int8", *, num_candidates: int = 256) -> None:
        if kind not in KINDS:
            raise ConfigError(unknown_name("accelerator", kind, list(KINDS)))
        try:
            import faiss
        except ImportError as error:
            raise ConfigError(
                'the accelerator needs FAISS: pip install "resolute-reid[faiss]"'
            ) from error
        self._faiss = faiss
        self._kind = kind
        self._num_candidates = num_candidates
        self._indexes: dict[str, _Index] = {}
        self._mutex = threading.Lock()

    @property
    def is_exact(self) -> bool:
        """Whether every answer is proven."""
        return self._kind == "int8"

    def for_gallery(self, space: VectorSpace) -> "FaissAccelerator":
        """Return one of the same settings, with no index yet.

        Indexes go by the names of segments, which are the same in every gallery.

        Args:
            space: of the gallery.

        Returns:
            The accelerator.

        Raises:
            ConfigError: if fusion and metric need both streams apart: one fused vector per image
                cannot serve them.
        """
        is_one_vector = space.num_streams == 1 or space.fusion == "fused"
        if not is_one_vector and (space.fusion, space.metric) != ("weighted", "sqeuclidean"):
            raise ConfigError(
                "the accelerator serves the fusions 'weighted' (sqeuclidean) and 'fused', got "
                f"{space.fusion!r} ({space.metric}); search without it"
            )
        return FaissAccelerator(self._kind, num_candidates=self._num_candidates)

    def search(
        self,
        query: Embedding,
        parts: Sequence[tuple[str, Stretch, NDArray[np.bool_] | None]],
        *,
        space: VectorSpace,
        k: int,
    ) -> list[Nearest]:
        """Find the k nearest images of each query.

        Args:
            query: embeddings of Q images, checked.
            parts: name, images and which of them pass, per segment.
            space: of both sides.
            k: how many.

        Returns:
            One result per query.

        Raises:
            ProtocolError: if query and image have no stream that both trust.
        """
        scorer = Scorer(query, space)
        best = Best(scorer, k)
        vectors = fused_vectors(query)
        with self._mutex:
            kept = {name for name, _, _ in parts}
            self._indexes = {n: i for n, i in self._indexes.items() if n in kept}
            for name, stretch, passing in parts:
                scorer.check_common_trust(stretch, passing)
                index = self._indexes.get(name)
                if index is None:
                    index = self._indexes[name] = _Index(self._faiss, self._kind, space)
                index.grow(stretch)
                if later := index.num_rows - len(stretch):
                    # Another search, of a later state, was here first: its images do not count.
                    now = np.ones(len(stretch), dtype=bool) if passing is None else passing
                    passing = np.append(now, np.zeros(later, dtype=bool))  # (rows of the index,)
                self._part(best, index, stretch, passing, vectors)
        return best.results()

    def _part(
        self,
        best: Best,
        index: "_Index",
        stretch: Stretch,
        passing: NDArray[np.bool_] | None,
        vectors: Floats,
    ) -> None:
        best.stretch = stretch
        count = len(stretch) if passing is None else int(np.count_nonzero(passing))
        wanted = max(self._num_candidates, 4 * best.k)
        # Of few that pass, neither the coarse scan nor the graph's beam would meet enough.
        if count < _MOSTLY * len(stretch) or (self.is_exact and len(vectors) > _FEW_QUERIES):
            best.scan(stretch, passing)  # a matrix product is as fast for many queries
            return
        if not self.is_exact:
            rows = index.graph_candidates(vectors, min(count, wanted), passing)
            best.rescore(*_pairs(rows))
            short = np.flatnonzero(np.count_nonzero(rows >= 0, axis=1) < min(count, best.k))
            if len(short):
                best.scan(stretch, passing, queries=short)
            return
        left = np.arange(len(vectors))
        odd = index.exceptions if passing is None else index.exceptions[passing[index.exceptions]]
        best.rescore(np.repeat(left, len(odd)), np.tile(odd, len(left)))
        for times in (1, _SECOND_TRY):
            scores, rows = index.candidates(vectors[left], min(index.num_rows, times * wanted))
            queries, found = _pairs(rows)
            kept = slice(None) if passing is None else passing[found]
            best.rescore(left[queries[kept]], found[kept])
            if rows.shape[1] == index.num_rows:
                return
            scorer = best.scorer.take(left)
            beyond = index.nearest_beyond(scorer, scores[:, -1].astype(np.float64))
            left = left[beyond < best.limits[left]]
            if not len(left):
                return
        best.scan(stretch, passing, queries=left)


class _Index:
    """The index of one segment, and what its bound needs.

    Attributes:
        exceptions: rows the index keeps too coarsely for the bound, always rescored.
    """

    def __init__(self, faiss: Any, kind: str, space: VectorSpace) -> None:
        self._faiss = faiss
        self._kind = kind
        self._space = space
        self._index: Any = None
        self.exceptions = np.empty(0, dtype=np.int64)
        self._error = 0.0  # length of u minus what the index keeps of it, but for exceptions
        self._unevenness = 0.0  # largest distance of a stream's length from 1
        self._thetas = (np.inf, -np.inf)

    @property
    def num_rows(self) -> int:
        """How many images it holds."""
        return 0 if self._index is None else int(self._index.ntotal)

    def grow(self, stretch: Stretch) -> None:
        """Take in the images that came since."""
        for begin in range(self.num_rows, len(stretch), _CHUNK):
            rows = slice(begin, min(begin + _CHUNK, len(stretch)))
            vectors = np.stack([v[rows] for v in stretch.streams], axis=1)
            fused = fused_vectors(
                Embedding(vectors=vectors, quality=np.asarray(stretch.quality[rows]))
            )
            if self._index is None:
                self._index = self._made(fused)
            self._index.add(fused)
            if self._kind == "int8":
                kept = self._index.reconstruct_n(begin, len(fused))
                apart = np.linalg.norm(fused.astype(np.float64) - kept, axis=1)
                self._error = self._error or float(1.05 * np.quantile(apart, 0.999))
                beyond = begin + np.flatnonzero(apart > self._error)
                self.exceptions = np.concatenate([self.exceptions, beyond])
            uneven = np.abs(np.sqrt(stretch.squares[rows]) - 1).max()
            self._unevenness = max(self._unevenness, float(uneven))
            if self._space.num_streams == 2:
                quality = stretch.quality[rows].astype(np.float64)
                theta = np.arctan2(quality[:, 1], quality[:, 0])
                low, high = self._thetas
                self._thetas = (min(low, theta.min()), max(high, theta.max()))

    def candidates(self, vectors: Floats, wanted: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the best scores and their rows, passing or not, each (Q, wanted)."""
        found: tuple[Floats, NDArray[np.int64]] = self._index.search(vectors, wanted)
        return found

    def graph_candidates(
        self, vectors: Floats, wanted: int, passing: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return rows the graph leads to among those that pass, -1 for none, (Q, wanted)."""
        if not wanted:
            return np.empty((len(vectors), 0), dtype=np.int64)
        faiss = self._faiss
        mask = None if passing is None else np.packbits(passing, bitorder="little")
        selector = None if mask is None else faiss.IDSelectorBitmap(mask)
        beam = max(_GRAPH_WIDTH, 2 * wanted)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=beam)
        rows: NDArray[np.int64] = self._index.search(vectors, wanted, params=parameters)[1]
        return rows

    def nearest_beyond(self, scorer: Scorer, scores: Doubles) -> Doubles:
        """Return distances that no image with a lower score is below, shape (Q,)."""
        lengths, quality = scorer.lengths, scorer.quality  # (Q, S)
        if self._unevenness > _NORMALISED or np.abs(lengths - 1).max() > _NORMALISED:
            return np.full(len(scores), -np.inf)
        rounding = 3 * (self._space.num_streams * self._space.dim + 8) * UNIT
        scores = scores + (1 + _NORMALISED) * self._error + rounding
        if self._space.num_streams == 2 and self._space.fusion == "weighted":
            theta = np.arctan2(quality[:, 1], quality[:, 0])
            low, high = self._thetas
            rho = np.cos(np.maximum(np.abs(theta - low), np.abs(theta - high)))
            with np.errstate(divide="ignore"):
                scores = np.where(scores > 0, scores / np.maximum(rho, 0), scores)
        squares = np.maximum(2 - 2 * scores - 8 * _NORMALISED, 0)
        return np.sqrt(squares) if self._space.metric == "euclidean" else squares

    def _made(self, fused: Floats) -> Any:
        faiss, size = self._faiss, fused.shape[1]
        if self._kind == "hnsw":
            return faiss.IndexHNSWFlat(size, _GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        index = faiss.IndexScalarQuantizer(
            size, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.sq.rangestat_arg = 0.1  # room for what comes later: beyond the range it is cut off
        index.train(fused)
        return index


def _pairs(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    queries = np.repeat(np.arange(len(rows)), rows.shape[1])
    flat = rows.reshape(-1)
    return queries[flat >= 0], flat[flat >= 0]
