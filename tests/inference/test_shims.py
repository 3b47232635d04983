import numpy as np
import pytest
import torch
from inference.small import noise, person, save_small
from PIL import Image

from resolute.core.distance import distance_matrix, fused_vectors
from resolute.core.errors import ConfigError, DatasetError, ShapeError
from resolute.inference.load import load
from resolute.inference.ray_data import EmbedBatch, embed_dataset
from resolute.inference.shims import FeatureExtractor, TrackerFeatures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run):
    return load(run)


def test_torchreid_call(run, model, tmp_path):
    extractor = FeatureExtractor(model_name="osnet_x1_0", model_path=str(run), device="cpu")
    path = tmp_path / "a.png"
    Image.fromarray(person(1)).save(path)
    expected = fused_vectors(model.embed([person(1), person(2)]))
    for given in ([str(path), person(2)], [person(1), person(2)]):
        features = extractor(given)
        assert isinstance(features, torch.Tensor)
        assert features.dtype == torch.float32
        assert np.allclose(features.numpy(), expected, atol=1e-5)
    assert extractor(str(path)).shape == (1, expected.shape[1])
    assert np.allclose(np.linalg.norm(features.numpy(), axis=1), 1, atol=1e-5)


TORCHREID = {
    "image_size": (256, 128),
    "pixel_mean": [0.485, 0.456, 0.406],
    "pixel_std": [0.229, 0.224, 0.225],
    "pixel_norm": True,
    "device": "cpu",
    "verbose": False,
}


def test_torchreid_arguments_are_taken_in_its_order(run, model):
    expected = fused_vectors(model.embed(person(1)))
    own = {**TORCHREID, "image_size": [64, 32]}
    for extractor in (
        FeatureExtractor("osnet_x1_0", str(run), *TORCHREID.values()),
        FeatureExtractor(model_name="osnet_x1_0", model_path=str(run), **own),
    ):
        np.testing.assert_allclose(extractor(person(1)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("image_size", (384, 128), r"image_size: this model takes \(64, 32\), got \(384, 128\)"),
        ("image_size", 256, "image_size: .* got 256; leave it out"),
        ("pixel_mean", [0.5, 0.5, 0.5], r"pixel_mean: this model takes \(0.485, .*leave it out"),
        ("pixel_std", [1.0, 1.0], "pixel_std: this model takes"),
        ("pixel_norm", False, "pixel_norm: this model normalises by mean .*; leave it out"),
    ],
)
def test_torchreid_arguments_that_contradict_the_model_are_refused(run, name, given, told):
    with pytest.raises(ConfigError, match=told):
        FeatureExtractor("osnet_x1_0", run, **{**TORCHREID, name: given})


def test_torchreid_tensors_are_normalised_already(run, model):
    extractor = FeatureExtractor(model_path=run, device="cpu")
    pixels = noise(64, 32)
    spec = model.input_spec
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    given = (tensor - mean) / std
    expected = fused_vectors(model.embed(pixels))
    for form in (given, given[None]):
        assert np.allclose(extractor(form).numpy(), expected, atol=1e-4)
    with pytest.raises(DatasetError, match="expected a normalised tensor of floats"):
        extractor(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="got neither"):
        FeatureExtractor()


def test_boxmot_call(model):
    features = TrackerFeatures(model)
    frame = noise(120, 160)
    boxes = np.array([[10, 5, 40, 100, 0.9, 0], [150, 100, 300, 300, 0.5, 0]], dtype=np.float32)
    found = features.get_features(boxes, frame[..., ::-1])
    expected = fused_vectors(model.embed([frame[5:100, 10:40], frame[100:120, 150:160]]))
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    outside = features.get_features([[-50, -50, -10, -10], [500, 500, 600, 600]], frame)
    assert outside.shape == found.shape
    assert np.isfinite(outside).all()
    empty = TrackerFeatures(model).get_features(np.empty((0, 4)), frame)
    assert empty.shape == (0, found.shape[1])
    assert empty.dtype == np.float32
    for columns in (np.ones((2, 3)), np.ones(4)):
        with pytest.raises(ShapeError, match=r"shape \(N, 4\) or wider, got"):
            features.get_features(columns, frame)
    with pytest.raises(DatasetError, match=r"boxes\[0\]"):
        features.get_features([[np.nan, 0, 5, 5]], frame)
    with pytest.raises(DatasetError, match="expected uint8"):
        features.get_features(boxes, frame.astype(float))


@pytest.mark.parametrize("fusion", ["mean", "constant", "hr", "lr"])
def test_the_one_vector_has_the_distance_of_its_fusion(run, fusion):
    model = load(run, overrides={"fusion": fusion, "constant": 0.2})
    frame = noise(120, 160)
    boxes = np.array([[10, 5, 40, 100], [0, 0, 20, 40], [50, 20, 90, 120]])
    own = model.embed(frame, boxes=boxes)
    vectors = TrackerFeatures(model).get_features(boxes, frame[..., ::-1])
    np.testing.assert_allclose(2 - 2 * vectors @ vectors.T, distance_matrix(own, own), atol=1e-5)
    extractor, embed = FeatureExtractor(model_path=run), EmbedBatch(run)
    extractor.model = embed.model = model
    pictures = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
    np.testing.assert_allclose(extractor(pictures).numpy(), vectors, atol=1e-5)
    np.testing.assert_allclose(embed({"image": pictures})["vector"], vectors, atol=1e-5)


def test_batches_of_dictionaries(run, model, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(person(1)).save(path)
    embed = EmbedBatch(run, device="cpu")
    pictures = np.empty(2, dtype=object)
    pictures[:] = [person(1), person(2)]
    expected = model.embed(list(pictures))
    found = embed({"image": pictures, "id": np.array([4, 5])})
    assert set(found) == {
        "id", "vector", "vectors", "quality", "native_height", "native_width",
    }  # fmt: skip
    assert np.allclose(found["vector"], fused_vectors(expected), atol=1e-5)
    assert np.allclose(found["vectors"], expected.vectors.reshape(2, -1), atol=1e-5)
    blob = np.array([path.read_bytes()], dtype=object)
    by_bytes = embed({"bytes": blob, "path": np.array(["far/a.png"])})
    by_path = embed({"path": np.array([str(path)])})
    assert by_bytes["path"].tolist() == ["far/a.png"]
    assert np.array_equal(by_bytes["vector"], by_path["vector"])
    with pytest.raises(ConfigError, match="expected a column bytes, image, path, got id"):
        embed({"id": np.arange(2)})


def test_mapping_a_data_set(run):
    class DataSet:
        def map_batches(self, function, **settings):
            self.made = function(*settings.pop("fn_constructor_args"))
            return settings

    data = DataSet()
    assert embed_dataset(data, run, concurrency=4) == {"batch_size": 512, "concurrency": 4}
    assert data.made({"image": np.stack([noise(9, 9)])})["quality"].shape == (1, 2)
