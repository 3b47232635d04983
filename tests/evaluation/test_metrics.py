"""Counting gives what sorting gives."""

import numpy as np
import pytest
from evaluation.literal import curve, score_list
from hypothesis import given, settings
from hypothesis import strategies as st

from resolute.core.errors import ConfigError
from resolute.core.types import Labels
from resolute.evaluation import metrics
from resolute.evaluation.metrics import (
    QueryScores,
    average_precision,
    cmc,
    inverse_negative_penalty,
    match_ranks,
)

NOTHING = np.empty(0, dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), is_sorting=st.booleans())
def test_ranks_are_those_of_a_stable_argsort(seed, is_sorting):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 60))
    row = rng.integers(0, rng.integers(1, 12), num).astype(rng.choice([np.float32, np.float64]))
    row[rng.random(num) < 0.1] = np.inf
    order = rng.permutation(num)
    matches = np.sort(order[: rng.integers(1, num + 1)])
    others = np.setdiff1d(order, matches)
    removed = rng.permutation(others)[: rng.integers(0, len(others) + 1)]
    kept = np.setdiff1d(np.arange(num), removed)
    listed = kept[np.argsort(row[kept], kind="stable")]
    wanted = np.flatnonzero(np.isin(listed, matches)) + 1
    before = row.copy()
    with pytest.MonkeyPatch.context() as patch:  # both ways, whatever the number of matches
        patch.setattr(metrics, "_SORT_SHARE", 10**9 if is_sorting else 0)
        np.testing.assert_array_equal(match_ranks(row, matches, removed), wanted)
    np.testing.assert_array_equal(row, before)


def test_a_tie_is_decided_by_gallery_position():
    row = np.zeros(5, dtype=np.float32)
    for at in range(5):
        assert match_ranks(row, np.array([at]), NOTHING).tolist() == [at + 1]


def labels_of(pids):
    zeros = np.zeros(len(pids), dtype=np.int64)
    return Labels(pids=np.array(pids), camids=zeros, rates=zeros.astype(float), heights=zeros)


@settings(max_examples=60, deadline=None)
@given(hits=st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
def test_precisions_agree_with_walking_down_the_list(hits):
    gallery = labels_of([1 if hit else 2 for hit in hits])
    row = np.arange(len(hits), dtype=np.float32)
    first, step, trapezoid, inp = score_list(row, range(len(hits)), gallery, 1)
    ranks = np.flatnonzero(hits) + 1
    assert ranks[0] == first
    assert average_precision(ranks, definition="step") == pytest.approx(step)
    assert average_precision(ranks, definition="trapezoid") == pytest.approx(trapezoid)
    assert inverse_negative_penalty(ranks) == pytest.approx(inp)


def test_precisions_by_hand():
    ranks = np.array([2, 3, 6])
    assert average_precision(ranks, definition="step") == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3)
    wanted = (0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2
    assert average_precision(ranks, definition="trapezoid") == pytest.approx(wanted / 3)
    assert inverse_negative_penalty(ranks) == 0.5
    for definition in ("step", "trapezoid"):
        assert average_precision(np.arange(1, 9), definition=definition) == 1


def test_unknown_definition():
    with pytest.raises(ConfigError, match="unknown AP definition 'steps': did you mean 'step'"):
        average_precision(np.array([1]), definition="steps")


def test_cmc_counts_queries_without_match_as_misses():
    first_ranks = np.array([1, 0, 3, 9, 1])
    assert cmc(first_ranks, max_rank=4).tolist() == curve(first_ranks, 4) == [0.4, 0.4, 0.6, 0.6]
    assert cmc(first_ranks, max_rank=10)[-1] == 0.8


def test_cmc_per_draw():
    first_ranks = np.array([[1, 2], [3, 1]])
    np.testing.assert_array_equal(cmc(first_ranks, max_rank=3), [[0.5, 0.5, 1], [0.5, 1, 1]])


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_one_match_gives_all_scores(rank):
    scores = QueryScores.empty(1, 1)
    scores.put_first(0, np.array([rank]), is_only_match=True)
    wanted = QueryScores.empty(1, 1)
    wanted.put_list(0, np.array([rank]))
    for got, want in zip(scores, wanted, strict=True):
        np.testing.assert_allclose(got, want)
