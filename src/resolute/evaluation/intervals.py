"""Is one method better than another? Two intervals of their difference.

Halves of the same people overlap, so their scores are not independent and the plain standard
error is far too small. The primary interval resamples people; the corrected resampled t widens
the spread over halves [Nadeau 2003].

Letters: I identities, J halves or seeds, B resamples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.rng import Stream, Streams
from resolute.evaluation.report import Report

_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference of scores (method minus baseline) with its bootstrap interval.

    Attributes:
        estimate: mean difference.
        low: lower end.
        high: upper end.
        level: share of resamples inside.
        num_identities: number of identities I.
        num_resamples: number of resamples B.
    """

    estimate: float
    low: float
    high: float
    level: float
    num_identities: int
    num_resamples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampledT:
    """A mean difference over overlapping halves with its corrected t interval.

    Attributes:
        estimate: mean difference.
        low: lower end.
        high: upper end.
        level: coverage aimed at.
        t: the statistic.
        p_value: two-sided.
        num_runs: number of halves J.
    """

    estimate: float
    low: float
    high: float
    level: float
    t: float
    p_value: float
    num_runs: int


def check_protocols(baseline: Sequence[Report], method: Sequence[Report]) -> None:
    """Check that the runs that are compared were scored alike.

    Args:
        baseline: reports of one method, one per half and seed.
        method: reports of the other on the same halves and seeds, in the same order.

    Raises:
        ProtocolError: if two runs of one place have other protocols.
    """
    pairs = zip(baseline, method, strict=False)  # summed_differences refuses other counts
    for run, (one, other) in enumerate(pairs):
        if one.protocol != other.protocol:
            raise ProtocolError(
                f"run {run}: the two reports are not of the same protocol: {one.protocol} and "
                f"{other.protocol}"
            )


def summed_differences(
    baseline: Sequence[Mapping[int, float]], method: Sequence[Mapping[int, float]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Add up the difference of each identity over halves and seeds.

    Args:
        baseline: score by identity of one method, one mapping per half and seed.
        method: the same of the other on the same halves and seeds, in the same order.

    Returns:
        Sums of method minus baseline, shape (I,), and over how many runs each is, shape (I,), by
        identity.

    Raises:
        ProtocolError: if the runs are not paired: other counts or identities.
    """
    if len(baseline) != len(method) or not baseline:
        raise ProtocolError(
            f"expected as many reports of both methods, got {len(baseline)} and {len(method)}"
        )
    differences: dict[int, list[float]] = {}
    for run, (before, after) in enumerate(zip(baseline, method, strict=True)):
        if before.keys() != after.keys() or not before:
            raise ProtocolError(
                f"run {run}: the two reports are not of the same queries ({len(before)} and "
                f"{len(after)} identities): compare equal splits, trials and rates"
            )
        for pid, score in after.items():
            differences.setdefault(pid, []).append(score - before[pid])
    found = [differences[pid] for pid in sorted(differences)]
    return np.array([math.fsum(own) for own in found]), np.array([len(own) for own in found])


def bootstrap_identities(
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    *,
    streams: Streams,
    num_resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Bootstrap over identities the mean difference of two methods.

    People, not images or halves, are what a test set is a sample of. Each resample draws I
    identities with replacement, each with all of its runs; the interval lies between the
    percentiles [Efron 1993]. An identity weighs as much as the number of runs it is in, so that
    the estimate is the mean over people and runs [ours]: what mean scores of equal halves differ by
    where each person has as many queries, and near it elsewhere, since scores count queries.

    Args:
        sums: of the differences of each identity over its runs, shape (I,), I >= 1.
        counts: how many runs, shape (I,), >= 1.
        streams: source of the draws (``Stream.BOOTSTRAP``).
        num_resamples: number of resamples B, >= 1.
        level: share of resamples inside the interval, in (0, 1).

    Returns:
        The percentile interval.
    """
    rng = streams.numpy(Stream.BOOTSTRAP, 0)
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        part = means[start : start + _RESAMPLES_AT_ONCE]
        picks = rng.integers(len(sums), size=(len(part), len(sums)))
        part[:] = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        estimate=math.fsum(sums) / int(counts.sum()),
        low=float(low),
        high=float(high),
        level=level,
        num_identities=len(sums),
        num_resamples=num_resamples,
    )


def corrected_resampled_t(
    differences: Sequence[float], *, num_train: int, num_test: int, level: float = 0.95
) -> ResampledT:
    """Test the mean difference over overlapping train and test halves.

    The variance of the mean is variance x (1/J + num_test / num_train) in place of variance / J
    [Nadeau 2003].

    Args:
        differences: score of one method minus the other's, one per half, J >= 2.
        num_train: number of training identities in each half.
        num_test: number of test identities in each half.
        level: coverage of the interval, in (0, 1).

    Returns:
        The test with J - 1 degrees of freedom.

    Raises:
        ProtocolError: if there are fewer than two halves, or all differences are equal.
    """
    num_runs = len(differences)
    if num_runs < 2 or min(differences) == max(differences):
        raise ProtocolError(
            f"corrected t: expected at least two differences that are not all equal, got {num_runs}"
        )
    variance = float(np.var(differences, ddof=1))
    estimate = math.fsum(differences) / num_runs
    error = math.sqrt(variance * (1 / num_runs + num_test / num_train))
    t = estimate / error
    half_width = error * _t_quantile(level, num_runs - 1)
    return ResampledT(
        estimate=estimate,
        low=estimate - half_width,
        high=estimate + half_width,
        level=level,
        t=t,
        p_value=max(0.0, 1 - _t_within(abs(t), num_runs - 1)),
        num_runs=num_runs,
    )


def _t_within(t: float, degrees: int) -> float:
    """Probability that Student's t lies within -t..t [Abramowitz 1964, 26.7.3 and 26.7.4]."""
    angle = math.atan(t / math.sqrt(degrees))
    is_odd = degrees % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if is_odd else 2, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    if is_odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def _t_quantile(level: float, degrees: int) -> float:
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < level else (low, middle)
    return high
