"""VGG-19 itself has 144 million weights: a small network of the same parts stands for it."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from resolute.core.errors import CheckpointError
from resolute.models.perceptual import LAYERS_TO_POOL4, Perceptual, load_perceptual


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        idle = [nn.Identity() for _ in range(LAYERS_TO_POOL4 - 2)]
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 1), *idle, nn.MaxPool2d(16), nn.Conv2d(4, 2, 1)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.5))


def test_pool4_of_vgg19_is_where_it_is_cut():
    with torch.device("meta"):
        features = torchvision.models.vgg19(weights=None, init_weights=False).features
    kept = features[:LAYERS_TO_POOL4]
    assert sum(isinstance(m, nn.MaxPool2d) for m in kept) == 4
    assert isinstance(kept[-1], nn.MaxPool2d)


def test_gives_what_both_depths_see_at_224_pixels():
    network = Small().eval()
    reference = Small().eval()
    reference.load_state_dict(network.state_dict())
    perceptual = Perceptual(network)
    images = torch.randn(2, 3, 224, 224)
    pooled, outputs = perceptual(images)
    expected = reference.features[:LAYERS_TO_POOL4](images)
    torch.testing.assert_close(pooled, expected)
    found = reference.avgpool(reference.features[LAYERS_TO_POOL4:](expected)).flatten(1)
    torch.testing.assert_close(outputs, reference.classifier(found))
    assert perceptual(torch.randn(1, 3, 16, 8))[0].shape == (1, 4, 14, 14)


def test_is_fixed_and_in_no_file_and_passes_gradients_on():
    perceptual = Perceptual(Small()).train()
    assert not any(m.training for m in perceptual.modules())
    assert not list(perceptual.parameters())
    assert not perceptual.state_dict()
    images = torch.randn(1, 3, 16, 8, requires_grad=True)
    sum(x.sum() for x in perceptual(images)).backward()
    assert images.grad.abs().sum() > 0


def test_reads_a_weight_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.models, "vgg19", lambda **_: Small())
    source = Small()
    save_file(source.state_dict(), tmp_path / "vgg.safetensors")
    perceptual = load_perceptual(tmp_path / "vgg.safetensors")
    found = dict(perceptual.network.named_buffers())
    for name, parameter in source.named_parameters():
        assert torch.equal(found[name], parameter)


def test_a_file_that_does_not_fit_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="no such file"):
        load_perceptual(tmp_path / "none.pth")
    monkeypatch.setattr(torchvision.models, "vgg19", lambda **_: Small())
    save_file({"features.0.weight": torch.zeros(4, 3, 1, 1)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        load_perceptual(tmp_path / "part.safetensors")
