import contextlib
import re

import numpy as np
import pytest
import torch
from models.openvino_graph import write_graph
from torch.nn.functional import cosine_similarity

from resolute.core.errors import CheckpointError
from resolute.core.images import Images
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.data.decode import decode_image
from resolute.data.degrade import collate, to_input
from resolute.models.backbone import build_backbone
from resolute.models.open_model_zoo import read_graph
from resolute.models.osnet import OSNet
from resolute.models.weights import read_state

SIZE = (32, 16)


def tiny():
    """The variant at widths of its own, every parameter and statistic unlike a fresh one's."""
    streams = Streams(5)
    with streams.torch_default(Stream.INITIALISATION):
        network = OSNet((16, 64, 128, 192), embedding_dim=32, learned_pooling=SIZE)
    draw = streams.torch(Stream.SYNTHETIC)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            noise = torch.rand(tensor.shape, generator=draw)
            tensor.copy_(noise + 0.5 if "var" in name else tensor + 0.3 * (noise - 0.5))
    return network.eval()


def images(count):
    return torch.randn(count, 3, *SIZE, generator=Streams(1).torch(Stream.SYNTHETIC))


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "tiny.xml"
    write_graph(tiny(), path)
    return path


@pytest.mark.parametrize(("kind", "tolerance"), [("f4", 1e-4), ("f2", 3e-2)])
def test_a_graph_gives_what_the_network_gives(tmp_path, kind, tolerance):
    source, path = tiny(), tmp_path / "tiny.xml"
    write_graph(source, path, kind)
    state = read_graph(path)
    names = {name for name in source.state_dict() if "num_batches" not in name}
    assert set(state) == names
    network = OSNet((16, 64, 128, 192), embedding_dim=32, learned_pooling=SIZE).eval()
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(network(images(4)), source(images(4)), rtol=0, atol=tolerance)


def changed(old, new):
    return lambda text: re.sub(old, new, text, count=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not readable as XML"),
        (lambda text: "<net><layers /></net>", "expected a graph that turns BGR pixels round"),
        (lambda text: "<svg />", "expected an OpenVINO graph"),
        (changed("<net ", '<!DOCTYPE net [<!ENTITY a "b">]><net '), "declares a document type"),
        (changed('type="Gather"', 'type="Split"'), "turns BGR pixels round"),
        (changed('type="MatMul"', 'type="Einsum"'), "expected 300 operations, got 299"),
        (changed('transpose_b="true"', 'transpose_b="false"'), "got MatMul op"),
        (changed('name="conv3.0.conv2a.conv1', 'name="conv3.0.conv2b.0.conv1'), "conv3.0.conv2b"),
        (changed('shape="16, 3, 7, 7"', 'shape="16, 3, 7, 8"'), "damaged .* bytes"),
        (changed('shape="16, 3, 7, 7"', 'shape="-16, -3, 7, 7"'), "damaged"),
        (changed('shape="16, 3, 7, 7" offset="', 'shape="16, 3, 7, 7" offset="-'), "damaged"),
        (changed('shape="16, 3, 7, 7" offset="', 'shape="16, 3, 7, 7" offset="9999'), "damaged"),
        (changed('to-layer="[0-9]+"', 'to-layer="x"'), "damaged"),
        (
            changed('element_type="f32" shape="16', 'element_type="u4" shape="16'),
            "expected 300 operations",
        ),
    ],
)
def test_foreign_and_damaged_graphs_are_refused(graph, change, message):
    graph.write_text(change(graph.read_text()))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_graph(graph)
    assert str(graph) in str(caught.value)


def test_no_encoding_hides_an_entity(graph):
    text = '<!DOCTYPE net [<!ENTITY a "b">]><net>&a;</net>'
    graph.write_bytes(text.encode("utf-16"))
    with pytest.raises(CheckpointError, match="not readable as XML"):
        read_graph(graph)


def test_missing_and_short_weights_are_refused(graph):
    weights = graph.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        read_graph(graph)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"tiny.bin: cannot be read .* beside it"):
        read_graph(graph)
    with pytest.raises(CheckpointError, match=r"nothing.xml: cannot be read"):
        read_graph(graph.with_name("nothing.xml"))
    weights.write_bytes(b"\xff" * 10**7)
    with pytest.raises(CheckpointError, match="turns BGR"):
        read_graph(graph)


def test_bytes_changed_anywhere_raise_nothing_else(graph):
    rng = Streams(2).numpy(Stream.SYNTHETIC)
    content = bytearray(graph.read_bytes())
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 20):
            damaged[place] = rng.integers(32, 127)
        graph.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            read_graph(graph)


def test_a_graph_is_no_weight_file(graph):
    with pytest.raises(CheckpointError, match=r"cannot train: make .* resolute convert tiny.xml"):
        read_state(graph)


@pytest.mark.data
def test_real_images_embed_as_openvino_embeds_them(shared):
    openvino = pytest.importorskip("openvino")
    path = shared / "weights/openvino_0277/person-reidentification-retail-0277.xml"
    backbone = build_backbone("osnet_gn_x1_0").eval()
    backbone.load_state_dict(read_graph(path), strict=False)
    files = sorted((shared / "data" / "viper").rglob("*.bmp"))[::100]
    pixels, sizes = collate([decode_image(file) for file in files])
    batch = Images(pixels=pixels, native_sizes=sizes, resolution=torch.zeros(len(sizes)).long())
    with torch.no_grad():
        ours = backbone(to_input(batch, InputSpec()))
    levels = to_input(batch, InputSpec(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255)))
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([-1, 3, 256, 128])
    run = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    theirs = torch.from_numpy(run(np.ascontiguousarray(levels.flip(1)))[run.output(0)])  # BGR
    assert len(files) > 5
    assert cosine_similarity(ours, theirs).min() > 0.9999
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
