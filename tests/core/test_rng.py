"""Streams are independent, addressed by name, and leave torch's global state alone."""

import pytest
import torch

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams


def draw(streams, *index):
    return streams.numpy(*index).integers(1 << 40, size=4).tolist()


def test_same_address_same_numbers():
    assert draw(Streams(3), Stream.TRIAL, 1, "a") == draw(Streams(3), Stream.TRIAL, 1, "a")


def test_seed_stream_and_index_all_matter():
    draws = [
        draw(Streams(3), Stream.TRIAL, 1),
        draw(Streams(4), Stream.TRIAL, 1),
        draw(Streams(3), Stream.SPLIT, 1),
        draw(Streams(3), Stream.TRIAL, 2),
        draw(Streams(3), Stream.TRIAL, 1, 0),
        draw(Streams(3), Stream.TRIAL, "1"),
    ]
    assert len({tuple(d) for d in draws}) == len(draws)


def test_torch_streams_repeat_and_restore_the_global_state():
    before = torch.random.get_rng_state()
    with Streams(1).torch_default(Stream.INITIALISATION):
        first = torch.rand(3)
    assert torch.equal(before, torch.random.get_rng_state())
    with Streams(1).torch_default(Stream.INITIALISATION):
        assert torch.equal(first, torch.rand(3))
    generator = Streams(1).torch(Stream.DROPOUT, 2)
    again = Streams(1).torch(Stream.DROPOUT, 2)
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=again))


def test_published_draws_never_change():
    # Splits and rates in committed results hang on these numbers.
    assert Streams(7).numpy(Stream.TRIAL, 0).integers(100) == 31


def test_negative_seed():
    with pytest.raises(ConfigError, match="seed"):
        Streams(-1)
