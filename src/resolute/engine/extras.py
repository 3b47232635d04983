"""The scores that are asked for by name on top of a protocol's own, from the same embeddings.

Torch-free: embeddings of other programs are scored by the same functions.
"""

from collections.abc import Iterator

import numpy as np

from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.engine.config import EvaluationConfig
from resolute.evaluation.candidates import JUNK_PID
from resolute.evaluation.expansion import expand_queries
from resolute.evaluation.protocol import Protocol
from resolute.evaluation.report import Report
from resolute.evaluation.rerank import rerank_rows
from resolute.evaluation.scoring import evaluate as score
from resolute.evaluation.verification import Verification, verify

Side = tuple[Embedding, Labels]


class Scorer:
    """One gallery under one protocol, and everything that was scored on it.

    Args:
        protocol: how to score.
        gallery: embeddings and labels of the gallery.
        streams: source of the gallery draws.
        trial: number of the trial.
        has_verification: also judge pairs by one threshold, for every score but ``rerank``, whose
            distances are scaled per query.

    Attributes:
        scores: reports by name, in the order they were asked for.
        verification: verifications by the same names.
    """

    def __init__(
        self,
        protocol: Protocol,
        gallery: Side,
        *,
        streams: Streams,
        trial: int,
        has_verification: bool,
    ) -> None:
        self.scores: dict[str, Report] = {}
        self.verification: dict[str, Verification] = {}
        self._protocol = protocol
        self._gallery = gallery
        self._streams = streams
        self._trial = trial
        self._has_verification = has_verification

    def put(self, name: str, query: Side, gallery: Side | None = None) -> None:
        """Score queries by their own distance.

        Args:
            name: of the score.
            query: embeddings and labels.
            gallery: in place of the usual one, for another way of embedding.
        """
        vectors, labels = gallery or self._gallery
        self.scores[name] = score(
            self._protocol,
            (query[0], vectors),
            query[1],
            labels,
            streams=self._streams,
            trial=self._trial,
        )
        if self._has_verification:
            self.verification[name] = verify(self._protocol, (query[0], vectors), query[1], labels)

    def put_extras(self, asked: EvaluationConfig, query: Side) -> None:
        """Score what uses the gallery as a whole: ``expanded`` and ``rerank``.

        Junk is taken out of the gallery first: it is in no list, so it must be nobody's neighbour
        either [ours].

        Args:
            asked: what is wanted, and its constants.
            query: embeddings and labels.
        """
        vectors, labels = _without_junk(self._gallery)
        if asked.expand:
            expanded = expand_queries(
                query[0], vectors, num_neighbours=asked.expand, alpha=asked.expand_alpha
            )
            self.put("expanded", (expanded, query[1]), (vectors, labels))
        if asked.rerank:
            rows: Iterator[tuple[slice, np.ndarray]] = rerank_rows(
                query[0],
                vectors,
                k1=asked.rerank_k1,
                k2=asked.rerank_k2,
                share=asked.rerank_lambda,
            )
            self.scores["rerank"] = score(
                self._protocol, rows, query[1], labels, streams=self._streams, trial=self._trial
            )


def _without_junk(side: Side) -> Side:
    kept = np.flatnonzero(side[1].pids != JUNK_PID)
    return side[0].take(kept), side[1].take(kept)
