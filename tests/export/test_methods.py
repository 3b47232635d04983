"""Every method exports with equal output: through files on disk, as a user would."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from export.test_gate import SPEC, inputs_of
from inference.small import person, save_small
from methods.builders import small_blueprint
from PIL import Image

from resolute.cli import main as cli
from resolute.core.config import to_mapping
from resolute.core.distance import fused_vectors
from resolute.core.errors import ConfigError
from resolute.core.images import Images
from resolute.core.rng import Streams
from resolute.data.benchmark import open_split
from resolute.data.degrade import to_input
from resolute.engine.convert import convert
from resolute.export.artifact import export
from resolute.export.config import ExportConfig
from resolute.export.gate import Gate
from resolute.export.samples import drawn_people, of_records
from resolute.inference.load import load
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS
from resolute.methods.variants import TABLE1, TABLE2
from resolute.recipes.catalogue import find_recipe

FLAGS = ["hr", "lr", "auto", "auto", "auto", "hr", "lr"]


def crops():
    heights = (128, 40, 100, 70, 30, 20, 150)
    return [
        np.asarray(Image.fromarray(person(i + 1)).resize((h // 2, h)))
        for i, h in enumerate(heights)
    ]


def save_run(folder, name="ftwa", *, size=(64, 32), **changes):
    """A run with random weights whose heads have left their neutral start."""
    blueprint = small_blueprint(name, **changes)
    if size != (64, 32):
        model = replace(blueprint.model, height=size[0], width=size[1])
        blueprint = replace(blueprint, model=model)
    method, _ = METHODS[name](blueprint, streams=Streams(1))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in method.state_dict().items():
            if key.startswith("raft.") or ".evaluator." in key:
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
            elif key.endswith("running_var"):
                value.mul_(1.3)
    folder.mkdir(parents=True)
    metadata = {"blueprint": to_mapping(blueprint), "training": {"steps": 0}, "split": ""}
    save_model(folder / "model.safetensors", method, metadata)
    return folder


def check_full(folder, *, runtimes=("onnxruntime", "openvino"), **settings):
    """Export and compare what `load` gives of both, for all kinds of resolution."""
    (written,) = export(
        folder, ExportConfig(artifact="full", **settings), samples=drawn_people(count=9)
    )
    model = load(folder)
    expected = model.embed(crops(), resolution=FLAGS)
    for runtime in runtimes:
        exported = load(written.files[0], runtime=runtime)
        found = exported.embed(crops(), resolution=FLAGS, batch_size=3)
        assert found.vectors.shape == expected.vectors.shape
        assert np.einsum("nsd,nsd->ns", found.vectors, expected.vectors).min() > 0.9999
        np.testing.assert_allclose(found.quality, expected.quality, atol=1e-4)
        np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-3)
        assert exported.fingerprint == model.fingerprint
        assert exported.input_spec == model.input_spec
        assert exported.height_reference == model.height_reference


# The rows that cannot leave torch, and what they say instead.
NOT_EXPORTED = {
    "csr-gan": "how many generators an image passes depends on its native height",
    "sing": r"has no graphs\(\) to export",
    "sr-bicubic": "an exported file enlarges all images alike",
}


@pytest.mark.parametrize("name", sorted(NOT_EXPORTED))
def test_what_cannot_leave_torch_says_why(tmp_path, name):
    with pytest.raises(ConfigError, match=NOT_EXPORTED[name]):
        export(save_run(tmp_path / "run", name), ExportConfig(artifact="full"))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - NOT_EXPORTED))
def test_graphs_are_what_embed_does(tmp_path, name):
    changes = {"gallery_rates": (2.0, 3.0)} if name in TABLE2 else {}
    method = load(save_run(tmp_path / "run", name, **changes)).method
    graphs = method.graphs()
    images = drawn_people(count=4).mixture(4)
    for flag, role in enumerate((graphs.hr, graphs.lr)):
        flagged = replace(images, resolution=torch.full((4,), flag))
        inputs = [
            to_input(flagged, method.input_spec, rates=torch.full((4,), rate))
            for rate in role.rates
        ]
        with torch.no_grad():
            vectors, quality, norms = role.network(*inputs)
        expected = method.embed(flagged)
        np.testing.assert_allclose(vectors.numpy(), expected.vectors, atol=1e-5)
        np.testing.assert_allclose(quality.numpy(), expected.quality, atol=1e-6)
        np.testing.assert_allclose(norms.numpy(), expected.norms, rtol=1e-4)
    check_routing(method, graphs.routing)


def check_routing(method, routing):
    """Images of unknown resolution are the mean of the roles that the routing gives them."""
    heights = torch.tensor([[h, 40] for h in (128, 75, 70, 65, 60, 50)])
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (6, 3, 128, 40), generator=generator, dtype=torch.uint8)
    for row, (height, _) in zip(pixels, heights, strict=True):
        row[:, height:] = 0
    unknown = Images(pixels=pixels, native_sizes=heights, resolution=torch.full((6,), 2))
    roles = routing.of(unknown)
    expected = 0
    for flag, role in enumerate(("hr", "lr")):
        vectors = method.embed(replace(unknown, resolution=torch.full((6,), flag))).vectors
        is_taken = np.isin(np.arange(6), roles[role].numpy())
        expected = expected + vectors * is_taken[:, None, None]
    expected /= np.linalg.norm(expected, axis=2, keepdims=True)
    np.testing.assert_allclose(method.embed(unknown).vectors, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*TABLE1, *TABLE2} - NOT_EXPORTED.keys()))
def test_every_method_exports_with_equal_output(tmp_path, name):
    check_full(save_run(tmp_path / "run", name, backbone="resnet18"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ftwa", {"backbone": "osnet_x0_25", "gallery_rates": (2.0, 3.0, 4.0), "flip": True}),
        ("ftwa_r", {"backbone": "osnet_x0_25"}),
        ("baseline", {"backbone": "osnet_x0_25"}),
        ("ftwa", {"backbone": "osnet_gn_x0_5", "size": (256, 128)}),
        ("baseline", {"backbone": "osnet_gn_x0_5", "size": (256, 128)}),
    ],
)
def test_osnet_exports_with_equal_output(tmp_path, name, settings):
    check_full(save_run(tmp_path / "run", name, **settings), preset=("raw-bgr",))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["weighted", "mean", "hr"])
def test_a_tracker_of_the_lr_branch_is_the_fused_vector(tmp_path, fusion):
    folder = save_run(tmp_path / "run", backbone="resnet18", flip=fusion == "mean")
    config = ExportConfig(branch="lr")
    (written,) = export(folder, config, samples=drawn_people(count=9), overrides={"fusion": fusion})
    model = load(folder)
    own = model.embed(crops(), resolution="lr")
    if fusion == "weighted":
        expected = fused_vectors(own)
    elif fusion == "mean":
        expected = own.vectors.reshape(len(own), -1) / np.sqrt(2)
    else:
        expected = own.vectors[:, 0]
    exported = load(written.files[0])
    found = exported.embed(crops()).vectors[:, 0]
    assert np.einsum("ne,ne->n", found, expected).min() > 0.9999
    assert exported.fingerprint != model.fingerprint
    assert written.native_cosine < 1


@pytest.mark.slow
def test_one_encoder_needs_no_gate(tmp_path):
    folder = save_run(tmp_path / "run", "baseline", backbone="resnet18")
    (written,) = export(folder, ExportConfig(), samples=drawn_people(count=9))
    assert written.gate is None
    assert written.native_cosine > 0.9999


@pytest.mark.slow
def test_command_line_writes_says_and_serves(tmp_path, capsys):
    folder = save_small(tmp_path / "run")
    words = ["export", str(folder), "--artifact", "full"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "full.onnx  onnxruntime  batch 17: cosine 1.0000" in out
    assert (folder / "export" / "config.json").is_file()
    picture = tmp_path / "crop.png"
    Image.fromarray(person(1)).save(picture)
    model = str(folder / "export" / "full.onnx")
    for runtime in ("onnxruntime", "openvino"):
        words = ["compare", str(picture), str(picture), "--model", model, "--runtime", runtime]
        assert cli.main(words) == 0
        assert "distance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export"], "the following arguments are required: RUN"),
        (["export", "/nowhere"], "no model there"),
        (["export", "x", "--format", "onxn"], "unknown value 'onxn': did you mean 'onnx'?"),
        (["export", "x", "--preset", "raw"], "'raw"),
        (["export", "x", "--train.epochs", "3"], "only settings of method and data"),
        (["export", "x", "--precision", "int8"], "precision int8: needs --format openvino"),
    ],
)
def test_wrong_words(capsys, words, message):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
def test_parity_and_gate_on_real_photographs(tmp_path, shared):
    """VIPeR through OSNet trained on MSMT17, all presets; the gate on images it was not set on."""
    run = tmp_path / "run"
    convert(shared / "weights" / "osnet_gn_x0_5_msmt17.safetensors", run)
    config = find_recipe("ftwa", "mlr-viper", "paper")
    data = replace(config.data, root=str(shared / "data" / "viper"))
    split = open_split(data)
    samples = of_records(split.train, source=split.name)
    presets = ("imagenet", "raw-rgb", "unit-rgb", "raw-bgr")
    for written in export(run, ExportConfig(preset=presets), samples=samples):
        assert min(row.cosine for row in written.parity) > 0.9999
    gate = Gate(SPEC, height_reference=128.0)
    kinds = [gate(inputs_of(images)).numpy() for images in (samples.hr, samples.lr)]
    report = gate.set_threshold(*kinds, source="VIPeR")
    assert report.accuracy > 0.98
    test = of_records((*split.gallery, *split.query), source="test", count=60)
    assert (gate(inputs_of(test.hr)).numpy() > report.threshold).mean() > 0.95
    assert (gate(inputs_of(test.lr)).numpy() <= report.threshold).mean() > 0.95
