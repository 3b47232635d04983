"""Which cells a table has, what they are called, and which rows share their weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data.trees import viper
from methods.builders import random_batch, small_method

from resolute.core.errors import ConfigError
from resolute.data.benchmark import DataConfig, open_split, resolved_policy
from resolute.data.written import write
from resolute.methods.variants import TABLE2, VARIANTS
from resolute.tables.cells import FUSIONS, benchmark_of, plan, trained_row

START = "weights/osnet_gn_x0_5_msmt17.safetensors"


def name(data="mlr-viper", recipe="", trials=(0,), seeds=(0,), **changes):
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    changes = {"model.weights": START, **changes}
    cells = plan(
        "table2", data, recipe=recipe, rows=["ftwa"], trials=trials, seeds=seeds, changes=changes
    )
    return cells[0].name


def test_cells_that_differ_never_share_a_name():
    names = [
        name(),
        name(recipe="paper"),
        name(trials=[1]),
        name(seeds=[1]),
        name(model__weights="other.pth"),
        name(model__weights=""),
        name(method__margin="0.5"),
        name(method__margin="0.4"),
        name(method__fusion="mean"),
        name(train__epochs="6"),
        name(data__mlr__exchange="true"),
        name(data__also_train="mlr-cuhk01=/a"),
    ]
    assert len(set(names)) == len(names)


def test_where_files_stand_and_how_a_setting_is_spelled_change_no_name():
    assert name() == "ftwa-t0-s0"
    assert name(data__root="/a", train__threads="2", train__device="cpu") == "ftwa-t0-s0"
    assert name(model__weights="/elsewhere/osnet_gn_x0_5_msmt17.safetensors") == "ftwa-t0-s0"
    assert name(method__margin="0.5") == name(method__margin=".50")
    assert name(data__also_train="mlr-cuhk01=/a") == name(data__also_train="mlr-cuhk01=/b")


def test_cells_of_one_trial_stand_together_and_behind_what_they_score():
    cells = plan("table2", "viper", trials=[0, 1], seeds=[0, 1])
    assert [(c.seed, c.trial) for c in cells[:: len(TABLE2)]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    rows = [cell.row for cell in cells[: len(TABLE2)]]
    assert sorted(rows) == sorted(TABLE2)
    assert rows.index("ftwa") < rows.index("ftwa-const")
    fusions = {cell.row: cell.config.evaluation.fusions for cell in cells}
    assert fusions["ftwa"] == FUSIONS
    assert fusions["baseline"] == ()


def test_only_matching_tells_ftwa_const_from_ftwa():
    assert {row: trained_row(row) for row in VARIANTS if trained_row(row) != row} == {
        "ftwa-const": "ftwa"
    }
    (cell,) = plan("table2", "mlr-viper", rows=["ftwa-const"])
    assert cell.is_derived
    assert cell.run_name == cell.name.replace("ftwa-const", "ftwa")
    assert cell.matching == {"method.evaluator": "constant"}
    assert cell.train_config.name == "ftwa"
    assert cell.train_config.method.evaluator == "learned"
    # The claim behind it: the same weights from the same seed, the same losses.
    one, other = small_method("ftwa"), small_method("ftwa-const")
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    losses = [m.losses(random_batch(), m.phases[-1]) for m in (one, other)]
    assert {k: v.item() for k, v in losses[0].items()} == {
        k: v.item() for k, v in losses[1].items()
    }


def test_further_scores_need_no_training_of_their_own():
    asked = {"model.weights": START, "method.margin": "0.5"}
    for changes in ({}, asked):
        plain = plan("table2", "mlr-viper", changes=changes)
        scored = plan("table2", "mlr-viper", changes={**changes, "evaluation.rerank": "true"})
        assert [c.run_name for c in scored] == [c.run_name for c in plain]
        assert not {c.name for c in scored} & {c.name for c in plain}
        own = [cell for cell in plain if not cell.is_derived]
        assert [c.run_name for c in own] == [c.name for c in own]


def test_an_evaluator_asked_for_by_hand_is_trained_as_it_is():
    (cell,) = plan(
        "table2", "mlr-viper", rows=["ftwa-const"], changes={"method.evaluator": "constant"}
    )
    assert not cell.is_derived


def test_the_command_names_no_folder_of_this_machine():
    (cell,) = plan(
        "table2",
        "mlr-viper",
        rows=["ftwa"],
        trials=[3],
        changes={"data.root": "/home/me", "data.cache": "/home/c", "model.weights": f"/a/{START}"},
    )
    assert cell.command == (
        "resolute table table2 --data mlr-viper --rows ftwa --trials 3 --seeds 0 "
        "--data.root ROOT --model.weights osnet_gn_x0_5_msmt17.safetensors"
    )


def test_the_command_names_further_files_without_their_folders():
    changes = {
        "data.also_train": ["mlr-cuhk01=/home/a", "mlr-caviar=/home/b"],
        "method.perceptual_weights": "/home/me/vgg19.pth",
        "method.weight_pixel": "2",
        "model.partial_weights": "true",
    }
    (cell,) = plan("table1", "mlr-viper", rows=["csr-gan"], changes=changes)
    assert cell.command.endswith(
        "--data.also_train mlr-cuhk01=ROOT,mlr-caviar=ROOT "
        "--method.perceptual_weights vgg19.pth --method.weight_pixel 2 "
        "--model.partial_weights true"
    )


@pytest.mark.parametrize(
    ("data", "benchmark"),
    [
        ("viper", "mlr-viper"),
        ("mlr-viper", "mlr-viper"),
        ("synthetic", "mlr-synthetic"),
        ("mlr-market", "mlr-market1501"),
        ("market", "mlr-market1501"),
        ("mlr-cuhk03", "mlr-cuhk03-classic-labeled"),
        ("mlr-cuhk03-p1", "mlr-cuhk03-p1"),
        ("caviar", "caviar"),
    ],
)
def test_benchmarks_by_their_common_names(data, benchmark):
    assert benchmark_of(data) == benchmark


def test_rows_outside_the_table_can_be_asked_for():
    rows = [cell.row for cell in plan("table1", "viper", rows=["rain", "rain-no-adv"])]
    assert rows == ["rain", "rain-no-adv"]
    assert "--rows rain-no-adv" in plan("table1", "viper", rows=["rain-no-adv"])[0].command


def test_a_written_set_is_one_trial_of_what_it_was_made_of(tmp_path):
    data = DataConfig(name="mlr-viper", root=str(viper(tmp_path / "viper", 12)), trial=1)
    write(open_split(data), tmp_path / "set", policy=resolved_policy(data), seed=0)
    asked = {"rows": ["ftwa"], "changes": {"data.root": str(tmp_path / "set")}}
    (cell,) = plan("table2", "mlr-written", trials=[1], **asked)
    (own,) = plan("table2", "mlr-viper", trials=[1], **asked)
    assert replace(cell.config, data=own.config.data) == own.config
    with pytest.raises(ConfigError, match=r"data\.trial: .* with trial 1, got 2; ask for 1"):
        plan("table2", "mlr-written", trials=[1, 2], **asked)


def test_every_method_is_in_table1_by_a_row():
    from resolute.methods.catalogue import BUILDERS, METHODS
    from resolute.methods.variants import TITLES, VARIANTS
    from resolute.tables.cells import TABLES

    assert {type(VARIANTS[row]) for row in TABLES["table1"]} == set(BUILDERS)
    assert set(TITLES) == set(METHODS) == set(VARIANTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"table": "table3"}, "unknown table 'table3': did you mean 'table"),
        ({"data": "vipr"}, "unknown data set 'vipr'"),
        ({"rows": ["ftwaa"]}, "unknown row 'ftwaa': did you mean 'ftwa'"),
        ({"changes": {"data.trial": "1"}}, "--data.trial: a table takes"),
        ({"changes": {"method.margn": "1"}}, "did you mean 'method.margin'"),
        ({"recipe": "papper"}, "did you mean 'paper'"),
        ({"anchors": [Path("net.onnx")]}, r"benchmarks/anchors\.py net\.onnx"),
    ],
)
def test_mistakes_are_named(words, message):
    asked = {"table": "table2", "data": "mlr-viper", **words}
    with pytest.raises(ConfigError, match=message):
        plan(asked.pop("table"), asked.pop("data"), **asked)
