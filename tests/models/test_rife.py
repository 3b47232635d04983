import pytest
import torch

from resolute.models.backbone import build_backbone
from resolute.models.rife import MixedStreams, StreamAttention


def mixed(name="resnet18", count=2, **changes):
    return MixedStreams([build_backbone(name, **changes) for _ in range(count)], hidden=16).eval()


def test_an_attention_is_pooling_two_layers_and_a_sigmoid():
    attend, features = StreamAttention(6, hidden=3), torch.randn(2, 6, 5, 4)
    first, last = attend.layers[0], attend.layers[2]
    for n in range(2):
        pooled = torch.stack([features[n, c].mean() for c in range(6)])
        hidden = torch.stack([max(w @ pooled + b, torch.tensor(0.0)) for w, b in
                              zip(first.weight, first.bias, strict=True)])  # fmt: skip
        literal = 1 / (1 + torch.exp(-(last.weight[0] @ hidden + last.bias[0])))
        torch.testing.assert_close(attend(features)[n], literal)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet50", [64, 256, 512, 1024, 2048]),
        ("resnet18", [64, 64, 128, 256, 512]),
        ("osnet_x0_25", [16, 64, 96, 128]),
        ("osnet_gn_x0_5", [32, 128, 192, 256]),
    ],
)
def test_one_pair_of_attentions_after_stem_and_each_stage(name, channels):
    network = mixed(name)
    assert [len(level) for level in network.attentions] == [2] * len(channels)
    widths = [[a.layers[0].in_features for a in level] for level in network.attentions]
    assert widths == [[c, c] for c in channels]
    assert network.training is False
    assert all(m.training for m in build_backbone(name).modules())


def test_published_network_in_numbers():
    network = mixed("resnet50")
    backbone = sum(p.numel() for p in build_backbone("resnet50").parameters())
    attentions = sum(2 * (16 * c + 16 + 16 + 1) for c in (64, 256, 512, 1024, 2048))
    assert sum(p.numel() for p in network.parameters()) == 2 * backbone + attentions


@pytest.mark.parametrize("name", ["resnet18", "osnet_x0_25"])
def test_the_same_mixture_enters_both_streams(name):
    network, images = mixed(name), torch.randn(2, 3, 64, 32)
    embeddings, attentions = network(images)
    x = images
    with torch.no_grad():
        for level in range(attentions.shape[1]):
            f1, f2 = network.streams[0][level](x), network.streams[1][level](x)
            a1, a2 = (a(f) for a, f in zip(network.attentions[level], (f1, f2), strict=True))
            torch.testing.assert_close(attentions[:, level], torch.stack([a1, a2], dim=1))
            x = torch.stack([a1[n] * f1[n] + a2[n] * f2[n] for n in range(2)])
        torch.testing.assert_close(embeddings, network.pool(x))
        torch.testing.assert_close(network.maps(images)[0], x)


def test_one_stream_is_the_backbone():
    backbone = build_backbone("resnet18").eval()
    network = MixedStreams([backbone], hidden=16)
    images = torch.randn(2, 3, 64, 32)
    embeddings, attentions = network(images)
    torch.testing.assert_close(embeddings, backbone(images))
    assert attentions.shape == (2, 0, 2)
