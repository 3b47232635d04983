import numpy as np
import pytest

from resolute.evaluation.report import HEIGHT_EDGES
from resolute.report.material import (
    Curve,
    cmc_curves,
    height_ranges,
    over_trials,
    pick_queries,
    rank1_by_height,
    wilson,
)


def test_curves_average_draws_and_say_how_far_they_lie_apart():
    ranks = np.array([[1, 2], [3, 1], [2, 2]])
    curve = cmc_curves(ranks, np.ones(3), max_rank=3)["all"]
    first, second = [1 / 3, 2 / 3, 1.0], [1 / 3, 1.0, 1.0]
    assert curve.mean.tolist() == pytest.approx(np.mean([first, second], axis=0).tolist())
    assert curve.std.tolist() == pytest.approx(np.std([first, second], axis=0, ddof=1).tolist())
    assert curve.count == 3


def test_continuous_rates_are_told_apart_to_the_whole_number():
    rates = np.linspace(1.6, 3.4, 40)
    curves = cmc_curves(np.ones((40, 1), dtype=int), rates, max_rank=1)
    assert set(curves) == {"all", "2", "3"}


def curve(name, values, std=None):
    return Curve(name=name, count=4, mean=np.array(values), std=std)


def test_trials_average_where_they_have_the_rate():
    one = {"all": curve("all", [0.2, 0.6]), "2": curve("2", [0.1, 0.2])}
    other = {"all": curve("all", [0.4, 0.8, 1.0])}
    joined = over_trials([one, other])
    assert joined["all"].mean.tolist() == pytest.approx([0.3, 0.7])
    assert joined["all"].std.tolist() == pytest.approx([np.std([0.2, 0.4], ddof=1)] * 2)
    assert joined["all"].count == 8
    assert joined["2"].std is None
    assert over_trials([one]) == one


def test_few_heights_stand_alone_and_many_in_the_edges_of_the_evaluation():
    assert height_ranges(np.array([32, 64, 42, 32, 0])) == [(32, 32), (42, 42), (64, 64)]
    ranges = height_ranges(np.arange(20, 140))
    for low, high in ranges:
        edges = [edge for edge in HEIGHT_EDGES if low < edge <= high]
        assert edges == []
    assert ranges[0][0] == 20
    assert ranges[-1][1] == 139
    assert height_ranges(np.zeros(3, dtype=int)) == []


def test_rank1_by_height_counts_its_queries():
    heights, hits = np.array([32, 32, 64, 0]), np.array([1.0, 0.5, 0.0, 1.0])
    low, high = rank1_by_height(heights, hits, num_trials=2)
    assert (low.low, low.count, low.rank1) == (32, 2, 0.75)
    assert low.interval == wilson(0.75, 1)  # the queries of one trial
    assert (high.count, high.rank1) == (1, 0.0)


@pytest.mark.parametrize(("share", "count"), [(0.0, 5), (0.3, 40), (0.5, 1), (1.0, 316)])
def test_wilson_ends_are_where_the_share_is_just_rejected(share, count):
    for end in wilson(share, count):
        error = np.sqrt(end * (1 - end) / count)
        assert abs(share - end) == pytest.approx(1.96 * error, abs=1e-9)


def test_queries_are_picked_by_rank_then_margin():
    ranks = np.array([1, 9, 1, 2, 5, 0, 3, 1])
    margins = np.array([0.1, -1.0, 0.4, -0.1, -0.3, np.inf, -0.2, 0.2])
    picked = pick_queries(ranks, margins, 2)
    # best first: 2 7 0 3 6 4 1; query 5 has no match
    assert picked == {"best": [2, 7], "median": [0, 3], "worst": [1, 4]}


@pytest.mark.parametrize("count", range(9))
def test_no_query_is_picked_twice(count):
    ranks = np.arange(1, count + 1)
    picked = pick_queries(ranks, np.zeros(count), 3)
    chosen = [q for positions in picked.values() for q in positions]
    assert len(set(chosen)) == len(chosen) <= count
    if count >= 3:
        assert all(len(positions) == min(3, count // 3) for positions in picked.values())
        assert picked["worst"][0] == count - 1
