from typing import get_args

import pytest
import torch
import torchvision
from torch import nn

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.models.backbone import BACKBONES, build_backbone, check_input_size
from resolute.models.config import BackboneName, ModelConfig
from resolute.models.osnet import LearnedPooling

# Torchreid's own modules counted without classifier; torchvision's without fc.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "osnet_x0_25": 201_864,
    "osnet_x0_5": 630_034,
    "osnet_x0_75": 1_285_754,
    "osnet_x1_0": 2_169_508,
    "osnet_gn_x0_5": 595_968,
    "osnet_gn_x1_0": 2_100_281,
}
SMALL = ["resnet18", "osnet_x0_25", "osnet_gn_x0_5"]


def build(name, **settings):
    with Streams(3).torch_default(Stream.INITIALISATION):
        return build_backbone(name, **settings)


def images(backbone, count=2):
    height, width = backbone.input_size or (64, 32)
    return torch.randn(count, 3, height, width, generator=Streams(1).torch(Stream.SYNTHETIC))


@pytest.mark.parametrize("part", ["shallow", "stages"])
def test_a_normalised_stem_trains_as_its_layers_one_by_one(part):
    backbone = build("osnet_gn_x0_5").double()
    found = getattr(backbone, part)()
    stem = found[0] if part == "stages" else found
    with torch.no_grad():  # scales and shifts that matter
        stem.in_first.weight.add_(torch.tensor([0.3, -0.2, 0.1]))
        stem.in_first.bias.add_(torch.tensor([0.5, -1.0, 0.2]))
    x = images(backbone, 3).double()
    grads = []
    for layers in (stem, nn.Sequential(*stem)):
        backbone.zero_grad()
        y = layers(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        grads.append({"": y.detach()} | {n: p.grad for n, p in stem.named_parameters()})
    assert grads[1]["in_first.weight"].norm() > 0
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], msg=name)
    with torch.no_grad():  # without gradients nothing is rearranged
        torch.testing.assert_close(stem(x), nn.Sequential(*stem)(x), rtol=0, atol=0)


def test_a_normalised_stem_passes_gradients_to_images_that_ask_for_them():
    backbone = build("osnet_gn_x0_5")
    x = images(backbone).requires_grad_()
    backbone.shallow()(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_config_and_table_name_the_same_backbones():
    assert list(get_args(BackboneName)) == list(BACKBONES)
    assert set(PARAMETERS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameter_count(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALL)
def test_parts_make_the_whole(name):
    backbone = build(name).eval()
    x = images(backbone)
    features = backbone.deep()(backbone.shallow()(x))
    embedding = backbone.pooling()(features)
    assert features.shape == (2, backbone.feature_channels, x.shape[2] // 16, x.shape[3] // 16)
    assert embedding.shape == (2, backbone.embedding_dim)
    torch.testing.assert_close(backbone(x), embedding, rtol=0, atol=0)
    staged = x
    for stage in backbone.stages():
        staged = stage(staged)
    torch.testing.assert_close(staged, features, rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_parts_share_all_parameters_and_keep_their_names(name):
    backbone = build(name)
    parts = (backbone.shallow(), backbone.deep(), backbone.pooling())
    names = [n for part in parts for n, _ in part.named_parameters()]
    ids = {id(p) for part in parts for p in part.parameters()}
    assert sorted(names) == sorted(n for n, _ in backbone.named_parameters())
    assert ids == {id(p) for p in backbone.parameters()}


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    backbone = build(name).train()
    x = images(backbone, count=4)
    weights = torch.randn(backbone.embedding_dim, generator=Streams(2).torch(Stream.SYNTHETIC))
    (backbone(x) * weights).sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_is_torchvisions(depth):
    with Streams(3).torch_default(Stream.INITIALISATION):
        reference = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    reference.fc = nn.Identity()
    ours = build(f"resnet{depth}", last_stride=2).eval()
    ours.load_state_dict(reference.state_dict())  # strict: the names are the same
    x = images(ours)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=0)


def test_last_stride_doubles_the_map_only_in_the_last_stage():
    x = torch.zeros(1, 3, 64, 32)
    for name in ("resnet18", "resnet50"):
        with torch.no_grad():
            one, two = (
                (b := build(name, last_stride=s)).deep()(b.shallow()(x)).shape for s in (1, 2)
            )
        assert one[2:] == (4, 2)
        assert two[2:] == (2, 1)
        assert sum(m.stride == (2, 2) for m in b.layer4.modules() if hasattr(m, "stride")) == 2


def test_stem_relu_can_be_left_out():
    x = images(build("resnet18"))
    with_relu, without = build("resnet18"), build("resnet18", stem_relu=False)
    stems = [nn.Sequential(*list(b.shallow())[:3])(x) for b in (with_relu, without)]
    assert stems[1].min() < 0
    torch.testing.assert_close(torch.relu(stems[1]), stems[0])


def test_stem_pool_of_fastreid_starts_one_pixel_later():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    padded, bare = (build("resnet18", stem_pool_padding=p).maxpool(x) for p in (1, 0))
    assert padded.tolist() == [[[[5.0, 7.0], [13.0, 15.0]]]]
    assert bare.tolist() == [[[[10.0, 11.0], [14.0, 15.0]]]]


def test_variant_ignores_any_affine_scale_of_its_input():
    backbone = build("osnet_gn_x0_5").eval()
    x = images(backbone)
    with torch.no_grad():
        a, b = backbone(x), backbone(x * 40 + 117)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_learned_pooling_is_a_depthwise_convolution():
    draw = Streams(5).torch(Stream.SYNTHETIC)
    pooling = LearnedPooling(6, (64, 48))
    features = torch.randn(3, 6, 4, 3, generator=draw)
    torch.testing.assert_close(pooling(features), features.mean(dim=(2, 3)))
    pooling.weight.data.normal_(generator=draw)
    pooling.bias.data.normal_(generator=draw)
    slow = nn.functional.conv2d(features, pooling.weight, pooling.bias, groups=6).flatten(1)
    torch.testing.assert_close(pooling(features), slow)


def test_learned_pooling_is_bound_to_its_size():
    backbone = build("osnet_gn_x0_5")
    with pytest.raises(ConfigError, match=r"learned for 256x128, got 128x64 .*use 256x128"):
        check_input_size(backbone, 128, 64)
    with pytest.raises(ConfigError, match=r"map of \(16, 8\), got \(8, 4\): use input size 256x1"):
        backbone(torch.zeros(2, 3, 128, 64))
    check_input_size(backbone, 256, 128)
    check_input_size(build("osnet_x0_25"), 128, 64)


def test_same_seed_same_start():
    a, b = build("osnet_x0_25").state_dict(), build("osnet_x0_25").state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet51", {}, "unknown backbone 'resnet51': did you mean 'resnet50'"),
        ("resnet18", {"last_stride": 3}, "last_stride: expected 1 or 2, got 3"),
        ("resnet18", {"stem_pool_padding": 2}, "stem_pool_padding: expected 0 or 1, got 2"),
        ("osnet_x0_25", {"last_stride": 2}, "last_stride: only ResNets .* is osnet_x0_25"),
        ("osnet_x0_25", {"stem_relu": False}, "stem_relu: only ResNets"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_backbone(name, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet51"}, "did you mean 'resnet50'"),
        ({"last_stride": 0}, "last_stride: expected 1 or 2, got 0"),
        ({"stem_pool_padding": 3}, "stem_pool_padding: expected 0 or 1, got 3"),
        ({"height": 16}, "at least 32x32, got 16x128"),
    ],
)
def test_wrong_config(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)
