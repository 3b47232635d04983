import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from inference.small import noise, person, save_small
from PIL import Image

from resolute.core.distance import distance_matrix
from resolute.core.errors import CheckpointError, ConfigError, DatasetError, ShapeError
from resolute.core.types import Embedding
from resolute.inference import shipped
from resolute.inference.calibration import Calibration, Curve
from resolute.inference.load import compare, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run):
    return load(run)


def test_an_image_does_not_depend_on_its_batch(model):
    pictures = [noise(40 + 7 * i, 20 + 3 * i, seed=i) for i in range(12)] + [person(1), person(2)]
    together = model.embed(pictures, batch_size=5)
    assert len(together) == 14
    for i, picture in enumerate(pictures):
        alone = model.embed(picture)
        assert np.allclose(alone.vectors[0], together.vectors[i], atol=2e-3), i
        assert together.native_sizes[i].tolist() == list(picture.shape[:2])
    order = np.random.default_rng(0).permutation(14)
    moved = model.embed([pictures[i] for i in order], batch_size=3)
    assert np.allclose(moved.vectors, together.vectors[order], atol=2e-3)


def test_tiny_and_huge_crops_share_a_call(model):
    pictures = [noise(3, 5), noise(1, 1), noise(2000, 900), noise(5, 3)]
    embedding = model.embed(pictures)
    assert np.isfinite(embedding.vectors).all()
    assert embedding.native_sizes.tolist() == [[3, 5], [1, 1], [2000, 900], [5, 3]]


def test_resolution_is_the_rule_or_as_given(model):
    small, large = noise(40, 20), noise(140, 60)
    auto = model.embed([small, large])
    given = model.embed([small, large], resolution=["lr", "hr"])
    assert np.array_equal(auto.vectors, given.vectors)
    swapped = model.embed([small, large], resolution=["hr", "lr"])
    assert not np.allclose(auto.vectors, swapped.vectors, atol=1e-3)
    assert np.allclose(model.embed(small, resolution="hr").vectors, swapped.vectors[:1], atol=1e-4)
    with pytest.raises(ShapeError, match="one per image, 2, got 3"):
        model.embed([small, large], resolution=["hr", "lr", "lr"])
    with pytest.raises(ShapeError, match="one per image, got 1 for more images"):
        model.embed([small, large], resolution=["hr"])


def test_few_images_are_in_memory_whatever_their_resolutions(model, monkeypatch):
    made, most = [], []

    def pictures(*_, **__):
        for i in range(40):
            picture = noise(40, 20, seed=i)
            made.append(weakref.ref(picture))
            most.append(sum(reference() is not None for reference in made))
            yield picture

    monkeypatch.setattr("resolute.inference.model.decoded", pictures)
    assert len(model.embed([], resolution=["hr", "lr"] * 20, batch_size=1)) == 40
    assert max(most) < 12


def test_boxes_of_a_frame_are_crops_of_it(model):
    frame = noise(200, 300)
    boxes = np.array([[10, 20, 50, 120], [100, 0, 140, 60]])
    cut = model.embed(frame[..., ::-1], boxes=boxes, channel_order="bgr")
    alone = model.embed([frame[20:120, 10:50], frame[0:60, 100:140]])
    assert np.allclose(cut.vectors, alone.vectors, atol=1e-5)
    assert cut.native_sizes.tolist() == [[100, 40], [60, 40]]


def test_nothing_to_embed(model):
    for nothing in ([], np.empty((0, 8, 8, 3), np.uint8)):
        with pytest.raises(DatasetError, match="expected at least one image to embed, got none"):
            model.embed(nothing)
    with pytest.raises(ConfigError, match="batch_size: expected at least 1"):
        model.embed(noise(9, 9), batch_size=0)


def test_a_frame_without_boxes_has_no_embeddings(model):
    frame = noise(90, 60)
    full = model.embed(frame, boxes=[[0, 0, 20, 40]])
    for none, resolution in ((np.empty((0, 4)), "lr"), ([], None), ([], [])):
        empty = model.embed(frame, boxes=none, resolution=resolution)
        assert empty.vectors.shape == (0, *full.vectors.shape[1:])
        assert empty.quality.shape == (0, *full.quality.shape[1:])
        assert empty.native_sizes.shape == (0, 2)
        assert len(Embedding.concatenate([empty, full])) == 1
    with pytest.raises(ShapeError, match="resolution: expected one per image"):
        model.embed(frame, boxes=[], resolution=["lr"])
    with pytest.raises(DatasetError, match="cannot be read"):
        model.embed("/nowhere/frame.jpg", boxes=[])


def test_fingerprint_names_weights_and_what_changes_vectors(run, model, tmp_path):
    assert model.fingerprint == load(run).fingerprint
    assert model.fingerprint == load(run, overrides={"fusion": "mean"}).fingerprint
    assert model.fingerprint != load(run, overrides={"gallery_rates": "2,3"}).fingerprint
    assert model.fingerprint != load(run, overrides={"flip": True}).fingerprint
    assert model.fingerprint != load(save_small(tmp_path / "b", seed=1)).fingerprint


def test_a_space_that_the_fusion_does_not_read_is_spared(run, model, tmp_path):
    pictures = [noise(140, 60), noise(40, 20), person(1)]
    spared = load(run, overrides={"fusion": "hr"})
    whole = load(run, overrides={"fusion": "hr"}, with_all_spaces=True)
    short, long = spared.embed(pictures), whole.embed(pictures)
    assert (short.vectors.shape[1], long.vectors.shape[1]) == (1, 2)
    assert np.allclose(short.vectors[:, 0], long.vectors[:, 0], atol=2e-6)
    assert np.allclose(distance_matrix(short, short), distance_matrix(long, long), atol=1e-5)
    # Vectors of one kind are no vectors of the other: a gallery refuses them by this name.
    assert spared.fingerprint != whole.fingerprint == model.fingerprint
    for fusion in ("lr", "mean", "weighted"):
        assert load(run, overrides={"fusion": fusion}).embed(pictures[0]).vectors.shape[1] == 2


def test_calibration_belongs_to_the_spaces_it_was_fitted_with(tmp_path):
    run = save_small(tmp_path / "run", name="ftwa-plus")
    model = load(run)
    assert model.embed(noise(40, 20)).vectors.shape[1] == 1
    calibration(model, fusion="hr").write(run / "calibration.json")
    assert load(run).compare(person(1), person(1)).probability is not None
    assert load(run, with_all_spaces=True).calibration is None
    assert load(run, overrides={"fusion": "mean"}).calibration is None
    other = save_small(tmp_path / "other")
    calibration(load(other)).write(other / "calibration.json")
    assert load(other).calibration is not None
    assert load(other, overrides={"fusion": "hr"}).calibration is None


def calibration(model, fingerprint=None, fusion="weighted"):
    return Calibration(
        data="drawn people",
        fingerprint=fingerprint or model.fingerprint,
        metric="sqeuclidean",
        fusion=fusion,
        prior=0.5,
        curve=Curve(kind="logistic", distances=(0.0, 2.0), log_odds=(4.0, -4.0), limit=5.0),
        num_same=10,
        num_different=90,
        heights=(20.0, 60.0, 128.0),
        log_loss=0.3,
        log_loss_other=0.4,
        thresholds=(),
        reliability=None,
    )


def test_one_colour_has_no_reliability():
    model = load("ftwa-drawn")
    grey = np.full((96, 48, 3), 90, dtype=np.uint8)
    found = model.embed([person(1), grey, person(2)]).reliability
    assert found[1] == 0
    assert found[0] > 0.2 < found[2]
    assert model.embed(grey[:1, :1]).reliability.tolist() == [0]


def test_calibration_lies_beside_the_model(model, tmp_path):
    run = save_small(tmp_path / "run")
    path = run / "calibration.json"
    calibration(model).write(path)
    loaded = load(run)
    assert loaded.calibration == calibration(model)
    assert load(run, with_calibration=False).calibration is None
    assert load(run, overrides={"flip": True}).calibration is None
    found = compare(person(1), person(1), model=loaded)
    assert found.distance == pytest.approx(0, abs=1e-5)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-3)
    assert (found.prior, found.calibrated_on) == (0.5, "drawn people")
    rare = compare(person(1), person(1), model=loaded, prior=0.001)
    assert rare.probability == pytest.approx(0.0518, abs=1e-3)
    other = load(run, overrides={"fusion": "mean"}).compare(person(1), person(1))
    assert other.probability is None
    assert "calibrated for weighted sqeuclidean" in other.warnings[0]
    share = {"fusion": "constant", "constant": 0.25}
    replace(calibration(model, fusion="constant"), constant=0.25).write(path)
    assert load(run, overrides=share).compare(person(1), person(1)).probability is not None
    again = "; fitted before the share was kept, fit it again: resolute calibrate RUN"
    for fitted, told in (
        (0.5, "calibrated for constant 0.5 sqeuclidean distances, these are {}"),
        (None, "calibrated for constant sqeuclidean distances, these are {}" + again),
    ):
        replace(calibration(model, fusion="constant"), constant=fitted).write(path)
        other = load(run, overrides=share).compare(person(1), person(1))
        assert other.probability is None
        assert other.warnings[0].endswith(told.format("constant 0.25 sqeuclidean"))
    calibration(model, fingerprint="0" * 64).write(path)
    with pytest.raises(CheckpointError, match="fitted for another model"):
        load(run)
    path.write_text(json.dumps({"data": "x"}))
    with pytest.raises(CheckpointError, match="no calibration of this version"):
        load(run)


def test_compare_warns_of_what_is_too_small_or_enlarged(model):
    large = np.asarray(Image.fromarray(person(1)).resize((60, 128)))
    tiny = np.asarray(Image.fromarray(person(1)).resize((8, 20)))
    found = model.compare(large, tiny)
    assert found.probability is None
    assert found.b.native_size == (20, 8)
    assert any("b: too small to say" in text for text in found.warnings)
    assert not any(text.startswith("a:") for text in found.warnings)
    blown_up = np.asarray(Image.fromarray(tiny).resize((60, 128), Image.BICUBIC))
    found = model.compare([large, large], blown_up)
    assert found.a.num_images == 2
    assert found.b.effective_height < 40
    assert any("looks enlarged or blurred" in text for text in found.warnings)
    assert found.distance == pytest.approx(model.compare(blown_up, large).distance, abs=1e-5)
    shared = {"a": large, "b": tiny}
    assert compare(**shared, model="ftwa-drawn") == load("ftwa-drawn").compare(large, tiny)
    with pytest.raises(DatasetError, match="at least one image of each person"):
        model.compare([], large)


def test_load_by_name(run, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="small: no model there"):
        load("small")
    folder = tmp_path / "shipped"
    save_small(folder / "small-v1")
    (folder / "unfinished").mkdir()
    assert shipped.shipped_names(folder) == ["small-v1"]
    assert shipped.shipped_folder("small-v1", folder) == folder / "small-v1"
    with pytest.raises(CheckpointError, match="did you mean 'small-v1'"):
        shipped.shipped_folder("small-v2", folder)
    monkeypatch.setattr("resolute.inference.load.shipped_folder", lambda name: folder / name)
    assert load("small-v1").fingerprint == load(run).fingerprint


def test_places_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="no model there"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="no model there"):
        load(tmp_path / "model.safetensors")


def test_devices_and_runtimes(run):
    assert load(run, device=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(ConfigError, match="device: expected auto, cpu"):
        load(run, device="cdua")
    with pytest.raises(ConfigError, match="unknown runtime 'onnx'"):
        load(run, runtime="onnx")
    with pytest.raises(ConfigError, match="for exported files"):
        load(run, runtime="onnxruntime")
