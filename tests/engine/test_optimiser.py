from dataclasses import replace

import pytest
import torch
from engine.fakes import TinyLoader, TinyMethod
from torch import nn

from resolute.core.errors import CheckpointError, ConfigError
from resolute.engine.optimiser import build_optimiser, capture_state, check_groups, restore_state
from resolute.methods.config import OptimiserConfig
from resolute.methods.contract import ParameterGroup


def moved(method, name="adam"):
    """Return groups and optimiser of a method after one step."""
    phase = method.phases[0]
    groups = method.parameter_groups(phase)
    optimiser = build_optimiser(OptimiserConfig(name=name, learning_rate=0.01), groups)
    sum(method.losses(TinyLoader().batch(0, 0), phase).values()).backward()
    optimiser.step()
    return groups, optimiser


def literal_adam(weight, gradients, rate, decay):
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients, start=1):
        gradient = gradient + decay * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight = weight - rate * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
    return weight


def literal_sgd(weight, gradients, rate, decay):
    velocity = None
    for gradient in gradients:
        gradient = gradient + decay * weight
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        weight = weight - rate * (gradient + 0.9 * velocity)
    return weight


@pytest.mark.parametrize(("name", "literal"), [("adam", literal_adam), ("sgd", literal_sgd)])
def test_updates_follow_the_definition(name, literal):
    rng = torch.Generator().manual_seed(0)
    start = [torch.randn(5, generator=rng, dtype=torch.float64) for _ in range(2)]
    gradients = [
        [torch.randn(5, generator=rng, dtype=torch.float64) for _ in range(3)] for _ in "ab"
    ]
    parameters = [nn.Parameter(s.clone()) for s in start]
    groups = [
        ParameterGroup(name="a", parameters=(("a", parameters[0]),), weight_decay=0.1),
        ParameterGroup(name="b", parameters=(("b", parameters[1]),), learning_rate_factor=0.5),
    ]
    optimiser = build_optimiser(OptimiserConfig(name=name, learning_rate=0.2), groups)
    for step in range(3):
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = own[step].clone()
        optimiser.step()
    assert torch.allclose(parameters[0], literal(start[0], gradients[0], 0.2, 0.1))
    assert torch.allclose(parameters[1], literal(start[1], gradients[1], 0.1, 0.0))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_restored_moments_take_the_layout_of_their_parameter(name):
    method = TinyMethod().to(memory_format=torch.channels_last)
    groups, optimiser = moved(method, name)
    state = {
        parameter: {key: value.contiguous().clone() for key, value in moments.items()}
        for parameter, moments in capture_state(optimiser, groups).items()
    }
    fresh = build_optimiser(OptimiserConfig(name=name, learning_rate=0.01), groups)
    restore_state(fresh, groups, state)
    weight = method.stem[0].weight
    assert not weight.is_contiguous()
    for parameter, moments in fresh.state.items():
        for key, value in moments.items():
            assert torch.equal(value, optimiser.state[parameter][key])
            if key != "step":
                assert value.stride() == parameter.stride()
    assert fresh.state[weight].keys() == optimiser.state[weight].keys()


def test_unknown_names_and_shapes_are_refused():
    groups, optimiser = moved(TinyMethod())
    state = capture_state(optimiser, groups)
    with pytest.raises(CheckpointError, match="optimiser state of other: this method has no such"):
        restore_state(optimiser, groups, {**state, "other": {}})
    state["classifier.weight"]["exp_avg"] = torch.zeros(2)
    with pytest.raises(
        CheckpointError, match=r"exp_avg of classifier.weight: .*\(4, 8\), got \(2,"
    ):
        restore_state(optimiser, groups, state)


def test_every_parameter_belongs_to_one_phase_at_a_time():
    method = TinyMethod()
    main = method.phases[0]
    other = replace(main, name="other")
    groups = method.parameter_groups(main)
    check_groups(method, [(main, groups)])
    with pytest.raises(ConfigError, match=r"body.0.weight: listed in main/new.weight and again"):
        check_groups(method, [(main, groups), (other, groups[:1])])
    with pytest.raises(ConfigError, match=r"body.0.weight: listed in main/new.weight and again"):
        check_groups(method, [(main, [*groups, groups[0]])])
    early, late = replace(main, name="early", last=0.5), replace(main, name="late", first=0.5)
    check_groups(method, [(early, groups[:1]), (late, groups)])
    with pytest.raises(ConfigError, match=r"listed in early/"):
        check_groups(method, [(early, groups[:1]), (replace(late, first=0.4), groups)])
    with pytest.raises(ConfigError, match="belong to no phase"):
        check_groups(method, [(main, groups[1:])])
    with pytest.raises(ConfigError, match="phase other: has no parameters to train"):
        check_groups(method, [(main, groups), (other, [])])
    method.classifier.weight.requires_grad_(False)
    check_groups(method, [(main, method.parameter_groups(main))])
