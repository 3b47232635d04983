"""The page of results says what the files say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from resolute.core.errors import ConfigError
from resolute.engine.result import Result
from resolute.tables.results import read_results, results_page

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_made_from_the_files():
    assert (ROOT / "docs" / "results.md").read_text() == results_page(
        read_results(ROOT / "results")
    ), "run: resolute results --out docs/results.md"


def test_kept_results_name_no_folder_and_hold_their_provenance():
    for path in sorted((ROOT / "results").rglob("*.json")):
        text = path.read_text()
        assert "/home/" not in text
        assert "/work/" not in text
        assert "/tmp/" not in text
        result = Result.read(path)
        assert len(result.split_digest) == len(result.model) == 64
        assert result.start["sha256"]
        assert result.command.startswith(("resolute ", "python benchmarks/anchors.py "))


def test_trials_of_one_method_become_one_row_with_its_deviation(anchor):
    first = replace(anchor, method="ftwa", training={"steps": 1, "duration_s": 60.0})
    config = json.loads(json.dumps(anchor.config))
    config["data"]["trial"] = 7
    report = first.scores["protocol"]
    worse = replace(report, cmc=tuple(x / 2 for x in report.cmc))
    second = replace(first, config=config, scores={**first.scores, "protocol": worse})
    page = results_page([first, second])
    rows = [line for line in page.splitlines() if line.startswith("| `ftwa`")]
    assert len(rows) == 1
    assert f"{75 * report.cmc[0]:.1f} ± " in rows[0]


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(ConfigError, match="expected result files"):
        read_results(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a result"):
        read_results(tmp_path)
