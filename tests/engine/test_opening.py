"""Every way of looking at a run opens it alike: same settings, same records, same complaints."""

import json
import shutil

import pytest
import torch
from engine.small import small_config

from resolute.core.errors import CheckpointError, ConfigError
from resolute.data.benchmark import open_split
from resolute.engine.convert import convert
from resolute.engine.maps import draw_activation_maps
from resolute.engine.measure import measure
from resolute.engine.opening import open_run
from resolute.engine.run import train
from resolute.engine.score import evaluate
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig
from resolute.report.exhibit import Asked, exhibit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opening")
    config = small_config(cache=folder / "cache", train__epochs=1, evaluation__unseen_rates="")
    train(config, folder / "run")
    return folder / "run", config


@pytest.fixture
def moved(trained, tmp_path):
    """The same model beside settings that give other records, as another data.root would."""
    folder, config = trained
    shutil.copytree(folder, tmp_path / "run")
    plain = json.loads((folder / "config.json").read_text())
    plain["data"]["trial"] = 1
    (tmp_path / "run" / "config.json").write_text(json.dumps(plain))
    return tmp_path / "run", config


def maps(folder, overrides):
    out = folder.parent / "maps"
    return draw_activation_maps(folder, out, num_queries=1, overrides=overrides)


WAYS = {
    "open": lambda folder, overrides: open_run(folder, overrides=overrides),
    "evaluate": lambda folder, overrides: evaluate(folder, overrides=overrides),
    "measure": lambda folder, overrides: measure(folder, overrides=overrides),
    "maps": maps,
    "report": lambda folder, overrides: exhibit(
        folder, overrides=overrides, asked=Asked(num_queries=1, top=2)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_other_records_than_trained_on_are_refused(way, moved):
    folder, config = moved
    message = (
        "run: the records of .* are not those the run was trained on: check data.root; "
        "another set is taken by naming it"
    )
    # Where the data and their cache stand is no other set of data.
    for overrides in ({}, {"data.cache": config.data.cache}, {"train.threads": "1"}):
        with pytest.raises(ConfigError, match=message):
            WAYS[way](folder, overrides)


def test_another_drawing_under_equal_names_is_refused(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    plain = json.loads((folder / "config.json").read_text())
    plain["data"]["synthetic"]["seed"] = 7  # other people, the same digest
    (tmp_path / "run" / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match=r"of .*seed7.* are not those the run was trained on"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("way", WAYS)
def test_another_set_is_taken_where_it_is_named(way, moved):
    WAYS[way](moved[0], {"data.trial": "1"})


@pytest.mark.parametrize("way", WAYS)
def test_wrong_settings_and_folders_are_named_alike(way, trained, tmp_path):
    folder, _ = trained
    with pytest.raises(ConfigError, match=r"did you mean 'method\.fusion'"):
        WAYS[way](folder, {"method.fusionn": "hr"})
    with pytest.raises(CheckpointError, match="no model there"):
        WAYS[way](tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"no config\.json of a run beside it or one folder up"):
        WAYS[way](tmp_path, {})


def test_settings_are_changed_in_model_and_config(trained):
    folder, config = trained
    run = open_run(folder, overrides={"method.fusion": "hr", "data.root": "elsewhere"})
    assert run.config.method.fusion == "hr" == run.model.method.config.fusion
    assert run.config.data.root == "elsewhere"
    assert run.changed == {"method.fusion"}
    assert run.split.digest() == open_split(config.data).digest()
    assert (run.folder, run.is_export) == (folder, False)
    assert not run.model.method.training
    assert run.num_parameters == sum(p.numel() for p in run.model.method.parameters())


def test_weights_that_were_not_trained_here_take_any_records(tmp_path):
    state = {f"module.{k}": v for k, v in build_backbone("osnet_x0_25").state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "osnet.pth.tar")
    convert(tmp_path / "osnet.pth.tar", tmp_path / "run", model=ModelConfig(backbone="osnet_x0_25"))
    run = open_run(tmp_path / "run", overrides={"data.name": "mlr-synthetic"})
    assert "synthetic" in run.split.name
