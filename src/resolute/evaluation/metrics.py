"""Ranks, average precision and CMC by counting, without sorting the gallery.

The rank of a match is one more than the number of images that stand before it: the nearer ones,
and of the equally near ones those at an earlier gallery position. That is exactly the place it
takes in a stable sort.

Letters: Q queries, G gallery, P matches of one query, R ranks, T draws.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError

AP_DEFINITIONS = ("step", "trapezoid")

# One pass over the row per match beats sorting the row until about one image in this many matches.
_SORT_SHARE = 64

Positions = NDArray[np.int64]
Floats = NDArray[np.float64]


def match_ranks(
    distances: NDArray[np.floating], matches: Positions, removed: Positions
) -> Positions:
    """Find the ranks of all true matches of one query.

    Args:
        distances: to every gallery image, shape (G,); not NaN.
        matches: positions of the matches, ascending, shape (P,).
        removed: positions that are not in the list at all; none of them a match.

    Returns:
        Ranks counted from 1, ascending, shape (P,).

    Examples:
        >>> match_ranks(np.array([0.3, 0.1, 0.1, 0.2]), np.array([0, 2]), np.array([3]))
        array([2, 3])
    """
    row = distances.copy()
    row[removed] = np.nan  # neither nearer nor equal to anything
    if _SORT_SHARE * len(matches) > len(row):
        is_match = np.zeros(len(row), dtype=bool)
        is_match[matches] = True
        return np.flatnonzero(is_match[np.argsort(row, kind="stable")]) + 1  # NaN sorts last
    ranks = np.empty(len(matches), dtype=np.int64)
    for i, at in enumerate(matches.tolist()):
        ranks[i] = np.count_nonzero(row[:at] <= row[at]) + np.count_nonzero(row[at:] < row[at])
    ranks.sort()
    return ranks + 1


def average_precision(ranks: Positions, *, definition: str) -> float:
    """Compute the average precision of one query.

    ``step`` is the mean of the precision at each match, as Torchreid, FastReID and scikit-learn
    have it. ``trapezoid`` takes the mean of the precision at and just before each match, as the
    official Market-1501 script does [Zheng 2015].

    Args:
        ranks: ranks of its matches counted from 1, ascending, shape (P,), P >= 1.
        definition: one of ``AP_DEFINITIONS``.

    Returns:
        A fraction 0..1.

    Raises:
        ConfigError: if the definition is unknown.

    Examples:
        >>> average_precision(np.array([1, 4]), definition="step")
        0.75
        >>> average_precision(np.array([1, 4]), definition="trapezoid")
        0.7083333333333333
    """
    if definition not in AP_DEFINITIONS:
        raise ConfigError(unknown_name("AP definition", definition, list(AP_DEFINITIONS)))
    found = np.arange(1, len(ranks) + 1)
    at = found / ranks
    if definition == "step":
        return float(at.mean())
    # Before the first image there is no precision; the official script says 1.
    before = np.where(ranks == 1, 1.0, (found - 1) / np.maximum(ranks - 1, 1))
    return float((at + before).mean() / 2)


def inverse_negative_penalty(ranks: Positions) -> float:
    """Compute INP, the share of matches in the list down to the hardest one [Ye 2021].

    Args:
        ranks: ranks of the matches of one query counted from 1, ascending, shape (P,), P >= 1.

    Returns:
        A fraction 0..1; its mean over queries is mINP.
    """
    return float(len(ranks) / ranks[-1])


def cmc(first_ranks: Positions, *, max_rank: int) -> Floats:
    """Compute the cumulative match characteristic.

    Entry ``k`` is the fraction of queries whose first match stands at rank ``k + 1`` or better
    [Gray 2007].

    Args:
        first_ranks: rank of the first match of each query, counted from 1, 0 where there is
            none, shape (Q,) or (Q, T).
        max_rank: number of ranks R.

    Returns:
        Fractions in [0, 1], non-decreasing, shape (R,) or (T, R).

    Examples:
        >>> cmc(np.array([1, 3, 0, 2]), max_rank=3)
        array([0.25, 0.5 , 0.75])
    """
    columns = first_ranks.reshape(len(first_ranks), -1)  # (Q, T)
    curves = np.empty((columns.shape[1], max_rank))
    for draw, ranks in enumerate(columns.T):
        kept = ranks[(ranks >= 1) & (ranks <= max_rank)]
        curves[draw] = np.cumsum(np.bincount(kept, minlength=max_rank + 1)[1:]) / len(columns)
    return curves.reshape((*first_ranks.shape[1:], max_rank))


class QueryScores(NamedTuple):
    """Scores per query and draw; T = 1 where nothing is drawn.

    Attributes:
        first_ranks: rank of the first match counted from 1; 0 without a match, shape (Q, T).
        ap_step: average precision by the definition ``step``, shape (Q, T).
        ap_trapezoid: average precision by the definition ``trapezoid``, shape (Q, T).
        inp: inverse negative penalty, shape (Q, T).
    """

    first_ranks: Positions
    ap_step: Floats
    ap_trapezoid: Floats
    inp: Floats

    @classmethod
    def empty(cls, num_query: int, num_draws: int) -> "QueryScores":
        """Make scores in which no query has found anything.

        Args:
            num_query: number of queries Q.
            num_draws: number of draws T.
        """
        shape = (num_query, num_draws)
        return cls(
            np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape), np.zeros(shape)
        )

    def put_list(self, position: int, ranks: Positions) -> None:
        """Enter what the whole list of one query gives, the same for all draws.

        Args:
            position: of the query.
            ranks: ranks of its matches counted from 1, ascending, shape (P,), P >= 1.
        """
        self.first_ranks[position] = ranks[0]
        self.ap_step[position] = average_precision(ranks, definition="step")
        self.ap_trapezoid[position] = average_precision(ranks, definition="trapezoid")
        self.inp[position] = inverse_negative_penalty(ranks)

    def put_first(self, position: int, ranks: Positions, *, is_only_match: bool) -> None:
        """Enter the rank of the first match in each draw.

        Args:
            position: of the query.
            ranks: rank of the first match per draw, counted from 1, shape (T,).
            is_only_match: whether each list has one match, so that all scores follow from it.
        """
        self.first_ranks[position] = ranks
        if is_only_match:
            self.ap_step[position] = 1 / ranks
            self.ap_trapezoid[position] = np.where(ranks == 1, 1.0, 0.5 / ranks)
            self.inp[position] = 1 / ranks

    def take(self, index: Positions | NDArray[np.bool_]) -> "QueryScores":
        """Return the scores of some queries.

        Args:
            index: positions or a mask.
        """
        return QueryScores(
            self.first_ranks[index], self.ap_step[index], self.ap_trapezoid[index], self.inp[index]
        )
