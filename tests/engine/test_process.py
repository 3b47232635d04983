import pytest
import torch

from resolute.core.errors import ConfigError
from resolute.engine.process import torch_settings

CPU = torch.device("cpu")


def gradient_of_indexing():
    features = torch.linspace(0, 1, 64 * 1024).reshape(64, 1024).requires_grad_()
    rows = torch.arange(4000).mul(7919) % 64
    (features[rows] * torch.linspace(0, 1, 4000)[:, None].sin()).sum().backward()
    return features.grad


def test_gradient_of_indexing_has_the_same_bits_with_two_threads():
    with torch_settings(threads=2, device=CPU) as threads:
        assert threads == torch.get_num_threads() == 2
        assert torch.get_deterministic_debug_mode() == 1
        assert not torch.utils.deterministic.fill_uninitialized_memory
        first = gradient_of_indexing()
        assert all(torch.equal(first, gradient_of_indexing()) for _ in range(3))


def test_everything_is_given_back_after_an_error():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        with torch_settings(threads=threads + 1, device=CPU):
            torch.randn(3)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_deterministic_debug_mode() == 0


@pytest.mark.parametrize("threads", [-1, 10**20])
def test_a_number_of_threads_that_is_none(threads):
    with (
        pytest.raises(ConfigError, match=rf"threads: expected 0 .* got {threads}"),
        torch_settings(threads=threads, device=torch.device("cpu")),
    ):
        pass


def test_zero_threads_keeps_the_choice_of_torch():
    threads = torch.get_num_threads()
    with torch_settings(threads=0, device=CPU) as found:
        assert found == threads
