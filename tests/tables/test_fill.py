"""A table fills what is missing, uses what is finished, and says what it does not use."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
from engine.small import small_config

from resolute.core.errors import ReidError
from resolute.engine.lock import held
from resolute.engine.result import Result
from resolute.tables import fill as filling
from resolute.tables.cells import plan
from resolute.tables.fill import fill
from resolute.tables.sections import grids
from resolute.tables.standing import Places, Splits, State, stand

ROWS = ("baseline-twins", "ftwa", "ftwa-const")


def small_plan(cache, rows=ROWS, **changes):
    small = small_config()
    asked = {
        "data.synthetic.num_identities": small.data.synthetic.num_identities,
        "data.synthetic.images_per_camera": small.data.synthetic.images_per_camera,
        "model.height": small.model.height,
        "model.width": small.model.width,
        "loader.batch_size": small.loader.batch_size,
        "method.raft_width": 16,
        "train.epochs": 2,
        "train.threads": 1,
        "data.cache": str(cache),
    }
    return plan("table2", "synthetic", rows=rows, changes={**asked, **changes})


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    places = Places(results=folder / "results", runs=folder / "runs")
    cells = small_plan(folder / "cache")
    standings = fill(cells, places)
    return cells, places, standings


@pytest.fixture
def copy(filled, tmp_path):
    """The same results in a folder that may be changed, without runs."""
    cells, places, _ = filled
    other = Places(results=tmp_path / "results", runs=tmp_path / "runs")
    for cell in cells:
        other.result(cell).parent.mkdir(parents=True, exist_ok=True)
        other.result(cell).write_bytes(places.result(cell).read_bytes())
    return cells, other


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing was to be trained")

    monkeypatch.setattr(filling, "train", refuse)


def test_every_cell_is_kept_with_what_it_takes_to_get_it_again(filled):
    cells, places, standings = filled
    assert [s.state for s in standings] == [State.DONE] * 3
    for cell, standing in zip(cells, standings, strict=True):
        kept = Result.read(places.result(cell))
        assert kept == standing.result
        assert kept.method == kept.config["name"] == cell.row
        assert kept.command == cell.command
        assert str(places.runs.parent) not in places.result(cell).read_text()
        assert kept.measures["identities"] == {"train": 12, "test": 12}
        assert {"protocol", "r=8", "hr"} <= set(kept.scores)
        run = places.run(cell)
        assert (run / "model.safetensors").exists()
        assert not (run / "checkpoint.safetensors").exists()
        assert not places.lock(cell).exists()


def test_cells_with_two_spaces_tell_what_their_parts_do(filled):
    _, _, standings = filled
    results = {s.cell.row: s.result for s in standings}
    fusions = {
        f"fusion={f}" for f in ("hr", "lr", "mean", "weighted", "query_weighted", "constant")
    }
    for row in ("ftwa", "ftwa-const"):
        result = results[row]
        assert fusions <= set(result.scores)
        assert result.scores["fusion=weighted"] == result.scores["protocol"]
        assert result.measures["constant"]["identities"] == "training"
        assert sum(result.measures["share_of_hr"]["counts"]) == 24 * 24
        assert set(result.measures["recovery"]) == {"2", "3", "4", "8"}
        assert result.measures["transform"]["parameters"] > 0
    assert "constant" not in results["baseline-twins"].measures
    assert "recovery" not in results["baseline-twins"].measures


def test_ftwa_const_is_the_ftwa_run_matched_otherwise(filled):
    _, _, standings = filled
    results = {s.cell.row: s.result for s in standings}
    ftwa, const = results["ftwa"], results["ftwa-const"]
    assert const.model == ftwa.model
    assert const.training["from"] == "ftwa"
    assert const.config["method"]["evaluator"] == "constant"
    assert const.measures["share_of_hr"]["std"] < 1e-6
    for fusion in ("hr", "lr", "mean", "constant"):
        assert const.scores[f"fusion={fusion}"] == ftwa.scores[f"fusion={fusion}"]


def test_finished_cells_are_not_run_again(filled, no_training):
    cells, places, standings = filled
    before = [places.result(cell).stat().st_mtime_ns for cell in cells]
    again = fill(cells, places)
    assert [s.result for s in again] == [s.result for s in standings]
    assert [places.result(cell).stat().st_mtime_ns for cell in cells] == before
    free = small_plan(places.results, **{"train.threads": 2, "loader.workers": 1})
    assert [s.state for s in stand(free, places, Splits())] == [State.DONE] * 3


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("config", "method", "margin"), 0.7, "method.margin was 0.7 and is 0.3"),
        (("config", "evaluation", "fusions"), [], "evaluation.fusions was"),
        (("config", "method", "new"), 1, "settings are of another version"),
        (("start", "sha256"), "ab" * 32, "start weights' sha256 was abab"),
        (("start", "name"), "other.pth", "start weights' name was other.pth and is random"),
        (("split_digest",), "cd" * 32, "split digest was cdcdcdcdcdcd and is"),
    ],
)
def test_what_differs_is_named_and_not_used(copy, no_training, where, value, message):
    cells, places = copy
    path = places.result(cells[1])
    kept = json.loads(path.read_text())
    level = kept
    for key in where[:-1]:
        level = level[key]
    level[where[-1]] = value
    path.write_text(json.dumps(kept))
    standing = fill(cells, places)[1]
    assert standing.state is State.DIFFERS
    assert message in standing.detail
    assert "--again" in standing.detail
    assert json.loads(path.read_text()) == kept


def test_settings_added_since_have_their_defaults(copy):
    cells, places = copy
    path = places.result(cells[1])
    kept = json.loads(path.read_text())
    del kept["config"]["method"]["margin"]
    path.write_text(json.dumps(kept))
    assert stand(cells, places, Splits())[1].state is State.DONE


def test_rescoring_needs_the_model_and_trains_nothing(filled, copy, no_training):
    cells, places, standings = filled
    again = fill(cells[1:2], places, rescore=True)[0]
    assert again.state is State.DONE
    assert again.result.scores == standings[1].result.scores
    cells, without = copy
    failed = fill(cells[1:2], without, rescore=True)[0]
    assert failed.state is State.FAILED
    assert "no model is kept" in failed.detail


def test_an_interrupted_cell_goes_on_and_ends_with_the_same_scores(filled, tmp_path, monkeypatch):
    cells, _, standings = filled
    places = Places(results=tmp_path / "results", runs=tmp_path / "runs")
    real = filling.train

    def interrupted(config, folder, **more):
        short = replace(config, train=replace(config.train, max_steps=2))
        real(short, folder, **more)
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(filling, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(cells[:1], places)
    assert stand(cells[:1], places, Splits())[0].state is State.INTERRUPTED
    assert not places.result(cells[0]).exists()
    monkeypatch.setattr(filling, "train", real)
    result = fill(cells[:1], places)[0].result
    assert result.training["resumed"]
    assert result.scores == standings[0].result.scores
    rescored = fill(cells[:1], places, rescore=True)[0].result
    assert rescored.training == result.training


def test_running_anew_goes_on_where_it_was_interrupted(filled, copy, monkeypatch):
    _, full, _ = filled
    cells, places = copy
    cells = cells[:2]
    shutil.copytree(full.runs, places.runs)
    real, trained = filling.train, []

    def interrupted(config, folder, **more):
        if trained:
            real(replace(config, train=replace(config.train, max_steps=2)), folder, **more)
            (folder / "model.safetensors").unlink()
            raise KeyboardInterrupt
        trained.append(real(config, folder, **more))

    monkeypatch.setattr(filling, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(cells, places, again=True)
    states = [s.state for s in stand(cells, places, Splits())]
    assert states == [State.DONE, State.INTERRUPTED]
    first = places.result(cells[0]).read_bytes()
    monkeypatch.setattr(filling, "train", real)
    standings = fill(cells, places)
    assert [s.state for s in standings] == [State.DONE] * 2
    assert standings[1].result.training["resumed"]
    assert places.result(cells[0]).read_bytes() == first


def test_cells_are_scored_on_the_device_and_threads_of_the_call(filled, tmp_path, monkeypatch):
    _, full, _ = filled
    asked = {"train.threads": 2, "train.device": "cpu"}
    (cell,) = small_plan(full.runs.parent / "cache", rows=["baseline-twins"], **asked)
    seen = []
    for name in ("evaluate", "measure"):
        real = getattr(filling, name)
        monkeypatch.setattr(
            filling,
            name,
            lambda folder, overrides, real=real: (
                seen.append(overrides) or real(folder, overrides=overrides)
            ),
        )
    fill([cell], Places(results=tmp_path, runs=full.runs), rescore=True)
    assert len(seen) == 2
    assert all(asked.items() <= overrides.items() for overrides in seen)


def test_a_cell_that_fails_stops_no_other(filled, tmp_path, monkeypatch, caplog):
    cells, full, _ = filled
    places = Places(results=tmp_path / "results", runs=full.runs)

    def broken(cell, run_dir):
        raise ReidError("loss became nan")

    worker = filling._Worker
    real = worker._train
    monkeypatch.setattr(
        worker,
        "_train",
        lambda self, cell, run_dir: (
            broken(cell, run_dir) if cell.row == "ftwa" else real(self, cell, run_dir)
        ),
    )
    with caplog.at_level(logging.WARNING):
        states = [s.state for s in fill(cells, places)]
    assert states == [State.DONE, State.FAILED, State.DONE]
    assert "loss became nan" in caplog.text


def test_a_run_folder_of_other_settings_is_not_scored(filled, tmp_path):
    _, full, _ = filled
    cells = small_plan(full.runs.parent / "cache", rows=["baseline-twins"])
    (cell,) = cells
    other = small_plan(full.runs.parent / "cache", rows=["baseline-twins"], **{"train.epochs": 1})
    places = Places(results=tmp_path / "results", runs=tmp_path / "runs")
    places.run(other[0]).parent.mkdir(parents=True)
    places.run(other[0]).symlink_to(full.run(cell))
    failed = fill(other, places)[0]
    assert failed.state is State.FAILED
    assert "train.epochs was 2 and is 1" in failed.detail


def test_a_cell_at_work_elsewhere_is_left_alone(filled, tmp_path, no_training):
    cells, *_ = filled
    places = Places(results=tmp_path / "results", runs=tmp_path / "runs")
    with held(places.lock(cells[1])):
        assert stand(cells[1:2], places, Splits())[0].state is State.BUSY
        standing = fill(cells[1:2], places)[0]
    assert standing.state is State.BUSY
    assert "process" in standing.detail


def test_minutes_are_expected_from_finished_cells_of_the_method(filled):
    cells, places, _ = filled
    later = [
        replace(c, config=replace(c.config, train=replace(c.config.train, seed=5))) for c in cells
    ]
    found = stand([*cells, *later], places, Splits())[3:]
    for new, cell in zip(found[:2], cells, strict=False):
        kept = Result.read(places.result(cell))
        taken = kept.training["duration_s"] + kept.measures["scoring_s"]
        assert new.minutes == pytest.approx(taken / 60)
    assert found[2].minutes < found[1].minutes  # nothing to train
    assert stand(later, places, Splits())[0].minutes is None


def test_an_anchor_is_scored_as_it_comes(tmp_path):
    from safetensors.torch import save_file

    from resolute.models.backbone import build_backbone

    weights = tmp_path / "net.safetensors"
    save_file(build_backbone("osnet_x0_25").state_dict(), weights)
    changes = {
        "data.synthetic.num_identities": 8,
        "data.synthetic.images_per_camera": 1,
        "data.cache": str(tmp_path / "cache"),
        "evaluation.unseen_rates": "",
        "train.epochs": 3,
        "train.threads": 1,
    }
    cells = plan("table2", "synthetic", rows=["none"], anchors=[weights], changes=changes)
    places = Places(results=tmp_path / "results", runs=tmp_path / "runs")
    assert cells[0].name.startswith("net-untrained-t0-")
    (standing,) = fill(cells, places)
    assert standing.state is State.DONE, standing.detail
    assert not standing.result.is_trained
    assert not places.run(cells[0]).exists()
    assert stand(cells, places, Splits())[0].state is State.DONE
    assert cells[0].config.train.threads == 1
    assert "--anchors net.safetensors" in standing.result.command
    assert "train." not in standing.result.command
    assert grids([standing.result])[0].rows[0][:2] == ("embedding as it is, untrained", "net")


def test_what_is_missing_needs_the_folder_of_the_data(copy):
    cells = plan("table2", "mlr-viper", rows=["baseline"])
    _, places = copy
    failed = fill(cells, places)[0]
    assert failed.state is State.FAILED
    assert "data.root" in failed.detail


def test_a_result_that_is_none_is_said(copy):
    cells, places = copy
    whole = json.loads(places.result(cells[0]).read_text())
    damaged = [
        "{}",
        json.dumps(whole)[:-200],
        json.dumps({**whole, "start": None}),
        json.dumps({**whole, "scores": None}),
        json.dumps({**whole, "config": {"data": {}}}),
    ]
    for text in damaged:
        places.result(cells[0]).write_text(text)
        first, *others = stand(cells, places, Splits())
        assert first.state is State.DIFFERS
        assert "not a result of this library" in first.detail
        assert "--again runs it anew" in first.detail
        assert [s.state for s in others] == [State.DONE] * 2


def test_a_damaged_result_is_left_alone_and_made_anew_when_asked(copy, monkeypatch):
    cells, places = copy
    path = places.result(cells[0])
    path.write_text("{")
    assert [s.state for s in fill(cells[:1], places)] == [State.DIFFERS]
    assert path.read_text() == "{"
    anew = fill(cells[:1], places, again=True)
    assert [s.state for s in anew] == [State.DONE]
    assert Result.read(path) == anew[0].result
