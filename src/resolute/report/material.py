"""The numbers behind a report's curves: arrays in, small values out.

Letters: Q queries, T draws, R ranks.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.evaluation.metrics import cmc
from resolute.evaluation.report import HEIGHT_EDGES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Up to so many different heights or rates each is a group of its own; more are put into ranges.
MANY = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A CMC curve with what it varies by.

    Attributes:
        name: ``all`` or the rate, for example ``2``.
        count: queries.
        mean: fractions, shape (R,).
        std: standard deviation (ddof = 1) over draws or trials, shape (R,); None where there is
            only one.
    """

    name: str
    count: int
    mean: Floats
    std: Floats | None


def cmc_curves(first_ranks: Ints, rates: Floats, *, max_rank: int) -> dict[str, Curve]:
    """Compute the CMC over all queries and per rate, with its deviation over draws.

    Args:
        first_ranks: rank of each query's match per draw, shape (Q, T).
        rates: down-sampling rate of each query, shape (Q,).
        max_rank: number of ranks R.

    Returns:
        ``all`` first, then the rates from the lowest, where there is more than one.
    """
    if len(np.unique(rates)) > MANY:
        rates = np.rint(rates)
    groups = {"all": np.ones(len(rates), dtype=bool)}
    if len(np.unique(rates)) > 1:
        groups |= {f"{rate:g}": rates == rate for rate in np.unique(rates)}
    curves = {}
    for name, mask in groups.items():
        per_draw = cmc(first_ranks[mask], max_rank=max_rank)  # (T, R)
        curves[name] = Curve(
            name=name,
            count=int(mask.sum()),
            mean=per_draw.mean(axis=0),
            std=per_draw.std(axis=0, ddof=1) if len(per_draw) > 1 else None,
        )
    return curves


def over_trials(trials: Iterable[dict[str, Curve]]) -> dict[str, Curve]:
    """Average the curves of several trials; of a single one the deviation over draws stays.

    Args:
        trials: curves by name, one mapping per trial.

    Returns:
        Mean curves with the deviation over trials, each over the trials that have it.
    """
    given = list(trials)
    if len(given) == 1:
        return given[0]
    joined = {}
    for name in dict.fromkeys(name for curves in given for name in curves):
        members = [curves[name] for curves in given if name in curves]
        length = min(len(curve.mean) for curve in members)
        means = np.stack([curve.mean[:length] for curve in members])
        joined[name] = Curve(
            name=name,
            count=sum(curve.count for curve in members),
            mean=means.mean(axis=0),
            std=means.std(axis=0, ddof=1) if len(members) > 1 else None,
        )
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightBin:
    """Rank-1 of the queries of one range of heights.

    Attributes:
        low: smallest height in it, in pixels.
        high: largest height in it.
        count: queries, over all trials.
        rank1: mean Rank-1 over them.
        interval: of 95 %, for one trial's queries [Wilson 1927]: trials share people, so more of
            them narrow nothing here [ours].
    """

    low: int
    high: int
    count: int
    rank1: float
    interval: tuple[float, float]


def rank1_by_height(heights: Ints, hits: Floats, *, num_trials: int) -> list[HeightBin]:
    """Compute Rank-1 against the native height of the query.

    Args:
        heights: in pixels, 0 where unknown, shape (Q,).
        hits: share of the draws with a match at rank 1, shape (Q,).
        num_trials: trials that the queries come from.

    Returns:
        From the lowest; queries of unknown height are left out.
    """
    bins = []
    for low, high in height_ranges(heights):
        mask = (heights >= low) & (heights <= high)
        count, rank1 = int(mask.sum()), float(hits[mask].mean())
        interval = wilson(rank1, count / num_trials)
        bins.append(HeightBin(low=low, high=high, count=count, rank1=rank1, interval=interval))
    return bins


def height_ranges(heights: Ints) -> list[tuple[int, int]]:
    """Group heights: each by itself while they are few, else by the edges of the evaluation.

    Args:
        heights: in pixels; 0 means unknown and is left out.

    Returns:
        Pairs of the smallest and largest height that occur in each group, from the lowest.
    """
    known = np.unique(heights[heights > 0])
    if len(known) <= MANY:
        return [(height, height) for height in known.tolist()]
    bins = np.searchsorted(HEIGHT_EDGES, known, side="right")
    members = [known[bins == b] for b in np.unique(bins)]
    return [(int(m.min()), int(m.max())) for m in members]


def wilson(share: float, count: float, *, z: float = 1.96) -> tuple[float, float]:
    """Compute the score interval of a share [Wilson 1927].

    Args:
        share: what was found, 0..1.
        count: of how many, > 0; need not be whole.
        z: quantile of the normal distribution; 1.96 covers 95 %.

    Returns:
        Lower and upper end, within 0..1.

    Examples:
        >>> [round(end, 3) for end in wilson(0.5, 10)]
        [0.237, 0.763]
    """
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def pick_queries(list_ranks: Ints, margins: Floats, count: int) -> dict[str, list[int]]:
    """Pick the best, median and worst queries by rank of the first match, then by margin.

    Args:
        list_ranks: rank of the first match, 0 without one, shape (Q,).
        margins: see :class:`resolute.report.survey.Survey`, shape (Q,).
        count: of each kind, >= 1; fewer where there are too few queries.

    Returns:
        Positions by ``best``, ``median`` and ``worst``, no query twice.
    """
    found = np.flatnonzero(list_ranks > 0)
    order = found[np.lexsort((-margins[found], list_ranks[found]))].tolist()
    count = min(count, max(1, len(order) // 3))
    middle = max(count, (len(order) - count) // 2)
    worst = max(middle + count, len(order) - count)
    return {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[worst:][::-1],
    }
