from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.models.discriminators import Discriminator


def build(shape, **settings):
    with Streams(3).torch_default(Stream.INITIALISATION):
        return Discriminator(shape, **settings)


def images(*shape):
    return torch.randn(shape, generator=Streams(1).torch(Stream.SYNTHETIC))


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "size"),
    [
        ((5, 16, 8), 3, (2, 2, 2, 1), (2, 1)),
        ((5, 4, 2), 3, (2, 1, 1, 1), (2, 1)),
        ((5, 1, 1), 3, (1, 1, 1, 1), (1, 1)),
        ((3, 64, 32), 4, (2, 2, 2, 2), (4, 2)),
        ((3, 256, 128), 4, (2, 2, 2, 2), (16, 8)),
    ],
)
def test_equals_the_literal_definition(shape, kernel, strides, size):
    discriminator = build(shape, width=4, kernel=kernel)
    x = given = images(2, *shape)
    for i, stride in enumerate(strides):
        layer = getattr(discriminator.blocks, f"conv{i}")
        x = functional.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
    score = discriminator.blocks.score
    x = functional.conv2d(x, score.weight, score.bias, padding=1)
    assert x.shape == (2, 1, *size)
    torch.testing.assert_close(discriminator(given), x)


@pytest.mark.parametrize(
    ("shape", "width", "kernel", "expected"),
    [
        ((2048, 16, 8), 64, 3, 2_733_505),
        ((3, 256, 128), 64, 4, 2_761_153),
        ((3, 256, 128), 16, 4, 174_193),
    ],
)
def test_parameter_count(shape, width, kernel, expected):
    discriminator = build(shape, width=width, kernel=kernel)
    widths = [shape[0], width, 2 * width, 4 * width, 8 * width]
    by_hand = sum(kernel**2 * a * b + b for a, b in pairwise(widths))
    by_hand += 9 * 8 * width + 1
    assert sum(p.numel() for p in discriminator.parameters()) == by_hand == expected


def test_a_score_does_not_depend_on_the_batch():
    discriminator = build((3, 32, 16), width=4)
    given = images(3, 3, 32, 16)
    torch.testing.assert_close(discriminator(given)[1:2], discriminator(given[1:2]))


@pytest.mark.parametrize("shape", [(256, 16, 8), (32, 4, 2), (32, 2, 1)])
def test_the_gradient_under_autocast_is_near_that_without(shape):
    discriminator, given = build(shape, width=16), images(12, *shape)
    found = []
    for is_enabled in (False, True):
        discriminator.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_enabled):
            scores = discriminator(given)
        scores.float().sum().backward()
        found.append([p.grad.flatten() for p in discriminator.parameters()])
    for plain, rounded in zip(*found, strict=True):
        assert functional.cosine_similarity(plain, rounded, dim=0) > 0.99


def test_wrong_width():
    with pytest.raises(ConfigError, match="expected a width of at least 1, got 0"):
        build((3, 64, 32), width=0)
