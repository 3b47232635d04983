import pytest
import torch
from engine.fakes import TinyLoader, TinyMethod, bits

from resolute.core.errors import ConfigError
from resolute.engine.watch import Watch, gradient_norms


def test_norms_are_those_of_one_backward_per_term():
    batch, phase = TinyLoader().batch(0, 0), TinyMethod().phases[0]
    method = TinyMethod(dropout=0.0)
    found = gradient_norms(method, batch, phase, method.stem)
    assert found.keys() == {"identity", "gap"}
    for name, norm in found.items():
        fresh = TinyMethod(dropout=0.0)
        fresh.losses(batch, phase)[name].backward()
        squares = sum(float(p.grad.square().sum()) for p in fresh.stem.parameters())
        assert norm == pytest.approx(squares**0.5, rel=1e-5)
        assert norm > 0


def test_term_that_does_not_reach_a_part_pulls_with_zero():
    method = TinyMethod()
    norms = gradient_norms(method, TinyLoader().batch(0, 0), method.phases[0], method.classifier)
    assert norms["gap"] == 0.0 < norms["identity"]


def test_constant_term_pulls_with_zero():
    method = TinyMethod()
    method.losses = lambda batch, phase: {"constant": torch.tensor(3.0)}
    norms = gradient_norms(method, TinyLoader().batch(0, 0), method.phases[0], method.stem)
    assert norms == {"constant": 0.0}


def test_nothing_is_left_behind():
    method = TinyMethod()
    before = bits(method)
    gradient_norms(method, TinyLoader().batch(0, 0), method.phases[0], method.stem)
    assert bits(method) == before
    assert all(p.grad is None for p in method.parameters())


def test_part_that_does_not_train_is_refused():
    method = TinyMethod()
    method.stem.requires_grad_(False)
    with pytest.raises(ConfigError, match="watch: Sequential has no parameters that train here"):
        gradient_norms(method, TinyLoader().batch(0, 0), method.phases[0], method.stem)
    with pytest.raises(ConfigError, match=r"watch.every: expected >= 1, got 0"):
        Watch(parts={}, every=0)
