"""From settings to files to scores, and everything that stands between a run and its number."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from data.trees import viper
from engine.small import small_config

from resolute.core.config import override
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.types import Resolution
from resolute.data.benchmark import open_split
from resolute.engine.convert import convert
from resolute.engine.lock import held
from resolute.engine.result import Result
from resolute.engine.run import LOCK_NAME, train
from resolute.engine.score import evaluate
from resolute.inference.load import load
from resolute.methods.catalogue import METHODS
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig
from resolute.report.exhibit import Asked, exhibit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = small_config(cache=folder / "cache", evaluation__fusions="hr,lr,mean")
    train(config, folder / "ftwa")
    return folder / "ftwa", config


def test_a_run_leaves_what_the_next_step_needs(trained):
    folder, config = trained
    for name in ("config.json", "checkpoint.safetensors", "model.safetensors", "scalars.jsonl"):
        assert (folder / name).is_file(), name
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "losses" in row]
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert set(steps[0]["losses"]) == {"identity", "triplet", "raft"}
    norms = [row["gradient_norms"]["raft"] for row in rows if "gradient_norms" in row]
    assert len(norms) == config.train.epochs
    assert set(norms[0]) == {"identity", "triplet", "raft"}


def test_scores_carry_their_provenance_and_survive_the_file(trained):
    folder, config = trained
    result = evaluate(folder)
    assert set(result.scores) == {"protocol", "r=8", "hr", "fusion=hr", "fusion=lr", "fusion=mean"}
    assert set(result.scores["protocol"].per_rate) <= {"2", "3", "4"}
    assert set(result.scores["r=8"].per_rate) == {"8"}
    assert set(result.scores["hr"].per_rate) == {"1"}
    assert result.split_digest == open_split(config.data).digest()
    assert result.start["name"] == "random"
    assert result.training["steps"] == 6
    assert result.training["parameters"] == result.num_parameters
    assert result.notes == ()
    split = open_split(config.data)
    assert result.measures["identities"] == {
        "train": len({r.pid for r in split.train}),
        "test": len({r.pid for r in split.query}),
    }
    assert {"torch", "pillow", "numpy", "resolute"} <= set(result.versions)
    assert Result.read(folder / "result.json") == result
    assert evaluate(folder) == result


def test_a_result_file_keeps_a_list_of_numbers_in_a_line(trained, tmp_path):
    folder, _ = trained
    path = tmp_path / "result.json"
    result = replace(evaluate(folder), notes=("[\n1,\n2\n]", "[1]"))
    result.write(path)
    assert Result.read(path) == result
    lines = [line.strip() for line in path.read_text().splitlines()]
    for name in ("cmc", "per_identity"):
        found = [line for line in lines if line.startswith(f'"{name}": [')]
        assert len(found) == len(result.scores)
        assert all(line.rstrip(",").endswith("]") for line in found)


def test_changed_settings_are_scored_but_not_kept(trained):
    folder, _ = trained
    kept = evaluate(folder)
    other = evaluate(folder, overrides={"method.fusion": "hr"})
    assert other.scores["protocol"] == kept.scores["fusion=hr"]
    assert Result.read(folder / "result.json") == kept


def test_no_result_names_a_folder_of_this_machine(trained):
    folder, _ = trained
    evaluate(folder)
    text = (folder / "result.json").read_text()
    assert str(folder.parent) not in text


def test_other_records_than_trained_on_are_refused(trained, tmp_path):
    folder, _ = trained
    config = json.loads((folder / "config.json").read_text())
    config["data"]["synthetic"]["seed"] = 5
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config["data"]["trial"] = 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="not those the run was trained on"):
        evaluate(copy)


@pytest.mark.parametrize(
    ("resume", "lost", "error", "message"),
    [
        ("no", "", ConfigError, "checkpoint.safetensors: holds a run"),
        ("no", "checkpoint.safetensors", ConfigError, "model.safetensors: holds a run"),
        ("exact", "", CheckpointError, "written by another run"),
        ("exact", "checkpoint.safetensors", CheckpointError, "checkpoint.safetensors"),
    ],
)
def test_a_training_that_is_refused_leaves_the_run_alone(
    trained, tmp_path, resume, lost, error, message
):
    folder, config = trained
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    if lost:
        (run / lost).unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(error, match=message):
        train(override(config, {"method.margin": 0.5}), run, resume=resume)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_in_progress_takes_no_other_process(trained, tmp_path):
    folder, config = trained
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with held(run / LOCK_NAME) as other:
        assert other is None
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} trains in it; wait for it"):
            train(override(config, {"train.epochs": 9}), run, resume="changed")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_going_on_with_a_finished_run_changes_nothing_but_its_checkpoint(trained, tmp_path):
    folder, config = trained
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    evaluate(run)
    kept = {n: (run / n).read_bytes() for n in ("model.safetensors", "model_card.md")}
    assert b"Not scored yet" not in kept["model_card.md"]
    result = train(config, run, resume="exact")
    assert (result.steps, result.steps_here) == (6, 0)
    assert {n: (run / n).read_bytes() for n in kept} == kept
    (run / "model.safetensors").unlink()  # killed between checkpoint and model
    train(config, run, resume="exact")
    assert (run / "model.safetensors").exists()


def test_missing_settings_and_models_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no model there"):
        evaluate(tmp_path)
    with pytest.raises(ConfigError, match="needs the folder"):
        train(small_config(data__name="mlr-viper"), tmp_path / "a")
    with pytest.raises(ConfigError, match="data set 'mlr-vipr': did you mean 'mlr-viper'"):
        train(small_config(data__name="mlr-vipr"), tmp_path / "b")


def test_training_on_unknown_resolution_names_the_remedy(tmp_path):
    config = small_config(cache=tmp_path, data__name="synthetic")
    with pytest.raises(OSError, match="mlr"):
        train(config, tmp_path / "run")


def test_load_changes_what_needs_no_weights(trained):
    folder, _ = trained
    model = load(folder, overrides={"fusion": "mean", "gallery_rates": "2,3,4"})
    assert model.method.config.fusion == "mean"
    assert model.method.config.gallery_rates == (2.0, 3.0, 4.0)
    with pytest.raises(ConfigError, match="raft_width need other weights"):
        load(folder, overrides={"raft_width": 32})


def test_damaged_model_file(trained, tmp_path):
    folder, _ = trained
    broken = bytearray((folder / "model.safetensors").read_bytes())
    broken[-5] ^= 1
    (tmp_path / "model.safetensors").write_bytes(broken)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(tmp_path)


def test_what_a_method_says_of_itself_goes_where_its_scores_go(tmp_path, monkeypatch):
    note = "perceptual terms off: no VGG-19 weights given"
    build = METHODS["baseline"]

    def noted(blueprint, *, streams):
        method, start = build(blueprint, streams=streams)
        method.notes = (note,)
        method.critic = torch.nn.Linear(1, 2)  # trains, and stays out of the model file
        method.training_only = ("critic",)
        losses = method.losses
        method.losses = lambda batch, phase: {
            **losses(batch, phase),
            "critic": method.critic(torch.ones(1, 1)).square().sum(),
        }
        return method, start

    monkeypatch.setitem(METHODS, "baseline", noted)
    config = small_config("baseline", cache=tmp_path / "cache", train__epochs=1)
    train(config, tmp_path / "run")
    monkeypatch.setitem(METHODS, "baseline", build)  # what the file says stays
    assert note in (tmp_path / "run" / "model_card.md").read_text()
    result = evaluate(tmp_path / "run")
    assert result.notes == (note,)
    assert Result.read(tmp_path / "run" / "result.json") == result
    assert f"- {note}\n" in (tmp_path / "run" / "model_card.md").read_text()
    assert result.training["parameters"] == result.num_parameters + 4
    shown = exhibit(tmp_path / "run", overrides={}, asked=Asked(num_queries=1, top=2))
    assert note in shown.notes


def test_converted_weights_score_without_training(tmp_path):
    weights = tmp_path / "osnet.pth.tar"
    state = {f"module.{k}": v for k, v in build_backbone("osnet_x0_25").state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, weights)
    matched = convert(weights, tmp_path / "run")
    assert "filled" in matched
    overrides = {
        "data.name": "mlr-synthetic",
        "data.synthetic.num_identities": "8",
        "data.cache": str(tmp_path / "cache"),
        "evaluation.unseen_rates": "",
        "evaluation.fusions": "lr,mean",
    }
    result = evaluate(tmp_path / "run", overrides=overrides)
    assert result.start["name"] == "osnet.pth.tar"
    assert set(result.scores) == {"protocol", "hr"}  # one vector, nothing to join in other ways
    with pytest.raises(ConfigError, match=r"model.safetensors: holds a run"):
        convert(weights, tmp_path / "run", model=ModelConfig(backbone="osnet_x0_25"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.safetensors").write_bytes(b"of a training")
    with pytest.raises(ConfigError, match=r"checkpoint.safetensors: holds a run"):
        convert(weights, tmp_path / "begun")
    assert [path.name for path in (tmp_path / "begun").iterdir()] == ["checkpoint.safetensors"]


def test_validation_takes_training_identities_only(tmp_path):
    config = small_config(cache=tmp_path).data
    whole, held = open_split(config), open_split(replace(config, validation=4))
    test_pids = {r.pid for r in (*whole.query, *whole.gallery)}
    held_pids = {r.pid for r in (*held.query, *held.gallery)}
    assert len(held_pids) == 4
    assert held_pids <= {r.pid for r in whole.train}
    assert not held_pids & {r.pid for r in held.train}
    assert not test_pids & (held_pids | {r.pid for r in held.train})
    assert {r.resolution for r in held.query} == {Resolution.LR}
    assert {r.resolution for r in held.gallery} == {Resolution.HR}
    assert "validation=4" in held.name
    with pytest.raises(ConfigError, match="cannot hold out 12"):
        open_split(replace(config, validation=12))


def test_several_sources_train_together(tmp_path):
    config = small_config(
        cache=tmp_path / "cache", data__also_train=f"mlr-viper={viper(tmp_path / 'viper')}"
    )
    split = open_split(config.data)
    alone = open_split(small_config().data)
    assert len(split.train) > len(alone.train)
    assert len(split.query) == len(alone.query)
    with pytest.raises(ConfigError, match="NAME=ROOT"):
        open_split(small_config(data__also_train="mlr-viper").data)
