import math

import numpy as np
import pytest

from resolute.core.errors import ProtocolError
from resolute.core.rng import Stream, Streams
from resolute.evaluation.intervals import corrected_resampled_t
from resolute.evaluation.paired import paired_difference


def cells(seed, *, num_halves=4, num_seeds=2, num_identities=80, gain=0.0):
    """Two methods on overlapping halves of the same people, some seeds each."""
    rng = np.random.default_rng(seed)
    baseline, method, halves = [], [], []
    for half in range(num_halves):
        pids = np.sort(rng.permutation(num_identities)[: num_identities // 2]).tolist()
        for _ in range(num_seeds):
            baseline.append({pid: float(rng.random() < 0.5) for pid in pids})
            method.append({pid: float(rng.random() < 0.5 + gain) for pid in pids})
            halves.append(half)
    return baseline, method, halves


def test_agrees_with_the_words_of_the_definition():
    baseline, method, halves = cells(1, gain=0.2)
    got = paired_difference(baseline, method, streams=Streams(3), halves=halves, num_train=50)
    people = sorted({pid for cell in baseline for pid in cell})
    found = [
        [b[pid] - a[pid] for a, b in zip(baseline, method, strict=True) if pid in a]
        for pid in people
    ]
    assert got.mean == pytest.approx(np.mean([d for one in found for d in one]))
    assert got.mean == pytest.approx(got.t_mean)  # of equal halves
    rng = Streams(3).numpy(Stream.BOOTSTRAP, 0)
    means = [
        np.mean([d for at in picks for d in found[at]])
        for _ in range(20)
        for picks in rng.integers(len(people), size=(500, len(people)))
    ]
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    own = [np.mean([b[p] - a[p] for p in a]) for a, b in zip(baseline, method, strict=True)]
    of_halves = [np.mean(own[2 * half : 2 * half + 2]) for half in range(4)]
    t = corrected_resampled_t(of_halves, num_train=50, num_test=40)
    assert (got.t_mean, got.t_low, got.t_high) == pytest.approx((t.estimate, t.low, t.high))
    assert got.same_sign == np.mean([math.copysign(1, d) == 1 and d != 0 for d in own])
    assert (got.num_cells, got.num_halves, got.num_identities) == (8, 4, len(people))


def test_changing_sides_changes_signs():
    baseline, method, halves = cells(2, gain=0.1)
    there = paired_difference(baseline, method, streams=Streams(0), halves=halves)
    back = paired_difference(method, baseline, streams=Streams(0), halves=halves)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert (back.t_low, back.t_high) == pytest.approx((-there.t_high, -there.t_low))
    assert back.same_sign == there.same_sign


def test_a_claim_needs_the_interval_and_four_fifths_of_the_cells():
    people = range(100)
    zero = dict.fromkeys(people, 0.0)
    better = {pid: float(pid < 30) for pid in people}
    worse = {pid: -float(pid < 5) for pid in people}
    clear = paired_difference([zero] * 5, [better] * 4 + [worse], streams=Streams(0))
    assert clear.low > 0
    assert clear.same_sign == 0.8
    assert clear.is_claim
    split = paired_difference([zero] * 4, [better] * 3 + [worse], streams=Streams(0))
    assert split.low > 0
    assert not split.is_claim
    one = {pid: float(pid == 0) for pid in people}
    unsure = paired_difference([zero] * 5, [one] * 5, streams=Streams(0))
    assert unsure.same_sign == 1.0
    assert not unsure.is_claim
    assert paired_difference([better] * 5, [zero] * 5, streams=Streams(0)).is_claim  # a loss


@pytest.mark.parametrize("num_cells", [1, 2, 3])
def test_one_or_two_cells_claim_nothing(num_cells):
    before, after = dict.fromkeys(range(100), 0.0), dict.fromkeys(range(100), 1.0)
    got = paired_difference([before] * num_cells, [after] * num_cells, streams=Streams(0))
    assert got.low > 0
    assert got.same_sign == 1.0
    assert got.has_cells == got.is_claim == (num_cells == 3)


def test_equal_methods_claim_nothing():
    baseline, _, halves = cells(4)
    got = paired_difference(baseline, baseline, streams=Streams(0), halves=halves)
    assert (got.mean, got.low, got.high, got.same_sign) == (0, 0, 0, 0)
    assert (got.t_low, got.t_high) == (None, None)  # no spread to scale
    assert not got.is_claim


def test_one_half_has_no_t():
    baseline, method, halves = cells(5, num_halves=1, num_seeds=3)
    got = paired_difference(baseline, method, streams=Streams(0), halves=halves)
    assert (got.t_low, got.t_high, got.num_halves, got.num_cells) == (None, None, 1, 3)
    assert got.low <= got.mean <= got.high


def test_fewer_training_identities_widen_the_t():
    baseline, method, halves = cells(6)
    wide = paired_difference(baseline, method, streams=Streams(0), halves=halves, num_train=10)
    narrow = paired_difference(baseline, method, streams=Streams(0), halves=halves, num_train=1000)
    assert wide.t_low < narrow.t_low < narrow.t_high < wide.t_high
    assert (wide.low, wide.high) == (narrow.low, narrow.high)
    as_many = paired_difference(baseline, method, streams=Streams(0), halves=halves, num_train=40)
    assert as_many == paired_difference(baseline, method, streams=Streams(0), halves=halves)


def test_cells_must_be_paired():
    one = {1: 0.0, 2: 1.0}
    with pytest.raises(ProtocolError, match="as many reports of both methods, got 2 and 1"):
        paired_difference([one, one], [one], streams=Streams(0))
    with pytest.raises(ProtocolError, match="run 0: the two reports are not of the same queries"):
        paired_difference([one], [{1: 0.0, 3: 1.0}], streams=Streams(0))
    with pytest.raises(ProtocolError, match=r"run 0: .*\(0 and 0 identities\)"):
        paired_difference([{}], [{}], streams=Streams(0))
    with pytest.raises(ProtocolError, match="halves: expected one per cell, 1, got 2"):
        paired_difference([one], [one], streams=Streams(0), halves=[0, 1])
