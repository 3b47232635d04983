"""Calibration of a run: whose images it may look at, and what it leaves beside the model."""

import numpy as np
import pytest
from engine.small import small_config
from inference.small import save_small

from resolute.core.config import override
from resolute.core.errors import ConfigError
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
    reliability = model.embed(images).reliability
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


def test_prior_is_a_chance(tmp_path):
    with pytest.raises(ConfigError, match="prior: expected a chance"):
        calibrate(save_small(tmp_path / "run"), prior=0)
