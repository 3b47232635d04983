"""Blending with the start: by hand on a tiny method, by files on a real one."""

import json
from dataclasses import replace

import pytest
import torch
from engine.fakes import TinyGan, TinyMethod, run
from engine.small import small_config

from resolute.core.errors import ConfigError
from resolute.engine.blend import blend
from resolute.engine.interpolate import keep_start, start_weights
from resolute.engine.run import read_config, train, write_config
from resolute.engine.score import evaluate
from resolute.inference.model_file import load_model
from resolute.models.backbone import build_backbone


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "start.pth"
    torch.save(build_backbone("osnet_x0_25").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("runs")
    config = small_config(
        cache=folder / "cache", model__weights=str(weights), train__epochs="1", train__average="0.5"
    )
    train(config, folder / "plain")
    return folder / "plain", config


def test_start_is_the_pretrained_layers_with_their_statistics():
    found = start_weights(TinyMethod())
    assert set(found) == {
        "stem.0.weight",
        "stem.1.weight",
        "stem.1.bias",
        "stem.1.running_mean",
        "stem.1.running_var",
    }


def test_start_is_a_copy_and_the_line_is_straight(tmp_path):
    method = TinyMethod()
    start = start_weights(method)
    run(tmp_path, method=method, max_steps=5)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    keep_start(method, start, 0.3)
    for name, tensor in method.state_dict().items():
        if name in start:
            expected = 0.7 * before[name] + 0.3 * start[name]
            assert torch.allclose(tensor, expected, atol=1e-6), name
            assert not torch.equal(tensor, before[name]), name
        else:
            assert torch.equal(tensor, before[name]), name


def test_both_ends_are_exact(tmp_path):
    method = TinyMethod()
    start = start_weights(method)
    run(tmp_path, method=method, max_steps=5)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    keep_start(method, start, 0.0)
    assert all(torch.equal(t, before[n]) for n, t in method.state_dict().items())
    keep_start(method, start, 1.0)
    assert all(torch.equal(method.state_dict()[n], t) for n, t in start.items())


def test_a_random_start_has_nothing_to_keep(tmp_path):
    with pytest.raises(ConfigError, match="starts from random weights, there is nothing to keep"):
        start_weights(TinyGan())
    with pytest.raises(ConfigError, match=r"name a file in model.weights"):
        train(small_config(train__keep_start="0.5", cache=tmp_path), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train.keep_start: expected 0 to 1, got 1.5"):
        small_config(train__keep_start="1.5")


def test_blending_afterwards_is_training_with_keep_start(trained, tmp_path):
    folder, config = trained
    train(replace(config, train=replace(config.train, keep_start=0.4)), tmp_path / "at-once")
    blend(folder, tmp_path / "later", share=0.4)
    one, first = load_model(tmp_path / "at-once" / "model.safetensors")
    two, second = load_model(tmp_path / "later" / "model.safetensors")
    plain, _ = load_model(folder / "model.safetensors")
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())
    changed = {name for name, tensor in plain.items() if not torch.equal(two[name], tensor)}
    assert {name.partition(".")[0] for name in changed} == {"network"}
    assert any("running_var" in name for name in changed)
    said = "running average, momentum 0.5; 0.4 of the start kept"
    assert first["training"]["weights"] == second["training"]["weights"] == said
    assert first["config"] == second["config"]
    assert "&& resolute blend RUN --keep-start 0.4" in second["command"]
    assert read_config(tmp_path / "later").train.keep_start == 0.4
    result = evaluate(tmp_path / "later")
    assert result.config["train"]["keep_start"] == 0.4
    assert result.training["weights"] == said


def test_wrong_folders_and_files_are_refused(trained, weights, tmp_path):
    folder, config = trained
    with pytest.raises(ConfigError, match="holds a run; resume it or choose another folder"):
        blend(folder, folder, share=0.5)
    other = tmp_path / "other.pth"
    torch.save(build_backbone("osnet_x0_25").state_dict(), other)
    with pytest.raises(ConfigError, match=r"not the start weights of this run: expected sha256"):
        blend(folder, tmp_path / "a", share=0.5, weights=str(other))
    with pytest.raises(ConfigError, match=r"no file at 'gone'; give it with --weights"):
        blend(folder, tmp_path / "a", share=0.5, weights="gone")
    with pytest.raises(ConfigError, match=r"train.keep_start: expected 0 to 1, got 2"):
        blend(folder, tmp_path / "a", share=2)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    write_config(copy, replace(config, train=replace(config.train, keep_start=0.1)))
    with pytest.raises(ConfigError, match=r"keeps 0.1 of its start already"):
        blend(copy, tmp_path / "a", share=0.5)
    assert json.loads((copy / "config.json").read_text())["model"]["weights"] == str(weights)


def test_command_line(trained, tmp_path, capsys):
    from resolute.cli.main import main

    folder, _ = trained
    assert main(["blend", str(folder), "--keep-start", "0.25", "--out", str(tmp_path / "b")]) == 0
    assert "keeps 0.25 of its start" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["blend", str(folder), "--keep-start", "much"])
    assert "--keep-start: expected a number, got 'much'" in capsys.readouterr().err
