import pytest
import torch
from torch import nn

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.models.super_resolution import SRCNN, LumaSuperResolution, Restorer

SPEC = InputSpec(height=24, width=20)


def built(make):
    with Streams(4).torch_default(Stream.INITIALISATION):
        return make()


def luma_network(**changes):
    settings = {"widths": (6, 5), "padding": False, **changes}
    return built(lambda: LumaSuperResolution(2, SPEC, **settings))


def normalised(levels):
    """Grey levels 0..255, (N, 3, H, W), as network input."""
    mean = torch.tensor(SPEC.mean).view(3, 1, 1)
    std = torch.tensor(SPEC.std).view(3, 1, 1)
    return (levels / 255 - mean) / std


def picture(*, seed=0, height=24, width=20):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, 3, height, width, generator=generator) * 255).round()


def noisy(network):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return network


def test_srcnn_layers_and_parameters():
    network = built(SRCNN)
    shapes = [tuple(layer.weight.shape) for layer in network.convolutions]
    assert shapes == [(64, 1, 9, 9), (32, 64, 5, 5), (1, 32, 5, 5)]
    assert [type(m) for m in network] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]
    expected = 81 * 64 + 64 + 64 * 32 * 25 + 32 + 32 * 25 + 1
    assert sum(p.numel() for p in network.parameters()) == expected == 57_281


def test_srcnn_starts_as_the_identity_of_what_is_left():
    network = built(SRCNN)
    luma = torch.rand(2, 1, 160, 72)
    out = network(luma)
    assert out.shape == (2, 1, 144, 56)
    torch.testing.assert_close(out, luma[:, :, 8:-8, 8:-8])
    filters = network.convolutions[0].weight[1:]
    torch.testing.assert_close(filters.sum(dim=(2, 3)), torch.zeros(63, 1), atol=1e-5, rtol=0)
    assert filters.std() > 0.1


def test_luma_by_a_loop_over_pixels():
    network = noisy(luma_network())
    levels = picture()
    out = network(normalised(levels), 1)
    rows = [
        (0.2568, 0.5041, 0.0979, 16.0),
        (-0.1482, -0.2910, 0.4392, 128.0),
        (0.4392, -0.3678, -0.0714, 128.0),
    ]
    ycbcr = torch.zeros(2, 3, 24, 20)
    for n in range(2):
        for y in range(24):
            for x in range(20):
                r, g, b = levels[n, :, y, x].tolist()
                for c, (of_r, of_g, of_b, offset) in enumerate(rows):
                    ycbcr[n, c, y, x] = of_r * r + of_g * g + of_b * b + offset
    sharp = network.networks[1](ycbcr[:, :1] / 255) * 255
    joined = torch.cat([sharp, ycbcr[:, 1:, 8:-8, 8:-8]], dim=1)
    low, high = (torch.tensor(v).view(3, 1, 1) for v in ((16.0, 16, 16), (235.0, 240, 240)))
    clamped = joined.maximum(low).minimum(high)
    matrix = torch.tensor([row[:3] for row in rows])
    offsets = torch.tensor([row[3] for row in rows]).view(3, 1, 1)
    rgb = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(matrix), clamped - offsets)
    torch.testing.assert_close(out, normalised(rgb), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(out, network(normalised(levels), 0))


def test_images_pass_unchanged_at_the_start():
    images = normalised(picture())
    plain, padded = luma_network(), luma_network(padding=True)
    torch.testing.assert_close(plain(images, 0), plain.crop(images), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(padded(images, 0), images, atol=1e-3, rtol=1e-3)
    assert padded.crop(images) is images or torch.equal(padded.crop(images), images)
    torch.testing.assert_close(plain.grey_levels(images), picture(), atol=1e-2, rtol=0)


def test_padding_repeats_the_border():
    network = noisy(luma_network(padding=True))
    plain = luma_network()
    plain.load_state_dict(network.state_dict())
    images = normalised(picture())
    inside = network(images, 0)
    assert inside.shape == images.shape
    torch.testing.assert_close(inside[:, :, 8:-8, 8:-8], plain(images, 0), atol=1e-4, rtol=1e-4)
    flat = normalised(torch.full((1, 3, 24, 20), 120.0))
    out = network(flat, 0)
    torch.testing.assert_close(out, out[:, :, :1, :1].expand_as(out), atol=1e-4, rtol=1e-4)


def test_colours_are_fixed_and_not_stored():
    network = luma_network()
    assert all(n.startswith("networks.") for n in network.state_dict())
    assert all(n.startswith("networks.") for n, _ in network.named_parameters())


def test_luma_leaves_the_valid_range_nowhere():
    network = luma_network()
    with torch.no_grad():
        network.networks[0].convolutions[2].bias += 9
    levels = network.grey_levels(network(normalised(picture() * 0 + 90.0), 0))
    white = (235 - 16) / (0.2568 + 0.5041 + 0.0979)
    torch.testing.assert_close(levels, torch.full_like(levels, white), atol=0.5, rtol=0)


def test_no_image_gives_none_and_a_gradient_of_zero():
    network = luma_network()
    out = network(torch.zeros(0, 3, 24, 20), 0)
    assert out.shape == (0, 3, 8, 4)
    out.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in network.networks[0].parameters())


def test_inputs_that_are_too_small():
    with pytest.raises(ShapeError, match=r"24x16 .* loses 16 lines"):
        luma_network().crop(torch.zeros(1, 3, 24, 16))
    with pytest.raises(ConfigError, match="srcnn widths"):
        SRCNN(widths=(0, 3))


def test_restorer_parameters_and_start():
    network = built(Restorer)
    layers = 12 * 32 * 9 + 32 + 8 * (32 * 32 * 9 + 32) + 32 * 12 * 9 + 12
    assert sum(p.numel() for p in network.parameters()) == layers == 80_940
    images = torch.randn(2, 3, 10, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), images)


def test_restorer_by_hand():
    network = noisy(built(lambda: Restorer(width=4, num_blocks=1)))
    images = torch.randn(1, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    blocks = torch.zeros(1, 12, 3, 2)
    for c in range(3):
        for y in range(6):
            for x in range(4):
                blocks[0, 4 * c + 2 * (y % 2) + x % 2, y // 2, x // 2] = images[0, c, y, x]
    features = network.head(blocks)
    first, _, second = network.blocks[0]
    change = network.tail(features + second(torch.relu(first(features))))
    expected = images.clone()
    for c in range(3):
        for y in range(6):
            for x in range(4):
                expected[0, c, y, x] += change[0, 4 * c + 2 * (y % 2) + x % 2, y // 2, x // 2]
    torch.testing.assert_close(network(images), expected)


def test_restorer_settings():
    with pytest.raises(ConfigError, match="restorer"):
        Restorer(width=0)
    with pytest.raises(ConfigError, match="restorer"):
        Restorer(num_blocks=0)
