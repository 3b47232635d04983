import math
from dataclasses import replace

import numpy as np
import pytest

from resolute.core.errors import CheckpointError, ConfigError, ProtocolError
from resolute.core.types import Embedding
from resolute.inference.calibration import Calibration, Curve
from resolute.inference.fitting import fit_curve, fit_reliability, fit_thresholds
from resolute.inference.logistic import fit_isotonic, fit_logistic, log_loss, sigmoid


def pairs(rng, num_same=400, num_different=6000):
    """Normal distances whose true log likelihood ratio is a straight line."""
    distances = np.concatenate(
        [rng.normal(0.8, 0.2, num_same), rng.normal(1.4, 0.2, num_different)]
    )
    is_same = np.arange(len(distances)) < num_same
    return distances, is_same, rng.integers(0, 50, len(distances))


def test_curve_finds_the_true_likelihood_ratio():
    distances, is_same, groups = pairs(np.random.default_rng(0))
    curve, loss, other = fit_curve(distances, is_same, groups)
    assert curve.kind == "logistic"
    asked = np.array([0.9, 1.1, 1.3])
    # ln N(x; .8, .2) - ln N(x; 1.4, .2) = 15 (1.1 - x)
    assert curve(asked) == pytest.approx(15 * (1.1 - asked), abs=0.5)
    assert loss < 0.25 < math.log(2)
    assert loss == pytest.approx(other, abs=0.05)
    assert np.abs(curve(np.array([-9.0, 9.0]))).max() == pytest.approx(math.log(401))


def test_steps_are_taken_where_a_line_is_wrong():
    rng = np.random.default_rng(1)
    same = np.concatenate([rng.uniform(0, 0.2, 1000), rng.uniform(1, 2, 1000)])
    different = np.concatenate([rng.uniform(0.2, 1, 100), rng.uniform(1, 2, 9900)])
    distances = np.concatenate([same, different])
    is_same = np.arange(len(distances)) < len(same)
    curve, _, _ = fit_curve(distances, is_same, rng.integers(0, 40, len(distances)))
    assert curve.kind == "isotonic"
    values = curve(np.linspace(0, 2, 50))
    assert (np.diff(values) <= 1e-12).all()


def test_distances_that_say_nothing_are_refused():
    rng = np.random.default_rng(2)
    distances, is_same, groups = pairs(rng)
    with pytest.raises(ProtocolError, match="no nearer to each other"):
        fit_curve(-distances, is_same, groups)
    with pytest.raises(ProtocolError, match="expected both outcomes"):
        fit_curve(distances, np.ones_like(is_same), groups)


def test_thresholds_by_definition():
    rng = np.random.default_rng(3)
    distances, is_same, _ = pairs(rng, num_different=5000)
    distances = distances.astype(np.float32)
    distances[~is_same] = distances[~is_same].round(3)  # ties
    parts = np.array_split(distances[~is_same], 7)
    found = fit_thresholds(distances[is_same], lambda: parts)
    assert [t.false_match_rate for t in found] == [1e-1, 1e-2, 1e-3]  # 1e-4 of 5000 is no pair
    for t in found:
        count = round(5000 * t.false_match_rate)
        assert t.distance == np.sort(distances[~is_same])[count]
        below = (distances < t.distance) & ~is_same
        assert below.sum() == t.num_negatives <= count
        assert t.match_rate == pytest.approx((distances[is_same] < t.distance).mean())


def test_logistic_fit_agrees_with_plain_descent():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(300, 2))
    labels = rng.random(300) < sigmoid(0.5 + features @ np.array([1.0, -2.0]))
    weights = rng.uniform(0.5, 1.5, 300)
    theta = fit_logistic(features, labels, weights, l2=0.01)
    design, w = np.column_stack([np.ones(300), features]), weights / weights.sum()
    slow = np.zeros(3)
    for _ in range(20000):
        slow -= design.T @ (w * (sigmoid(design @ slow) - labels)) + 0.01 * slow * [0, 1, 1]
    assert theta == pytest.approx(slow, abs=1e-5)


def test_separable_data_have_a_finite_fit():
    theta = fit_logistic(np.array([[-1.0], [1.0]]), np.array([True, False]), np.ones(2), l2=1e-6)
    assert np.isfinite(theta).all()
    assert theta[1] < -3


def test_isotonic_by_definition():
    rng = np.random.default_rng(5)
    values = rng.random(40)
    labels = rng.random(40) < 1 - values
    weights = rng.uniform(0.5, 2, 40)
    steps, chances = fit_isotonic(values, labels, weights)
    assert (np.diff(steps) > 0).all()
    assert (np.diff(chances) < 0).all()
    # max over starts of min over ends of the weighted mean: the literal definition.
    order = np.argsort(values)
    y, w = labels[order].astype(float), weights[order]
    means = [
        [np.average(y[i : j + 1], weights=w[i : j + 1]) if j >= i else np.nan for j in range(40)]
        for i in range(40)
    ]
    literal = [min(max(means[i][j] for j in range(k, 40)) for i in range(k + 1)) for k in range(40)]
    assert sorted(set(np.round(literal, 9)), reverse=True) == pytest.approx(chances, abs=1e-8)


def test_log_loss_by_definition():
    odds, labels = np.array([0.3, -2.0]), np.array([True, True])
    expected = -np.log(sigmoid(odds)) @ np.array([0.25, 0.75])
    assert log_loss(odds, labels, np.array([1.0, 3.0])) == pytest.approx(expected)


def queries(rng, count=800):
    heights = rng.integers(16, 200, count)
    quality = rng.uniform(0.1, 0.9, (count, 2)).astype(np.float32)
    return Embedding(
        vectors=np.zeros((count, 2, 3), dtype=np.float32),
        quality=quality,
        norms=rng.uniform(1, 3, (count, 2)).astype(np.float32),
        native_sizes=np.column_stack([heights, heights // 2]),
    )


def test_reliability_follows_what_it_was_fitted_on():
    rng = np.random.default_rng(6)
    embedding = queries(rng)
    heights = embedding.native_sizes[:, 0]
    truth = sigmoid(2.0 * (np.log(heights) - np.log(60)))
    people = np.arange(len(heights))
    is_first = rng.random(len(heights)) < truth
    fit = fit_reliability(embedding, is_first, people=people, num_gallery=100)
    found = fit(embedding)
    assert found.dtype == np.float32
    assert np.abs(found - truth).mean() < 0.06
    assert fit.log_loss < fit.log_loss_constant
    assert fit(queries(rng)).min() >= 0
    one = embedding.take(np.array([0]))
    at = {}
    for height in (1, 8, 16, 199, 5000):
        one.native_sizes[:] = height
        at[height] = float(fit(one)[0])
    assert at[5000] == pytest.approx(at[199], rel=0.05)  # nothing is extrapolated
    lowest = int(heights.min())
    one.native_sizes[:] = lowest
    assert at[1] == pytest.approx(float(fit(one)[0]) / lowest)  # fewer lines: their share
    assert at[1] < at[8] < at[16] < at[199]


def test_more_pixels_never_count_against_an_image():
    rng = np.random.default_rng(6)
    embedding = queries(rng)
    heights, norms = embedding.native_sizes[:, 0], np.log(embedding.norms).mean(axis=1)
    truth = sigmoid(3 * (norms - norms.mean()) - (np.log(heights) - np.log(60)))
    is_first = rng.random(len(heights)) < truth
    fit = fit_reliability(embedding, is_first, people=np.arange(len(heights)), num_gallery=100)
    assert fit.coefficients[1 + fit.features.index("log_height")] == 0
    one = embedding.take(np.array([0]))
    found = []
    for height in (1, 20, 60, 190):
        one.native_sizes[:] = height
        found.append(float(fit(one)[0]))
    assert found == sorted(found)


def test_a_reliability_that_tells_nothing_is_none():
    rng = np.random.default_rng(16)
    embedding = queries(rng, 2000)
    is_first = rng.random(2000) < 0.5
    told = [
        fit_reliability(embedding, rng.permutation(is_first), people=np.arange(2000), num_gallery=9)
        for _ in range(5)
    ]
    assert sum(fit is None for fit in told) >= 3


def test_reliability_needs_both_outcomes_and_sizes():
    embedding = queries(np.random.default_rng(7), 20)
    people = np.arange(20)
    everyone = np.ones(20, dtype=bool)
    assert fit_reliability(embedding, everyone, people=people, num_gallery=9) is None
    bare = Embedding(vectors=embedding.vectors, quality=embedding.quality)
    with pytest.raises(ProtocolError, match="native sizes"):
        fit_reliability(bare, np.arange(20) < 5, people=people, num_gallery=9)


def test_one_stream_without_norms_has_its_height():
    rng = np.random.default_rng(8)
    heights = rng.integers(16, 200, 100)
    embedding = Embedding(
        vectors=np.zeros((100, 1, 3), dtype=np.float32),
        quality=np.ones((100, 1), dtype=np.float32),
        native_sizes=np.column_stack([heights, heights]),
    )
    fit = fit_reliability(embedding, heights > 90, people=np.arange(100), num_gallery=100)
    assert fit.features == ("log_height",)


def test_probability_moves_with_the_prior_and_survives_the_file(tmp_path):
    rng = np.random.default_rng(9)
    distances, is_same, groups = pairs(rng)
    curve, loss, other = fit_curve(distances, is_same, groups)
    embedding = queries(rng)
    calibration = Calibration(
        data="somewhere", fingerprint="f", metric="sqeuclidean", fusion="weighted", prior=0.5,
        curve=curve, num_same=400, num_different=6000, heights=(16.0, 60.0, 199.0), log_loss=loss,
        log_loss_other=other, thresholds=(),
        reliability=fit_reliability(
            embedding, embedding.native_sizes[:, 0] > 90, people=np.arange(800), num_gallery=9
        ),
    )  # fmt: skip
    calibration.write(tmp_path / "calibration.json")
    again = Calibration.read(tmp_path / "calibration.json")
    assert again == calibration
    for fingerprint, fits in (("", True), ("f", True), ("of another model", False)):
        assert calibration.fits(replace(embedding, fingerprint=fingerprint)) == fits
    assert np.array_equal(again.reliability(embedding), calibration.reliability(embedding))
    even = calibration.probability(1.0)
    rare = calibration.probability(1.0, prior=0.01)
    odds = even / (1 - even) * (0.01 / 0.99)
    assert rare == pytest.approx(odds / (1 + odds))
    assert calibration.probability(np.array([[0.5, 2.0]])).shape == (1, 2)
    with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
        calibration.probability(1.0, prior=1)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Calibration.read(tmp_path / "nowhere.json")
    with pytest.raises(CheckpointError, match="could not be written"):
        calibration.write(tmp_path / "nowhere" / "c.json")


def test_curve_of_steps_is_read_between_them():
    curve = Curve(kind="isotonic", distances=(0.0, 1.0), log_odds=(2.0, -2.0), limit=9.0)
    assert curve(np.array([-1.0, 0.5, 3.0])).tolist() == [2.0, 0.0, -2.0]
