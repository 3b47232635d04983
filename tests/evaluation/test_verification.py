"""One threshold for all pairs, against a loop over thresholds and pairs."""

import numpy as np
import pytest
from evaluation.literal import allowed, draw_distances, draw_labels

from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.types import Embedding, Labels
from resolute.evaluation.candidates import CAMERA_RULES
from resolute.evaluation.protocol import PROTOCOLS, Protocol
from resolute.evaluation.verification import Verification, verify

MARKET = PROTOCOLS["market"]


def random_case(seed, *, num_query=15, num_gallery=40, num_values=30):
    rng = np.random.default_rng(seed)
    query = draw_labels(rng, num_query, num_pids=5)
    gallery = draw_labels(rng, num_gallery, num_pids=5)
    gallery.pids[rng.random(num_gallery) < 0.1] = -1
    gallery.pids[rng.random(num_gallery) < 0.1] = 0
    distances = draw_distances(rng, num_query, num_gallery, num_values=num_values)
    distances += 4 * (query.pids[:, None] != gallery.pids)
    return distances, query, gallery


def literal_pairs(distances, query, gallery, rule):
    positives, negatives = [], []
    for i in range(len(query)):
        for g in allowed(gallery, query.pids[i], query.camids[i], rule):
            pairs = positives if gallery.pids[g] == query.pids[i] else negatives
            pairs.append(float(distances[i, g]))
    return positives, negatives


def tiny(rows, query_pids, gallery_pids):
    def labels(pids, camid):
        zeros = np.zeros(len(pids), dtype=np.int64)
        return Labels(pids=np.array(pids), camids=zeros + camid, rates=zeros + 1.0, heights=zeros)

    return np.array(rows, dtype=np.float64), labels(query_pids, 0), labels(gallery_pids, 1)


@pytest.mark.parametrize("rule", CAMERA_RULES)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_trying_every_threshold(rule, seed):
    distances, query, gallery = random_case(seed)
    rates = (0.5, 0.1, 0.03, 0.01, 1e-4)
    got = verify(Protocol(camera_rule=rule), distances, query, gallery, rates=rates, num_bins=7)
    positives, negatives = literal_pairs(distances, query, gallery, rule)
    assert (got.num_positive, got.num_negative) == (len(positives), len(negatives))
    for point, rate in zip(got.points, rates, strict=True):
        best, threshold, false = 0.0, None, 0
        for tried in sorted(set(positives)):
            accepted = sum(d <= tried for d in negatives)
            if accepted <= rate * len(negatives):
                best = sum(d <= tried for d in positives) / len(positives)
                threshold, false = tried, accepted
        assert (point.fpr, point.num_allowed) == (rate, pytest.approx(rate * len(negatives)))
        if rate * len(negatives) < 1:
            assert (point.tpr, point.threshold, point.num_false) == (None, None, 0)
        else:
            assert (point.tpr, point.threshold, point.num_false) == (best, threshold, false)
    wins = sum((p < n) + (p == n) / 2 for p in positives for n in negatives)
    assert got.area == pytest.approx(wins / len(positives) / len(negatives))
    largest = max(positives + negatives)
    assert got.edges == pytest.approx(np.linspace(0, largest, 8))
    assert got.positives == tuple(np.histogram(positives, got.edges)[0])
    assert got.negatives == tuple(np.histogram(negatives, got.edges)[0])


def test_equal_error_is_where_the_curve_crosses():
    # One match among four others: two nearer, two farther. Misses fall from 1 to 0 at 2/4 alarms.
    distances, query, gallery = tiny([[3, 1, 2, 4, 5]], [1], [1, 2, 3, 4, 5])
    got = verify(MARKET, distances, query, gallery)
    assert got.equal_error_rate == 0.5
    assert got.equal_error_threshold == 3
    assert got.area == 0.5
    # Matches 1 and 4, others 2, 3, 5, 6: half missed while half of the others is let in.
    got = verify(MARKET, *tiny([[1, 4, 2, 3, 5, 6]], [1], [1, 1, 2, 3, 4, 5]))
    assert got.equal_error_rate == 0.5
    apart = verify(MARKET, *tiny([[1, 2, 5, 6]], [1], [1, 1, 2, 3]))
    assert (apart.equal_error_rate, apart.area) == (0, 1)
    wrong_way = verify(MARKET, *tiny([[5, 6, 1, 2]], [1], [1, 1, 2, 3]))
    assert (wrong_way.equal_error_rate, wrong_way.area) == (1, 0)


def test_equal_error_lies_between_its_neighbours():
    distances, query, gallery = random_case(9, num_values=1000)
    got = verify(MARKET, distances, query, gallery)
    positives, negatives = map(np.array, literal_pairs(distances, query, gallery, "same-camera"))
    misses = np.mean(positives > got.equal_error_threshold)
    alarms = np.mean(negatives <= got.equal_error_threshold)
    assert abs(misses - alarms) <= 1 / len(positives) + 1 / len(negatives)
    assert got.equal_error_rate == pytest.approx((misses + alarms) / 2, abs=1 / len(positives))


def test_nothing_is_accepted_where_every_match_is_far():
    rows = [[9] + [1] * 20]
    got = verify(MARKET, *tiny(rows, [1], list(range(1, 22))), rates=(0.1,))
    assert (got.points[0].tpr, got.points[0].threshold, got.points[0].num_false) == (0.0, None, 0)
    assert got.points[0].num_allowed == 2


def test_equal_distances_are_accepted_together():
    rows = [[1, 1] + [1] * 4 + [2] * 16]
    got = verify(MARKET, *tiny(rows, [1], [1, 1, *range(2, 22)]), rates=(0.1, 0.2))
    assert [p.tpr for p in got.points] == [1.0, 0.0]  # 20 % allow all four, 10 % none of them


def test_embeddings_score_as_their_matrix_does():
    rng = np.random.default_rng(0)
    sides, labels = [], []
    for num in (20, 50):
        vectors = rng.normal(size=(num, 2, 4)).astype(np.float32)
        quality = rng.uniform(0.5, 1, (num, 2)).astype(np.float32)
        sides.append(Embedding(vectors=vectors, quality=quality))
        labels.append(draw_labels(rng, num, num_pids=6))
    assert verify(MARKET, tuple(sides), *labels) == verify(MARKET, distance_matrix(*sides), *labels)


def test_survives_json():
    got = verify(MARKET, *random_case(1))
    assert Verification.from_mapping(got.to_mapping()) == got
    with pytest.raises(ProtocolError, match="not a verification of this version"):
        Verification.from_mapping({"points": []})


def test_distances_of_other_images_are_refused():
    distances, query, gallery = random_case(1)
    for wrong in (distances[:4], np.tile(distances, (2, 1)), distances[:, :7], distances[0]):
        with pytest.raises(ShapeError, match="expected 15 queries and 40 gallery images, got"):
            verify(MARKET, wrong, query, gallery)


def test_mistakes_are_refused():
    distances, query, gallery = random_case(1)
    for wrong in ({"rates": (0.0,)}, {"rates": (2.0,)}, {"num_bins": 0}):
        with pytest.raises(ConfigError, match=r"at least 1 bin and rates in 0\.\.1"):
            verify(MARKET, distances, query, gallery, **wrong)
    broken = distances.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ProtocolError, match="not finite in the row of query 3"):
        verify(MARKET, broken, query, gallery)
    with pytest.raises(ProtocolError, match="pairs of one identity and of two, got 0 and 2"):
        verify(MARKET, *tiny([[1, 2]], [1], [2, 3]))
    with pytest.raises(ProtocolError, match="got 2 and 0"):
        verify(MARKET, *tiny([[1, 2]], [1], [1, 1]))
    with pytest.raises(ProtocolError, match="marks junk"):
        verify(MARKET, *tiny([[1, 2]], [-1], [1, 1]))
