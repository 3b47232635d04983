"""From tiny real runs to the file, as a user asks for it."""

import json
import re
import shutil

import pytest
from engine.small import small_config
from report.reading import Page

from resolute.cli import main as cli
from resolute.core.errors import CheckpointError, ConfigError
from resolute.data.benchmark import open_split
from resolute.engine.result import Result
from resolute.engine.run import read_config, train
from resolute.engine.score import evaluate
from resolute.report.exhibit import Asked, exhibit
from resolute.report.write import write_report

FEW = Asked(num_queries=1, top=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, trial in (("ftwa", 0), ("ftwa", 1), ("baseline", 0)):
        config = small_config(
            name, cache=folder / "cache", data__trial=trial, train__epochs=1, model__height=32
        )
        train(config, folder / f"{name}-t{trial}")
    evaluate(folder / "ftwa-t0")
    return folder


@pytest.fixture
def copy(runs, tmp_path):
    shutil.copytree(runs / "ftwa-t0", tmp_path / "ftwa-t0")
    return tmp_path / "ftwa-t0"


def run(capsys, *words):
    try:
        code = cli.main(["report", *map(str, words)])
    except SystemExit as exit_:
        code = exit_.code
    return (code, *capsys.readouterr())


def test_from_folders_to_one_file(runs, tmp_path, capsys):
    out, strips = tmp_path / "deep" / "page.html", tmp_path / "strips"
    folders = [runs / name for name in ("ftwa-t0", "ftwa-t1", "baseline-t0")]
    words = ["--out", out, "--images", "2", "--top", "3", "--strips", strips]
    code, said, err = run(capsys, *folders, *words)
    assert code == 0, err
    assert "contains pictures of people" in said
    text = out.read_text()
    read = Page(text)
    assert str(runs) not in text
    assert not re.search(r"(/home/|/tmp/|/root/)", text)
    result = Result.read(runs / "ftwa-t0" / "result.json")
    assert result.split_digest in read.text
    assert f"{100 * result.scores['hr'].ranks[1]:.1f}" in read.text
    assert "no result.json" in read.text  # of the two that were not evaluated
    assert "losses: triplet" in read.text
    assert "over trials" in read.text
    assert "resolute train" in read.text or "train(config, RUN)" in read.text
    for name in ("ftwa-t0", "ftwa-t1", "baseline-t0"):
        queries = open_split(read_config(runs / name).data).query
        assert len(list((strips / name).glob("rank*.png"))) == len(queries)
    assert not list(out.parent.glob(".*"))


def test_scores_are_those_of_evaluate(runs):
    shown = exhibit(runs / "ftwa-t0", overrides={}, asked=FEW)
    kept = Result.read(runs / "ftwa-t0" / "result.json")
    assert shown.scores == kept.scores
    assert shown.num_streams == 2
    assert len(shown.qualities.quality) == 2 * len(shown.heights)
    assert shown.notes[-1].startswith("gallery")  # nothing to complain about
    alone = exhibit(runs / "baseline-t0", overrides={}, asked=FEW)
    assert alone.qualities is None
    assert set(alone.scores) == {"protocol"}


def test_changed_settings_are_shown_and_said(runs):
    shown = exhibit(runs / "ftwa-t0", overrides={"method.fusion": "hr"}, asked=FEW)
    assert shown.fusion == "hr"
    assert set(shown.scores) == {"protocol"}
    assert "settings changed for this page: method.fusion" in shown.notes


def test_a_result_of_another_model_is_left_aside(copy):
    result = json.loads((copy / "result.json").read_text())
    result["model"] = "0" * 64
    (copy / "result.json").write_text(json.dumps(result))
    shown = exhibit(copy, overrides={}, asked=FEW)
    assert set(shown.scores) == {"protocol"}
    assert "of another model" in shown.notes[-1]


def test_a_result_with_another_score_is_said(copy):
    result = json.loads((copy / "result.json").read_text())
    result["scores"]["protocol"]["cmc"][0] = 0.987
    (copy / "result.json").write_text(json.dumps(result))
    shown = exhibit(copy, overrides={}, asked=FEW)
    assert "says Rank-1 98.7, computed here" in shown.notes[-1]
    assert shown.scores["protocol"].cmc[0] != 0.987


def test_other_records_than_trained_on_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["data"]["trial"] = 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="not those the run was trained on"):
        exhibit(copy, overrides={}, asked=FEW)
    other = {"data.synthetic.seed": "7"}  # other people
    assert "synthetic-seed7" in exhibit(copy, overrides=other, asked=FEW).benchmark


def test_runs_without_scalars_still_make_a_page(copy, tmp_path):
    (copy / "scalars.jsonl").unlink()
    file = write_report([copy], tmp_path / "page.html", asked=FEW, has_pictures=False)
    read = Page(file.read_text())
    assert "Nothing was logged by ftwa-t0" in read.text
    assert read.all("img") == []


def test_asking_wrongly(runs, tmp_path):
    with pytest.raises(ConfigError, match="each once, got 2"):
        write_report([runs / "ftwa-t0"] * 2, tmp_path / "x.html")
    with pytest.raises(ConfigError, match="each once, got 0"):
        write_report([], tmp_path / "x.html")
    with pytest.raises(ConfigError, match="0 < r < 1, got 2"):
        write_report([runs / "ftwa-t0"], tmp_path / "x.html", rates=(0.1, 2))
    with pytest.raises(ConfigError, match="num_queries: expected >= 1, got 0"):
        Asked(num_queries=0)
    with pytest.raises(CheckpointError, match="no model there"):
        write_report([tmp_path], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "many"], "--images: expected a whole number or none, got 'many'"),
        (["--images", "0"], "num_queries: expected >= 1"),
        (["--false-match-rates", "a"], "--false-match-rates: expected numbers, got 'a'"),
        (["--imges", "3"], "did you mean '--images'?"),
        ([], "no model there"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path):
    code, out, err = run(capsys, tmp_path, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_folder_without_a_model_is_named_before_any_is_embedded(runs, tmp_path, monkeypatch):
    def embedded(*_, **__):
        raise AssertionError("embedded before all folders were looked at")

    monkeypatch.setattr("resolute.report.write.exhibit", embedded)
    (tmp_path / "quickstart").mkdir()
    with pytest.raises(CheckpointError, match=r"quickstart.*no model there"):
        write_report([runs / "ftwa-t0", tmp_path / "quickstart"], tmp_path / "page.html")
