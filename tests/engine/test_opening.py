"""Every way of looking at a run opens it alike: same settings, same records, same complaints."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from data.trees import cuhk01, market_style, viper
from engine.small import small_config

from resolute.core.config import to_mapping
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.tensorfile import write_tensors
from resolute.data.benchmark import DataConfig, open_split, resolved_policy
from resolute.data.mlr import MlrPolicy
from resolute.data.written import write
from resolute.engine.convert import convert
from resolute.engine.maps import draw_activation_maps
from resolute.engine.measure import measure
from resolute.engine.opening import open_run
from resolute.engine.run import train
from resolute.engine.score import evaluate
from resolute.inference.model_file import load_model
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
def test_another_set_is_taken_where_it_is_named(way, trained):
    WAYS[way](trained[0], {"data.synthetic.seed": "7"})  # other people by the same numbers


@pytest.mark.parametrize("way", WAYS)
def test_people_the_run_was_trained_on_are_refused(way, trained):
    folder, config = trained
    halves = [open_split(replace(config.data, trial=trial)) for trial in (0, 1)]
    met = {r.pid for r in halves[0].train} & {r.pid for r in halves[1].query}
    with pytest.raises(ConfigError, match=f"run: was trained on {len(met)} of the 12 people"):
        WAYS[way](folder, {"data.trial": "1"})
    with pytest.raises(ConfigError, match="run: was trained on 4 of the 4 people"):
        WAYS[way](folder, {"data.validation": "4"})


@pytest.fixture
def held_out(trained, tmp_path):
    """The same model as if 4 identities had been held out of its training."""
    folder, config = trained
    return as_if_trained_on(replace(config.data, validation=4), folder, tmp_path / "run")


def as_if_trained_on(data, folder, copy):
    """Copy a run folder; model and settings then name other training data."""
    shutil.copytree(folder, copy)
    plain = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**plain, "data": to_mapping(data)}))
    weights, metadata = load_model(copy / "model.safetensors")
    split = open_split(data)
    metadata |= {"split": split.name, "split_digest": split.digest()}
    write_tensors(copy / "model.safetensors", weights, {"metadata": metadata}, kind="model")
    return copy


def test_test_people_of_a_validation_run_are_unseen(held_out, trained):
    run = open_run(held_out, overrides={"data.validation": "0"})
    assert run.split.digest() == open_split(trained[1].data).digest()
    assert open_run(held_out, overrides={"data.validation": "4"}).changed == {"data.validation"}
    with pytest.raises(ConfigError, match=r"trained on \d of the 5 people"):
        open_run(held_out, overrides={"data.validation": "5"})


def test_other_rates_of_the_runs_own_test_people_are_no_other_people(trained):
    run = open_run(trained[0], overrides={"data.mlr.rates": "8", "data.seed": "0"})
    assert {r.rate for r in run.split.query} == {8.0}


def test_sets_that_joined_in_training_count_too(trained, tmp_path):
    root, other = viper(tmp_path / "viper", 12), cuhk01(tmp_path / "cuhk01", 12)
    joined = f"mlr-viper={root}"
    data = DataConfig(
        name="mlr-cuhk01", root=str(other), mlr=MlrPolicy(lr_camids=(1,)), also_train=(joined,)
    )
    run = as_if_trained_on(data, trained[0], tmp_path / "run")
    alone = {"data.also_train": ""}
    assert len(open_run(run, overrides=alone).split.train) == 24
    test_part = {**alone, "data.name": "mlr-viper", "data.root": str(root)}
    assert open_run(run, overrides=test_part).split.name.startswith("mlr-viper/")
    with pytest.raises(ConfigError, match="was trained on 2 of the 6 people"):
        open_run(run, overrides={**test_part, "data.trial": "1"})
    everybody = as_if_trained_on(replace(data, also_part="all"), trained[0], tmp_path / "all")
    with pytest.raises(ConfigError, match="was trained on 6 of the 6 people"):
        open_run(everybody, overrides=test_part)
    # A joined set that has moved is found where the call says it is.
    shutil.move(root, tmp_path / "moved")
    moved = {"data.also_train": f"mlr-viper={tmp_path / 'moved'}", "data.mlr.rates": "2"}
    assert open_run(run, overrides=moved).split.query
    shutil.move(tmp_path / "moved", root)
    # Other people need nothing of what the run was trained on.
    shutil.rmtree(other)
    assert open_run(run, overrides={**alone, "data.name": "mlr-synthetic"}).split.query
    with pytest.raises(ConfigError, match=r"cannot be told: its config\.json does not lead to"):
        open_run(run, overrides=test_part)


def test_a_written_set_is_known_by_what_it_was_made_of(trained, tmp_path):
    folder, config = trained
    for trial in (0, 1):
        data = replace(config.data, trial=trial)
        write(open_split(data), tmp_path / str(trial), policy=resolved_policy(data), seed=0)
    named = {"data.name": "mlr-written", "data.root": str(tmp_path / "0")}
    assert open_run(folder, overrides=named).split.digest() == open_split(config.data).digest()
    other = {**named, "data.root": str(tmp_path / "1"), "data.trial": "1"}
    with pytest.raises(ConfigError, match=r"was trained on \d of the 12 people"):
        open_run(folder, overrides=other)


def test_numbers_mean_nothing_outside_of_their_folder(trained, tmp_path):
    roots = []
    for folder, pids in (("a", (1, 2, 3, 4)), ("b", (3, 4, 1, 2))):
        names = [f"{pid:04d}_c{camera}_1.png" for pid in pids for camera in (1, 2)]
        parts = {"train": names[:4], "query": names[5::2], "gallery": names[4::2]}
        roots.append(market_style(tmp_path / folder, parts))
    data = DataConfig(name="mlr-folder", root=str(roots[0]), mlr=MlrPolicy(lr_camids=(1,)))
    run = as_if_trained_on(data, trained[0], tmp_path / "run")
    named = {"data.name": "mlr-folder", "data.root": str(roots[1])}
    assert {r.pid for r in open_run(run, overrides=named).split.query} == {1, 2}
    with pytest.raises(ConfigError, match="was trained on 1 of the 1 people"):
        open_run(run, overrides={"data.validation": "1"})


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
