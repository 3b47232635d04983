"""Single-shot galleries against a loop that builds every gallery and ranks it."""

import itertools

import numpy as np
import pytest
from evaluation.literal import allowed, curve, draw_distances, draw_labels, score_all, score_list

from resolute.core.rng import Stream, Streams
from resolute.core.types import Labels
from resolute.evaluation.candidates import CAMERA_RULES
from resolute.evaluation.protocol import PROTOCOLS, Protocol
from resolute.evaluation.scoring import evaluate

STREAMS = Streams(11)


def random_case(seed, *, num_query=12, num_gallery=30, num_pids=5):
    rng = np.random.default_rng(seed)
    query = draw_labels(rng, num_query, num_pids=num_pids)
    gallery = draw_labels(rng, num_gallery, num_pids=num_pids)
    gallery.pids[rng.random(num_gallery) < 0.1] = -1
    gallery.pids[rng.random(num_gallery) < 0.1] = 0
    return draw_distances(rng, num_query, num_gallery, num_values=9), query, gallery


def literal_gallery(gallery, pid, camid, rule, draw):
    """One image per identity: number floor(u n) of the n that the rule leaves, u per identity."""
    left = allowed(gallery, pid, camid, rule)
    names = people(gallery)
    chosen = [at for at in left if gallery.pids[at] == 0]
    for u, name in zip(draw, names, strict=True):
        own = [at for at in left if gallery.pids[at] == name]
        if own:
            chosen.append(own[int(u * len(own))])
    return chosen


def people(gallery):
    return [pid for pid in np.unique(gallery.pids) if pid > 0]


def literal_draws(streams, gallery, num_draws, trial=0):
    num = len(people(gallery))
    return [streams.numpy(Stream.TRIAL, trial, draw).random(num) for draw in range(num_draws)]


@pytest.mark.parametrize("rule", CAMERA_RULES)
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ranking_each_gallery(rule, seed):
    distances, query, gallery = random_case(seed)
    protocol = Protocol(
        camera_rule=rule, gallery="single-shot", num_draws=7, on_unmatched="zero", max_rank=4
    )
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS, trial=3)
    curves, steps, trapezoids, inps = [], [], [], []
    for draw in literal_draws(STREAMS, gallery, 7, trial=3):
        scores = []
        for i in range(len(query)):
            chosen = literal_gallery(gallery, query.pids[i], query.camids[i], rule, draw)
            scores.append(score_list(distances[i], chosen, gallery, query.pids[i]) or (0,) * 4)
        first, step, trapezoid, inp = zip(*scores, strict=True)
        curves.append(curve(first, 4))
        steps.append(np.mean(step))
        trapezoids.append(np.mean(trapezoid))
        inps.append(np.mean(inp))
    np.testing.assert_allclose(report.cmc, np.mean(curves, axis=0))
    assert report.mean_ap_step == pytest.approx(np.mean(steps))
    assert report.mean_ap_trapezoid == pytest.approx(np.mean(trapezoids))
    assert report.mean_inp == pytest.approx(np.mean(inps))
    assert report.std["rank1"] == pytest.approx(np.std(curves, axis=0, ddof=1)[0])
    assert report.std["mean_ap"] == pytest.approx(np.std(steps, ddof=1))
    assert report.std["mean_inp"] == pytest.approx(np.std(inps, ddof=1))
    assert not report.has_identical_draws
    assert report.num_draws == 7


@pytest.mark.parametrize("rule", CAMERA_RULES)
@pytest.mark.parametrize("draws", ["shared", "per-query"])
def test_mean_over_draws_nears_the_mean_over_all_galleries(rule, draws):
    rng = np.random.default_rng(3)
    query = draw_labels(rng, 6, num_pids=3, num_cameras=2)
    gallery = Labels(
        pids=np.repeat([1, 2, 3], 4),
        camids=np.tile([0, 0, 1, 1], 3),
        rates=np.ones(12),
        heights=np.zeros(12, dtype=np.int64),
    )
    distances = rng.random((6, 12))
    exact = []
    for i in range(6):
        left = allowed(gallery, query.pids[i], query.camids[i], rule)
        pools = [[at for at in left if gallery.pids[at] == pid] for pid in (1, 2, 3)]
        exact.append(
            np.mean(
                [
                    score_list(distances[i], chosen, gallery, query.pids[i])[0] == 1
                    for chosen in itertools.product(*pools)
                ]
            )
        )
    protocol = Protocol(camera_rule=rule, gallery="single-shot", num_draws=4000, draws=draws)
    report = evaluate(protocol, distances, query, gallery, streams=STREAMS)
    # One query's Rank-1 over 4000 draws has a deviation of at most 0.008.
    assert report.cmc[0] == pytest.approx(np.mean(exact), abs=0.02)


def test_mean_ap_is_over_the_list_the_protocol_names():
    distances, query, gallery = random_case(1)
    full = score_all(distances, query, gallery, "same-camera")
    settings = {"gallery": "single-shot", "num_draws": 5, "on_unmatched": "zero"}
    drawn = evaluate(Protocol(**settings), distances, query, gallery, streams=STREAMS)
    classic = evaluate(
        Protocol(**settings, ap_list="full"), distances, query, gallery, streams=STREAMS
    )
    assert classic.mean_ap_step == pytest.approx(np.mean([s[1] if s else 0 for s in full]))
    assert classic.mean_inp == pytest.approx(np.mean([s[3] if s else 0 for s in full]))
    assert drawn.mean_ap_step != pytest.approx(classic.mean_ap_step)
    assert drawn.cmc == classic.cmc
    assert "mean_ap" not in classic.std
    assert "rank1" in classic.std


def test_one_image_per_identity_is_drawn_once():
    rng = np.random.default_rng(0)
    query = draw_labels(rng, 20, num_pids=8)
    gallery = draw_labels(rng, 8, num_pids=8)
    gallery.pids[:] = np.arange(1, 9)
    distances = draw_distances(rng, 20, 8)
    report = evaluate(PROTOCOLS["mlr"], distances, query, gallery, streams=STREAMS)
    whole = evaluate(PROTOCOLS["all-shot"], distances, query, gallery, streams=STREAMS)
    assert report.has_identical_draws
    assert report.num_draws == 100
    assert set(report.std.values()) == {0.0}
    assert (report.cmc, report.mean_ap_step) == (whole.cmc, whole.mean_ap_step)
    assert report.mean_ap_trapezoid == pytest.approx(whole.mean_ap_trapezoid)


def test_draws_depend_on_seed_and_trial_only():
    distances, query, gallery = random_case(2)
    protocol = Protocol(gallery="single-shot", num_draws=3, camera_rule="none")

    def rank1(streams, trial, rows=slice(None)):
        part = np.arange(len(query))[rows]
        report = evaluate(
            protocol, distances[part], query.take(part), gallery, streams=streams, trial=trial
        )
        return dict(report.per_identity)

    assert rank1(STREAMS, 0) == rank1(Streams(11), 0)
    assert rank1(STREAMS, 0) != rank1(STREAMS, 1)
    assert rank1(STREAMS, 0) != rank1(Streams(12), 0)
    pid = int(query.pids[-1])  # other queries do not move the draws
    assert rank1(STREAMS, 0, query.pids == pid)[pid] == rank1(STREAMS, 0)[pid]


def test_draws_per_query_differ_between_equal_queries():
    gallery = Labels(
        pids=np.repeat([1, 2], 8),
        camids=np.zeros(16, dtype=np.int64),
        rates=np.ones(16),
        heights=np.zeros(16, dtype=np.int64),
    )
    query = gallery.take(np.zeros(50, dtype=np.int64))
    distances = np.tile(np.random.default_rng(0).random(16), (50, 1))

    def hits(draws):
        protocol = Protocol(camera_rule="none", gallery="single-shot", num_draws=1, draws=draws)
        return evaluate(protocol, distances, query, gallery, streams=STREAMS).cmc[0]

    assert hits("shared") in (0, 1)
    assert 0.2 < hits("per-query") < 0.8


def test_every_distractor_is_in_every_gallery():
    zeros = np.zeros(4, dtype=np.int64)
    gallery = Labels(pids=np.array([0, 0, 0, 5]), camids=zeros, rates=zeros + 1.0, heights=zeros)
    query = gallery.take(np.array([3]))
    distances = np.array([[0.1, 0.2, 0.3, 0.4]])
    report = evaluate(PROTOCOLS["mlr"], distances, query, gallery, streams=STREAMS)
    assert report.cmc == (0, 0, 0, 1)
    one = Protocol(camera_rule="none", gallery="single-shot", distractors="none")
    report = evaluate(one, distances, query, gallery, streams=STREAMS)
    assert report.cmc == (0, 1)


@pytest.mark.parametrize("draws", ["shared", "per-query"])
def test_distractors_farther_than_everybody_change_nothing(draws):
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, 21), 4)
    query = draw_labels(rng, 15, num_pids=20)
    distances = rng.random((15, 80))
    protocol = Protocol(camera_rule="none", gallery="single-shot", num_draws=9, draws=draws)

    def scored(num_distractors):
        gallery_pids = np.concatenate([pids, np.zeros(num_distractors, dtype=np.int64)])
        gallery = Labels(
            pids=gallery_pids,
            camids=np.zeros_like(gallery_pids),
            rates=np.ones(len(gallery_pids)),
            heights=np.zeros_like(gallery_pids),
        )
        far = np.full((15, num_distractors), 9.0)
        return evaluate(
            protocol, np.hstack([distances, far]), query, gallery, streams=STREAMS
        ).per_identity

    assert scored(0) == scored(5)
