import math

import numpy as np
import pytest
from report.literal import embedding

from resolute.core.distance import distance_matrix
from resolute.core.errors import ProtocolError
from resolute.report.pairs import (
    DISTANCE_BINS,
    DistanceCounts,
    bin_width,
    counted,
    hr_share,
    rebinned,
    relative_quality,
)


def counts_of(positives, negatives, width=2.0**-14):
    def binned(values):
        bins = np.minimum(np.asarray(values) / width, DISTANCE_BINS - 1).astype(int)
        return np.bincount(bins, minlength=DISTANCE_BINS)

    return DistanceCounts(width=width, positives=binned(positives), negatives=binned(negatives))


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.1, 0.5, 1.0])
def test_threshold_lets_through_as_many_as_allowed_and_no_more(rate, rng):
    positives, negatives = rng.uniform(0, 2, 300), rng.uniform(0.5, 4, 2000)
    counts = counts_of(positives, negatives)
    threshold = counts.threshold(rate)
    assert (negatives < threshold).mean() <= rate
    if rate < 1:
        assert (negatives < threshold + counts.width).mean() > rate
    true, false = counts.share_below(threshold)
    assert true == pytest.approx((positives < threshold).mean())
    assert false == pytest.approx((negatives < threshold).mean())


def test_threshold_counts_whole_pairs_despite_rounding():
    # 0.001 * 3000 is a little less than 3 in binary.
    counts = counts_of([0.1], np.linspace(0.2, 0.9, 3000))
    assert counts.share_below(counts.threshold(0.003))[1] == pytest.approx(9 / 3000)


def test_threshold_refuses_what_is_no_share():
    with pytest.raises(ProtocolError, match=r"expected 0\.\.1, got 1\.5"):
        counts_of([0.1], [0.2]).threshold(1.5)


def test_pairs_of_two_runs_count_together_in_the_wider_bins(rng):
    one, other = rng.uniform(0, 1, 50), rng.uniform(0, 1.9, 70)
    both = counts_of(one, other, 2.0**-15).joined(counts_of(other, one, 2.0**-13))
    same = counts_of([*one, *other], [*other, *one], 2.0**-13)
    assert both.width == same.width
    assert np.array_equal(both.positives, same.positives)
    assert np.array_equal(both.negatives, same.negatives)
    again = counts_of(one, other).joined(counts_of(one, other))
    assert again.positives.sum() == 100


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("length", [1.0, 7.3])
def test_no_distance_lies_beyond_the_bins(metric, length, rng):
    query, gallery = embedding(rng, 5, streams=1), embedding(rng, 4, streams=1)
    query.vectors[0] = -gallery.vectors[0]
    query.vectors[:] *= length
    width = bin_width(query, gallery) if metric == "sqeuclidean" else None
    if metric == "euclidean":
        object.__setattr__(query, "metric", metric)
        object.__setattr__(gallery, "metric", metric)
        width = bin_width(query, gallery)
    largest = distance_matrix(query, gallery).max()
    assert math.log2(width).is_integer()
    assert largest <= width * DISTANCE_BINS * 1.001
    assert largest > width * DISTANCE_BINS / 8


def test_normalised_vectors_have_the_documented_width(rng):
    assert bin_width(embedding(rng, 9), embedding(rng, 9)) == 2.0**-14


def test_share_of_the_hr_space_is_its_definition(rng):
    query, gallery = embedding(rng, 3), embedding(rng, 4)
    shares = hr_share(relative_quality(query)[1], relative_quality(gallery))
    for g in range(4):
        a = float(query.quality[1, 0]) * float(gallery.quality[g, 0])
        b = float(query.quality[1, 1]) * float(gallery.quality[g, 1])
        assert shares[g] == pytest.approx(a / (a + b))


def test_share_is_undefined_where_no_space_is_trusted(rng):
    query, gallery = embedding(rng, 1), embedding(rng, 3)
    query.quality[0] = (1, 0)
    gallery.quality[1] = (0, 1)
    gallery.quality[2] = (0, 0)
    shares = hr_share(relative_quality(query)[0], relative_quality(gallery))
    assert shares[0] == 1
    assert np.isnan(shares[1:]).all()


def test_counting_keeps_the_ends():
    assert counted(np.array([0.0, 0.49, 0.5, 1.0]), 2).tolist() == [2, 2]


def test_fine_bins_go_where_they_start():
    coarse = rebinned(np.array([1, 2, 4, 8, 16]), 0.5, np.array([0.5, 1.5, 2.0]))
    assert coarse.tolist() == [1 + 2 + 4, 8 + 16]
