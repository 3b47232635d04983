"""The best constant share of the HR space: the control that a quality per image has to beat.

Letters: Q queries, G gallery.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding, Labels, Resolution, Split
from resolute.evaluation.protocol import Protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate

NUM_SHARES = 21  # 0, 0.05 .. 1 [ours]
Side = tuple[Embedding, Labels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The share that was chosen and what it was chosen by.

    Attributes:
        share: of the HR space, 0..1, for the fusion ``constant``.
        rank1: Rank-1 of the choosing identities at this share.
        mean_ap: their mAP at this share.
        low: smallest share that is as good.
        high: largest share that is as good.
    """

    share: float
    rank1: float
    mean_ap: float
    low: float
    high: float


def best_constant(
    query: Side, gallery: Side, *, protocol: Protocol, streams: Streams, trial: int
) -> Choice:
    """Choose the share of the HR space by Rank-1, then by mAP.

    Of equally good shares the one nearest to one half is taken: identities that were trained on
    are often told apart at any share.

    Args:
        query: embeddings and labels of Q images; never of test identities.
        gallery: the same of G images.
        protocol: how they are scored.
        streams: source of the gallery draws.
        trial: address of the draws.

    Returns:
        The choice.

    Raises:
        ConfigError: if the embeddings have one stream: there is nothing to share.
    """
    reports = _by_share(query, gallery, protocol=protocol, streams=streams, trial=trial)
    found = {share: (report.ranks[1], report.mean_ap) for share, report in reports}
    best = max(found.values())
    tied = [share for share, scores in found.items() if scores == best]
    share = min(tied, key=lambda value: (abs(value - 0.5), value))
    return Choice(share=share, rank1=best[0], mean_ap=best[1], low=min(tied), high=max(tied))


def best_of_each(
    query: Side, gallery: Side, *, protocol: Protocol, streams: Streams, trial: int
) -> float:
    """Compute what a weight per person could win at most, by looking at the answers [ours].

    Args:
        query: embeddings and labels of Q images.
        gallery: the same of G images.
        protocol: how they are scored.
        streams: source of the gallery draws.
        trial: address of the draws.

    Returns:
        Mean over identities of the Rank-1 at the share that is best for each.

    Raises:
        ConfigError: if the embeddings have one stream.
    """
    best: dict[int, float] = {}
    for _, report in _by_share(query, gallery, protocol=protocol, streams=streams, trial=trial):
        for pid, rank1 in report.per_identity:
            best[pid] = max(rank1, best.get(pid, 0.0))
    return math.fsum(best.values()) / len(best)


def with_constant(embedding: Embedding, share: float) -> Embedding:
    """Have an embedding matched with a constant share of the HR space.

    Args:
        embedding: of N images.
        share: of the HR space, 0..1.
    """
    return replace(embedding, fusion="constant", constant=share)


def _by_share(
    query: Side, gallery: Side, *, protocol: Protocol, streams: Streams, trial: int
) -> Iterator[tuple[float, Report]]:
    if query[0].vectors.shape[1] != 2:
        raise ConfigError(
            f"constant: expected embeddings with 2 streams, got {query[0].vectors.shape[1]}"
        )
    of_hr, of_lr = (distance_matrix(query[0], gallery[0], fusion=f) for f in ("hr", "lr"))
    for share in np.linspace(0, 1, NUM_SHARES).round(2).tolist():
        distances = share * of_hr + (1 - share) * of_lr  # (Q, G)
        report = evaluate(protocol, distances, query[1], gallery[1], streams=streams, trial=trial)
        yield share, report


def choosing_split(split: Split, *, streams: Streams) -> Split:
    """Return the identities a share is chosen on: training identities, none that is scored.

    Args:
        split: as the run was trained on.
        streams: source of the draw where there are more training identities than test identities.

    Returns:
        LR images as query and HR images as gallery, of as many identities as the test has, so that
        the gallery is as hard [ours].

    Raises:
        ConfigError: if no training identity has both.
    """
    seen: dict[int, set[Resolution]] = {}
    for record in split.train:
        seen.setdefault(record.pid, set()).add(record.resolution)
    pids = sorted(pid for pid, found in seen.items() if {Resolution.HR, Resolution.LR} <= found)
    if not pids:
        raise ConfigError(f"{split.name}: no training identity has both HR and LR images")
    wanted = min(len(pids), len({record.pid for record in split.query}))
    order = streams.numpy(Stream.SPLIT, "constant").permutation(len(pids))
    chosen = {pids[i] for i in order[:wanted].tolist()}
    query, gallery = (
        tuple(r for r in split.train if r.pid in chosen and r.resolution is resolution)
        for resolution in (Resolution.LR, Resolution.HR)
    )
    return replace(split, train=(), query=query, gallery=gallery)
