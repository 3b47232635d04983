"""The flags of `resolute evaluate` that add rows and tables, on anybody's embeddings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resolute.cli import main as cli
from resolute.cli.evaluate import score_each
from resolute.core.config import override, to_mapping
from resolute.engine import score
from resolute.engine.result import Result
from resolute.recipes.catalogue import find_recipe

KEPT = Path(__file__).parents[2] / "results/mlr-viper/osnet_gn_x0_5_msmt17-untrained-t0.json"


def run(capsys, *words):
    try:
        code = cli.main(words)
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 16))
    for name, camid, num in (("q", 0, 30), ("g", 1, 80)):
        pids = np.arange(num) % 10
        vectors = centres[pids] + rng.normal(size=(num, 16))
        arrays = {"vectors": vectors, "pids": pids + 1, "camids": np.full(num, camid)}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    return [str(tmp_path / "q.npz"), str(tmp_path / "g.npz"), "--protocol", "market"]


def test_each_flag_adds_its_row(capsys, files, tmp_path):
    plain, whole = str(tmp_path / "plain.json"), str(tmp_path / "whole.json")
    code, out, err = run(capsys, "evaluate", "--features", *files, "--json", plain)
    assert code == 0, err
    assert "re-ranked" not in out
    assert "threshold" not in out
    flags = ("--rerank", "--expand", "3", "--tpr", "--evaluation.rerank_k1", "10")
    code, out, err = run(capsys, "evaluate", "--features", *files, *flags, "--json", whole)
    assert code == 0, err
    assert "re-ranked" in out
    assert "expanded" in out
    assert "TPR@FPR=0.0001" in out
    assert "(216)" in out  # 30 x 72 negative pairs, a tenth of them
    assert "?" in out  # and a ten-thousandth is less than one
    (scores,) = json.loads((tmp_path / "whole.json").read_text()).values()
    assert list(scores) == ["protocol", "expanded", "rerank", "verification"]
    (before,) = json.loads((tmp_path / "plain.json").read_text()).values()
    assert scores["protocol"] == before["protocol"]
    assert list(scores["verification"]) == ["protocol", "expanded"]
    assert scores["verification"]["protocol"][0]["num_negative"] == 2160


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flip"], "--flip and --activation-maps need a run"),
        (["--activation-maps", "x"], "--flip and --activation-maps need a run"),
        (["--expand", "-1"], "evaluation.expand: expected >= 0, got -1"),
        (["--expand", "few"], "invalid int value"),
        (["--evaluation.unseen_rates", "8"], "with --features only --protocol.FIELD"),
        (["--data.root", "x"], "--data.root: with --features only"),
        (["--raw", "--expand", "2"], "expected vectors of length 1"),
        (["--rerank", "--evaluation.rerank_lambda", "2"], "rerank_lambda: expected 0 to 1"),
        (["--runtime", "openvino"], "--runtime and --precision: only for exported files"),
        (["--precision", "bf16"], "--runtime and --precision: only for exported files"),
    ],
)
def test_mistakes_give_one_line(capsys, files, words, message):
    code, out, err = run(capsys, "evaluate", "--features", *files, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


# ---------------------------------------------------------------------- options of runs


def test_a_run_is_scored_under_the_protocol_asked_for(monkeypatch, capsys):
    asked = {}

    def evaluate(folder, *, overrides, **more):
        asked.update(overrides)
        return Result.read(KEPT)

    monkeypatch.setattr(score, "evaluate", evaluate)
    assert run(capsys, "evaluate", "RUN")[0] == 0
    assert asked == {}
    assert run(capsys, "evaluate", "RUN", "--protocol", "market")[0] == 0
    assert asked == {"evaluation.protocol": "market"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "0"], "--raw and --seed: only for --features; a run has --data.seed"),
        (["--raw"], "--raw and --seed: only for --features"),
        (["--protocol.camera_rule", "none"], "a run has --protocol NAME"),
    ],
)
def test_options_of_features_are_refused_with_runs(capsys, words, message):
    code, _, err = run(capsys, "evaluate", "RUN", *words)
    assert code == 2
    assert message in err


# ---------------------------------------------------------------------- several runs


@pytest.fixture
def runs(monkeypatch):
    """Runs by folder: ``runs(a={...})`` makes a folder `a` with the settings given."""
    kept, made = Result.read(KEPT), {}
    monkeypatch.setattr(score, "evaluate", lambda folder, **more: made[folder])

    def make(**folders):
        for folder, changes in folders.items():
            data = changes.pop("data.name", "mlr-viper")
            config = override(find_recipe("ftwa", data), changes)
            made[folder] = replace(
                kept,
                method="ftwa",
                config=to_mapping(config),
                data=f"{data}/trial{config.data.trial}/x2,3,4",
            )
        return score_each(list(made), {})

    return make


def test_runs_that_differ_in_trial_and_seed_are_one_row(runs):
    scored = runs(a={}, b={"data.trial": 1, "train.threads": 2}, c={"train.seed": 1})
    assert list(scored.rows) == ["ftwa"]
    assert len(scored.rows["ftwa"]["protocol"]) == 3


@pytest.mark.parametrize(
    "other",
    [{"data.name": "mlr-cuhk03-p1", "data.trial": 1}, {"method.margin": 0.5, "data.trial": 1}, {}],
    ids=["another benchmark", "another recipe", "the same trial and seed"],
)
def test_what_is_no_further_trial_is_a_row_of_its_own(runs, other):
    scored = runs(a={}, b=other)
    assert list(scored.rows) == ["ftwa (a)", "ftwa (b)"]
    assert [len(row["protocol"]) for row in scored.rows.values()] == [1, 1]


def test_two_series_over_the_same_trials_stay_apart(runs):
    twice = {f"{name}{trial}": {"data.trial": trial} for name in "ab" for trial in range(3)}
    rows = runs(**twice).rows
    assert {name: len(row["protocol"]) for name, row in rows.items()} == {
        "ftwa (a0)": 3,
        "ftwa (b0)": 3,
    }


def test_the_title_names_every_benchmark(runs):
    scored = runs(a={}, b={"data.name": "mlr-cuhk03-p1"})
    assert scored.title.splitlines()[:2] == [
        "mlr-viper/trial0/x2,3,4",
        "mlr-cuhk03-p1/trial0/x2,3,4",
    ]
