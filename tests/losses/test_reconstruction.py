"""Equation 2 against a loop, and where its gradient goes."""

import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.reconstruction import feature_l1


@pytest.mark.parametrize("reduction", ["mean", "channel_sum"])
def test_equation_2_by_loop(reduction):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 3, 4, 5, generator=generator)
    moved = torch.randn(2, 3, 4, 5, generator=generator)
    total = sum(
        abs(float(target[n, c, y, x]) - float(moved[n, c, y, x]))
        for n in range(2)
        for c in range(3)
        for y in range(4)
        for x in range(5)
    )
    count = 2 * 4 * 5 * (3 if reduction == "mean" else 1)
    assert feature_l1(target, moved, reduction=reduction).item() == pytest.approx(total / count)


def test_target_takes_no_gradient_and_the_other_side_does():
    target = torch.ones(1, 1, 2, 2, requires_grad=True)
    moved = torch.zeros(1, 1, 2, 2, requires_grad=True)
    feature_l1(target, moved).backward()
    assert target.grad is None
    assert moved.grad.abs().sum().item() == pytest.approx(1.0)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="transformed"):
        feature_l1(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4))
