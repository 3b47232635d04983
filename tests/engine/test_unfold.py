import pytest
import torch
from models.openvino_graph import write_graph

from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.rng import Stream, Streams
from resolute.data.benchmark import DataConfig
from resolute.data.synthetic import SyntheticConfig
from resolute.engine.unfold import unfold
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig
from resolute.models.osnet import OSNet
from resolute.models.pretrained import recognise, start_backbone
from resolute.models.weights import read_state

DRAWN = DataConfig(name="synthetic", synthetic=SyntheticConfig(num_identities=4))


def test_start_weights_embed_as_the_graph_does_in_both_modes(tmp_path):
    with Streams(3).torch_default(Stream.INITIALISATION):
        source = build_backbone("osnet_gn_x0_5").eval()
    write_graph(source, tmp_path / "graph.xml")
    out = tmp_path / "made" / "start.safetensors"
    told = unfold(tmp_path / "graph.xml", out, data=DRAWN)
    assert told == (
        f"{out}: osnet_gn_x0_5, batch norms measured on 16 training images of synthetic trial 0"
    )
    assert recognise(out).backbone == "osnet_gn_x0_5"
    backbone, report = start_backbone(ModelConfig(backbone="osnet_gn_x0_5", weights=str(out)))
    assert not report.unexpected
    images = torch.randn(4, 3, 256, 128, generator=Streams(1).torch(Stream.SYNTHETIC))
    with torch.no_grad():
        ours, theirs = backbone.eval()(images), source(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
    state = read_state(out)
    assert all(state[name].var() > 0 for name in state if name.endswith("running_var"))
    with pytest.raises(ConfigError, match="exists, and is not written over"):
        unfold(tmp_path / "graph.xml", out, data=DRAWN)
    with pytest.raises(ConfigError, match=r"ends in .safetensors"):
        unfold(tmp_path / "graph.xml", tmp_path / "run", data=DRAWN)


def test_widths_that_no_backbone_has_are_refused(tmp_path):
    network = OSNet((16, 64, 128, 192), embedding_dim=32, learned_pooling=(32, 16))
    write_graph(network, tmp_path / "graph.xml")
    with pytest.raises(CheckpointError, match="no backbone has this graph's widths"):
        unfold(tmp_path / "graph.xml", tmp_path / "start.safetensors", data=DRAWN)
