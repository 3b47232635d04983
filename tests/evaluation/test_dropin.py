"""The drop-ins against loops written from what the originals compute."""

import numpy as np
import pytest
from evaluation.literal import draw_distances, score_list

from resolute.core.errors import ProtocolError, ShapeError
from resolute.core.types import Labels
from resolute.evaluation.dropin import fastreid_evaluate_rank, torchreid_evaluate_rank


def random_case(seed):
    """Ties, identities 0 and -1, queries without match, galleries of all sizes."""
    rng = np.random.default_rng(seed)
    num_query, num_gallery = int(rng.integers(1, 15)), int(rng.integers(1, 80))
    distances = draw_distances(rng, num_query, num_gallery, num_values=int(rng.integers(1, 30)))
    q_pids, g_pids = rng.integers(-1, 8, num_query), rng.integers(-1, 8, num_gallery)
    q_camids, g_camids = rng.integers(0, 3, num_query), rng.integers(0, 3, num_gallery)
    return distances, q_pids, g_pids, q_camids, g_camids


def literal_rank(distances, q_pids, g_pids, q_camids, g_camids, max_rank=50):
    gallery = Labels(pids=g_pids, camids=g_camids, rates=g_pids + 0.0, heights=g_pids)
    curves, precisions, penalties = [], [], []
    max_rank = min(max_rank, len(g_pids))
    for row, pid, camid in zip(distances, q_pids, q_camids, strict=True):
        kept = np.flatnonzero((g_pids != pid) | (g_camids != camid))
        scores = score_list(row, kept, gallery, pid)
        if scores is not None:
            first, step, _, inp = scores
            curves.append([float(first <= k) for k in range(1, max_rank + 1)])
            precisions.append(step)
            penalties.append(inp)
    return np.mean(curves, axis=0), precisions, penalties


def cases(num):
    for seed in range(num):
        case = random_case(seed)
        has_match = (case[1][:, None] == case[2]) & (case[3][:, None] != case[4])
        if has_match.any():
            yield case


def test_torchreid_numbers():
    for case in cases(80):
        curve, precisions, _ = literal_rank(*case)
        cmc, mean_ap = torchreid_evaluate_rank(*case)
        assert cmc.dtype == np.float32
        np.testing.assert_allclose(cmc, curve, rtol=1e-6)
        assert mean_ap == pytest.approx(np.mean(precisions))


def test_fastreid_numbers():
    for case in cases(80):
        curve, precisions, penalties = literal_rank(*case, max_rank=7)
        cmc, all_ap, all_inp = fastreid_evaluate_rank(*case, max_rank=7)
        assert cmc.dtype == np.float32
        np.testing.assert_allclose(cmc, curve, rtol=1e-6)
        np.testing.assert_allclose(all_ap, precisions)
        np.testing.assert_allclose(all_inp, penalties)


def test_called_as_their_scripts_do():
    distances, q_pids, g_pids, q_camids, g_camids = next(cases(9))
    cmc, mean_ap = torchreid_evaluate_rank(
        distances, q_pids, g_pids, q_camids, g_camids, 5, False, use_cython=False
    )
    again = torchreid_evaluate_rank(
        distances, q_pids, g_pids, q_camids, g_camids, max_rank=5, use_metric_cuhk03=False
    )
    np.testing.assert_array_equal(cmc, again[0])
    assert len(cmc) == min(5, len(g_pids))
    assert mean_ap == again[1]


def test_cuhk03_mode_with_one_image_per_identity_draws_nothing():
    rng = np.random.default_rng(0)
    g_pids, q_pids = np.arange(60), rng.integers(0, 60, 30)
    case = (rng.random((30, 60)), q_pids, g_pids, np.zeros(30), np.ones(60))
    curve, precisions, _ = literal_rank(*case)
    cmc, mean_ap = torchreid_evaluate_rank(*case, use_metric_cuhk03=True)
    np.testing.assert_allclose(cmc, curve, rtol=1e-6)
    assert mean_ap == pytest.approx(np.mean(precisions))


def test_cuhk03_mode_nears_the_literal_loop_over_draws():
    rng = np.random.default_rng(4)
    g_pids, q_pids = np.repeat(np.arange(12), 5), rng.integers(0, 12, 400)
    g_camids, q_camids = np.arange(60) % 2, rng.integers(0, 2, 400)
    distances = rng.random((400, 60)) - 0.3 * (q_pids[:, None] == g_pids)
    wanted = np.zeros(12)
    for row, pid, camid in zip(distances, q_pids, q_camids, strict=True):
        kept = np.flatnonzero((g_pids != pid) | (g_camids != camid))
        pools = [kept[g_pids[kept] == other] for other in range(12)]
        for _ in range(20):
            chosen = np.array([pool[rng.integers(len(pool))] for pool in pools])
            place = np.flatnonzero(g_pids[chosen[np.argsort(row[chosen])]] == pid)[0]
            wanted[place:] += 1 / (20 * 400)
    case = (distances, q_pids, g_pids, q_camids, g_camids)
    cmc, mean_ap = torchreid_evaluate_rank(*case, use_metric_cuhk03=True)
    # 4,000 and 8,000 draws: the deviation of their difference is at most 0.01.
    np.testing.assert_allclose(cmc, wanted, atol=0.03)
    assert len(cmc) == 12
    assert mean_ap == pytest.approx(torchreid_evaluate_rank(*case)[1])
    again, all_ap, _ = fastreid_evaluate_rank(*case, use_metric_cuhk03=True)
    np.testing.assert_array_equal(again, cmc)
    assert np.mean(all_ap) == pytest.approx(mean_ap)


def test_other_number_types():
    distances, *labels = next(cases(9))
    cmc, mean_ap = torchreid_evaluate_rank(distances, *labels)
    for kind in (np.int64, np.float64):
        same = torchreid_evaluate_rank(
            distances.astype(kind), *[part.astype(np.int32).tolist() for part in labels]
        )
        np.testing.assert_array_equal(same[0], cmc)
        assert same[1] == mean_ap


def test_refuses_what_cannot_be_scored():
    pids, camids = np.array([1, 2]), np.array([0, 0])
    with pytest.raises(ProtocolError, match="no query has a match in the gallery"):
        torchreid_evaluate_rank(np.zeros((2, 2)), pids, pids, camids, camids)
    with pytest.raises(ShapeError, match=r"got \(2, 3\) with"):
        torchreid_evaluate_rank(np.zeros((2, 3)), pids, pids, camids, camids)
    with pytest.raises(ShapeError, match=r"expected distmat \(Q, G\)"):
        fastreid_evaluate_rank(np.zeros((2, 2)), pids, pids, camids, camids[:1])
    with pytest.raises(ProtocolError, match="NaN"):
        torchreid_evaluate_rank(np.full((2, 2), np.nan), pids, pids, camids, camids + 1)
