"""The command line as a user meets it: exit codes, one-line errors, help without torch."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.trees import viper
from engine.killing import Trainer

from resolute.cli import main as cli
from resolute.cli import train
from resolute.cli.overrides import read_settings, take_settings
from resolute.cli.train import command_of
from resolute.core.errors import ConfigError


def run(capsys, *words):
    try:
        code = cli.main(words)
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    return code, out, err


def small_training(folder, cache, *more):
    words = "train ftwa --data mlr-synthetic --recipe quickstart --data.synthetic.num_identities 24"
    words += " --loader.batch_size 16 --model.height 64 --model.width 32 --train.threads 1"
    return [*words.split(), "--out", str(folder), "--data.cache", str(cache), "--quiet", *more]


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_explains_itself_without_torch(verb):
    code = (
        "import sys; from resolute.cli.main import main\n"
        "try:\n    main([sys.argv[1], '--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, verb], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_overview_lists_every_verb(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert all(verb in out for verb in cli.VERBS)
    assert run(capsys, "--version")[1].startswith("resolute ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train'?"),
        (["train", "--data.root", "x"], "the following arguments are required: method"),
        (["train", "ftwaa"], "unknown method 'ftwaa': did you mean 'ftwa'?"),
        (["train", "ftwa", "--data", "mlr-vipr"], "did you mean 'mlr-viper'?"),
        (["train", "ftwa", "--recipe", "papers"], "did you mean 'paper'?"),
        (["train", "ftwa", "--data.rooot", "x"], "did you mean 'data.root'?"),
        (["train", "ftwa", "--method.margn=1"], "did you mean 'method.margin'?"),
        (["train", "ftwa", "--outt", "x"], "unknown option '--outt': did you mean '--out'?"),
        (["train", "ftwa", "--train.epochs"], "--train.epochs: expected a value"),
        (["train", "ftwa", "--train.epochs", "many"], "train.epochs: expected a whole number"),
        (["train", "ftwa", "--train.epochs", "0"], "train.epochs: expected >= 1"),
        (["train", "ftwa", "--config", "/nowhere.toml"], "cannot read settings /nowhere.toml"),
        (["train", "ftwa", "extra"], "unexpected word 'extra'"),
        (["train", "ftwa"], "data.root: mlr-viper needs the folder of the data set"),
        (["train", "ftwa", "--data.root", "/nowhere"], "/nowhere"),
        (["evaluate"], "expected run folders, or --features"),
        (["evaluate", "/nowhere"], "no model there"),
        (["evaluate", "--features", "/nowhere.npz"], "expected two .npz files"),
        (["describe", "osnet_x0_30"], "unknown backbone"),
        (["calibrate", "ftwa-drawn"], "expected a run folder, to write the calibration beside"),
        (["convert", "/nowhere.pth"], "/nowhere.pth"),
        (["convert", "/nowhere.pth", "--data", "viper"], "only an OpenVINO graph"),
        (
            ["convert", "/nowhere.pth", "--model.backbone", "osnet_x0_25", "--out", "/usr"],
            "/usr: holds other files",
        ),
        (["convert", "/nowhere.xml"], "/nowhere.xml: cannot be read"),
        (["convert", "/nowhere.xml", "--out", "run"], "name one that ends in .safetensors"),
        (["convert", "/nowhere.xml", "--model.height", "9"], "only settings of data"),
        (["mlr", "build"], "expected --out DIR"),
        (["mlr", "build", "--out", "x", "--preset", "singg"], "did you mean 'sing'?"),
        (["datasets", "check", "/nowhere"], "no such folder"),
        (["datasets", "check"], "expected the folder"),
        (["results", "--folder", "/nowhere"], "expected result files"),
        (["train", "ftwa", "--data", "mlr-synthetic", "--out", "/dev/null/run"], "/dev/null/run"),
        (["export", "ftwa-drawn"], "folder is not written to; say where: --out DIR"),
        (
            ["serve", "http://localhost:6333/people", "--model", "x"],
            "http://localhost:6333/people: expected a folder of resolute index",
        ),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.startswith("resolute: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_the_help_of_a_method_lists_its_own_settings(capsys):
    for words, there in ((("rain",), "--method.labelled"), ((), "--method.encoders")):
        code, out, _ = run(capsys, "train", *words, "--help")
        assert code == 0
        assert there in out
        assert f"train {words[0] if words else 'ftwa'} --data mlr-viper" in out


def test_train_evaluate_and_describe(capsys, tmp_path):
    folder = tmp_path / "run"
    more = ("--train.epochs", "1", "--method.raft_width=16", "--evaluate")
    code, out, err = run(capsys, *small_training(folder, tmp_path / "cache", *more))
    assert code == 0, err
    assert "as the protocol" in out
    assert (folder / "result.json").is_file()
    written = str(tmp_path / "scores.json")
    code, out, err = run(capsys, "evaluate", str(folder), "--heights", "--json", written)
    assert code == 0, err
    assert "by height of the query" in out
    assert "128-255" in out
    assert "all at r=8" in out
    assert "HR, undegraded" in out
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["ftwa"]) == {"protocol", "r=8", "hr"}
    maps = tmp_path / "maps"
    more = ("--flip", "--expand", "2", "--rerank", "--tpr", "--activation-maps", str(maps))
    code, out, err = run(capsys, "evaluate", str(folder), *more, "--queries", "2")
    assert code == 0, err
    for row in ("mirror averaged", "expanded", "re-ranked", "TPR@FPR=0.01"):
        assert row in out
    assert "activation maps of 2 queries" in out
    assert len(list(maps.glob("*.png"))) == 2
    code, out, _ = run(capsys, "describe", str(folder))
    assert code == 0
    assert "T (RAFT)" in out
    # The settings of a run train the same run again.
    config = str(folder / "config.json")
    again = tmp_path / "again"
    code, _, err = run(capsys, "train", "ftwa", "--config", config, "--out", str(again), "--quiet")
    assert code == 0, err
    assert json.loads((folder / "config.json").read_text()) == json.loads(
        (again / "config.json").read_text()
    )


def test_ctrl_c_leaves_a_checkpoint_and_exit_code_130(tmp_path):
    folder = tmp_path / "run"
    words = small_training(folder, tmp_path, "--train.epochs", "40")
    command = [sys.executable, "-m", "resolute", *words]
    trainer = Trainer(command, folder).wait_for_step(3)
    code, printed = trainer.send(signal.SIGINT).finish()
    assert code == 130, printed
    assert "--resume" in printed
    assert "Traceback" not in printed
    assert (folder / "checkpoint.safetensors").is_file()
    command += ["--resume"]
    again = Trainer(command, folder).wait_for_step(trainer.steps() + 2)
    assert again.send(signal.SIGINT).finish()[0] == 130


def test_ctrl_c_in_any_verb_is_exit_code_130(capsys, monkeypatch):
    def interrupted(parser, words):
        raise KeyboardInterrupt

    monkeypatch.setattr("resolute.cli.recipes.run", interrupted)
    code, _, err = run(capsys, "recipes")
    assert code == 130
    assert err == "resolute: interrupted\n"


def test_threads_wait_briefly_unless_the_user_says_how():
    for given in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        environment = dict(given)
        cli.wait_briefly(environment)
        assert environment == given
    environment = {}
    cli.wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": cli.SPINS}


def test_features_of_anybody(capsys, tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    for name, camid in (("q", 0), ("g", 1)):
        np.savez(
            tmp_path / f"{name}.npz",
            vectors=vectors,
            pids=np.arange(1, 5),
            camids=np.full(4, camid),
        )
    files = [str(tmp_path / "q.npz"), str(tmp_path / "g.npz")]
    code, out, err = run(capsys, "evaluate", "--features", *files, "--protocol", "market")
    assert code == 0, err
    assert "100.0" in out
    np.savez(tmp_path / "q.npz", vectors=vectors, pids=np.arange(4), camids=np.zeros(4, int))
    code, _, err = run(capsys, "evaluate", "--features", *files)
    assert code == 2
    assert "--protocol.distractors none" in err
    more = ["--protocol.distractors", "none", "--protocol.on_unmatched", "skip"]
    assert run(capsys, "evaluate", "--features", *files, *more)[0] == 0
    assert run(capsys, "evaluate", "--features", *files, "--data.trial", "1")[0] == 2


def test_mlr_build_verify_rebuild_and_train_from_disk(capsys, tmp_path):
    root = viper(tmp_path / "viper", people=12)
    base = ["--data", "viper", "--root", str(root)]
    built, again = tmp_path / "built", tmp_path / "again"
    code, out, err = run(capsys, "mlr", "build", *base, "--out", str(built))
    assert code == 0, err
    assert "mlr-viper/default/lr=cam1" in out
    assert run(capsys, "mlr", "verify", str(built))[0] == 0
    manifest = str(built / "manifest.json")
    code, _, err = run(capsys, "mlr", "rebuild", "--manifest", manifest, *base, "--out", str(again))
    assert code == 0, err
    files = sorted(p.relative_to(built) for p in built.rglob("*") if p.is_file())
    assert [(built / f).read_bytes() for f in files] == [(again / f).read_bytes() for f in files]


def test_a_written_set_trains_as_what_it_was_made_of(capsys, tmp_path, monkeypatch):
    root, built = str(viper(tmp_path / "viper", people=12)), str(tmp_path / "built")
    words = ("mlr", "build", "--data", "viper", "--root", root, "--trial", "3", "--out", built)
    assert run(capsys, *words)[0] == 0
    asked = []
    monkeypatch.setattr("resolute.cli.train._train", lambda config, *more: asked.append(config))
    run(capsys, "train", "ftwa", "--data", "mlr-written", "--data.root", built)
    (tmp_path / "a.toml").write_text(f'[data]\nroot = "{built}"\n')
    run(capsys, "train", "ftwa", "--data", "mlr-written", "--config", str(tmp_path / "a.toml"))
    for config in asked:
        assert (config.data.trial, config.data.root, config.train.epochs) == (3, built, 18)
    assert len(asked) == 2
    _, out, _ = run(capsys, "recipes", "ftwa", "--data", "mlr-written", "--data.root", built)
    assert "data.trial = 3" in out
    code, _, err = run(capsys, "recipes", "ftwa", "--train.epochs", "3")
    assert (code, "--train.epochs: recipes are printed as they are" in err) == (2, True)
    _, _, err = run(capsys, "train", "ftwa", "--data", "mlr-written")
    assert "give its folder (--data.root DIR)" in err


def test_datasets_check_prints_counts(capsys, tmp_path):
    root = viper(tmp_path / "viper")
    code, out, _ = run(capsys, "datasets", "check", str(root))
    assert code == 0
    assert "viper" in out
    assert "632" in out
    assert run(capsys, "datasets", "list")[0] == 0


def test_optional_words_may_stand_behind_an_option(capsys, tmp_path):
    code, _, err = run(capsys, "datasets", "check", "--full", str(viper(tmp_path / "viper")))
    assert code == 0, err
    for words, message in (
        (["mlr", "verify", "--seed", "0", str(tmp_path)], str(tmp_path)),
        (["gallery", "delete", str(tmp_path), "--purge", "KEY"], f"{tmp_path}: no gallery"),
        (["gallery", "delete", str(tmp_path), "--purge", "--", "--key"], f"{tmp_path}: no gallery"),
        (["gallery", "stats", str(tmp_path), "--json", "x"], "gallery stats: unexpected word 'x'"),
        (["datasets", "check", "--full", "a", "b"], "unexpected word 'b'"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert message in err


def test_recipes_lists_and_prints_every_setting(capsys):
    code, out, _ = run(capsys, "recipes")
    assert code == 0
    assert "ftwa_r-not" in out
    code, out, _ = run(capsys, "recipes", "ftwa", "--recipe", "paper")
    assert "optimiser.learning_rate = 0.0007" in out
    assert "train.epochs = 120" in out
    assert "method.weight_identity = 3.0" in out
    code, out, _ = run(capsys, "recipes", "ftwa", "--json")
    assert json.loads(out)["name"] == "ftwa"


def test_help_loads_neither_torch_nor_numpy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "resolute", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert " torch" not in done.stderr
    assert " numpy" not in done.stderr


def test_settings_from_files(tmp_path):
    (tmp_path / "a.toml").write_text("[method]\nmargin = 0.5\n[data.mlr]\nrates = [2, 3]\n")
    assert read_settings(tmp_path / "a.toml") == {"method.margin": 0.5, "data.mlr.rates": [2, 3]}
    (tmp_path / "b.json").write_text('{"method": {"margin": 0.5}}')
    assert read_settings(tmp_path / "b.json") == {"method.margin": 0.5}
    for name, text, message in (
        ("c.toml", "[method", "is not TOML"),
        ("c.json", "{", "is not JSON"),
        ("d.json", "[1]", "expected sections"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_settings(tmp_path / name)


def test_overrides_take_both_spellings():
    words = ["--a.b", "1", "run.d", "--c.d-e=x=y", "--out", "a.b"]
    assert take_settings(words) == (["run.d", "--out", "a.b"], {"a.b": "1", "c.d_e": "x=y"})


def test_the_command_kept_with_a_result_names_no_folder_of_this_machine():
    words = ["ftwa", "--data.root", "/home/me/viper", "--model.weights", "/home/me/osnet.pth"]
    words += ["--out=/tmp/x", "--resume"]
    kept = command_of(words)
    assert kept == ("resolute train ftwa --data.root ROOT --model.weights osnet.pth --out=RUN")
    sources = "mlr-viper=/home/me/my viper,mlr-cuhk03-p1=/home/me/cuhk"
    for words in (["--data.also_train", sources], [f"--data.also_train={sources}"]):
        shown = command_of(["ftwa", *words]).replace("=", " ", words[0].count("also_train="))
        assert "--data.also_train mlr-viper=ROOT,mlr-cuhk03-p1=ROOT" in shown


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["recipes"], ["recipes", "ftwa", "--json"], ["gain", "-h"]]
)
def test_output_that_nobody_takes(words):
    # Buffered, as a user's shell has it: short output then fails when it is flushed.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "resolute", *words]

    def result(stdout):
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
        return done.returncode, done.stderr

    reader, writer = os.pipe()
    os.close(reader)
    assert result(writer) == (0, "")
    os.close(writer)
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            assert result(full) == (2, "resolute: error: output: No space left on device\n")


def test_a_closed_output_is_no_bug(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["--version"]) == 0


def test_another_runs_settings_are_not_taken_for_another_row(capsys, tmp_path):
    (tmp_path / "a.toml").write_text('name = "ftwa"\n[data]\nname = "mlr-synthetic"\n')
    config = ("--config", str(tmp_path / "a.toml"))
    code, _, err = run(capsys, "train", "baseline", *config)
    assert code == 2
    assert "settings of the method ftwa, asked for baseline" in err
    code, _, err = run(capsys, "train", "ftwa", "--data", "mlr-viper", *config)
    assert code == 2
    assert "settings of the data set mlr-synthetic, asked for mlr-viper" in err


def test_the_data_set_of_the_settings_is_taken(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("resolute.cli.train._train", lambda config, *more: asked.append(config))
    (tmp_path / "a.toml").write_text('[data]\nname = "mlr-synthetic"\n')
    for more in (["--config", str(tmp_path / "a.toml")], []):
        train.run(argparse.ArgumentParser(), ["ftwa", *more])
    assert [config.data.name for config in asked] == ["mlr-synthetic", "mlr-viper"]
