"""Equation 5 and cross entropy against their definitions, term by term."""

import math

import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.identity import identity_terms, pair_weighted_mean


def literal_cross_entropy(row: list[float], label: int, smoothing: float) -> float:
    total = sum(math.exp(x) for x in row)
    terms = [-math.log(math.exp(x) / total) for x in row]
    return (1 - smoothing) * terms[label] + smoothing * sum(terms) / len(terms)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_identity_terms_equal_their_definition(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=generator)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = [
        literal_cross_entropy(row.tolist(), int(label), smoothing)
        for row, label in zip(logits, labels, strict=True)
    ]
    terms = identity_terms(logits, labels, smoothing=smoothing)
    torch.testing.assert_close(terms, torch.tensor(expected))


def literal_eq5(l_hr, l_lr_syn, w_hr, w_lr_syn, l_lr, l_hr_syn, w_lr, w_hr_syn):
    first = [
        (w_hr[i] * l_hr[i] + w_lr_syn[i] * l_lr_syn[i]) / (w_hr[i] + w_lr_syn[i])
        for i in range(len(l_hr))
    ]
    second = [
        (w_lr[j] * l_lr[j] + w_hr_syn[j] * l_hr_syn[j]) / (w_lr[j] + w_hr_syn[j])
        for j in range(len(l_lr))
    ]
    return sum(first) / len(first) + sum(second) / len(second)


def test_equation_5_by_loop():
    generator = torch.Generator().manual_seed(1)
    terms = torch.rand(4, 7, generator=generator) * 5
    quality = torch.rand(4, 7, generator=generator) + 0.01
    ours = pair_weighted_mean(terms[0], terms[1], quality[0], quality[1]) + pair_weighted_mean(
        terms[2], terms[3], quality[2], quality[3]
    )
    expected = literal_eq5(
        *terms[:2].tolist(), *quality[:2].tolist(), *terms[2:].tolist(), *quality[2:].tolist()
    )
    assert ours.item() == pytest.approx(expected, rel=1e-6)


def test_common_scale_of_a_pair_changes_nothing():
    terms = torch.tensor([1.0, 3.0])
    other = torch.tensor([2.0, 0.5])
    w = torch.tensor([0.2, 0.9])
    v = torch.tensor([0.7, 0.1])
    scale = torch.tensor([3.0, 0.25])
    torch.testing.assert_close(
        pair_weighted_mean(terms, other, w, v),
        pair_weighted_mean(terms, other, scale * w, scale * v),
    )


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="logits"):
        identity_terms(torch.zeros(3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ShapeError, match="quality"):
        pair_weighted_mean(torch.ones(3), torch.ones(3), torch.ones(2), torch.ones(3))
