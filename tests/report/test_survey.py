"""One pass over the pairs gives what the slow definitions give."""

import numpy as np
import pytest
from report.literal import embedding, labels, listed, ranking

from resolute.core.distance import distance_matrix
from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.evaluation.metrics import cmc
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.scoring import evaluate
from resolute.report.material import cmc_curves
from resolute.report.pairs import SHARE_BINS
from resolute.report.survey import nearest, survey

NAMES = sorted(PROTOCOLS)


def problem(rng, *, streams=2, people=7, fusion="weighted"):
    pids = np.repeat(np.arange(1, people + 1), 3)
    query = embedding(rng, len(pids), streams=streams, fusion=fusion)
    gallery = embedding(rng, len(pids) + 2, streams=streams, fusion=fusion)
    gallery.vectors[4] = gallery.vectors[1]  # a tie
    gallery.quality[4] = gallery.quality[1]
    rates = np.tile([2.0, 3.0, 4.0], people)
    given = labels(pids, 1, rates=rates, heights=128 // rates)
    # Two cameras per person, one of them the queries' own; a junk image and a distractor.
    offered = labels([*pids, -1, 0], [*np.tile([0, 2, 1], people), 0, 0])
    return (query, given), (gallery, offered)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("streams", [1, 2])
def test_survey_is_the_literal_walk(name, streams, rng):
    protocol = PROTOCOLS[name]
    query, gallery = problem(rng, streams=streams)
    found = survey(protocol, query, gallery, streams=Streams(3), trial=1, top=5)
    matrix = distance_matrix(query[0], gallery[0])
    positives, negatives = [], []
    for q, row in enumerate(matrix):
        pid, camid = int(query[1].pids[q]), int(query[1].camids[q])
        kept = listed(pid, camid, gallery[1], protocol.camera_rule)
        order = ranking(row, kept)
        assert found.hits[q].tolist() == order[:5]
        assert found.hit_distances[q].tolist() == row[order[:5]].tolist()
        is_match = gallery[1].pids[order] == pid
        first = int(np.flatnonzero(is_match)[0])
        assert found.list_ranks[q] == first + 1
        assert found.matches[q] == order[first]
        assert found.match_distances[q] == row[order[first]]
        right, wrong = row[order][is_match], row[order][~is_match]
        assert found.margins[q] == wrong.min() - right.min()
        positives += right.tolist()
        negatives += wrong.tolist()
    counts = found.distances
    for values, binned in ((positives, counts.positives), (negatives, counts.negatives)):
        bins = np.floor(np.array(values) / counts.width).astype(int)
        assert np.array_equal(np.bincount(bins, minlength=len(binned)), binned)
    assert (found.shares is None) == (streams == 1)


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_curves_are_those_of_the_evaluation(name, rng):
    protocol = PROTOCOLS[name]
    query, gallery = problem(rng)
    found = survey(protocol, query, gallery, streams=Streams(3), trial=1, top=5)
    distances = distance_matrix(query[0], gallery[0])
    report = evaluate(protocol, distances, query[1], gallery[1], streams=Streams(3), trial=1)
    assert found.report == report
    curves = cmc_curves(found.first_ranks, query[1].rates, max_rank=len(report.cmc))
    assert curves["all"].mean.tolist() == pytest.approx(report.cmc)
    assert set(curves) == {"all", "2", "3", "4"}
    for rate, group in report.per_rate.items():
        assert curves[rate].count == group.count
        assert curves[rate].mean[0] == pytest.approx(group.rank1)
        assert curves[rate].mean[4] == pytest.approx(group.rank5)
    if protocol.is_single_shot:
        assert curves["all"].std[0] == pytest.approx(report.std["rank1"])
        assert curves["all"].std[4] == pytest.approx(report.std["rank5"])
    else:
        assert curves["all"].std is None


def test_shares_are_counted_by_kind_of_pair(rng):
    query, gallery = problem(rng)
    found = survey(PROTOCOLS["all-shot"], query, gallery, streams=Streams(0), trial=0, top=1)
    expected = np.zeros((2, SHARE_BINS), dtype=int)
    for q in range(len(query[1])):
        for g in range(len(gallery[1])):
            if gallery[1].pids[g] == -1:
                continue
            a = float(query[0].quality[q, 0]) * float(gallery[0].quality[g, 0])
            b = float(query[0].quality[q, 1]) * float(gallery[0].quality[g, 1])
            kind = int(gallery[1].pids[g] != query[1].pids[q])
            expected[kind, int(a / (a + b) * SHARE_BINS)] += 1
    assert np.array_equal(found.shares, expected)


def test_pairs_no_space_is_trusted_in_have_no_share(rng):
    query, gallery = problem(rng, fusion="mean")
    query[0].quality[0] = (1, 0)
    gallery[0].quality[:] = (0, 1)
    found = survey(PROTOCOLS["all-shot"], query, gallery, streams=Streams(0), trial=0, top=1)
    assert found.shares.sum() == (len(query[1]) - 1) * (len(gallery[1]) - 1)


def test_a_gallery_shorter_than_the_strip(rng):
    query = embedding(rng, 2), labels([1, 2], 1)
    gallery = embedding(rng, 2), labels([1, 2], 0)
    found = survey(PROTOCOLS["mlr"], query, gallery, streams=Streams(0), trial=0, top=10)
    assert sorted(found.hits[0].tolist()) == [0, 1]
    one = survey(
        PROTOCOLS["mlr"],
        (query[0].take(np.array([0])), query[1].take(np.array([0]))),
        (gallery[0].take(np.array([0])), gallery[1].take(np.array([0]))),
        streams=Streams(0),
        trial=0,
        top=3,
    )
    assert np.isinf(one.margins).all()
    assert one.report.cmc == (1.0,)
    with pytest.raises(ProtocolError, match="hits per query"):
        survey(PROTOCOLS["mlr"], query, gallery, streams=Streams(0), trial=0, top=0)


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_nearest_is_the_head_of_a_stable_sort(count, rng):
    for _ in range(20):
        row = rng.integers(0, 5, size=12).astype(np.float32)
        is_listed = rng.random(12) < 0.7
        assert nearest(row, is_listed, count).tolist() == ranking(row, is_listed)[:count]


def test_draws_are_kept_apart(rng):
    query, gallery = problem(rng)
    found = survey(PROTOCOLS["mlr"], query, gallery, streams=Streams(3), trial=1, top=5)
    assert found.first_ranks.shape == (21, 100)
    per_draw = cmc(found.first_ranks, max_rank=3)
    assert per_draw[:, 0].std() > 0
