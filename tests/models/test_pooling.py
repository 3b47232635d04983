"""The generalised mean against its definition, and where it may stand."""

import pytest
import torch

from resolute.core.errors import ConfigError
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig
from resolute.models.pooling import GeneralisedMean
from resolute.models.pretrained import start_backbone
from resolute.models.two_stream import TwoStream
from resolute.models.weights import filled_names


def test_definition_by_loop():
    pool = GeneralisedMean()
    features = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    features[0, 0, 0, 0] = -1.0  # counts as next to nothing
    means = pool(features)
    assert means.shape == (2, 3, 1, 1)
    for n in range(2):
        for c in range(3):
            powers = [max(float(x), 1e-6) ** 3 for x in features[n, c].flatten()]
            expected = (sum(powers) / len(powers)) ** (1 / 3)
            assert means[n, c].item() == pytest.approx(expected, rel=1e-5)


def test_between_average_and_maximum():
    pool, generator = GeneralisedMean(), torch.Generator().manual_seed(0)
    features = 0.7 + 0.3 * torch.rand(2, 3, 4, 2, generator=generator)  # no power of it is lost
    average, largest = features.mean(dim=(2, 3)), features.amax(dim=(2, 3))
    for exponent, expected in ((1.0, average), (100.0, largest)):
        pool.exponent.data.fill_(exponent)
        torch.testing.assert_close(pool(features)[:, :, 0, 0], expected, rtol=0.03, atol=0)


def test_exponent_is_learned_and_dead_channels_break_nothing():
    pool, features = GeneralisedMean(), torch.zeros(2, 3, 4, 2, requires_grad=True)
    pool(features).sum().backward()
    assert torch.isfinite(pool.exponent.grad)
    assert torch.isfinite(features.grad).all()
    assert pool(torch.rand(1, 1, 2, 2).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet18", "osnet_x0_25"])
def test_a_backbone_takes_it_and_starts_from_the_same_file(name, tmp_path):
    plain = build_backbone(name)
    path = tmp_path / "weights.pth"
    torch.save(plain.state_dict(), path)
    config = ModelConfig(backbone=name, weights=str(path), pooling="gem")
    backbone, report = start_backbone(config)
    assert report.missing == ()
    network = TwoStream(backbone.eval(), two_encoders=True)
    drawn = {n: p for n, p in network.named_parameters() if n not in filled_names(network)}
    assert len(drawn) == 1
    with torch.no_grad():
        next(iter(drawn.values())).fill_(1.0)
        images = torch.randn(2, 3, 64, 32)
        torch.testing.assert_close(
            network.pool(network.maps(images, None)), plain.eval()(images), rtol=1e-3, atol=1e-4
        )


def test_learned_pooling_is_not_replaced():
    config = ModelConfig(backbone="osnet_gn_x0_5", pooling="gem")
    with pytest.raises(ConfigError, match="a learned weight for every place of the map"):
        start_backbone(config)
