"""The one function that turns distances into a report.

Letters: Q queries, G gallery, T draws.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import distance_rows
from resolute.core.errors import ProtocolError, ShapeError
from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.evaluation.candidates import Candidates
from resolute.evaluation.diagnosis import check_queries, explain_unmatched, matched_queries
from resolute.evaluation.draws import SingleShot
from resolute.evaluation.metrics import QueryScores, cmc, match_ranks
from resolute.evaluation.protocol import Protocol
from resolute.evaluation.report import (
    Report,
    chosen_ap,
    group_by_height,
    group_by_rate,
    mean_by_identity,
    std_over_draws,
)

Rows = Iterable[tuple[slice, NDArray[np.floating]]]


def evaluate(
    protocol: Protocol,
    distances: NDArray[np.floating] | Rows | tuple[Embedding, Embedding],
    query: Labels,
    gallery: Labels,
    *,
    streams: Streams,
    trial: int = 0,
) -> Report:
    """Score distances under a protocol.

    Args:
        protocol: how to score.
        distances: a matrix of real numbers, shape (Q, G); or blocks of its rows with their
            positions, in order, as :func:`resolute.core.distance.distance_rows` gives them; or the
            embeddings of queries and gallery. Smaller is nearer.
        query: labels of the Q queries.
        gallery: labels of the G gallery images; equal distances rank by their order.
        streams: source of the draws (``Stream.TRIAL``).
        trial: number of the trial, part of the address of each draw.

    Returns:
        The scores.

    Raises:
        ProtocolError: if the evaluation cannot be right: no images, junk or distractors among the
            queries, queries without match (unless the protocol says otherwise; always if no query
            has one), distances that are NaN.
        ShapeError: if the distances are not (Q, G).
        ConfigError: if embeddings are given that do not agree on a known fusion and metric.
    """
    check_queries(query, gallery, has_distractors=protocol.distractors == "zero")
    candidates = Candidates(gallery.pids, gallery.camids, camera_rule=protocol.camera_rule)
    has_match = matched_queries(candidates, query)
    is_strict = protocol.on_unmatched == "raise"
    if not has_match.any() or (is_strict and not has_match.all()):
        raise ProtocolError(explain_unmatched(candidates, query, has_match, can_skip=is_strict))
    single = _single_shot(protocol, candidates, streams, trial)
    rows = _each_row(distances, len(query), len(gallery))
    scores = _score_queries(rows, query, has_match, candidates, single, protocol.ap_list)
    num_gallery = len(gallery) - len(candidates.junk)
    kept = np.flatnonzero(has_match | (protocol.on_unmatched != "skip"))
    scores, query_kept = scores.take(kept), query.take(kept)
    num_listed = num_gallery if single is None else single.num_images
    curves = cmc(scores.first_ranks, max_rank=min(protocol.max_rank, num_listed))  # (T, R)
    return Report(
        protocol=str(protocol),
        trial=trial,
        seed=streams.seed,
        num_query=len(query),
        num_valid=len(query_kept),
        num_gallery=num_gallery,
        num_draws=0 if single is None else protocol.num_draws,
        has_identical_draws=single is not None and single.is_constant,
        cmc=tuple(curves.mean(axis=0).tolist()),
        ap=protocol.ap,
        mean_ap_step=float(scores.ap_step.mean()),
        mean_ap_trapezoid=float(scores.ap_trapezoid.mean()),
        mean_inp=float(scores.inp.mean()),
        std=_std(protocol, scores, curves),
        per_rate=group_by_rate(scores, query_kept, ap=protocol.ap),
        per_height=group_by_height(scores, query_kept, ap=protocol.ap),
        per_identity=mean_by_identity(scores.first_ranks == 1, query_kept),
        per_identity_ap=mean_by_identity(chosen_ap(scores, protocol.ap), query_kept),
    )


def _score_queries(
    rows: Iterable[tuple[int, NDArray[np.floating]]],
    query: Labels,
    has_match: NDArray[np.bool_],
    candidates: Candidates,
    single: SingleShot | None,
    ap_list: str,
) -> QueryScores:
    scores = QueryScores.empty(len(query), 1 if single is None else single.num_draws)
    for position, row in rows:
        if not has_match[position]:
            continue
        pid, camid = int(query.pids[position]), int(query.camids[position])
        matches, removed = candidates.of_query(pid, camid)
        if single is None or ap_list == "full":
            scores.put_list(position, match_ranks(row, matches, removed))
        if single is not None:
            ranks = single.ranks(row, position=position, pid=pid, camid=camid, matches=matches)
            scores.put_first(position, ranks, is_only_match=ap_list == "drawn")
    return scores


def _single_shot(
    protocol: Protocol, candidates: Candidates, streams: Streams, trial: int
) -> SingleShot | None:
    if not protocol.is_single_shot:
        return None
    return SingleShot(
        candidates,
        num_draws=protocol.num_draws,
        is_per_query=protocol.draws == "per-query",
        has_distractors=protocol.distractors == "zero",
        streams=streams,
        trial=trial,
    )


def _std(protocol: Protocol, scores: QueryScores, curves: NDArray[np.float64]) -> dict[str, float]:
    if not protocol.is_single_shot:
        return {}
    return std_over_draws(scores, curves, ap=protocol.ap, has_drawn_ap=protocol.ap_list == "drawn")


def _each_row(
    distances: NDArray[np.floating] | Rows | tuple[Embedding, Embedding],
    num_query: int,
    num_gallery: int,
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    if isinstance(distances, np.ndarray):
        distances = [(slice(0, len(distances)), distances)]
    elif isinstance(distances, tuple):
        distances = distance_rows(*distances)
    done = 0
    for rows, block in distances:
        is_next = rows.start == done and rows.stop <= num_query
        if not is_next or block.shape != (rows.stop - done, num_gallery):
            raise ShapeError(
                f"distances: expected rows from {done} up to {num_query} queries, each of "
                f"{num_gallery} gallery images, got rows {rows.start} to {rows.stop} of shape "
                f"{block.shape}"
            )
        if not np.issubdtype(block.dtype, np.floating):
            block = block.astype(np.float64)  # Hamming distances, say: ranking marks rows with NaN
        if np.isnan(block.max()):
            bad = int(np.flatnonzero(np.isnan(block).any(axis=1))[0])
            raise ProtocolError(f"distances: NaN in the row of query {done + bad}")
        yield from enumerate(block, start=done)
        done = rows.stop
    if done != num_query:
        raise ShapeError(f"distances: expected {num_query} query rows, got {done}")
