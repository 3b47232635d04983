"""The flags of `resolute evaluate` that add rows and tables, on anybody's embeddings."""

import json

import numpy as np
import pytest

from resolute.cli import main as cli


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
    assert "LR, re-ranked" in out
    assert "LR, expanded" in out
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
    ],
)
def test_mistakes_give_one_line(capsys, files, words, message):
    code, out, err = run(capsys, "evaluate", "--features", *files, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
