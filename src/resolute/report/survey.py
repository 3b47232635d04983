"""One pass over all pairs of a run: its scores, and what the report shows of them.

Memory is bounded by the number of queries, never by queries times gallery.

Letters: Q queries, G gallery, T draws, K hits kept per query.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import distance_rows
from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.evaluation.candidates import Candidates
from resolute.evaluation.draws import SingleShot
from resolute.evaluation.metrics import match_ranks
from resolute.evaluation.protocol import Protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate
from resolute.report.pairs import (
    DISTANCE_BINS,
    SHARE_BINS,
    DistanceCounts,
    bin_width,
    hr_share,
    relative_quality,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rows = Iterable[tuple[slice, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over all pairs of a run found.

    Attributes:
        report: the scores under the protocol.
        first_ranks: rank of each query's match per draw, from 1; 0 without one, shape (Q, T).
        list_ranks: rank of each query's first match in the whole gallery; 0 without one,
            shape (Q,).
        margins: distance of the nearest wrong image minus that of the nearest match, shape (Q,);
            infinite where one is missing.
        hits: gallery positions of the K nearest images, nearest first, -1 where the list is
            shorter, shape (Q, K).
        hit_distances: their distances, shape (Q, K).
        matches: gallery position of the nearest match, -1 without one, shape (Q,).
        match_distances: its distance, shape (Q,).
        distances: all pairs, counted.
        shares: positive and negative pairs by a / (a + b), shape (2, ``SHARE_BINS``); None with
            one space.
    """

    report: Report
    first_ranks: Ints
    list_ranks: Ints
    margins: Floats
    hits: Ints
    hit_distances: Floats
    matches: Ints
    match_distances: Floats
    distances: DistanceCounts
    shares: Ints | None


def survey(
    protocol: Protocol,
    query: tuple[Embedding, Labels],
    gallery: tuple[Embedding, Labels],
    *,
    streams: Streams,
    trial: int,
    top: int,
) -> Survey:
    """Score a run and look at every pair of its images once.

    Args:
        protocol: how to score.
        query: embeddings and labels of Q images.
        gallery: embeddings and labels of G images.
        streams: source of the gallery draws, as in the evaluation.
        trial: number of the trial.
        top: number of hits K to keep per query, >= 1.

    Returns:
        What was found. Ties rank by gallery position.

    Raises:
        ProtocolError: if the evaluation cannot be right, see
            :func:`resolute.evaluation.scoring.evaluate`.
    """
    if top < 1:
        raise ProtocolError(f"hits per query: expected >= 1, got {top}")
    walk = _Walk(protocol, query, gallery, streams=streams, trial=trial, top=top)
    report = evaluate(
        protocol,
        walk.watched(distance_rows(query[0], gallery[0])),
        query[1],
        gallery[1],
        streams=streams,
        trial=trial,
    )
    return walk.survey(report)


class _Walk:
    """Watches the rows of distances on their way to the scores."""

    def __init__(
        self,
        protocol: Protocol,
        query: tuple[Embedding, Labels],
        gallery: tuple[Embedding, Labels],
        *,
        streams: Streams,
        trial: int,
        top: int,
    ) -> None:
        embedding, self._labels = query
        offered, labels = gallery
        self._candidates = Candidates(labels.pids, labels.camids, camera_rule=protocol.camera_rule)
        self._single = None
        if protocol.is_single_shot:
            self._single = SingleShot(
                self._candidates,
                num_draws=protocol.num_draws,
                is_per_query=protocol.draws == "per-query",
                has_distractors=protocol.distractors == "zero",
                streams=streams,
                trial=trial,
            )
        num, kept = len(embedding), min(top, len(offered))
        self._first = np.zeros((num, 1 if self._single is None else self._single.num_draws), int)
        self._list_ranks = np.zeros(num, dtype=np.int64)
        self._margins = np.full(num, np.inf)
        self._hits = np.full((num, kept), -1)
        self._hit_distances = np.full((num, kept), np.inf)
        self._matches = np.full(num, -1)
        self._match_distances = np.full(num, np.inf)
        self._width = bin_width(embedding, offered)
        self._counts = np.zeros((2, DISTANCE_BINS), dtype=np.int64)
        self._shares: Ints | None = None
        if embedding.vectors.shape[1] == 2:
            self._shares = np.zeros((2, SHARE_BINS), dtype=np.int64)
        self._trust = relative_quality(embedding), relative_quality(offered)

    def watched(self, rows: Rows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for where, block in rows:
            for position, row in enumerate(block, start=where.start):
                self._look(position, row)
            yield where, block

    def _look(self, position: int, row: NDArray[np.float32]) -> None:
        pid, camid = int(self._labels.pids[position]), int(self._labels.camids[position])
        matches, removed = self._candidates.of_query(pid, camid)
        is_listed = np.ones(len(row), dtype=bool)
        is_listed[removed] = False
        is_match = np.zeros(len(row), dtype=bool)
        is_match[matches] = True
        is_wrong = is_listed & ~is_match
        self._count(position, row, is_match, is_wrong)
        hits = nearest(row, is_listed, self._hits.shape[1])
        self._hits[position, : len(hits)] = hits
        self._hit_distances[position, : len(hits)] = row[hits]
        if not len(matches):
            return
        self._list_ranks[position] = match_ranks(row, matches, removed)[0]
        best = matches[np.argmin(row[matches])]
        self._matches[position], self._match_distances[position] = best, row[best]
        if is_wrong.any():
            self._margins[position] = row[is_wrong].min() - row[best]
        self._first[position] = (
            self._list_ranks[position]
            if self._single is None
            else self._single.ranks(row, position=position, pid=pid, camid=camid, matches=matches)
        )

    def _count(
        self,
        position: int,
        row: NDArray[np.float32],
        is_match: NDArray[np.bool_],
        is_wrong: NDArray[np.bool_],
    ) -> None:
        bins = np.minimum(row / self._width, DISTANCE_BINS - 1).astype(np.int64)
        for kind, mask in enumerate((is_match, is_wrong)):
            self._counts[kind] += np.bincount(bins[mask], minlength=DISTANCE_BINS)
        if self._shares is None:
            return
        share = hr_share(self._trust[0][position], self._trust[1])  # (G,)
        bins = np.minimum(np.nan_to_num(share) * SHARE_BINS, SHARE_BINS - 1).astype(np.int64)
        for kind, mask in enumerate((is_match, is_wrong)):
            defined = mask & np.isfinite(share)
            self._shares[kind] += np.bincount(bins[defined], minlength=SHARE_BINS)

    def survey(self, report: Report) -> Survey:
        return Survey(
            report=report,
            first_ranks=self._first,
            list_ranks=self._list_ranks,
            margins=self._margins,
            hits=self._hits,
            hit_distances=self._hit_distances,
            matches=self._matches,
            match_distances=self._match_distances,
            distances=DistanceCounts(
                width=self._width, positives=self._counts[0], negatives=self._counts[1]
            ),
            shares=self._shares,
        )


def nearest(row: NDArray[np.floating], is_listed: NDArray[np.bool_], count: int) -> Ints:
    """Find the nearest images of a list as a stable sort would, without sorting it.

    Args:
        row: distances to all G images, shape (G,).
        is_listed: which of them are in the list, shape (G,).
        count: number of images wanted, >= 1.

    Returns:
        Positions, nearest first, at most ``count``.
    """
    listed = np.flatnonzero(is_listed)
    values = row[listed]
    if len(listed) > count:
        near = values <= np.partition(values, count - 1)[count - 1]
        listed, values = listed[near], values[near]
    return listed[np.argsort(values, kind="stable")][:count]
