import pytest
import torch
from torch import nn

from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.models.backbone import build_backbone
from resolute.models.describe import describe, measure
from resolute.models.raft import RAFT


def meta(name, **settings):
    with torch.device("meta"):
        return build_backbone(name, **settings)


def test_resnet50_costs_what_is_known():
    known = {"conv1": 0.077, "layer1": 0.436, "layer2": 0.671, "layer3": 0.956, "layer4": 1.913}
    description = describe(meta("resnet50"), InputSpec())
    giga = {s.name: round(s.macs / 1e9, 3) for s in description.stages if s.macs}
    assert giga == known
    assert description.macs / 1e9 == pytest.approx(4.05, abs=0.005)
    assert description.parameters == 23_508_032
    shapes = {s.name: s.output_shape for s in description.stages}
    assert shapes["layer1"] == (256, 64, 32)
    assert shapes["layer4"] == (2048, 16, 8)
    assert description.output_shape == (2048,)
    assert describe(meta("resnet50", last_stride=2), InputSpec()).macs / 1e9 == pytest.approx(
        2.67, abs=0.005
    )


def test_variant():
    description = describe(meta("osnet_gn_x0_5"), InputSpec())
    assert description.parameters == 595_968
    assert {s.part for s in description.stages} == {"shallow", "deep", "pooling"}
    pooling = next(s for s in description.stages if s.name == "global_avgpool")
    assert (pooling.macs, pooling.output_shape) == (256 * 16 * 8, (256,))
    with pytest.raises(ConfigError, match="learned for 256x128, got 128x64"):
        describe(meta("osnet_gn_x0_5"), InputSpec(height=128, width=64))


def test_counting_by_hand():
    grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    stage = measure(nn.Sequential(grouped, nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)), (4, 4, 4))
    assert stage.macs == 6 * 2 * 2 * (2 * 3 * 3) + 24 * 5
    assert stage.parameters == 6 * 2 * 9 + 6 + 24 * 5 + 5
    assert stage.output_shape == (5,)


def test_raft_is_light_beside_its_backbone():
    stage = measure(RAFT(2048), (2048, 16, 8), name="raft")
    assert stage.output_shape == (2048, 16, 8)
    assert stage.macs == 338_560_512


def test_the_network_stays_as_it_was():
    backbone = build_backbone("osnet_x0_25").train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    describe(backbone, InputSpec(height=64, width=32))
    assert backbone.training
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    assert not any(m._forward_hooks for m in backbone.modules())


def test_table_has_a_line_per_stage_and_the_sums():
    lines = describe(meta("resnet50"), InputSpec()).table().splitlines()
    assert len(lines) == 1 + 10 + 1
    assert "256x64x32" in lines[5]
    assert lines[-1].split() == ["total", "23,508,032", "4,053.3"]
