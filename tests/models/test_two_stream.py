import pytest
import torch
from torch import nn

from resolute.core.errors import ShapeError
from resolute.core.rng import Stream, Streams
from resolute.models.backbone import build_backbone
from resolute.models.two_stream import TwoStream


class Tiny(nn.Module):
    """The smallest backbone that keeps the contract; not one of ours."""

    feature_channels = 4
    embedding_dim = 4
    uses_neck = True
    input_size = None

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))
        self.rest = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))

    def shallow(self):
        return self.stem

    def deep(self):
        return self.rest

    def pooling(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images):
        return self.pooling()(self.rest(self.stem(images)))


def build(*, two_encoders=True, backbone=Tiny):
    with Streams(3).torch_default(Stream.INITIALISATION):
        return TwoStream(backbone(), two_encoders=two_encoders)


def images(count, seed=1):
    return torch.randn(count, 3, 8, 4, generator=Streams(seed).torch(Stream.SYNTHETIC))


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda _m, inputs, _out: calls.append(len(inputs[0])))
    return calls


def test_encoders_start_equal_and_are_apart():
    net = build()
    for a, b in zip(net.encoder_hr.parameters(), net.encoder_lr.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


def test_one_encoder_is_stored_once():
    net = build(two_encoders=False)
    assert net.encoder_lr is None
    assert not any(name.startswith("encoder_lr") for name in net.state_dict())


@pytest.mark.parametrize("two_encoders", [True, False])
def test_maps_equal_the_parts_by_hand(two_encoders):
    net = build(two_encoders=two_encoders).eval()
    hr, lr = images(2), images(3, seed=2)
    if two_encoders:
        next(net.encoder_lr.parameters()).data.mul_(2)  # now E_L differs from E_H
    encoder_lr = net.encoder_lr if two_encoders else net.encoder_hr
    features = net.maps(hr, lr)
    torch.testing.assert_close(features[:2], net.encoder_id(net.encoder_hr(hr)))
    torch.testing.assert_close(features[2:], net.encoder_id(encoder_lr(lr)))
    torch.testing.assert_close(net.maps(hr, None), features[:2])
    torch.testing.assert_close(net.maps(None, lr), features[2:])
    torch.testing.assert_close(net.pool(features), features.mean(dim=(2, 3)))


def test_one_call_of_e_id_shares_the_batch_statistics():
    net = build().train()
    calls = {n: count_calls(getattr(net, n)) for n in ("encoder_hr", "encoder_lr", "encoder_id")}
    hr, lr_and_twins = images(2), images(4, seed=2)
    features = net.maps(hr, lr_and_twins)
    assert calls == {"encoder_hr": [2], "encoder_lr": [4], "encoder_id": [6]}
    mean = features.mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    assert features[:2].mean(dim=(0, 2, 3)).abs().max() > 1e-3  # not normalised on its own


def test_one_encoder_sees_both_resolutions_in_one_call():
    net = build(two_encoders=False).train()
    calls = count_calls(net.encoder_hr)
    net.maps(images(2), images(4, seed=2))
    assert calls == [6]


def test_gradients_stay_with_their_encoder():
    net = build().train()
    net.maps(images(2), None).square().sum().backward()
    assert all(p.grad is not None for p in net.encoder_hr.parameters())
    assert all(p.grad is None for p in net.encoder_lr.parameters())


def test_facts_come_from_the_backbone():
    net = build(backbone=lambda: build_backbone("osnet_gn_x0_5"))
    facts = (net.feature_channels, net.embedding_dim, net.uses_neck, net.input_size)
    assert facts == (256, 256, False, (256, 128))


def test_a_real_backbone_from_image_to_embedding():
    net = build(backbone=lambda: build_backbone("osnet_x0_25")).eval()
    x = torch.zeros(2, 3, 64, 32)
    with torch.no_grad():
        features = net.maps(x, x)
        assert features.shape == (4, 128, 4, 2)
        assert net.pool(features).shape == (4, 512)


def test_wrong_images():
    net = build()
    with pytest.raises(ShapeError, match="expected images_hr, images_lr or both, got neither"):
        net.maps(None, None)
    with pytest.raises(ShapeError, match="images_lr: expected H = 8"):
        net.maps(images(2), torch.zeros(2, 3, 16, 4))
    with pytest.raises(ShapeError, match="images_hr: expected 3 = 3"):
        net.maps(torch.zeros(2, 1, 8, 4), None)
