"""One suite over every registered method: what engine and evaluation rely on."""

import numpy as np
import pytest
import torch
from methods.builders import random_batch, random_images, small_blueprint, small_method

from resolute.methods.catalogue import METHODS, Blueprint
from resolute.methods.contract import Method

NAMES = sorted(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name):
    method = small_method(name)
    assert isinstance(method, Method)
    assert len({phase.name for phase in method.phases}) == len(method.phases)


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_belongs_to_one_group_of_one_phase(name):
    method = small_method(name)
    seen = [
        n
        for phase in method.phases
        for g in method.parameter_groups(phase)
        for n, _ in g.parameters
    ]
    trainable = [n for n, p in method.named_parameters() if p.requires_grad]
    assert sorted(seen) == sorted(trainable)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_finite_gradient_within_two_steps(name):
    # OSNet's narrow gates have single units, which may start dead: no test of the method.
    method = small_method(name, backbone="resnet18").train()
    optimiser = torch.optim.SGD(method.parameters(), lr=0.05)
    moved = set()
    for step in range(2):
        for phase in method.phases:
            losses = method.losses(random_batch(seed=step), phase)
            assert all(loss.ndim == 0 for loss in losses.values())
            optimiser.zero_grad()
            sum(losses.values()).backward()
            for n, p in method.named_parameters():
                if p.requires_grad:
                    assert p.grad is not None, n
                    assert torch.isfinite(p.grad).all(), n
                    if p.grad.abs().sum() > 0:
                        moved.add(n)
            optimiser.step()
    still = {n for n, p in method.named_parameters() if p.requires_grad} - moved
    assert still == set()


@pytest.mark.parametrize("name", NAMES)
def test_embed_is_deterministic_and_leaves_the_mode(name):
    method = small_method(name).train()
    images = random_images()
    first, second = method.embed(images), method.embed(images)
    assert np.array_equal(first.vectors, second.vectors)
    assert np.array_equal(first.quality, second.quality)
    assert method.training
    assert len(first) == len(images)
    assert np.isfinite(first.vectors).all()
    assert (first.quality >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_embedding_does_not_depend_on_the_batch(name):
    method = small_method(name)
    images = random_images((0, 1, 2, 2, 0), heights=[96, 30, 90, 20, 64])
    whole = method.embed(images)
    for i in range(len(images)):
        alone = method.embed(images.take(torch.tensor([i])))
        np.testing.assert_allclose(alone.vectors[0], whole.vectors[i], atol=2e-6)
        np.testing.assert_allclose(alone.quality[0], whole.quality[i], atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name):
    first, second = small_method(name, seed=0), small_method(name, seed=1)
    images = random_images()
    assert not np.array_equal(first.embed(images).vectors, second.embed(images).vectors)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(first.embed(images).vectors, second.embed(images).vectors)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights(name):
    first, second = small_method(name, seed=3), small_method(name, seed=3)
    for (n, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), n


def test_blueprint_round_trip():
    blueprint = small_blueprint("ftwa", gallery_rates=(2.0, 3.0))
    assert Blueprint.of(blueprint.to_mapping()) == blueprint
