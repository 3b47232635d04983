"""Two methods on the same halves and seeds: the difference, both intervals, and the claim.

The scores to give are those a result keeps: ``report.by_identity()`` of each cell.

Letters: I identities, J halves, K cells (a half and a seed).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.evaluation.intervals import (
    bootstrap_identities,
    corrected_resampled_t,
    summed_differences,
)

# Share of the cells that must have the sign of the mean before a difference is claimed.
SAME_SIGN = 0.8
# Fewer cells say nothing of what another half or seed would give: the interval over identities
# knows neither [ours].
MIN_CELLS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Method minus baseline in Rank-1 or mAP, fractions.

    Attributes:
        mean: mean over the people of all halves and seeds.
        low: lower end of the bootstrap over identities, the primary interval.
        high: its upper end.
        t_mean: mean over halves, each the mean over its seeds and identities.
        t_low: lower end of the corrected resampled t; None with fewer than two halves, or
            where all halves agree to the last bit.
        t_high: its upper end; None likewise.
        same_sign: share of cells whose own difference has the sign of ``mean``; a cell without
            any difference has no sign.
        num_cells: number of cells K.
        num_halves: number of halves J.
        num_identities: number of identities I.
    """

    mean: float
    low: float
    high: float
    t_mean: float
    t_low: float | None
    t_high: float | None
    same_sign: float
    num_cells: int
    num_halves: int
    num_identities: int

    @property
    def has_cells(self) -> bool:
        """Whether there are cells enough to claim anything."""
        return self.num_cells >= MIN_CELLS

    @property
    def is_claim(self) -> bool:
        """Whether the primary interval excludes zero and four fifths of enough cells agree."""
        excludes_zero = self.low > 0 or self.high < 0
        return excludes_zero and self.has_cells and self.same_sign >= SAME_SIGN


def paired_difference(
    baseline: Sequence[Mapping[int, float]],
    method: Sequence[Mapping[int, float]],
    *,
    streams: Streams,
    halves: Sequence[int] | None = None,
    num_train: int | None = None,
    level: float = 0.95,
) -> Difference:
    """Compare two methods cell by cell.

    The primary interval resamples identities, each with its differences in all the halves and
    seeds where it is a query. Beside it stands the corrected resampled t over halves
    [Nadeau 2003]; seeds of one half are averaged first, because they are no new people.

    Args:
        baseline: mean score by identity, one mapping per cell: ``report.by_identity()``.
        method: the same of the other method, same cells in the same order.
        streams: source of the bootstrap's draws (``Stream.BOOTSTRAP``).
        halves: which half (``data.trial``) each cell is of, K entries; None: each its own.
        num_train: training identities of each half, of the set that is divided; None: as many as
            it tests.
        level: coverage of both intervals, in (0, 1).

    Returns:
        The difference of method minus baseline.

    Raises:
        ProtocolError: if the cells are not paired: other counts or identities, or not one half
            per cell.

    Examples:
        >>> before, after = [{1: 0.0, 2: 1.0}], [{1: 1.0, 2: 1.0}]
        >>> paired_difference(before, after, streams=Streams(0)).mean
        0.5
    """
    sums, counts = summed_differences(baseline, method)
    names = range(len(baseline)) if halves is None else halves
    if len(names) != len(baseline):
        raise ProtocolError(f"halves: expected one per cell, {len(baseline)}, got {len(names)}")
    primary = bootstrap_identities(sums, counts, streams=streams, level=level)
    cells = [_mean_difference(*pair) for pair in zip(baseline, method, strict=True)]
    of_half: dict[int, list[float]] = {}
    for name, cell in zip(names, cells, strict=True):
        of_half.setdefault(name, []).append(cell)
    means = [math.fsum(seeds) / len(seeds) for seeds in of_half.values()]
    num_test = round(sum(len(cell) for cell in baseline) / len(baseline))
    t_low, t_high = _corrected_interval(means, num_train or num_test, num_test, level)
    return Difference(
        mean=primary.estimate,
        low=primary.low,
        high=primary.high,
        t_mean=math.fsum(means) / len(means),
        t_low=t_low,
        t_high=t_high,
        same_sign=sum(cell * primary.estimate > 0 for cell in cells) / len(cells),
        num_cells=len(cells),
        num_halves=len(means),
        num_identities=primary.num_identities,
    )


def _mean_difference(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    return math.fsum(after[pid] - before[pid] for pid in before) / len(before)


def _corrected_interval(
    means: Sequence[float], num_train: int, num_test: int, level: float
) -> tuple[float | None, float | None]:
    if len(means) < 2 or min(means) == max(means):
        return None, None
    found = corrected_resampled_t(means, num_train=num_train, num_test=num_test, level=level)
    return found.low, found.high
