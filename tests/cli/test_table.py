"""``resolute table`` as a user meets it."""

import pytest

from resolute.cli import main as cli
from resolute.cli.table import counts
from resolute.core.errors import ConfigError
from resolute.tables import fill as filling

SMALL = [
    *("--data", "synthetic", "--quiet", "--evaluation.unseen_rates="),
    *("--data.synthetic.num_identities", "8", "--data.synthetic.images_per_camera", "1"),
    *("--model.height", "64", "--model.width", "32", "--train.epochs", "1", "--train.threads", "1"),
    *("--loader.batch_size", "8", "--loader.num_instances", "1"),
]


def run(capsys, *words):
    try:
        code = cli.main(("table", *words))
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def small(tmp_path):
    places = ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    return [*SMALL, *places, "--data.cache", str(tmp_path / "cache")]


def test_a_table_from_nothing_to_markdown(capsys, small, tmp_path):
    page = tmp_path / "table.md"
    words = ["table2", "--rows", "baseline,baseline-twins", *small, "--markdown", str(page)]
    code, out, _ = run(capsys, *words, "--dry-run")
    assert code == 0
    assert "missing" in out
    assert "0 of 2 done" in out
    assert not (tmp_path / "results").exists()
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "2 of 2 cells finished" in err
    assert "What each part gives" in out
    assert "| `baseline-twins` |" in page.read_text()
    code, out, _ = run(capsys, *words, "--dry-run")
    assert "2 of 2 done" in out
    kept = next((tmp_path / "results").rglob("baseline-q*.json"))
    kept.write_text(kept.read_text().replace('"margin": 0.3', '"margin": 0.4'))
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "method.margin was 0.4 and is 0.3; --again runs it anew" in err
    assert "1 of 2 cells finished" in err


def test_a_failing_cell_gives_exit_code_2(capsys, small, monkeypatch):
    def broken(*args, **kwargs):
        raise ConfigError("no such thing")

    monkeypatch.setattr(filling, "train", broken)
    code, _, err = run(capsys, "table2", "--rows", "baseline", *small)
    assert code == 2
    assert "failed: no such thing" in err
    assert "0 of 1 cells finished" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the same command goes on from here"),
        (["--again"], "without --again the same command finishes this cell"),
    ],
)
def test_ctrl_c_says_how_to_go_on(capsys, small, monkeypatch, words, message):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(filling, "train", interrupted)
    code, _, err = run(capsys, "table2", "--rows", "baseline", *small, *words)
    assert code == 130
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: table"),
        (["table3"], "did you mean 'table"),
        (["table2", "--rows", "ftwaa"], "did you mean 'ftwa'?"),
        (["table2", "--trials", "a"], "--trials: expected numbers such as 0-4"),
        (["table2", "--seeds", "3-1"], "--seeds: expected numbers"),
        (["table2", "--again", "--rescore"], "choose one"),
        (["table2", "--data.seedd", "1"], "did you mean 'data.seed'?"),
        (["table2", "--train.seed", "1"], "a table takes --data, --trials and --seeds"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.startswith("resolute: error: ")
    assert message in err


def test_several_processes_of_one_launch_are_refused(capsys, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    code, _, err = run(capsys, "table2", "--data", "mlr-synthetic")
    assert code == 2
    assert "one process trains one cell; start it without torchrun" in err


def test_numbers_and_ranges():
    assert counts("--trials", "0-2,7, 1") == [0, 1, 2, 7]
    with pytest.raises(ConfigError, match="expected numbers"):
        counts("--trials", "")
