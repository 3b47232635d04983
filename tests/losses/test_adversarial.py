import math

import pytest
import torch

from resolute.losses.adversarial import discriminator_loss, generator_loss


def test_discriminator_loss_by_loop():
    real, fake = torch.tensor([0.5, -1.0, 3.0]), torch.tensor([[2.0], [-0.3]])

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    literal = sum(-math.log(sigmoid(x)) for x in real.tolist()) / 3
    literal += sum(-math.log(1 - sigmoid(x)) for x in fake.flatten().tolist()) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(literal, abs=1e-6)
    literal = sum(-math.log(sigmoid(x)) for x in fake.flatten().tolist()) / 2
    assert generator_loss(fake).item() == pytest.approx(literal, abs=1e-6)


def test_extreme_scores_stay_finite():
    far = torch.tensor([1e4, -1e4])
    assert torch.isfinite(discriminator_loss(far, far))
    assert torch.isfinite(generator_loss(far))


def test_the_generator_keeps_a_gradient_where_the_discriminator_is_sure():
    score = torch.tensor([-50.0], requires_grad=True)
    generator_loss(score).backward()
    assert score.grad.item() == pytest.approx(-1.0)
