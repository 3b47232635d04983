"""The exported files: what they are, that they equal torch, that others can use them."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from export.conftest import KINDS, PRESETS, write
from export.fakes import DIM, SPEC, Comparator, few_people, person
from PIL import Image

from resolute.core.distance import distance_matrix, fused_vectors
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.images import Images
from resolute.data.degrade import collate
from resolute.export import artifact
from resolute.export.artifact import NUM_PARITY
from resolute.export.config import ExportConfig
from resolute.export.parity import check_parity
from resolute.export.tracing import TracedModel
from resolute.inference.runtimes import open_exported
from resolute.inference.shipped import shipped_folder
from resolute.inference.sidecar import read_sidecar
from resolute.methods.graph import Routing

RUNTIMES = ("onnxruntime", "openvino")


def shots(heights=(128, 110, 90, 70, 61, 60, 45, 30, 20), flags=(0, 0, 1, 2, 2, 2, 2, 1, 0)):
    """People of all sizes; heights 61 to 79 take both routes of the comparator."""
    pixels = [
        np.asarray(Image.fromarray(person(i + 1)).resize((h // 2, h)))
        for i, h in enumerate(heights)
    ]
    canvas, sizes = collate(pixels)
    return Images(pixels=canvas, native_sizes=sizes, resolution=torch.tensor(flags))


def cosines(a, b):
    return np.einsum("...d,...d->...", a, b)


def graph_of(exported, kind, preset="imagenet"):
    written = exported(kind)
    presets = KINDS[kind].get("preset", ("imagenet",))
    return written[presets.index(preset)].files[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["full", pytest.param("mirrored", marks=pytest.mark.slow), "ir"])
def test_full_embeds_like_the_method_at_every_resolution(exported, kind, runtime):
    if kind == "ir" and runtime == "onnxruntime":
        pytest.skip("reads no IR")
    graph = graph_of(exported, kind, "raw-bgr" if kind == "full" else "imagenet")
    method = Comparator(is_mirrored=kind == "mirrored")
    images = shots()
    found = open_exported(graph, runtime=runtime).embed(images)
    expected = method.embed(images)
    assert cosines(found.vectors, expected.vectors).min() > 0.9999
    np.testing.assert_allclose(found.quality, expected.quality, atol=2e-4)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=2e-3)
    assert np.array_equal(found.native_sizes, expected.native_sizes)
    assert (found.fusion, found.metric) == (expected.fusion, expected.metric)
    order = distance_matrix(expected, expected).argsort(axis=1)
    assert np.array_equal(distance_matrix(found, found).argsort(axis=1), order)


def test_full_names_everything_a_gallery_stores(exported):
    written = exported("full")[0]
    graph = written.files[0]
    model = onnx.load(graph)
    names = [item.name for item in model.graph.output]
    assert names == ["v_hr", "v_lr", "w_hr", "w_lr", "n_hr", "n_lr", "embedding"]
    assert [item.name for item in model.graph.input] == ["images", "images_1", "images_2"]
    assert [p.name for p in written.files] == [
        "full-raw-bgr.onnx",
        "full-raw-bgr-lr.onnx",
        "full-raw-bgr.onnx.metadata.json",
    ]
    assert written.native_cosine is None
    assert written.gate is None


def test_embedding_of_full_is_the_fused_vector(exported):
    graph = graph_of(exported, "full", "raw-bgr")
    opened = open_exported(graph)
    images = shots(flags=(1,) * 9)
    session = opened.sessions["lr"]
    levels = torch.zeros(9, 3, SPEC.height, SPEC.width) + 100.0
    names = (*opened.sidecar.output_names(), "embedding")
    *rest, embedding = session.run({"images": levels.numpy()}, names)
    vectors, quality = np.stack(rest[:2], 1), np.stack(rest[2:4], 1)
    own = opened.embed(images)
    expected = fused_vectors(replace(own, vectors=vectors, quality=quality, norms=None))
    np.testing.assert_allclose(embedding, expected, atol=1e-6)


def test_contract_of_the_tracker_file(exported):
    for preset in PRESETS:
        graph = graph_of(exported, "tracker", preset)
        model = onnx.load(graph, load_external_data=False)
        (image,), (vector,) = model.graph.input, model.graph.output
        assert (image.name, vector.name) == ("images", "output0")
        dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
        assert dims == ["batch", 3, SPEC.height, SPEC.width]
        assert vector.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert vector.type.tensor_type.shape.dim[1].dim_value == 2 * DIM
        assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert model.ir_version == 10
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
        assert not model.functions
        blob = graph.read_bytes()
        for trace in (b"site-packages", b".py", b"/home", b"stack_trace"):
            assert trace not in blob


def test_presets_agree_on_one_picture_and_only_when_fed_as_they_say(exported):
    import onnxruntime

    shot = np.asarray(Image.fromarray(person(3)).resize((SPEC.width, SPEC.height)))
    rgb = shot.astype(np.float32).transpose(2, 0, 1)[None]
    mean, std = (np.array(x, np.float32).reshape(1, 3, 1, 1) for x in (SPEC.mean, SPEC.std))
    fed = {
        "imagenet": (rgb / 255 - mean) / std,
        "raw-rgb": rgb,
        "unit-rgb": rgb / 255,
        "raw-bgr": rgb[:, ::-1].copy(),
    }
    vectors = {}
    for preset in PRESETS:
        session = onnxruntime.InferenceSession(graph_of(exported, "tracker", preset))
        for given, pixels in fed.items():
            (vectors[preset, given],) = session.run(["output0"], {"images": pixels})
    for preset in PRESETS:
        right = float(cosines(vectors[preset, preset], vectors["imagenet", "imagenet"])[0])
        assert right > 0.99999, preset
    for preset in PRESETS:
        for given in set(PRESETS) - {preset}:
            wrong = float(cosines(vectors[preset, given], vectors[preset, preset])[0])
            assert wrong < 0.9999, (preset, given)


TRACKER = """
import json, sys
import numpy as np
import onnxruntime
from PIL import Image

folder, frame_file = sys.argv[1:]
described = json.load(open(folder + "/model.onnx.metadata.json"))
height, width = described["img_size"]
assert described["preprocess"] == "resize"
frame = np.asarray(Image.open(frame_file))
boxes = [(0, 0, 64, 128), (64, 0, 128, 128), (10, 20, 50, 100)]
crops = []
for x1, y1, x2, y2 in boxes:
    crop = Image.fromarray(frame[y1:y2, x1:x2]).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(crop, dtype=np.float32) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    crops.append(pixels.transpose(2, 0, 1))
session = onnxruntime.InferenceSession(folder + "/model.onnx")
given = session.get_inputs()[0]
assert given.name == "images" and given.shape[1:] == [3, height, width]
batch = np.stack(crops).astype(np.float32)
vectors = session.run(None, {given.name: batch})[0]
assert vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == 3
assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
alone = np.concatenate([session.run(None, {given.name: batch[i : i + 1]})[0] for i in range(3)])
assert np.allclose(alone, vectors, atol=1e-5)
assert "torch" not in sys.modules and "resolute" not in sys.modules
print(json.dumps(vectors.tolist()))
"""


def test_a_tracker_uses_the_file_with_onnxruntime_alone(exported, tmp_path):
    frame = np.concatenate(
        [np.asarray(Image.fromarray(person(i)).resize((64, 128))) for i in (1, 2)], axis=1
    )
    Image.fromarray(frame).save(tmp_path / "frame.png")
    graph = graph_of(exported, "tracker")
    words = [sys.executable, "-I", "-c", TRACKER, str(graph.parent), str(tmp_path / "frame.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    vectors = np.array(json.loads(done.stdout))
    canvas, sizes = collate([frame[y1:y2, x1:x2] for x1, y1, x2, y2 in BOXES])
    images = Images(pixels=canvas, native_sizes=sizes, resolution=torch.tensor([2, 2, 2]))
    own = open_exported(graph).embed(images).vectors[:, 0]
    assert cosines(vectors, own).min() > 0.999  # our resize rounds to whole levels after each axis


BOXES = [(0, 0, 64, 128), (64, 0, 128, 128), (10, 20, 50, 100)]


def test_branches_are_the_roles(exported):
    method = Comparator()
    images = shots(flags=(1,) * 9)
    found = open_exported(graph_of(exported, "lr")).embed(images)
    assert cosines(found.vectors[:, 0], fused_vectors(method.embed(images))).min() > 0.9999
    (written,) = exported("hr")
    assert written.files[0].name == "model-hr.onnx"
    assert written.gate is None
    images = shots(heights=(128,) * 3, flags=(0,) * 3)
    found = open_exported(written.files[0]).embed(images)
    # The LR version is made from the input here, from native pixels there.
    assert cosines(found.vectors[:, 0], fused_vectors(method.embed(images))).min() > 0.995


def test_auto_takes_the_branch_of_each_image(exported):
    people = few_people(6)
    auto = open_exported(graph_of(exported, "tracker"))
    for branch in ("hr", "lr"):
        images = people.batches(branch)[0]
        fixed = open_exported(graph_of(exported, branch))
        same = cosines(auto.embed(images).vectors, fixed.embed(images).vectors)[:, 0] > 0.9999
        assert same.mean() > 0.8, branch


def test_sidecar_speaks_to_boxmot_and_to_us(exported):
    written = exported("tracker")[1]
    graph = written.files[0]
    document = json.loads((graph.parent / f"{graph.name}.metadata.json").read_text())
    assert document["model_name"] == "osnet_x0_25"
    assert document["img_size"] == document["model_kwargs"]["img_size"] == [64, 32]
    sidecar = read_sidecar(graph)
    assert document["artifact_sha256"] == sidecar.hr.sha256
    assert (sidecar.kind, sidecar.preset, sidecar.branch) == ("tracker", "raw-rgb", "auto")
    assert sidecar.gate == written.gate.to_mapping()
    assert sidecar.dim == 2 * DIM
    assert sidecar.fingerprint != "f" * 64
    assert read_sidecar(graph_of(exported, "full", "raw-bgr")).fingerprint == "f" * 64
    assert set(sidecar.versions) >= {"resolute", "torch", "onnx", "onnxruntime"}


def test_snippets_carry_size_scale_and_digest(exported):
    for written in exported("tracker"):
        graph = written.files[0]
        sidecar = read_sidecar(graph)
        yml = graph.with_name(f"{graph.stem}.deepstream.yml").read_text()
        pbtxt = graph.with_name(f"{graph.stem}.config.pbtxt").read_text()
        for text in (yml, pbtxt):
            assert f"# sha256 {sidecar.hr.sha256}\n" in text
        assert "reidFeatureSize: 12\n" in yml
        assert "inferDims: [3, 64, 32]\n" in yml
        assert f"colorFormat: {int(sidecar.preset == 'raw-bgr')} " in yml
        assert "dims: [ 3, 64, 32 ]" in pbtxt
        assert "dims: [ 12 ]" in pbtxt
    scales = {"imagenet": "0.0173", "raw-rgb": "1\n", "unit-rgb": "0.003921"}
    for preset, scale in scales.items():
        graph = graph_of(exported, "tracker", preset)
        yml = graph.with_name(f"{graph.stem}.deepstream.yml").read_text()
        assert f"netScaleFactor: {scale}" in yml


def test_parity_is_measured_per_runtime_and_batch(exported):
    for kind in set(KINDS) - {"mirrored"}:
        for written in exported(kind):
            rows = [(row.runtime, row.batch) for row in written.parity]
            runtimes = ("openvino",) if kind == "ir" else RUNTIMES
            assert rows == [(r, b) for r in runtimes for b in (1, NUM_PARITY)]
            assert all(row.cosine > 0.9999 for row in written.parity)
            assert "cosine" in str(written.parity[0])


def forged(what):
    def embed(images):
        embedding = Comparator().embed(images)
        return replace(embedding, **{what: getattr(embedding, what)[:, ::-1] * 1.01})

    return embed


@pytest.mark.parametrize(
    ("what", "told"), [("vectors", "smallest cosine -0"), ("norms", "norm off by [0-9]")]
)
def test_a_file_that_differs_from_torch_is_refused(exported, what, told):
    graph = graph_of(exported, "full", "raw-bgr")
    opened = open_exported(graph)
    with pytest.raises(CheckpointError, match=rf"onnxruntime differs from torch at .*{told}"):
        check_parity(graph, opened, forged(what), shots())


def test_nothing_is_written_where_parity_fails(exported, tmp_path, monkeypatch):
    graph = graph_of(exported, "lr")
    traced = TracedModel(
        blobs={"hr": graph.read_bytes()},
        rates={"hr": (1.0,)},
        routing=Routing(hr_above=-1.0, lr_below=0.0),
        reference=forged("quality"),
        identity={"branch": "lr"},
    )
    monkeypatch.setattr(artifact, "trace_tracker", lambda *_: traced)
    monkeypatch.setattr(artifact, "native_cosine", lambda *_: 1.0)
    with pytest.raises((CheckpointError, ValueError)):
        write(tmp_path, branch="lr")
    assert list((tmp_path / "export").iterdir()) == []


def test_what_cannot_be_exported_says_why(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"method ftwa: has no graphs\(\) to export"):
        write(tmp_path, method=torch.nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="precision int8: needs --format openvino"):
        ExportConfig(precision="int8")
    with pytest.raises(ConfigError, match="unknown branch 'high'"):
        ExportConfig(branch="high")
    with pytest.raises(ConfigError, match="preset: expected at least one"):
        ExportConfig(preset=())
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match=r"int8 needs nncf: pip install .resolute-reid\[int8\]"):
        write(tmp_path, format="openvino", precision="int8", branch="lr", samples=few_people(2))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="checks the file in openvino, which is not installed"):
        write(tmp_path, format="openvino", branch="lr", samples=few_people(2))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match="export needs onnx"):
        write(tmp_path, samples=few_people(2), branch="lr")


def test_the_package_is_not_written_to():
    shipped = shipped_folder("ftwa-drawn")
    for run in ("ftwa-drawn", shipped, str(shipped / "model.safetensors")):
        with pytest.raises(ConfigError, match=r"comes with the package, .* say where: --out DIR"):
            artifact.export(run, ExportConfig())
    assert not (shipped / "export").exists()


def test_a_module_of_a_package_by_another_name_has_its_version(monkeypatch):
    def of_distribution(name):
        if name == "onnx":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(artifact.importlib.metadata, "version", of_distribution)
    assert artifact._versions()["onnxscript"] == "1.2.3"
    assert artifact._versions()["onnx"] == onnx.__version__
    monkeypatch.delattr(onnx, "__version__")
    assert artifact._versions()["onnx"] == "unknown"


@pytest.mark.slow
def test_int8_is_near_smaller_and_another_space(tmp_path):
    if not importlib.util.find_spec("nncf"):
        pytest.skip("needs nncf")
    (written,) = write(tmp_path, artifact="full", format="openvino", precision="int8")
    graph = written.files[0]
    assert graph.name == "full-int8.xml"
    exported = open_exported(graph)
    assert exported.precision == "int8"
    assert exported.fingerprint != "f" * 64
    expected = Comparator().embed(shots())
    assert cosines(exported.embed(shots()).vectors, expected.vectors).min() > 0.95
