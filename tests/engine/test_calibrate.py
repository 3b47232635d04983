"""Calibration of a run: whose images it may look at, and what it leaves beside the model."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from data.sources import two_views
from engine.small import small_config
from inference.small import save_small

from resolute.core.config import override
from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.data.mlr import PRESETS, build
from resolute.data.written import write
from resolute.engine import calibrate as calibrating
from resolute.engine.calibrate import calibrate, unseen_people
from resolute.engine.config import RunConfig
from resolute.engine.run import train
from resolute.inference.load import load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    config = small_config(cache=folder / "cache", data__validation=4, train__epochs=1)
    train(config, folder / "run")
    return folder / "run"


def test_people_held_out_calibrate_the_run(run):
    found = calibrate(run)
    assert "validation=4" in found.data
    model = load(run)
    assert model.calibration == found
    assert found.num_same > 0
    assert found.thresholds[0].num_negatives > 0
    images = [np.full((40, 20, 3), 9, dtype=np.uint8)]
    embedding = model.embed(images)
    assert found.constant == embedding.constant
    reliability = embedding.reliability
    assert (reliability is None) == (found.reliability is None)
    assert "Fitted on" in (run / "model_card.md").read_text()


def test_other_drawings_are_other_people(run):
    found = calibrate(
        run,
        overrides={
            "data.name": "mlr-synthetic",
            "data.synthetic.seed": 9,
            "data.synthetic.num_identities": 8,
        },
        prior=0.01,
    )
    assert found.prior == 0.01
    assert "validation" not in found.data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.name": "mlr-synthetic", "data.trial": 1}, "only the 4 identities"),
        ({"data.validation": 3}, "only the 4 identities .* leave out --validation-identities"),
        ({"data.seed": 3}, "leave out data.seed"),
    ],
)
def test_people_trained_or_tested_on_are_refused(run, changes, message):
    with pytest.raises(ConfigError, match=message):
        calibrate(run, overrides=changes)


@pytest.mark.parametrize("path", ["method.fusion", "method.flip", "evaluation.batch_size"])
def test_what_is_no_place_and_no_device_cannot_change(run, path):
    calibrate(run, overrides={"train.threads": 1})
    with pytest.raises(ConfigError, match=f"--{path}: a run is calibrated as it is"):
        calibrate(run, overrides={path: "hr"})


def test_which_people_are_unseen():
    config = override(RunConfig(), {"data.name": "mlr-viper", "data.root": "viper"})
    with pytest.raises(ConfigError, match="held no people of mlr-viper out of training"):
        unseen_people(config, {}, is_trained=True)
    for name in ("viper", "mlr-viper"):
        with pytest.raises(ConfigError, match="name another data set"):
            unseen_people(config, {"data.name": name}, is_trained=True)
    other = unseen_people(
        config, {"data.name": "mlr-caviar", "data.root": "c", "data.validation": 5}, is_trained=True
    )
    assert (other.name, other.root, other.validation, other.trial) == ("mlr-caviar", "c", 5, 0)
    assert unseen_people(config, {}, is_trained=False) == config.data
    also = override(config, {"data.also_train": "mlr-cuhk03-p1=x"})
    with pytest.raises(ConfigError, match="held no people"):
        unseen_people(also, {"data.name": "mlr-cuhk03", "data.root": "x"}, is_trained=True)


def test_a_written_set_shows_the_people_it_was_made_of(tmp_path):
    written = {}
    for name, records in (("viper", two_views(6)), ("cuhk03", two_views(6, name="cuhk03"))):
        policy = replace(PRESETS["default"], lr_camids=(1,))
        split = build(records, policy, streams=Streams(0))
        write(split, tmp_path / name, policy=policy, seed=0)
        written[name] = {"data.name": "mlr-written", "data.root": str(tmp_path / name)}
    joined = override(
        RunConfig(),
        {"data.name": "mlr-caviar", "data.also_train": f"mlr-written={tmp_path / 'cuhk03'}"},
    )
    with pytest.raises(ConfigError, match="held no people"):
        unseen_people(joined, {"data.name": "mlr-cuhk03-p1", "data.root": "x"}, is_trained=True)
    viper = override(RunConfig(), {"data.name": "mlr-viper", "data.root": "v"})
    assert unseen_people(viper, written["cuhk03"], is_trained=True).root == str(tmp_path / "cuhk03")
    with pytest.raises(ConfigError, match="held no people"):
        unseen_people(viper, written["viper"], is_trained=True)
    gone = {"data.name": "mlr-written", "data.root": str(tmp_path / "gone")}
    with pytest.raises(ConfigError, match="held no people"):
        unseen_people(viper, gone, is_trained=True)


def test_prior_is_a_chance(tmp_path):
    with pytest.raises(ConfigError, match="prior: expected a chance"):
        calibrate(save_small(tmp_path / "run"), prior=0)


def drawn(num_query, num_gallery, *, num_people, num_cameras=2):
    """Embeddings of a few people, and of some that are nobody in particular."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(num_people, 1, 8))
    sides = []
    for num in (num_query, num_gallery):
        pids = rng.integers(num_people, size=num)
        vectors = (centres[pids] + rng.normal(size=(num, 1, 8))).astype(np.float32)
        camids, heights = rng.integers(num_cameras, size=num), rng.integers(20, 200, size=num)
        embedding = Embedding(
            vectors=vectors,
            quality=np.ones((num, 1), dtype=np.float32),
            native_sizes=np.column_stack([heights, heights]),
        )
        sides += [embedding, Labels(pids=pids, camids=camids, rates=np.ones(num), heights=heights)]
    names = ("query", "query_labels", "gallery", "gallery_labels")
    return calibrating._Samples(data="drawn", **dict(zip(names, sides, strict=True)))


def test_pairs_are_those_of_the_whole_matrix(monkeypatch):
    samples = drawn(30, 70, num_people=6)
    distances = distance_matrix(samples.query, samples.gallery).astype(np.float64)
    pairs = [
        (distances[q, g], pid == other and pid > 0, pid, q)
        for q, (pid, camid) in enumerate(
            zip(samples.query_labels.pids, samples.query_labels.camids, strict=True)
        )
        for g, (other, seen_by) in enumerate(
            zip(samples.gallery_labels.pids, samples.gallery_labels.camids, strict=True)
        )
        if not (pid == other and pid > 0 and camid == seen_by)
    ]
    whole = calibrating._pairs(samples)
    assert whole.distances.tolist() == [pair[0] for pair in pairs]
    assert whole.is_same.tolist() == [pair[1] for pair in pairs]
    assert whole.groups.tolist() == [pair[2] for pair in pairs]
    assert whole.num_different == sum(not pair[1] for pair in pairs)
    for query in range(30):
        own = [pair for pair in pairs if pair[3] == query]
        assert whole.has_match[query] == any(pair[1] for pair in own)
        assert whole.is_first[query] == min(own)[1]

    monkeypatch.setattr(calibrating, "_MOST_PAIRS", 100)
    stride = whole.num_different // 100
    some = calibrating._pairs(samples)
    assert some.num_different == whole.num_different
    assert some.distances[some.is_same].tolist() == whole.distances[whole.is_same].tolist()
    of_two = whole.distances[~whole.is_same]
    assert some.distances[~some.is_same].tolist() == of_two[stride - 1 :: stride].tolist()

    class Model:
        fingerprint = "f"

    thresholds = calibrating._fit(Model(), samples, 0.5).thresholds
    assert [t.false_match_rate for t in thresholds] == [0.1, 0.01, 0.001]
    for threshold in thresholds:
        count = int(threshold.false_match_rate * len(of_two))
        assert threshold.distance == np.sort(of_two)[count]
        assert threshold.num_negatives == count
        same = whole.distances[whole.is_same]
        assert threshold.match_rate == np.mean(same < threshold.distance)


def test_memory_does_not_grow_with_all_pairs():
    samples = drawn(2000, 4000, num_people=200)
    tracemalloc.start()
    calibrating._pairs(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2000 * 4000
