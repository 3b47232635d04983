"""The scripts of ``examples/`` are short and hold what they assert."""

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_example_runs(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runpy.run_path(str(script), run_name="__main__")


def test_there_are_six_short_examples():
    assert len(SCRIPTS) == 6
    assert all(len(script.read_text().splitlines()) < 60 for script in SCRIPTS)
