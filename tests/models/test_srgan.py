import math

import pytest
import torch
from torch import nn

from resolute.core.errors import ConfigError
from resolute.models.srgan import Chain, Generator, SRDiscriminator


def layers(network):
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.bias is not None)
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_generator_has_the_published_layers():
    network = Generator()
    plain = (64, 64, 3, 1, False)
    assert layers(network) == [
        (3, 64, 3, 1, True),
        *32 * [plain],
        plain,
        (64, 256, 3, 1, True),
        (64, 3, 1, 1, True),
    ]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 33
    expected = 3 * 64 * 9 + 64 + 33 * (64 * 64 * 9 + 128) + 64 * 256 * 9 + 256 + 64 * 3 + 3
    assert count(network) == expected == 1_370_435


def test_discriminator_has_the_published_layers():
    network = SRDiscriminator((128, 48))
    assert layers(network) == [
        (3, 64, 4, 2, True),
        *[(64 * 2**i, 128 * 2**i, 4, 2, False) for i in range(5)],
        (2048, 1024, 1, 1, False),
        (1024, 512, 1, 1, False),
        (512, 128, 1, 1, False),
        (128, 128, 3, 1, False),
        (128, 512, 3, 1, False),
    ]
    convolutions = sum(a * b * k * k + b * has for a, b, k, _, has in layers(network))
    norms = 2 * (128 + 256 + 512 + 1024 + 2048 + 1024 + 512 + 128 + 128 + 512)
    assert network.score.in_features == 512 * 2 * 1  # 128x48 halved six times, rounded up
    assert count(network) == convolutions + norms + 1025


def test_weights_start_at_a_deviation_of_two_hundredths():
    network = Generator(num_blocks=2)
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert abs(weights.mean().item()) < 1e-3


def test_generator_doubles_and_stays_in_range():
    images = torch.randn(2, 3, 8, 6)
    made = Generator(width=4, num_blocks=1)(images)
    assert made.shape == (2, 3, 16, 12)
    assert made.abs().max() <= 1


def test_a_residual_generator_starts_as_bicubic():
    images = torch.rand(2, 3, 8, 6) - 0.5
    made = Generator(width=4, num_blocks=1, residual=True)(images)
    bicubic = nn.functional.interpolate(images, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(made, bicubic)


@pytest.mark.parametrize("size", [(16, 8), (32, 12), (128, 48), (5, 3), (1, 1)])
def test_discriminator_takes_the_size_it_was_built_for(size):
    network = SRDiscriminator(size, width=2).eval()
    halved = [math.ceil(side / 64) for side in size]
    assert network.score.in_features == 16 * halved[0] * halved[1]
    scores = network(torch.randn(3, 3, *size))
    assert scores.shape == (3,)


def test_a_strided_layer_sees_every_pixel():
    for size in (7, 8):
        layer = SRDiscriminator((size, size), width=1).strided[0]
        image = torch.randn(1, 3, size, size, requires_grad=True)
        layer(image).sum().backward()
        assert layer(image).shape[2:] == (4, 4)
        assert (image.grad.abs() > 0).all()


def small_chain():
    generators = [Generator(width=4, num_blocks=1) for _ in range(3)]
    return Chain(generators, size=(16, 8)).eval()


def test_chain_sizes_halve_downwards():
    assert small_chain().sizes == [(2, 1), (4, 2), (8, 4), (16, 8)]
    published = Chain([Generator(width=1, num_blocks=1) for _ in range(3)], size=(128, 48))
    assert published.sizes == [(16, 6), (32, 12), (64, 24), (128, 48)]


def test_images_enter_where_they_fit_and_keep_their_order():
    chain = small_chain()
    entering = [torch.randn(n, 3, *size) for n, size in zip((1, 0, 2), chain.sizes, strict=False)]
    made = chain(entering)
    assert [len(m) for m in made] == [1, 1, 3]
    assert [m.shape[2:] for m in made] == chain.sizes[1:]
    first = chain.generators[1](chain.generators[0](entering[0]))
    torch.testing.assert_close(made[2][:1], chain.generators[2](first))
    torch.testing.assert_close(made[2][1:], chain.generators[2](entering[2]))


def test_nothing_goes_through():
    chain = small_chain()
    made = chain([torch.empty(0, 3, *size) for size in chain.sizes[:-1]])
    assert [m.shape for m in made] == [(0, 3, *size) for size in chain.sizes[1:]]


@pytest.mark.parametrize("size", [(12, 8), (16, 6), (0, 8)])
def test_chain_size_is_checked(size):
    with pytest.raises(ConfigError, match="multiples of 8"):
        Chain([Generator(width=1, num_blocks=1) for _ in range(3)], size=size)


@pytest.mark.parametrize("changes", [{"width": 0}, {"num_blocks": 0}])
def test_generator_size_is_checked(changes):
    with pytest.raises(ConfigError, match="at least 1"):
        Generator(**changes)
