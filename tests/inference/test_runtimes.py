"""Opening exported files: what runs, and everything that is refused with a typed error."""

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from inference.small import save_small
from onnx import TensorProto, helper, numpy_helper

from resolute.core.errors import CheckpointError, ConfigError, ReidError
from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.inference.load import load
from resolute.inference.model_file import load_model
from resolute.inference.presets import PRESETS, find_preset
from resolute.inference.runtimes import open_exported
from resolute.inference.sessions import check_onnx
from resolute.inference.sidecar import SUFFIX, GraphFile, Sidecar, read_sidecar
from resolute.methods.graph import Routing

SPEC = InputSpec(height=16, width=8)


def graph_bytes(**changes):
    """Channel means of the picture, brought to length 1."""
    axes = numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes")
    squares = helper.make_node("ReduceL2", ["means", "one"], ["length"], keepdims=1)
    one = numpy_helper.from_array(np.array([1], dtype=np.int64), "one")
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        squares,
        helper.make_node("Div", ["means", "length"], ["output0"]),
    ]
    image = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, ["batch", 3, SPEC.height, SPEC.width]
    )
    vector = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "means", [image], [vector], [axes, one])
    settings = {"opset_imports": [helper.make_opsetid("", 18)], "ir_version": 10, **changes}
    return helper.make_model(graph, **settings).SerializeToString()


def write_tracker(folder, blob=None, **changes):
    path = folder / "model.onnx"
    path.write_bytes(graph_bytes() if blob is None else blob)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    described = GraphFile(file=path.name, sha256=digest)
    settings = {
        "version": "0",
        "kind": "tracker",
        "method": "means",
        "preset": "raw-rgb",
        "branch": "hr",
        "precision": "f32",
        "input_spec": SPEC,
        "hr": described,
        "lr": described,
        "routing": Routing(hr_above=-1.0, lr_below=0.0),
        "num_streams": 1,
        "dim": 3,
        "metric": "sqeuclidean",
        "fusion": "weighted",
        "constant": 0.5,
        "is_mirrored": False,
        "fingerprint": "a" * 64,
        "source_sha256": "",
        "gate": {},
        "versions": {},
        "run": {},
    }
    Sidecar(**{**settings, **changes}).write(path, backbone="none")
    return path


def images(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Images(
        pixels=torch.randint(1, 256, (count, 3, 20, 12), generator=generator, dtype=torch.uint8),
        native_sizes=torch.tensor([[20, 12]] * count),
        resolution=torch.tensor([0, 1, 2, 2, 1][:count]),
    )


def change(path, *keys, value):
    sidecar = path.with_name(path.name + SUFFIX)
    document = json.loads(sidecar.read_text())
    level = document
    for key in keys[:-1]:
        level = level[key]
    if value is None:
        del level[keys[-1]]
    else:
        level[keys[-1]] = value
    sidecar.write_text(json.dumps(document))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_tracker_file_embeds_alike_in_every_runtime(tmp_path, runtime):
    exported = open_exported(write_tracker(tmp_path), runtime=runtime)
    embedding = exported.embed(images())
    assert embedding.vectors.shape == (3, 1, 3)
    np.testing.assert_allclose(np.linalg.norm(embedding.vectors, axis=2), 1, atol=1e-6)
    assert embedding.norms is None
    assert np.array_equal(embedding.quality, np.ones((3, 1)))
    means = images().pixels.float().mean(dim=(2, 3)).numpy()
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding.vectors[:, 0], expected, atol=5e-3)
    one = exported.embed(images().take(torch.tensor([1])))
    np.testing.assert_allclose(one.vectors[0], embedding.vectors[1], atol=1e-6)
    assert exported.to("cpu") is exported
    assert exported.input_spec == SPEC
    assert exported.runtime == runtime


@pytest.fixture
def loadable(tmp_path):
    """A tracker's file that names the run it comes from."""
    folder = save_small(tmp_path / "run")
    _, metadata = load_model(folder / "model.safetensors")
    return write_tracker(tmp_path, run=metadata)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino"])
def test_threads_that_share_a_model_get_their_own_vectors(tmp_path, loadable, runtime):
    source = tmp_path / "run" if runtime == "torch" else loadable
    method = load(source, runtime=runtime, threads=0 if runtime == "torch" else 1).method
    expected = [method.embed(images(seed=seed)).vectors for seed in range(3)]

    def work(start):
        found = [method.embed(images(seed=(start + i) % 3)).vectors for i in range(repeats)]
        return [np.abs(v - expected[(start + i) % 3]).max() for i, v in enumerate(found)]

    repeats = 3 if runtime == "torch" else 60
    with ThreadPoolExecutor(3) as pool:
        assert np.max(list(pool.map(work, range(3)))) < 1e-5


def test_threads_reach_the_runtime(loadable):
    model = load(loadable, threads=3)
    options = model.method.sessions["hr"]._session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert model.runtime == "onnxruntime f32"
    assert load(loadable, runtime="openvino").runtime == "openvino f32"


def test_an_exported_file_runs_on_no_other_device(loadable):
    for device in ("cpu", "auto", torch.device("cpu")):
        assert load(loadable, device=device).device.type == "cpu"
    for device in ("cuda", "mps", torch.device("cuda", 1)):
        with pytest.raises(ConfigError, match=r"runs on the CPU, not on device (cuda|mps)"):
            load(loadable, device=device)


def test_presets_are_what_consumers_feed():
    levels = torch.tensor([255.0, 51.0, 0.0]).view(1, 3, 1, 1)
    raw = {name: PRESETS[name].pixels(levels).flatten().tolist() for name in PRESETS}
    assert raw["raw-rgb"] == [255, 51, 0]
    assert raw["raw-bgr"] == [0, 51, 255]
    assert raw["unit-rgb"] == pytest.approx([1, 0.2, 0])
    imagenet = [(v - m) / s for v, m, s in zip([1, 0.2, 0], SPEC.mean, SPEC.std, strict=True)]
    assert raw["imagenet"] == pytest.approx(imagenet, rel=1e-5)
    with pytest.raises(ConfigError, match="unknown preset 'raw-gbr': did you mean 'raw-"):
        find_preset("raw-gbr")


def test_a_lower_precision_is_another_space(tmp_path):
    path = write_tracker(tmp_path)
    whole = open_exported(path)
    assert whole.fingerprint == "a" * 64
    try:
        half = open_exported(path, runtime="openvino", precision="bf16")
    except ConfigError as error:
        pytest.skip(str(error))
    assert half.fingerprint != whole.fingerprint
    near = (half.embed(images()).vectors * whole.embed(images()).vectors).sum(axis=2)
    assert near.min() > 0.999


def test_choices_that_cannot_be(tmp_path):
    path = write_tracker(tmp_path)
    with pytest.raises(ConfigError, match="unknown runtime 'onnx'"):
        open_exported(path, runtime="onnx")
    with pytest.raises(ConfigError, match="bf16: needs runtime openvino"):
        open_exported(path, precision="bf16")
    with pytest.raises(ConfigError, match="this file is f32, expected that or bf16, got 'int8'"):
        open_exported(path, precision="int8")
    ir = path.with_suffix(".xml")
    path.replace(ir)
    path.with_name(path.name + SUFFIX).replace(ir.with_name(ir.name + SUFFIX))
    with pytest.raises(ConfigError, match=r"runtime onnxruntime reads \.onnx files"):
        open_exported(ir, runtime="onnxruntime")


@pytest.mark.parametrize(
    ("package", "runtime", "extra"),
    [
        ("onnxruntime", "onnxruntime", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_missing_packages_name_their_extra(tmp_path, monkeypatch, package, runtime, extra):
    path = write_tracker(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package} is not installed: .*resolute-reid\[{extra}"):
        open_exported(path, runtime=runtime)


def test_a_bf16_that_the_processor_lacks_is_refused(tmp_path, monkeypatch):
    import openvino

    real = openvino.Core.get_property
    monkeypatch.setattr(
        openvino.Core,
        "get_property",
        lambda self, *words: ["FP32"] if "CAPABILITIES" in words[-1] else real(self, *words),
    )
    with pytest.raises(ConfigError, match="processor cannot compute in it; use f32"):
        open_exported(write_tracker(tmp_path), runtime="openvino", precision="bf16")


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("resolute",), None, "no sidecar of an exported network"),
        (("resolute", "format"), 2, "expected format 1, got 2"),
        (("resolute", "kind"), "other", "no sidecar .*resolute.kind|no sidecar .*kind"),
        (("resolute", "hr", "file"), "../model.onnx", "file names beside it, got '../model.onnx'"),
        (("resolute", "hr", "file"), "/etc/passwd", "file names beside it"),
        (("resolute", "lr", "file"), "..", "file names beside it"),
        (("resolute", "hr", "weights"), "a\\b", "file names beside it"),
        (("resolute", "hr", "file"), "absent.onnx", "expected a file, found none"),
        (("resolute", "hr", "sha256"), "0" * 64, "expected sha256 0000"),
        (("resolute", "num_streams"), 3, "out of range"),
        (("resolute", "dim"), "many", "no sidecar"),
        (("resolute", "routing"), {"hr_above": 9, "lr_below": 1}, "hr_above < lr_below"),
        (("resolute", "input_spec", "height"), -4, "no sidecar"),
        (("resolute", "surprise"), 1, "unknown setting"),
        (("resolute", "fingerprint"), None, "no sidecar"),
    ],
)
def test_damaged_sidecars(tmp_path, keys, value, told):
    path = write_tracker(tmp_path)
    change(path, *keys, value=value)
    with pytest.raises(CheckpointError, match=told):
        open_exported(path)


def test_missing_or_foreign_sidecars(tmp_path):
    path = write_tracker(tmp_path)
    sidecar = path.with_name(path.name + SUFFIX)
    for text in ("", "[]", "[" * 100_000, "{", "null", '{"resolute": 3}'):
        sidecar.write_text(text)
        with pytest.raises(CheckpointError, match="no sidecar"):
            read_sidecar(path)
    sidecar.unlink()
    with pytest.raises(CheckpointError, match=r"needs model\.onnx\.metadata\.json beside it; only"):
        open_exported(path)
    sidecar.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="or a link"):
        open_exported(path)


def test_files_that_belong_together_are_named_where_one_is_missing(tmp_path):
    path = write_tracker(tmp_path, lr=GraphFile(file="model-lr.onnx", sha256="0" * 64))
    together = r"copy together, .*: model\.onnx, model-lr\.onnx, model\.onnx\.metadata\.json"
    with pytest.raises(CheckpointError, match=rf"model-lr\.onnx: expected a file.*{together}"):
        open_exported(path)
    for file in (path, path.with_name(path.name + SUFFIX)):
        file.rename(file.with_name(file.name.replace("model", "reid")))
    with pytest.raises(CheckpointError, match=rf"model\.onnx: expected a file.*{together}"):
        open_exported(tmp_path / "reid.onnx")


def test_links_and_large_files_are_not_followed(tmp_path, monkeypatch):
    path = write_tracker(tmp_path)
    elsewhere = tmp_path / "elsewhere.onnx"
    path.replace(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="or a link"):
        open_exported(path)
    path.unlink()
    elsewhere.replace(path)
    monkeypatch.setattr("resolute.inference.sidecar._LARGEST_GRAPH", 10)
    with pytest.raises(CheckpointError, match="expected at most 10 bytes"):
        open_exported(path)


def test_every_flipped_or_missing_byte_of_the_graph_is_found(tmp_path):
    path = write_tracker(tmp_path)
    whole = path.read_bytes()
    for i in range(0, len(whole), 7):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(CheckpointError, match="expected sha256"):
            open_exported(path)
        path.write_bytes(whole[:i])
        with pytest.raises(CheckpointError, match="expected sha256"):
            open_exported(path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_that_is_not_what_its_sidecar_says(tmp_path, runtime):
    with pytest.raises(CheckpointError, match=r"expected outputs of shapes \[\(3, 5\)\]"):
        open_exported(write_tracker(tmp_path, dim=5), runtime=runtime).embed(images())
    path = write_tracker(tmp_path, kind="full")
    with pytest.raises(CheckpointError, match=f"{runtime} cannot run this graph"):
        open_exported(path, runtime=runtime).embed(images())
    path = write_tracker(tmp_path, input_spec=InputSpec(height=32, width=8))
    with pytest.raises(CheckpointError, match=f"{runtime} cannot run this graph"):
        open_exported(path, runtime=runtime).embed(images())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_damaged_graphs_with_a_fitting_sidecar_give_typed_errors(tmp_path, runtime):
    whole = graph_bytes()
    rng = np.random.default_rng(0)
    for trial in range(60):
        blob = bytearray(whole)
        for position in rng.integers(0, len(blob), 3):
            blob[position] = rng.integers(0, 256)
        cut = len(blob) if trial % 2 else int(rng.integers(1, len(blob)))
        path = write_tracker(tmp_path, bytes(blob[:cut]))
        try:
            found = open_exported(path, runtime=runtime).embed(images())
        except ReidError:
            continue
        assert found.vectors.shape == (3, 1, 3)


def test_weights_in_other_files_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 16)
    model = onnx.load_model_from_string(graph_bytes())
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location="secret")
    tensor.ClearField("raw_data")
    with pytest.raises(CheckpointError, match="keeps weights in other files"):
        open_exported(write_tracker(tmp_path, model.SerializeToString()))
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"])], "inner", [], [])
    inner.node[0].attribute.append(helper.make_attribute("value", tensor))
    model = onnx.load_model_from_string(graph_bytes())
    branch = helper.make_node("If", ["images"], ["x"], then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    with pytest.raises(CheckpointError, match="keeps weights in other files"):
        check_onnx(model.SerializeToString())


def test_operators_outside_the_standard_are_refused():
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    with pytest.raises(CheckpointError, match=r"got domains \['com.example'\]"):
        check_onnx(graph_bytes(opset_imports=domains))
    with pytest.raises(CheckpointError, match="standard operators"):
        check_onnx(b"")
    with pytest.raises(CheckpointError, match="cannot be parsed"):
        check_onnx(b"\xff" * 40)
