import math

import numpy as np
import pytest

from resolute.core.errors import ProtocolError
from resolute.core.rng import Stream, Streams
from resolute.evaluation.intervals import (
    bootstrap_identities,
    check_protocols,
    corrected_resampled_t,
    summed_differences,
)
from resolute.evaluation.report import Report


def report(per_identity, protocol="mlr"):
    return Report(
        protocol=protocol,
        trial=0,
        seed=0,
        num_query=1,
        num_valid=1,
        num_gallery=1,
        num_draws=0,
        has_identical_draws=False,
        cmc=(0.0,),
        ap="step",
        mean_ap_step=0.0,
        mean_ap_trapezoid=0.0,
        mean_inp=0.0,
        std={},
        per_rate={},
        per_height={},
        per_identity=tuple(per_identity.items()),
    )


def random_runs(seed, num_runs=4, num_identities=60, gain=0.0):
    """Halves of the same people: each run tests a part of them."""
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(num_runs):
        pids = np.sort(rng.permutation(num_identities)[: num_identities // 2]) + 1
        scores = {int(pid): float(rng.random() < 0.5 + gain) for pid in pids}
        runs.append(scores)
    return runs


def bootstrap(before, after, **settings):
    return bootstrap_identities(*summed_differences(before, after), **settings)


def other_runs(before):
    return [{pid: float((pid * 7 + k) % 3 > 0) for pid in run} for k, run in enumerate(before)]


def test_differences_are_added_over_the_runs_of_each_identity():
    before = [{1: 0.0, 2: 1.0}, {3: 0.0, 2: 0.5}]
    after = [{1: 1.0, 2: 1.0}, {3: 0.25, 2: 1.0}]
    sums, counts = summed_differences(before, after)
    assert sums.tolist() == [1.0, 0.5, 0.25]
    assert counts.tolist() == [1, 2, 1]


def test_bootstrap_agrees_with_a_loop_over_resamples():
    before = random_runs(1)
    after = other_runs(before)
    interval = bootstrap(before, after, streams=Streams(5), num_resamples=1200)
    people = sorted({pid for run in before for pid in run})
    own = {
        pid: [b[pid] - a[pid] for a, b in zip(before, after, strict=True) if pid in a]
        for pid in people
    }
    assert len({len(found) for found in own.values()}) > 1
    rng = Streams(5).numpy(Stream.BOOTSTRAP, 0)
    means = []
    for num in (500, 500, 200):
        for picks in rng.integers(len(people), size=(num, len(people))):
            means.append(np.mean([d for at in picks for d in own[people[at]]]))
    assert interval.low == pytest.approx(np.quantile(means, 0.025))
    assert interval.high == pytest.approx(np.quantile(means, 0.975))
    assert interval.num_identities == len(people)
    assert interval.low < interval.estimate < interval.high


def test_the_estimate_is_what_the_means_of_equal_halves_differ_by():
    before = random_runs(1)
    after = other_runs(before)
    of_runs = [np.mean([b[p] - a[p] for p in a]) for a, b in zip(before, after, strict=True)]
    interval = bootstrap(before, after, streams=Streams(0), num_resamples=10)
    assert interval.estimate == pytest.approx(np.mean(of_runs))


def test_bootstrap_nears_the_normal_interval():
    rng = np.random.default_rng(2)
    values = dict(enumerate(rng.normal(0.1, 0.4, 400).tolist(), start=1))
    interval = bootstrap([dict.fromkeys(values, 0.0)], [values], streams=Streams(0))
    half = 1.96 * np.std(list(values.values())) / math.sqrt(400)
    assert interval.high - interval.estimate == pytest.approx(half, rel=0.05)
    assert interval.estimate - interval.low == pytest.approx(half, rel=0.05)


def test_the_same_run_twice_is_no_news():
    before = random_runs(1, num_runs=1)
    after = other_runs(before)
    once = bootstrap(before, after, streams=Streams(5))
    assert bootstrap(before * 2, after * 2, streams=Streams(5)) == once


def test_bootstrap_is_seeded_and_antisymmetric():
    before = random_runs(1)
    after = [{p: 1 - s for p, s in run.items()} for run in before]
    there = bootstrap(before, after, streams=Streams(5), num_resamples=300)
    assert there == bootstrap(before, after, streams=Streams(5), num_resamples=300)
    back = bootstrap(after, before, streams=Streams(5), num_resamples=300)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    wider = bootstrap(before, after, streams=Streams(5), num_resamples=300, level=0.99)
    assert wider.low < there.low < there.high < wider.high


def test_runs_must_be_paired():
    one, other = {1: 0.0, 2: 1.0}, {1: 0.0, 3: 1.0}
    with pytest.raises(ProtocolError, match="as many reports of both methods, got 2 and 1"):
        summed_differences([one, one], [one])
    with pytest.raises(ProtocolError, match="got 0 and 0"):
        summed_differences([], [])
    with pytest.raises(ProtocolError, match="run 1: the two reports are not of the same queries"):
        summed_differences([one, one], [one, other])
    with pytest.raises(ProtocolError, match="market"):
        check_protocols([report(one)], [report(one, protocol="market")])


@pytest.mark.parametrize("num_runs", [2, 3, 4, 5, 10, 11, 40])
def test_corrected_t_agrees_with_scipy(num_runs):
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(num_runs).normal(0.02, 0.03, num_runs)
    got = corrected_resampled_t(differences.tolist(), num_train=316, num_test=158, level=0.9)
    mean, variance = np.mean(differences), np.var(differences, ddof=1)
    error = math.sqrt(variance * (1 / num_runs + 158 / 316))
    assert got.t == pytest.approx(mean / error)
    assert got.p_value == pytest.approx(2 * stats.t.sf(abs(mean / error), num_runs - 1))
    low, high = stats.t.interval(0.9, num_runs - 1, loc=mean, scale=error)
    assert (got.low, got.high) == pytest.approx((low, high))
    assert (got.num_runs, got.level) == (num_runs, 0.9)


def test_corrected_t_by_hand():
    # Differences 1, 2, 3: mean 2, variance 1; 1/3 + 1 = 4/3; t = sqrt(3), and for two degrees of
    # freedom P(|t| > x) = 1 - x / sqrt(2 + x^2).
    got = corrected_resampled_t([1.0, 2.0, 3.0], num_train=10, num_test=10)
    assert got.t == pytest.approx(math.sqrt(3))
    assert got.p_value == pytest.approx(1 - math.sqrt(3 / 5))
    assert got.high - 2 == pytest.approx(4.302653 * math.sqrt(4 / 3), rel=1e-6)


def test_correction_widens_the_interval():
    values = [0.01, 0.03, 0.02, 0.05]
    plain = corrected_resampled_t(values, num_train=10**9, num_test=1)
    halves = corrected_resampled_t(values, num_train=316, num_test=316)
    assert halves.high - halves.low == pytest.approx(math.sqrt(5) * (plain.high - plain.low))


def test_corrected_t_needs_a_spread():
    for values in ([0.1], [], [0.1, 0.1, 0.1]):
        with pytest.raises(ProtocolError, match="at least two differences that are not all equal"):
            corrected_resampled_t(values, num_train=1, num_test=1)
