import pytest
import torch
from torch import nn

from resolute.core.errors import ConfigError
from resolute.models.ffsr import FFSR


def convolution(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + outputs


def test_layers_are_the_published_ones():
    layers = [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in FFSR().modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    bottleneck = [("Conv2d", 256, 64, 1, 1), ("Conv2d", 64, 64, 3, 1), ("Conv2d", 64, 256, 1, 1)]
    assert layers == [
        ("Conv2d", 3, 64, 2, 2),
        ("Conv2d", 64, 64, 5, 1),
        ("Conv2d", 64, 128, 2, 2),
        ("Conv2d", 128, 256, 3, 1),
        *bottleneck,
        *bottleneck,
        ("ConvTranspose2d", 256, 256, 2, 2),
        ("Conv2d", 256, 64, 3, 1),
        ("ConvTranspose2d", 128, 64, 2, 2),
        ("Conv2d", 64, 64, 3, 1),
        ("Conv2d", 64, 3, 3, 1),
    ]


@pytest.mark.parametrize("width", [64, 8])
def test_number_of_parameters_by_formula(width):
    w = width
    expected = sum(
        convolution(*layer)
        for layer in [
            (3, w, 2),
            (w, w, 5),
            (w, 2 * w, 2),
            (2 * w, 4 * w, 3),
            *2 * [(4 * w, w, 1), (w, w, 3), (w, 4 * w, 1)],
            (4 * w, 4 * w, 2),
            (4 * w, w, 3),
            (2 * w, w, 2),
            (w, w, 3),
            (w, 3, 3),
        ]
    )
    assert sum(p.numel() for p in FFSR(width).parameters()) == expected
    assert width != 64 or expected == 1_052_803


def test_forward_by_hand():
    net, images = FFSR(4), torch.randn(2, 3, 8, 12)
    weights = dict(net.named_parameters())
    conv, relu = nn.functional.conv2d, torch.relu

    def layer(x, name, *, stride=1, padding=0):
        return conv(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride, padding=padding
        )

    def double(x, name):
        return nn.functional.conv_transpose2d(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2
        )

    skip = relu(layer(layer(images, "entry.0", stride=2), "entry.1", padding=2))
    x = relu(layer(layer(skip, "bottom.0", stride=2), "bottom.1", padding=1))
    for block in ("bottom.3.body", "bottom.4.body"):
        inner = relu(layer(x, f"{block}.0"))
        x = x + layer(relu(layer(inner, f"{block}.2", padding=1)), f"{block}.4")
    x = relu(layer(relu(double(x, "bottom.5")), "bottom.7", padding=1))
    x = relu(double(torch.cat([x, skip], dim=1), "exit.0"))
    x = layer(relu(layer(x, "exit.2", padding=1)), "tail", padding=1)
    torch.testing.assert_close(net(images), images + x)


@pytest.mark.parametrize("size", [(64, 32), (256, 128), (4, 4)])
def test_keeps_the_size(size):
    images = torch.randn(1, 3, *size)
    assert FFSR(2)(images).shape == images.shape


def test_may_start_as_the_identity():
    images = torch.randn(2, 3, 16, 8)
    assert torch.equal(FFSR(4, zero_tail=True)(images), images)
    assert not torch.equal(FFSR(4)(images), images)


def test_width_is_checked():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        FFSR(0)
