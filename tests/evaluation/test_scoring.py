"""`evaluate` on the whole gallery against the literal definition, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
from evaluation.literal import curve, draw_distances, draw_labels, score_all

from resolute.core.distance import distance_matrix, distance_rows
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.rng import Streams
from resolute.core.types import Embedding
from resolute.evaluation.candidates import CAMERA_RULES, Candidates
from resolute.evaluation.protocol import PROTOCOLS, Protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate

STREAMS = Streams(0)


def random_case(seed, *, num_pids=6):
    rng = np.random.default_rng(seed)
    query = draw_labels(rng, 25, num_pids=num_pids)
    gallery = draw_labels(rng, 40, num_pids=num_pids)
    gallery.pids[rng.random(40) < 0.15] = -1
    gallery.pids[rng.random(40) < 0.15] = 0
    return draw_distances(rng, 25, 40), query, gallery


@pytest.mark.parametrize("rule", CAMERA_RULES)
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_definition(rule, seed):
    distances, query, gallery = random_case(seed)
    wanted = [s for s in score_all(distances, query, gallery, rule) if s is not None]
    protocol = Protocol(camera_rule=rule, on_unmatched="skip", max_rank=12)
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    first, step, trapezoid, inp = zip(*wanted, strict=True)
    np.testing.assert_allclose(report.cmc, curve(first, 12))
    assert report.mean_ap_step == pytest.approx(np.mean(step))
    assert report.mean_ap_trapezoid == pytest.approx(np.mean(trapezoid))
    assert report.mean_inp == pytest.approx(np.mean(inp))
    assert (report.num_query, report.num_valid) == (25, len(wanted))
    assert report.num_gallery == np.count_nonzero(gallery.pids != -1)


def test_unmatched_queries_can_count_as_misses():
    distances, query, gallery = random_case(0)
    query.pids[:5] = 99
    wanted = score_all(distances, query, gallery, "same-camera")
    assert None in wanted
    first, step, trapezoid, inp = zip(*[s or (0, 0, 0, 0) for s in wanted], strict=True)
    protocol = Protocol(on_unmatched="zero", max_rank=12)
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    np.testing.assert_allclose(report.cmc, curve(first, 12))
    assert report.mean_ap_step == pytest.approx(np.mean(step))
    assert report.mean_ap_trapezoid == pytest.approx(np.mean(trapezoid))
    assert report.mean_inp == pytest.approx(np.mean(inp))
    assert report.num_valid == 25
    assert dict(report.per_identity)[99] == 0


def test_groups_and_identities_are_means_over_their_queries():
    distances, query, gallery = random_case(3)
    rule = "none"
    first, step, _, _ = map(np.array, zip(*score_all(distances, query, gallery, rule), strict=True))
    report = evaluate(Protocol(camera_rule=rule), distances, query, gallery, streams=STREAMS)
    assert list(report.per_rate) == ["2", "3", "4"]
    for name, group in report.per_rate.items():
        mask = query.rates == float(name)
        assert group.count == mask.sum()
        assert group.rank1 == pytest.approx((first[mask] == 1).mean())
        assert group.rank5 == pytest.approx((first[mask] <= 5).mean())
        assert group.rank10 == pytest.approx((first[mask] <= 10).mean())
        assert group.mean_ap == pytest.approx(step[mask].mean())
    heights = {"unknown": 0, "<24": 20, "32-47": (32, 42), "64-95": 64, ">=256": 300}
    assert list(report.per_height) == list(heights)
    for name, values in heights.items():
        mask = np.isin(query.heights, values)
        assert report.per_height[name].count == mask.sum()
        assert report.per_height[name].rank1 == pytest.approx((first[mask] == 1).mean())
    assert [pid for pid, _ in report.per_identity] == np.unique(query.pids).tolist()
    for pid, rank1 in report.per_identity:
        assert rank1 == pytest.approx((first[query.pids == pid] == 1).mean())
    assert report.by_identity() == dict(report.per_identity)
    assert list(report.by_identity("map")) == list(report.by_identity())
    for pid, ap in report.by_identity("map").items():
        assert ap == pytest.approx(step[query.pids == pid].mean())


@pytest.mark.parametrize("name", ["mlr", "market", "cuhk03-classic"])
def test_the_kept_ap_is_that_of_the_protocol(name):
    distances, query, gallery = random_case(4)
    for ap in ("step", "trapezoid"):
        protocol = dataclasses.replace(PROTOCOLS[name], ap=ap, on_unmatched="zero")
        report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
        counts = dict(zip(*np.unique(query.pids, return_counts=True), strict=True))
        found = report.by_identity("map")
        mean = sum(found[pid] * count for pid, count in counts.items()) / len(query)
        assert mean == pytest.approx(report.mean_ap)
        assert Report.from_mapping(json.loads(json.dumps(report.to_mapping()))) == report


def test_a_report_of_before_has_no_ap_by_person():
    distances, query, gallery = random_case(3)
    report = evaluate(Protocol(camera_rule="none"), distances, query, gallery, streams=STREAMS)
    mapping = report.to_mapping()
    del mapping["per_identity_ap"]
    earlier = Report.from_mapping(mapping)
    assert earlier.by_identity() == report.by_identity()
    with pytest.raises(ProtocolError, match="mAP by person is not in this report"):
        earlier.by_identity("map")


def test_many_rates_are_grouped_to_the_whole_number():
    distances, query, gallery = random_case(3)
    rates = np.linspace(2, 4, len(query))
    query = dataclasses.replace(query, rates=rates)
    report = evaluate(PROTOCOLS["all-shot"], distances, query, gallery, streams=STREAMS)
    counts = {name: group.count for name, group in report.per_rate.items()}
    assert counts == {f"{r:g}": int((np.rint(rates) == r).sum()) for r in (2, 3, 4)}


def test_blocks_matrix_and_embeddings_give_one_report():
    rng = np.random.default_rng(5)
    _, query, gallery = random_case(5)

    def embed(num):
        vectors = rng.normal(size=(num, 2, 4)).astype(np.float32)
        return Embedding(vectors=vectors, quality=np.ones((num, 2), dtype=np.float32))

    ours, theirs = embed(25), embed(40)
    protocol = dataclasses.replace(PROTOCOLS["market"], on_unmatched="skip")
    reports = [
        evaluate(protocol, distances, query, gallery, streams=STREAMS)
        for distances in (
            distance_matrix(ours, theirs),
            distance_rows(ours, theirs, chunk_bytes=4 * 40 * 4 * 3),
            (ours, theirs),
        )
    ]
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("name", ["market", "all-shot"])
def test_whole_numbers_are_distances_too(name):
    distances, query, gallery = random_case(6)
    whole = np.rint(10 * distances).astype(np.int32)
    protocol = dataclasses.replace(PROTOCOLS[name], on_unmatched="skip")
    found = [
        evaluate(protocol, matrix, query, gallery, streams=STREAMS)
        for matrix in (whole, whole.astype(np.float64))
    ]
    assert found[0] == found[1]


def test_scaling_distances_changes_nothing_and_gallery_order_only_ties():
    rng = np.random.default_rng(1)
    _, query, gallery = random_case(1)
    distances = rng.random((25, 40))  # no ties
    protocol = Protocol(on_unmatched="skip")
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    order = rng.permutation(40)
    assert evaluate(protocol, 3 * distances + 7, query, gallery, streams=STREAMS) == report
    permuted = evaluate(protocol, distances[:, order], query, gallery.take(order), streams=STREAMS)
    assert permuted == report


def test_junk_and_removed_images_may_have_any_distance():
    distances, query, gallery = random_case(2)
    protocol = Protocol(on_unmatched="skip")
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    moved = distances.copy()
    moved[:, gallery.pids == -1] = -100
    is_removed = (query.pids[:, None] == gallery.pids) & (query.camids[:, None] == gallery.camids)
    moved[is_removed] = -100
    assert evaluate(protocol, moved, query, gallery, streams=STREAMS) == report


def test_curve_is_no_longer_than_the_gallery():
    distances, query, gallery = random_case(4)
    report = evaluate(PROTOCOLS["all-shot"], distances, query, gallery, streams=STREAMS)
    assert len(report.cmc) == np.count_nonzero(gallery.pids != -1) < 50
    assert report.cmc[-1] == 1
    assert list(report.ranks) == [1, 5, 10, 20]
    few = np.flatnonzero(gallery.pids > 0)[:14]
    short = evaluate(
        dataclasses.replace(PROTOCOLS["all-shot"], on_unmatched="skip"),
        distances[:, few],
        query,
        gallery.take(few),
        streams=STREAMS,
    )
    assert list(short.ranks) == [1, 5, 10]


def test_trapezoid_is_reported_when_asked_for():
    distances, query, gallery = random_case(4)
    protocol = Protocol(camera_rule="none", ap="trapezoid")
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    assert report.mean_ap == report.mean_ap_trapezoid != report.mean_ap_step
    weights = [g.count for g in report.per_rate.values()]
    values = [g.mean_ap for g in report.per_rate.values()]
    assert np.average(values, weights=weights) == pytest.approx(report.mean_ap_trapezoid)


def test_zero_is_a_person_where_the_protocol_says_so():
    distances, query, gallery = random_case(0)
    query.pids[:] = 0
    with pytest.raises(ProtocolError, match=r"25 queries have identity 0.*--protocol.distractors"):
        evaluate(PROTOCOLS["all-shot"], distances, query, gallery, streams=STREAMS)
    protocol = Protocol(camera_rule="none", distractors="none")
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    first = [s[0] for s in score_all(distances, query, gallery, "none")]
    np.testing.assert_allclose(report.cmc, curve(first, len(report.cmc)))


def test_refuses_distances_that_do_not_fit():
    distances, query, gallery = random_case(0)
    protocol = Protocol(on_unmatched="skip")

    def score(distances):
        return evaluate(protocol, distances, query, gallery, streams=STREAMS)

    with pytest.raises(ShapeError, match=r"each of 40 gallery images, got .* \(25, 39\)"):
        score(distances[:, 1:])
    with pytest.raises(ShapeError, match="expected 25 query rows, got 24"):
        score(distances[1:])
    with pytest.raises(ShapeError, match="up to 25 queries"):
        score(np.concatenate([distances, distances]))
    with pytest.raises(ShapeError, match="rows from 10 up to 25 queries"):
        score([(slice(0, 10), distances[:10]), (slice(11, 25), distances[11:])])
    distances[7, 3] = np.nan
    with pytest.raises(ProtocolError, match="NaN in the row of query 7"):
        score([(slice(0, 5), distances[:5]), (slice(5, 25), distances[5:])])


def test_unknown_camera_rule():
    with pytest.raises(ConfigError, match="unknown camera rule 'same'"):
        Candidates(np.array([1]), np.array([0]), camera_rule="same")
