"""The nearest points of a Qdrant collection, and the proof that they are.

The server ranks candidates by the exact weighted similarity; the best are rescored in float64. What
lies beyond the candidates has a plain score of at most t, so a similarity of at most t / rho_min,
rho_min the smallest cosine between the weights of the query and any stored weights [ours].

Letters: Q queries, S streams.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import fused_vectors
from resolute.core.types import Embedding
from resolute.retrieval.points import SHOWN, VECTOR, filter_of, formula, hit_of, recovered
from resolute.retrieval.scores import Scorer, Stretch
from resolute.retrieval.types import Answer, Hit, VectorSpace, Where

NORMALISED = 1e-4  # how far from length 1 a stream may be
_SERVER_ERROR = 1e-5  # of a score the server computed in float32
_SPARE = 16  # candidates beyond k that are rescored
_MOST_CANDIDATES = 2**14


class Finder:
    """Searches one collection.

    Args:
        client: a ``QdrantClient``.
        name: of the collection.
        space: of its embeddings.
        is_local: the client is its own server, which takes no settings.
        is_approximate: search by the server's graph in place of all points.
    """

    def __init__(
        self, client: Any, name: str, space: VectorSpace, *, is_local: bool, is_approximate: bool
    ) -> None:
        self._client = client
        self._name = name
        self._space = space
        self._is_local = is_local
        self._is_approximate = is_approximate
        self._is_weighted = space.num_streams == 2 and space.fusion == "weighted"

    def search(
        self,
        query: Embedding,
        *,
        k: int,
        where: Where,
        thetas: tuple[float | None, float | None],
    ) -> list[Answer]:
        """Find the k nearest images of each query.

        Args:
            query: embeddings of Q images, normalised.
            k: how many.
            where: which images may be found.
            thetas: smallest and largest angle of stored weights; None where there are none.

        Returns:
            One answer per query.
        """
        condition = filter_of(where)
        num_compared = self._client.count(
            self._name, count_filter=condition, exact=not self._is_approximate
        ).count
        rhos = self._smallest_rho(query, thetas)
        vectors = fused_vectors(query)
        answers = []
        for i in range(len(query)):
            ranked = {"query": vectors[i].tolist(), "using": VECTOR, "query_filter": condition}
            one = query.take(slice(i, i + 1))
            answers.append(self._answer(one, ranked, float(rhos[i]), k, num_compared))
        return answers

    def _smallest_rho(
        self, query: Embedding, thetas: tuple[float | None, float | None]
    ) -> NDArray[np.float64]:
        low, high = thetas
        if not self._is_weighted or low is None or high is None:
            return np.ones(len(query))
        theta = np.arctan2(query.quality[:, 1].astype(np.float64), query.quality[:, 0])
        return np.cos(np.maximum(np.abs(theta - low), np.abs(theta - high)))

    def _answer(
        self, query: Embedding, ranked: dict[str, Any], rho: float, k: int, num_compared: int
    ) -> Answer:
        candidates, wanted = max(4 * k, 64), k + _SPARE
        while True:
            beyond = self._beyond(ranked, candidates, rho)
            points = self._points(query, ranked, candidates, wanted)
            if len(points) == wanted:
                beyond = max(beyond, points[-1].score + _SERVER_ERROR)
            hits = self._rescored(query, points)
            worst = hits[k - 1].distance if len(hits) >= k else math.inf
            is_proven = worst <= self._distance_of(beyond) or len(hits) >= num_compared
            if is_proven or candidates >= min(num_compared, _MOST_CANDIDATES):
                break
            candidates, wanted = 4 * candidates, 2 * wanted
        return Answer(
            hits=tuple(hits[:k]),
            exact=is_proven and not self._is_approximate,
            num_compared=num_compared,
            num_rescored=len(hits),
        )

    def _settings(self) -> Any:
        from qdrant_client import models

        return None if self._is_local else models.SearchParams(exact=not self._is_approximate)

    def _beyond(self, ranked: dict[str, Any], candidates: int, rho: float) -> float:
        """Bound the similarity of everything outside the candidates, by the next plain score."""
        if not self._is_weighted:
            return -math.inf
        points = self._client.query_points(
            self._name,
            **ranked,
            search_params=self._settings(),
            limit=1,
            offset=candidates,
            with_payload=False,
        ).points
        if not points:
            return -math.inf
        score: float = points[0].score + _SERVER_ERROR
        return score / rho if score > 0 else score

    def _points(
        self, query: Embedding, ranked: dict[str, Any], candidates: int, wanted: int
    ) -> Sequence[Any]:
        from qdrant_client import models

        if self._is_weighted:
            prefetch = models.Prefetch(
                query=ranked["query"],
                using=VECTOR,
                limit=candidates,
                filter=ranked["query_filter"],
                params=self._settings(),
            )
            asked = {"prefetch": prefetch, "query": formula(query.quality[0])}
        else:
            asked = {**ranked, "search_params": self._settings()}
        points: Sequence[Any] = self._client.query_points(
            self._name, **asked, limit=wanted, with_payload=SHOWN, with_vectors=[VECTOR]
        ).points
        return points

    def _distance_of(self, similarity: float) -> float:
        squared = max(0.0, 2 - 2 * similarity - 8 * NORMALISED)
        return math.sqrt(squared) if self._space.metric == "euclidean" else squared

    def _rescored(self, query: Embedding, points: Sequence[Any]) -> list[Hit]:
        if not points:
            return []
        stored = recovered(self._space, points)
        stretch = Stretch(
            streams=tuple(stored.vectors[:, s] for s in range(self._space.num_streams)),
            quality=stored.quality,
            squares=(stored.vectors.astype(np.float64) ** 2).sum(axis=2),
        )
        rows = np.arange(len(points))
        pairs = Scorer(query, self._space).exact(stretch, np.zeros_like(rows), rows)
        hits = [
            hit_of(points[i].payload, pairs.distances[i], pairs.streams[i], pairs.shares[i])
            for i in range(len(points))
        ]
        return sorted(hits, key=lambda hit: (hit.distance, hit.id))
