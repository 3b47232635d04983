"""E_L as E_H plus adapters: starts as E_H, shares its statistics, follows the height."""

import copy

import pytest
import torch

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.rng import Stream, Streams
from resolute.models.adapter import ResolutionAdapters
from resolute.models.backbone import build_backbone
from resolute.models.two_stream import TwoStream

BACKBONES = ["resnet18", "resnet50", "osnet_x0_25", "osnet_gn_x0_5"]


def build(name="osnet_x0_25", **sizes):
    with Streams(3).torch_default(Stream.INITIALISATION):
        backbone = build_backbone(name)
        adapters = ResolutionAdapters(backbone.shallow(), **sizes)
        return TwoStream(backbone, two_encoders=True, adapters=adapters)


def images(count, seed=1, size=(64, 32)):
    return torch.randn(count, 3, *size, generator=Streams(seed).torch(Stream.SYNTHETIC))


def disturb(network):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in network.adapters.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", BACKBONES)
def test_starts_as_the_hr_encoder_on_any_backbone(name):
    network = build(name).eval()
    size = network.input_size or (64, 32)
    x, heights = images(2, size=size), torch.tensor([-1.0, 0.3])
    with torch.no_grad():
        as_lr = network.maps(None, x, log_heights_lr=heights)
        torch.testing.assert_close(as_lr, network.maps(x, None))
        disturb(network)
        assert not torch.allclose(network.maps(None, x, log_heights_lr=heights), as_lr)
    assert network.lr_part == "adapters"


def test_changes_by_hand():
    network = disturb(build("resnet18", rank=2, hidden=3)).eval()
    x, heights = images(2), torch.tensor([-1.0, 0.3])
    adapters, encoder = network.adapters, network.encoder_hr
    changes = adapters.modulation(heights[:, None])
    features, at = x, 0
    stem = torch.nn.Sequential(*list(encoder.children())[:-1])
    with torch.no_grad():
        for place, stage in enumerate([stem, *encoder.layer1]):
            features = stage(features)
            width = features.shape[1]
            scale, shift = changes[:, at : at + width], changes[:, at + width : at + 2 * width]
            at += 2 * width
            features = (
                features * (1 + scale[:, :, None, None])
                + shift[:, :, None, None]
                + adapters.low_rank[place](features)
            )
        assert at == changes.shape[1]
        found = adapters(encoder, x, heights)
        torch.testing.assert_close(found, features)


def test_hr_images_pass_unchanged_and_in_the_same_call():
    network = disturb(build()).eval()
    hr, lr, heights = images(2), images(3, seed=2), torch.tensor([-1.0, -0.5, 0.0])
    together = network.maps(hr, lr, log_heights_lr=heights)
    torch.testing.assert_close(together[:2], network.maps(hr, None), atol=1e-5, rtol=1e-4)
    alone = network.maps(None, lr, log_heights_lr=heights)
    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=1e-4)
    calls = []
    network.encoder_hr.conv1.register_forward_hook(lambda _m, x, _out: calls.append(len(x[0])))
    network.train().maps(hr, lr, log_heights_lr=heights)
    assert calls == [5]


def test_height_matters():
    network = disturb(build()).eval()
    x = images(1).repeat(2, 1, 1, 1)
    low, high = network.maps(None, x, log_heights_lr=torch.tensor([-1.5, 0.0]))
    assert not torch.allclose(low, high)


def test_smaller_than_a_copy_and_stored_once():
    copied = TwoStream(build_backbone("osnet_x0_5"), two_encoders=True)
    network = build("osnet_x0_5")
    size = sum(p.numel() for p in network.adapters.parameters())
    assert size < 0.35 * sum(p.numel() for p in copied.encoder_lr.parameters())
    assert {n.split(".")[0] for n in network.state_dict()} == {
        "encoder_hr",
        "encoder_id",
        "pool",
        "adapters",
    }
    assert list(build(rank=0).adapters.low_rank) == []


def test_encoder_is_left_as_it_was():
    backbone = build_backbone("resnet18")
    before = copy.deepcopy(backbone.state_dict())
    ResolutionAdapters(backbone.shallow())
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())


def test_errors():
    network = build()
    with pytest.raises(ConfigError, match="adapters of E_L read native heights, and got none"):
        network.maps(None, images(2))
    with pytest.raises(ShapeError, match="expected heights of 2 LR images, got 3"):
        network.maps(images(1), images(2), log_heights_lr=torch.zeros(3))
    with pytest.raises(ConfigError, match="rank >= 0 and hidden >= 1, got -1 and 16"):
        build(rank=-1)
