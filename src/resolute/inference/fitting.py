"""Fit what distances and images are worth, from people that the network never saw.

Letters: N images or pairs, F features.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.types import Embedding
from resolute.inference.calibration import (
    FEATURES,
    Curve,
    Floats,
    ReliabilityFit,
    Threshold,
    feature_table,
)
from resolute.inference.logistic import fit_isotonic, fit_logistic, log_loss, sigmoid

FALSE_MATCH_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
# The step function has to be this much better on people it was not fitted on, in nats per pair,
# or the two numbers of the logistic curve are kept [ours].
_ISOTONIC_GAIN = 0.002
_L2_PAIRS = 1e-6
_L2_RELIABILITY = 1e-3
_HALF = 2**16  # values of half the bits of a float32


def fit_curve(
    distances: Floats, is_same: NDArray[np.bool_], groups: NDArray[np.int64]
) -> tuple[Curve, float, float]:
    """Fit the log odds of one person against the distance, each kind of pair with half the weight.

    A logistic curve and a falling step function are fitted on half of the people and judged on
    the other, both ways; the simpler one stays unless the other is clearly better.

    Args:
        distances: of N pairs, shape (N,).
        is_same: whether a pair shows one person, shape (N,).
        groups: person of each pair's query, shape (N,): no person stands on both sides.

    Returns:
        The curve fitted on all pairs, its log loss on them, and the held-out log loss of the kind
        not taken.

    Raises:
        ProtocolError: if there are no pairs of one person, or none of two, or same pairs lie
            farther apart than different ones.
    """
    # Every other person: halves of one size whatever the numbering.
    half = np.searchsorted(np.unique(groups), groups) % 2 == 0
    losses = {"logistic": 0.0, "isotonic": 0.0}
    for inside in (half, ~half):
        sides = [(inside, is_same[inside]), (~inside, is_same[~inside])]
        if not all(labels.any() and not labels.all() for _, labels in sides):
            losses = {"logistic": 0.0, "isotonic": math.inf}  # too few people to judge
            break
        for kind in losses:
            curve = _fit(kind, distances[inside], is_same[inside])
            losses[kind] += 0.5 * _loss(curve, distances[~inside], is_same[~inside])
    is_better = losses["isotonic"] < losses["logistic"] - _ISOTONIC_GAIN
    chosen, other = ("isotonic", "logistic") if is_better else ("logistic", "isotonic")
    curve = _fit(chosen, distances, is_same)
    if curve.log_odds[0] <= curve.log_odds[-1]:
        raise ProtocolError(
            "images of one person lie no nearer to each other than images of two: this model "
            "says nothing about these data, nothing can be calibrated"
        )
    beside = losses[other] if math.isfinite(losses[other]) else 0.0
    return curve, _loss(curve, distances, is_same), beside


def fit_thresholds(
    same: Floats, different: Callable[[], Iterable[NDArray[np.float32]]]
) -> tuple[Threshold, ...]:
    """Read the distances at stated false-match rates off the pairs of two people.

    Pairs of two people are more than memory holds: they are gone through twice and counted, first
    by the upper half of their bits, which rise with the distance, then by the lower half where a
    threshold falls. That gives every number exactly.

    Args:
        same: distances of the pairs of one person, shape (N,).
        different: gives the distances of the pairs of two people part by part, each >= 0.

    Returns:
        One threshold per rate that at least one pair of two people stands behind.
    """
    upper = np.zeros(_HALF, dtype=np.int64)
    for part in different():
        upper += np.bincount(_bits(part) >> 16, minlength=_HALF)
    up_to = np.cumsum(upper)
    counts = {rate: int(rate * up_to[-1] + 1e-9) for rate in FALSE_MATCH_RATES}
    # The pair behind ``count`` others: exactly ``count`` lie below it where there are no ties.
    halves = {r: int(np.searchsorted(up_to, c, "right")) for r, c in counts.items() if c}
    lower = {half: np.zeros(_HALF, dtype=np.int64) for half in halves.values()}
    for part in different() if lower else ():
        bits = _bits(part)
        for half, number in lower.items():
            number += np.bincount(bits[bits >> 16 == half] % _HALF, minlength=_HALF)
    found = []
    for rate, half in halves.items():
        within = up_to[half] - upper[half] + np.cumsum(lower[half])
        rest = int(np.searchsorted(within, counts[rate], "right"))
        distance = float(np.array(half * _HALF + rest, dtype=np.uint32).view(np.float32))
        found.append(
            Threshold(
                false_match_rate=rate,
                distance=distance,
                match_rate=float((same < distance).mean()) if len(same) else 0.0,
                num_negatives=int(within[rest] - lower[half][rest]),
            )
        )
    return tuple(found)


def fit_reliability(
    embedding: Embedding,
    is_first: NDArray[np.bool_],
    *,
    people: NDArray[np.int64],
    num_gallery: int,
) -> ReliabilityFit | None:
    """Fit the chance of a correct Rank-1 from native height, quality ratio and norm.

    More pixels never count against an image: a height that would is left out of the fit [ours].

    Args:
        embedding: of N queries, with native sizes.
        is_first: whether a query's match stood first, shape (N,).
        people: who each query shows, shape (N,); no person stands on both sides of the check.
        num_gallery: images among which it stood.

    Returns:
        The fit; None where it knows no more of people it was not fitted on than the share of first
        places, or where all queries went one way.

    Raises:
        ProtocolError: if the embeddings do not say their native sizes.
    """
    names = tuple(
        name
        for name in FEATURES
        if (name != "log_norm" or embedding.norms is not None)
        and (name != "log_quality_ratio" or embedding.vectors.shape[1] == 2)
    )
    table = feature_table(embedding, names)  # (N, F)
    if is_first.all() or not is_first.any():
        return None
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale[scale < 1e-6] = 1.0  # a feature that never varies says nothing
    scaled = (table - mean) / scale
    if not _tells_more(scaled, is_first, people):
        return None
    theta = _rising(scaled, is_first)
    even = np.ones(len(table))
    rank1 = float(is_first.mean())
    constant = np.full(len(table), math.log(rank1 / (1 - rank1)))
    return ReliabilityFit(
        features=names,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple(theta.tolist()),
        lowest=tuple(table.min(axis=0).tolist()),
        highest=tuple(table.max(axis=0).tolist()),
        num_queries=len(table),
        num_gallery=num_gallery,
        rank1=rank1,
        log_loss=log_loss(theta[0] + scaled @ theta[1:], is_first, even),
        log_loss_constant=log_loss(constant, is_first, even),
    )


def _rising(scaled: Floats, is_first: NDArray[np.bool_]) -> Floats:
    """Fit bias and coefficients, that of the height, the first, at least 0."""
    even = np.ones(len(scaled))
    theta = fit_logistic(scaled, is_first, even, l2=_L2_RELIABILITY)
    if theta[1] < 0:
        others = fit_logistic(scaled[:, 1:], is_first, even, l2=_L2_RELIABILITY)
        theta = np.insert(others, 1, 0.0)
    return theta


def _tells_more(scaled: Floats, is_first: NDArray[np.bool_], people: NDArray[np.int64]) -> bool:
    """Tell whether a fit on half of the people beats the share of first places on the others."""
    half = np.searchsorted(np.unique(people), people) % 2 == 0
    gain = 0.0
    for inside in (half, ~half):
        known, asked = is_first[inside], is_first[~inside]
        if not len(asked) or known.all() or not known.any():
            return False
        theta = _rising(scaled[inside], known)
        share = known.mean()
        constant = np.full(len(asked), math.log(share / (1 - share)))
        even = np.ones(len(asked))
        gain += log_loss(constant, asked, even)
        gain -= log_loss(theta[0] + scaled[~inside] @ theta[1:], asked, even)
    return gain > 0


def _bits(distances: NDArray[np.float32]) -> NDArray[np.uint32]:
    return (distances + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0


def _fit(kind: str, distances: Floats, is_same: NDArray[np.bool_]) -> Curve:
    weights = _balanced(is_same)
    limit = math.log(1 + min(int(is_same.sum()), int((~is_same).sum())))
    if kind == "logistic":
        centre, scale = float(distances.mean()), float(distances.std()) or 1.0
        scaled = (distances - centre) / scale
        bias, slope = fit_logistic(scaled[:, None], is_same, weights, l2=_L2_PAIRS)
        points = (centre - scale, centre + scale)
        return Curve(
            kind="logistic",
            distances=points,
            log_odds=(float(bias - slope), float(bias + slope)),
            limit=limit,
        )
    values, chances = fit_isotonic(distances, is_same, weights)
    edge = sigmoid(np.array([limit]))[0]
    chances = np.clip(chances, 1 - edge, edge)
    log_odds = np.log(chances / (1 - chances))
    return Curve(
        kind="isotonic",
        distances=tuple(values.tolist()),
        log_odds=tuple(log_odds.tolist()),
        limit=limit,
    )


def _loss(curve: Curve, distances: Floats, is_same: NDArray[np.bool_]) -> float:
    return log_loss(curve(distances), is_same, _balanced(is_same))


def _balanced(is_same: NDArray[np.bool_]) -> Floats:
    num_same = max(1, int(is_same.sum()))
    num_different = max(1, len(is_same) - num_same)
    return np.where(is_same, 0.5 / num_same, 0.5 / num_different)
