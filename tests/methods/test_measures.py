"""How much of what resolution takes T gives back."""

import pytest
import torch
from methods.builders import random_images, small_method

from resolute.data.degrade import to_input
from resolute.methods.measures import transform_cost, transform_errors, transform_of


def test_only_methods_that_learn_a_transform_have_one():
    has = {
        name: transform_of(small_method(name)) is not None
        for name in ("baseline", "ftwa_b-twins", "ftwa_r-not", "ftwa_r", "ftwa")
    }
    assert has == {
        "baseline": False,
        "ftwa_b-twins": False,
        "ftwa_r-not": False,
        "ftwa_r": True,
        "ftwa": True,
    }
    assert transform_of(object()) is None


def test_errors_are_those_of_the_maps():
    method = small_method().eval()
    torch.nn.init.normal_(method.raft.tail[0].weight, std=0.01)
    images = random_images((0, 0, 0))
    restored, plain = transform_errors(method, images, rate=3)
    with torch.no_grad():
        hr = method.network.maps(to_input(images, method.input_spec), None)
        lr = to_input(images, method.input_spec, rates=torch.full((3,), 3.0))
        lr = method.network.maps(None, lr)
        assert plain == pytest.approx(float((lr - hr).abs().sum()), rel=1e-4)
        assert restored == pytest.approx(float((method.raft(lr) - hr).abs().sum()), rel=1e-4)


def test_a_transform_that_starts_as_the_identity_recovers_nothing():
    restored, plain = transform_errors(small_method().eval(), random_images((0, 0)), rate=2)
    assert restored == plain > 0


def test_the_cost_is_that_of_t_alone():
    method = small_method()
    cost = transform_cost(method)
    assert cost.parameters == sum(p.numel() for p in method.raft.parameters())
    assert cost.macs > 0
