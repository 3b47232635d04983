import torch
from torch import nn

from resolute.core.rng import Stream, Streams
from resolute.models.dgd import DGD, DGDHead, Inception, ShrinkingInception


def build():
    with Streams(2).torch_default(Stream.INITIALISATION):
        return DGD().eval()


def conv(cin, cout, kernel):
    """Weights of a convolution without bias, and scale and shift of its batch norm."""
    return cin * cout * kernel * kernel + 2 * cout


def counted():
    """All parameters up to the embedding, added by hand from the description."""
    total = conv(3, 32, 3) + 2 * conv(32, 32, 3)
    channels = 32
    for width in (64, 128, 256):
        total += 4 * conv(channels, width, 1) + 3 * conv(width, width, 3)
        total += 2 * conv(4 * width, width, 1) + 3 * conv(width, width, 3)
        channels = 2 * width + 4 * width
    assert channels == 1536
    return total + 1536 * 256 + 2 * 256


def test_parameters():
    assert sum(p.numel() for p in build().parameters()) == counted() == 6_748_192
    head = DGDHead(10)
    assert sum(p.numel() for p in head.parameters()) == 256 * 10 + 10


def test_maps_at_the_published_size():
    network, shapes = build(), []
    for block in (network.stem, *network.blocks):
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.zeros(1, 3, 144, 56)).shape == (1, 256)
    assert shapes == [
        (32, 72, 28),
        (256, 72, 28),
        (384, 36, 14),
        (512, 36, 14),
        (768, 18, 7),
        (1024, 18, 7),
        (1536, 9, 4),
    ]
    kinds = [type(block) for block in network.blocks]
    assert kinds == [Inception, ShrinkingInception] * 3


def test_layers_follow_one_another_as_described():
    network = build()
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 3 + 3 * (7 + 5)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 3 + 3 * (7 + 5)
    assert isinstance(network.fc7[-1], nn.BatchNorm1d)  # the embedding has no ReLU
    assert [type(m) for m in DGDHead(3)] == [nn.ReLU, nn.Dropout, nn.Linear]
    assert DGDHead(3)[1].p == 0.5


def test_a_shrinking_block_by_hand():
    with Streams(2).torch_default(Stream.INITIALISATION):
        block = ShrinkingInception(8, 4).eval()
    features = torch.rand(2, 8, 7, 5, generator=torch.Generator().manual_seed(1))
    out = block(features)
    assert out.shape == (2, 16, 4, 3)
    pooled = nn.functional.max_pool2d(features, 3, stride=2, padding=1)
    torch.testing.assert_close(out[:, 8:], pooled)
    one = features
    for layer in block.branches[0]:
        convolution, norm, _ = layer
        one = torch.relu(norm(convolution(one)))
    torch.testing.assert_close(out[:, :4], one)
