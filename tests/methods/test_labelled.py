from itertools import pairwise

import numpy as np
import pytest
import torch

from resolute.core.rng import Streams
from resolute.losses.identity import identity_terms
from resolute.methods.labelled import NO_CLASS, Labelled, draw_labelled, mean_of_labelled


def test_the_share_is_met_and_smaller_shares_are_nested():
    drawn = [draw_labelled(50, share, streams=Streams(4)) for share in (0.001, 0.2, 0.5, 1.0)]
    assert [int(d.sum()) for d in drawn] == [1, 10, 25, 50]
    for less, more in pairwise(drawn):
        assert (more | ~less).all()
    assert np.array_equal(drawn[1], draw_labelled(50, 0.2, streams=Streams(4)))
    assert not np.array_equal(drawn[1], draw_labelled(50, 0.2, streams=Streams(5)))


def test_identities_with_labels_are_numbered():
    labelled = Labelled(np.array([False, True, True, False, True]))
    assert labelled.num_classes == 3
    assert not labelled.has_all
    classes = labelled.classes(torch.tensor([4, 0, 1, 2, 3]))
    assert classes.tolist() == [2, NO_CLASS, 0, 1, NO_CLASS]
    assert Labelled(np.ones(2, dtype=np.bool_)).has_all


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_without_class_have_no_part_in_the_mean(smoothing):
    logits = torch.tensor([[1.0, 2.0, 0.5], [3.0, -1.0, 0.0], [0.2, 0.1, 0.0]], requires_grad=True)
    classes = torch.tensor([1, NO_CLASS, 2])
    terms = identity_terms(logits, classes, smoothing=smoothing)
    assert terms[1] == 0
    mean = mean_of_labelled(terms, classes)
    assert mean.item() == pytest.approx((terms[0] + terms[2]).item() / 2)
    mean.backward()
    assert logits.grad[1].abs().max() == 0
    assert logits.grad[0].abs().max() > 0


def test_a_batch_without_labels_gives_zero_and_a_finite_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    classes = torch.full((2,), NO_CLASS)
    mean = mean_of_labelled(identity_terms(logits, classes), classes)
    mean.backward()
    assert mean == 0
    assert logits.grad.abs().max() == 0
